"""Settings of delivery, from the environment."""

from datetime import timedelta
from functools import cache
from typing import Annotated, Any

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def _parse_drivers(value: Any) -> Any:
    """Parse `dan:Dan,eve:Eve`."""
    if not isinstance(value, str):
        return value
    pairs = [item.strip().partition(":") for item in value.split(",") if item.strip()]
    if not all(driver_id and name for driver_id, _, name in pairs):
        raise ValueError(f"write id:Name, separated by commas, not {value!r}")
    return {driver_id: name for driver_id, _, name in pairs}


class DeliverySettings(BaseSettings):
    """Settings of the delivery service."""

    model_config = SettingsConfigDict(env_prefix="DELIVERY_", frozen=True, env_ignore_empty=True)

    autopilot: bool = Field(default=False, description="Simulate the drivers; otherwise the API reports each step")
    pace: float = Field(default=1.0, ge=0, description="Seconds that a simulated driver takes per leg")
    patience: float = Field(
        default=600.0, gt=0, description="Seconds that an order waits for a driver before its delivery fails"
    )
    opening_drivers: Annotated[dict[str, str], NoDecode, BeforeValidator(_parse_drivers)] = Field(
        default={}, description="Drivers on duty on the very first start: id:Name,…"
    )

    @property
    def leg(self) -> timedelta:
        return timedelta(seconds=self.pace)

    @property
    def longest_wait(self) -> timedelta:
        return timedelta(seconds=self.patience)


@cache
def settings() -> DeliverySettings:
    """Return the settings, read from the environment on the first call."""
    return DeliverySettings()
