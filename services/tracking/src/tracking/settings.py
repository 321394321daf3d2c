"""Settings of tracking, from the environment."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrackingSettings(BaseSettings):
    """How long orders are shown, and how live."""

    model_config = SettingsConfigDict(env_prefix="TRACKING_", frozen=True, env_ignore_empty=True)

    keep_days: float = Field(
        default=30.0, gt=0, description="Days that an order is kept after the last news of it; the archive keeps all"
    )
    poll: float = Field(
        default=1.0, gt=0, description="Seconds until changes that another replica noted are seen by this one's streams"
    )
    latest: int = Field(
        default=500, gt=0, description="How many of the latest orders are known by heart, for the board"
    )

    @property
    def keep(self) -> timedelta:
        return timedelta(days=self.keep_days)


@cache
def settings() -> TrackingSettings:
    """Return the settings, read from the environment on the first call."""
    return TrackingSettings()
