"""Settings of archive, from the environment with the prefix `ARCHIVE_`."""

import re
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tidings.conventions import TIDINGS_DATA
from tidings_archive.domain.selection import SelectionError, TypePattern


def _parse_retention(value: Any) -> Any:
    """Read `orders.*=365,*=90`: days by pattern."""
    if not isinstance(value, str):
        return value
    days: dict[str, float] = {}
    for rule in filter(None, (part.strip() for part in value.split(","))):
        pattern, _, number = rule.partition("=")
        try:
            TypePattern.parse(pattern.strip())
            days[pattern.strip()] = float(number)
        except (SelectionError, ValueError) as error:
            raise ValueError(f"ARCHIVE_RETENTION: {rule!r} must be a type or pattern, =, and days: {error}") from error
        if not 0 < days[pattern.strip()] <= _MAX_DAYS:
            raise ValueError(f"ARCHIVE_RETENTION: {rule!r} must have more than 0 and at most {_MAX_DAYS} days")
    return days


def _parse_silence(value: Any) -> Any:
    """Read `tidings.versionDeprecated=168,*=24`: hours by type of notice."""
    if not isinstance(value, str):
        return value
    hours = dict(_DEFAULT_SILENCE)
    for rule in filter(None, (part.strip() for part in value.split(","))):
        kind, _, number = rule.partition("=")
        known = kind.strip() == "*" or re.fullmatch(r"tidings\.[A-Za-z]+", kind.strip())
        try:
            hours[kind.strip()] = float(number)
        except ValueError as error:
            raise ValueError(f"ARCHIVE_NOTICE_SILENCE: {rule!r} must be a type of notice or *, =, and hours") from error
        if not known or not 0 <= hours[kind.strip()] <= _MAX_DAYS * 24:
            raise ValueError(f"ARCHIVE_NOTICE_SILENCE: {rule!r} must be a type of notice or *, =, and hours from 0")
    return hours


def _parse_names(value: Any) -> Any:
    return frozenset(filter(None, (name.strip() for name in value.split(",")))) if isinstance(value, str) else value


KUBERNETES = "kubernetes"
"""Value of `ARCHIVE_SUSPENSIONS` on a cluster."""
_MAX_DAYS = 36_500
_DEFAULT_SILENCE = {"*": 24.0, "tidings.versionDeprecated": 168.0, "tidings.removalApproached": 168.0}


class ArchiveSettings(BaseSettings):
    """Settings of the archive's database, access control, replays and retention."""

    model_config = SettingsConfigDict(
        env_prefix="ARCHIVE_", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    database_url: str = Field(
        default="", description="postgresql://… or sqlite:///…; default: a SQLite file in the data folder"
    )
    data: Path = Field(default=Path(), validation_alias=TIDINGS_DATA, description="Folder of the SQLite file")
    map: Path | None = Field(
        default=None, description="File written by `tidings render -o map`, from which the console draws its map"
    )
    lag: str = Field(
        default="",
        description="Where the console finds how many events wait at the broker for each app: `state.json` of "
        "`tidings up`, or the URL of the topology controller's metrics",
    )
    suspensions: str = Field(
        default="",
        description="How the console suspends subscriptions: `kubernetes`, or the folder `${run}/suspended` of "
        "`tidings up`; empty: not at all",
    )
    token: SecretStr | None = Field(
        default=None, description="Token of whoever changes something, as `Authorization: Bearer …`"
    )
    token_hint: str = Field(
        default="",
        max_length=500,
        description="How to get the token, for users without it: a command, not a secret",
    )
    user_header: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9-]*$",
        description="Header in which an authenticating proxy passes the user, such as X-Auth-Request-User. "
        "The audit log records that name; changes require it or the token",
    )
    replay_rate: float = Field(
        default=500.0, gt=0, le=5000, description="Default and largest rate of a replay, in events per second"
    )
    replay_settle: float = Field(
        default=5.0,
        ge=0,
        description="Seconds for which a replay waits for events that happened before the request and arrive late",
    )

    retention: Annotated[dict[str, float], NoDecode, BeforeValidator(_parse_retention)] = Field(
        default={},
        description="Days after which archived events are deleted, by type: `orders.*=365,*=90`. "
        "The most specific pattern applies; a type that matches none is kept forever",
    )
    namespace: str = Field(
        default="", max_length=63, description="Namespace that this archive belongs to, for the console"
    )
    viewer_token: SecretStr | None = Field(
        default=None,
        description="Token of the role viewer. Where it is set, reading requires it or ARCHIVE_TOKEN, the token of the "
        "role operator",
    )
    operators: Annotated[frozenset[str], NoDecode, BeforeValidator(_parse_names)] = Field(
        default=frozenset(),
        description="Users of ARCHIVE_USER_HEADER with the role operator, separated by commas; the others are viewers. "
        "Empty: every user is an operator",
    )
    personal_readers: Annotated[frozenset[str], NoDecode, BeforeValidator(_parse_names)] = Field(
        default=frozenset(),
        description="Operators of ARCHIVE_USER_HEADER who may read personal data in plain text, separated by commas; "
        "each reading is written to the audit log. Empty: nobody",
    )

    notice_webhook: SecretStr | None = Field(
        default=None,
        description="Address to send notices to owners to, as Slack's incoming webhooks take them; a secret",
    )
    notice_webhook_http: bool = Field(
        default=False, description="Allow http:// in ARCHIVE_NOTICE_WEBHOOK, which sends notices unencrypted"
    )
    notice_silence: Annotated[dict[str, float], NoDecode, BeforeValidator(_parse_silence)] = Field(
        default=_DEFAULT_SILENCE,
        description="Hours until owners are notified again of a matter that has not changed, by type of notice; "
        "`*` is every other one",
    )
    notice_dead_letters: int = Field(
        default=10, ge=0, description="Open dead letters of an app of which its owners are notified; 0: never"
    )

    @model_validator(mode="after")
    def _webhook_is_safe(self) -> Self:
        """Accept HTTPS only, unless HTTP is allowed. The message must not have the address, which is a secret."""
        if self.notice_webhook:
            address = urlsplit(self.notice_webhook.get_secret_value())
            schemes = ("https", "http") if self.notice_webhook_http else ("https",)
            if address.scheme not in schemes or not address.hostname:
                raise ValueError(
                    "ARCHIVE_NOTICE_WEBHOOK must start with https:// and have a host; "
                    "set ARCHIVE_NOTICE_WEBHOOK_HTTP=true to allow http://"
                )
        return self

    @model_validator(mode="after")
    def _require_token(self) -> Self:
        """Refuse to start with a token hint but no token: an empty Secret would give everyone full access."""
        if self.token_hint and not self.token:
            raise ValueError("ARCHIVE_TOKEN is empty although ARCHIVE_TOKEN_HINT is set: put the token into its Secret")
        return self

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data / 'archive.db'}"

    @property
    def settle(self) -> timedelta:
        """Time for which a replay waits for late events."""
        return timedelta(seconds=self.replay_settle)


@cache
def settings() -> ArchiveSettings:
    """Return the settings, read from the environment on the first call."""
    return ArchiveSettings()
