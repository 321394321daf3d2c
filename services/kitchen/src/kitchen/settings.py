"""Settings of the kitchen, by environment."""

from __future__ import annotations

from datetime import timedelta
from functools import cache
from typing import Annotated, Any

import msgspec
from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kitchen.domain import Arrival


def _crew(given: Any) -> Any:
    """Read `ana:Ana:cook,ben:Ben:manager`."""
    if not isinstance(given, str):
        return given
    people = [each.strip().split(":") for each in given.split(",") if each.strip()]
    if any(len(person) != len(Arrival.__struct_fields__) for person in people):
        raise ValueError(f"write id:Name:cook or id:Name:manager, separated by commas, not {given!r}")
    try:
        return tuple(
            msgspec.convert(dict(zip(Arrival.__struct_fields__, person, strict=True)), Arrival) for person in people
        )
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}, in {given!r}") from error


def _failing(given: Any) -> Any:
    """Read `margherita:1,diavola:2`."""
    if not isinstance(given, str):
        return given
    pairs = [each.strip().rpartition(":") for each in given.split(",") if each.strip()]
    if not all(sku and times.isdecimal() for sku, _, times in pairs):
        raise ValueError(f"write sku:times, separated by commas, not {given!r}")
    return {sku: int(times) for sku, _, times in pairs}


class KitchenSettings(BaseSettings):
    """How the kitchen works."""

    model_config = SettingsConfigDict(env_prefix="KITCHEN_", frozen=True, env_ignore_empty=True)

    pace: float = Field(default=1.0, ge=0, description="Seconds that a step takes where the crew works by itself")
    autopilot: bool = Field(default=False, description="The crew works by itself; otherwise the API says each step")
    opening_crew: Annotated[tuple[Arrival, ...], NoDecode, BeforeValidator(_crew)] = Field(
        default=(), description="Who is clocked in when the kitchen is started for the first time: id:Name:role,…"
    )
    failing_checks: Annotated[dict[str, int], NoDecode, BeforeValidator(_failing)] = Field(
        default={}, description="How many quality checks an order with a sku fails under autopilot: sku:times,…"
    )

    @property
    def step(self) -> timedelta:
        """How long a step takes."""
        return timedelta(seconds=self.pace)


@cache
def settings() -> KitchenSettings:
    """Read the environment, once."""
    return KitchenSettings()
