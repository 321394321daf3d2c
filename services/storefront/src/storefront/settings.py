"""Settings of storefront, from the environment."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class StorefrontSettings(BaseSettings):
    """Base URLs of the services, timeouts and limits."""

    model_config = SettingsConfigDict(env_prefix="STOREFRONT_", extra="ignore", frozen=True, env_ignore_empty=True)

    orders_url: str = Field(default="http://127.0.0.1:8001", pattern="^https?://", description="Base URL of orders")
    menu_url: str = Field(default="http://127.0.0.1:8010", pattern="^https?://", description="Base URL of menu")
    tracking_url: str = Field(default="http://127.0.0.1:8008", pattern="^https?://", description="Base URL of tracking")
    patience: float = Field(default=5.0, gt=0, description="Timeout of a request to a service, in seconds")
    silence: float = Field(default=60.0, gt=0, description="Seconds without data after which an event stream is closed")
    watchers: int = Field(default=500, gt=0, description="Concurrent event streams; further browsers poll")
    board: bool = Field(
        default=True,
        description="Show the board of all orders. Anybody who sees it can open and cancel every order on it: "
        "disable it for real customers",
    )
