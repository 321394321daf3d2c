"""Settings of tracking, from the environment."""

from datetime import timedelta
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TrackingSettings(BaseSettings):
    """Settings of the tracking service."""

    model_config = SettingsConfigDict(env_prefix="TRACKING_", frozen=True, env_ignore_empty=True)

    keep_days: float = Field(
        default=30.0, gt=0, description="Days that an order is kept after its last event; the archive keeps all events"
    )
    poll: float = Field(default=1.0, gt=0, description="Interval in seconds for reading the changes of other replicas")
    latest: int = Field(default=500, gt=0, description="Number of latest orders cached for the board")

    linger: float = Field(
        default=0.03, ge=0, description="Seconds that an order's event waits for the next one, to share its write"
    )
    rebuild_timeout: float = Field(
        default=3600.0,
        gt=0,
        description="Seconds until a rebuild ends as failed if the archive has not reported the end of its replay",
    )

    @property
    def keep(self) -> timedelta:
        return timedelta(days=self.keep_days)


@cache
def settings() -> TrackingSettings:
    """Return the settings, read from the environment on the first call."""
    return TrackingSettings()
