"""Settings of loyalty, by environment."""

from __future__ import annotations

from functools import cache

from pydantic import Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class LoyaltySettings(BaseSettings):
    """Where the SaaS is, and how it is treated."""

    model_config = SettingsConfigDict(env_prefix="LOYALTY_", frozen=True, env_ignore_empty=True)

    saas_url: HttpUrl = Field(default=HttpUrl("http://127.0.0.1:8101"), description="Where the SaaS is")
    saas_key: SecretStr | None = Field(default=None, description="Sent to the SaaS as a bearer token")
    deadline: float = Field(default=3.0, gt=0, description="Seconds that a call may take, all in all")
    rate: float = Field(default=50.0, gt=0, description="Calls per second that the contract with the SaaS allows")
    burst: int = Field(default=10, ge=1, description="Calls that may be made at once after a quiet time")
    concurrency: int = Field(default=4, ge=1, description="Calls under way at the same time")
    breaker_failures: int = Field(default=5, ge=1, description="Failures in a row after which no more calls are made")
    breaker_pause: float = Field(default=5.0, gt=0, description="Seconds after which one call then finds out")


@cache
def settings() -> LoyaltySettings:
    """Read the environment, once."""
    return LoyaltySettings()
