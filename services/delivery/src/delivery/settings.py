"""Settings of delivery, from the environment with the prefix `DELIVERY_`."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _drivers(given: Any) -> Any:
    """Read `dan:Dan,eve:Eve`."""
    if not isinstance(given, str):
        return given
    pairs = [each.strip().partition(":") for each in given.split(",") if each.strip()]
    if not all(driver_id and name for driver_id, _, name in pairs):
        raise ValueError(f"write id:Name, separated by commas, not {given!r}")
    return {driver_id: name for driver_id, _, name in pairs}


class DeliverySettings(BaseSettings):
    """How orders are delivered."""

    model_config = SettingsConfigDict(env_prefix="DELIVERY_", frozen=True, env_ignore_empty=True)

    autopilot: bool = Field(default=False, description="Drivers drive by themselves; otherwise the API says each step")
    pace: float = Field(default=1.0, ge=0, description="Seconds that the autopilot's driver takes for each leg")
    patience: float = Field(default=600.0, gt=0, description="Seconds that an order waits for a driver before it fails")
    opening_drivers: Annotated[dict[str, str], NoDecode, BeforeValidator(_drivers)] = Field(
        default={}, description="Who is on duty when delivery is started for the first time: id:Name,…"
    )

    @property
    def leg(self) -> timedelta:
        """How long the autopilot's driver takes for each leg."""
        return timedelta(seconds=self.pace)

    @property
    def longest_wait(self) -> timedelta:
        """How long an order waits for a driver."""
        return timedelta(seconds=self.patience)


@cache
def settings() -> DeliverySettings:
    """Read the environment, once."""
    return DeliverySettings()
