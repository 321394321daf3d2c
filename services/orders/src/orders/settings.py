"""Settings, from the environment, each under `ORDERS_`."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class OrdersSettings(BaseSettings):
    """Settings of the orders service. The URLs and `patience` apply to the coupled mode only."""

    model_config = SettingsConfigDict(env_prefix="ORDERS_", extra="ignore", frozen=True, env_ignore_empty=True)

    mode: Literal["events", "coupled"] = Field(
        default="events", description="Place orders by events, or coupled: calling four other services over HTTP"
    )
    payment_timeout: float = Field(
        default=300.0, gt=0, description="Seconds after which an order without a response from payments is cancelled"
    )
    payments_url: str = Field(default="http://127.0.0.1:8002", description="Base URL of payments")
    kitchen_url: str = Field(default="http://127.0.0.1:8003", description="Base URL of kitchen")
    loyalty_url: str = Field(default="http://127.0.0.1:8006", description="Base URL of loyalty")
    notifications_url: str = Field(default="http://127.0.0.1:8007", description="Base URL of notifications")
    patience: float = Field(default=2.0, gt=0, description="Timeout of each call, in seconds")
