"""Settings of loyalty, from the environment."""

from functools import cache

from pydantic import Field, HttpUrl, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class LoyaltySettings(BaseSettings):
    """Address of the SaaS, and limits for calling it."""

    model_config = SettingsConfigDict(env_prefix="LOYALTY_", frozen=True, env_ignore_empty=True)

    saas_url: HttpUrl = Field(default=HttpUrl("http://127.0.0.1:8101"), description="Base URL of the SaaS")
    saas_key: SecretStr | None = Field(default=None, description="Bearer token for the SaaS")
    deadline: float = Field(default=3.0, gt=0, description="Timeout of a call, in seconds")
    rate: float = Field(default=50.0, gt=0, description="Calls per second allowed by the contract with the SaaS")
    burst: int = Field(default=10, ge=1, description="Calls allowed in a burst")
    concurrency: int = Field(default=4, ge=1, description="Maximum number of concurrent calls")
    breaker_failures: int = Field(default=5, ge=1, description="Consecutive failures that open the circuit breaker")
    breaker_pause: float = Field(default=5.0, gt=0, description="Seconds until an open circuit breaker tries again")


@cache
def settings() -> LoyaltySettings:
    """Return the settings, read from the environment on the first call."""
    return LoyaltySettings()
