"""Settings, from the environment, each under `ORDERS_`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class OrdersSettings(BaseSettings):
    """What can be chosen about orders. The addresses and the patience are for the coupled mode only."""

    model_config = SettingsConfigDict(env_prefix="ORDERS_", extra="ignore", frozen=True, env_ignore_empty=True)

    mode: Literal["events", "coupled"] = Field(
        default="events", description="Place orders by events alone, or by waiting for four other services over HTTP"
    )
    payment_timeout: float = Field(
        default=300.0, gt=0, description="Seconds after which an order is given up that payments has not answered"
    )
    payments_url: str = Field(default="http://127.0.0.1:8002", description="Where payments is")
    kitchen_url: str = Field(default="http://127.0.0.1:8003", description="Where kitchen is")
    loyalty_url: str = Field(default="http://127.0.0.1:8006", description="Where loyalty is")
    notifications_url: str = Field(default="http://127.0.0.1:8007", description="Where notifications is")
    patience: float = Field(default=2.0, gt=0, description="Seconds that each of them has to answer")
