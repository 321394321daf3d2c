"""Settings of archive, from the environment with the prefix `ARCHIVE_`."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class ArchiveSettings(BaseSettings):
    """Where the archive is kept, and how replays are paced."""

    model_config = SettingsConfigDict(env_prefix="ARCHIVE_", frozen=True, env_ignore_empty=True)

    database_url: str = Field(
        default="", description="postgresql://… or sqlite:///…; a SQLite file in the data folder where it is left out"
    )
    data: Path = Field(default=Path(), validation_alias="TIDINGS_DATA", description="Folder of the SQLite file")
    map: Path | None = Field(
        default=None, description="File that `tidings render -o map` writes: what the console's map is drawn from"
    )
    token: SecretStr | None = Field(
        default=None, description="Asked of whoever changes something, as `Authorization: Bearer …`"
    )
    token_hint: str = Field(
        default="", max_length=500, description="How to get the token, told to whoever lacks it: a command, no secret"
    )
    user_header: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9-]*$",
        description="Header in which an authenticating proxy says who it let through, such as X-Auth-Request-User; "
        "the audit has that name, and nobody changes anything without it or the token",
    )
    replay_rate: float = Field(
        default=500.0, gt=0, le=5000, description="Events a second of a replay that asks for no rate; never more"
    )
    replay_settle: float = Field(
        default=5.0,
        ge=0,
        description="Seconds a replay waits for events that had happened when it was asked for and were not here yet",
    )

    @model_validator(mode="after")
    def _token_is_there(self) -> Self:
        """Refuse to start without a token where one is meant to be: an empty Secret would open the archive to all."""
        if self.token_hint and not self.token:
            raise ValueError(
                "ARCHIVE_TOKEN is empty, and ARCHIVE_TOKEN_HINT says that there is one: put it into its Secret"
            )
        return self

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data / 'archive.db'}"

    @property
    def settle(self) -> timedelta:
        """How long a replay waits for latecomers."""
        return timedelta(seconds=self.replay_settle)


@cache
def settings() -> ArchiveSettings:
    """Read once, when first asked for."""
    return ArchiveSettings()
