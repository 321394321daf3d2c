"""Settings of pickup, from the environment."""

from datetime import timedelta
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PickupSettings(BaseSettings):
    """Settings of the pickup service."""

    model_config = SettingsConfigDict(env_prefix="PICKUP_", frozen=True, env_ignore_empty=True)

    autopilot: bool = Field(default=False, description="Simulate the customers")
    pace: float = Field(default=1.0, ge=0, description="Seconds until a simulated customer comes")
    expiry: float = Field(default=3600.0, gt=0, description="Seconds that an order waits on its shelf")

    @property
    def walk(self) -> timedelta:
        return timedelta(seconds=self.pace)

    @property
    def shelf_life(self) -> timedelta:
        return timedelta(seconds=self.expiry)


@cache
def settings() -> PickupSettings:
    """Return the settings, read from the environment on the first call."""
    return PickupSettings()
