"""Settings of notifications, from the environment."""

from datetime import timedelta
from email.utils import parseaddr
from functools import cache
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from notifications.domain import deliverable


def _validate_sender(value: str) -> str:
    if not deliverable(parseaddr(value)[1]):
        raise ValueError(f"write an address such as Plant-Based Pizza <orders@pizza.example>, not {value!r}")
    return value


class NotificationsSettings(BaseSettings):
    """Connection to the mail server, sender, and limits."""

    model_config = SettingsConfigDict(env_prefix="NOTIFICATIONS_", frozen=True, env_ignore_empty=True)

    smtp_host: str = Field(default="127.0.0.1", description="Host of the mail server")
    smtp_port: int = Field(default=8102, description="Port of the mail server")
    smtp_username: str | None = Field(default=None, description="User name for the mail server; no login by default")
    smtp_password: SecretStr | None = Field(default=None, description="Password for the mail server")
    smtp_security: Literal["auto", "starttls", "tls", "none"] = Field(
        default="auto", description="TLS if the server offers it (auto), always (starttls, tls), or never (none)"
    )
    sender: Annotated[str, AfterValidator(_validate_sender)] = Field(
        default="Plant-Based Pizza <orders@pizza.example>", description="Sender of the e-mails"
    )
    deadline: float = Field(default=10.0, gt=0, description="Timeout for handing over an e-mail, in seconds")
    concurrency: int = Field(default=4, ge=1, description="Maximum number of e-mails handed over at the same time")
    patience: timedelta = Field(
        default=timedelta(days=1),
        description="Time after which an e-mail is given up: seconds or ISO 8601 (PT24H)",
    )


@cache
def settings() -> NotificationsSettings:
    """Return the settings, read from the environment on the first call."""
    return NotificationsSettings()
