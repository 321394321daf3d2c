"""Settings of payments, from the environment."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from tidings.conventions import TIDINGS_DATA


class PaymentsSettings(BaseSettings):
    """Database, outbox strategy, and limit of the simulated card processor."""

    model_config = SettingsConfigDict(env_prefix="PAYMENTS_", frozen=True, env_ignore_empty=True)

    database_url: str = Field(
        default="", description="postgresql://… or sqlite:///…; by default a SQLite file in the data folder"
    )
    data: Path = Field(default=Path(), validation_alias=TIDINGS_DATA, description="Folder of the SQLite file")
    outbox: Literal["table", "cdc"] = Field(
        default="table", description="Outbox strategy: table, or change data capture of PostgreSQL's log (cdc)"
    )
    limit_cents: int = Field(default=100_000, ge=0, description="Larger amounts are refused: limitExceeded")

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data / 'payments.db'}"


@cache
def settings() -> PaymentsSettings:
    """Return the settings, read from the environment on the first call."""
    return PaymentsSettings()
