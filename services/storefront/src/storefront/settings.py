"""Settings of storefront, from the environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class StorefrontSettings(BaseSettings):
    """Where the services are, and how long they are waited for."""

    model_config = SettingsConfigDict(env_prefix="STOREFRONT_", extra="ignore", frozen=True, env_ignore_empty=True)

    orders_url: str = Field(default="http://127.0.0.1:8001", pattern="^https?://", description="Where orders is")
    menu_url: str = Field(default="http://127.0.0.1:8010", pattern="^https?://", description="Where menu is")
    tracking_url: str = Field(default="http://127.0.0.1:8008", pattern="^https?://", description="Where tracking is")
    patience: float = Field(default=5.0, gt=0, description="Seconds that a service has to answer")
    silence: float = Field(
        default=60.0, gt=0, description="Seconds without a sign of life after which a stream of events is given up"
    )
    watchers: int = Field(default=500, gt=0, description="Streams of events at the same time; more are told to poll")
    board: bool = Field(
        default=True,
        description="Show the board of all orders. Whoever sees it can open and cancel every order on it: "
        "switch it off where customers are real",
    )
