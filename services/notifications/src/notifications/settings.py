"""Settings of notifications, by environment."""

from __future__ import annotations

from datetime import timedelta
from email.utils import parseaddr
from functools import cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from notifications.domain import deliverable


def _sender(given: str) -> str:
    if not deliverable(parseaddr(given)[1]):
        raise ValueError(f"write an address such as Plant-Based Pizza <orders@pizza.example>, not {given!r}")
    return given


class NotificationsSettings(BaseSettings):
    """Where the mail server is, and who writes."""

    model_config = SettingsConfigDict(env_prefix="NOTIFICATIONS_", frozen=True, env_ignore_empty=True)

    smtp_host: str = Field(default="127.0.0.1", description="Where the mail server is")
    smtp_port: int = Field(default=8102, description="Its port")
    smtp_username: str | None = Field(default=None, description="Who logs in there; nobody by default")
    smtp_password: SecretStr | None = Field(default=None, description="With which password")
    smtp_security: Literal["auto", "starttls", "tls", "none"] = Field(
        default="auto", description="TLS where the server offers it (auto), always (starttls, tls), or never (none)"
    )
    sender: Annotated[str, AfterValidator(_sender)] = Field(
        default="Plant-Based Pizza <orders@pizza.example>", description="Who the e-mails are from"
    )
    deadline: float = Field(default=10.0, gt=0, description="Seconds that handing over an e-mail may take, all in all")
    concurrency: int = Field(default=4, ge=1, description="E-mails handed over at the same time")
    patience: timedelta = Field(
        default=timedelta(days=1), description="How long an e-mail is tried, in seconds or as ISO 8601 (PT24H)"
    )


@cache
def settings() -> NotificationsSettings:
    """Read the environment, once."""
    return NotificationsSettings()
