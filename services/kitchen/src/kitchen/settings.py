"""Settings of kitchen, from the environment."""

from datetime import timedelta
from functools import cache
from typing import Annotated, Any

import msgspec
from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kitchen.domain import Arrival


def _parse_crew(value: Any) -> Any:
    """Parse `ana:Ana:cook,ben:Ben:manager`."""
    if not isinstance(value, str):
        return value
    people = [item.strip().split(":") for item in value.split(",") if item.strip()]
    if any(len(person) != len(Arrival.__struct_fields__) for person in people):
        raise ValueError(f"write id:Name:cook or id:Name:manager, separated by commas, not {value!r}")
    try:
        return tuple(
            msgspec.convert(dict(zip(Arrival.__struct_fields__, person, strict=True)), Arrival) for person in people
        )
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}, in {value!r}") from error


def _parse_failing_checks(value: Any) -> Any:
    """Parse `margherita:1,diavola:2`."""
    if not isinstance(value, str):
        return value
    pairs = [item.strip().rpartition(":") for item in value.split(",") if item.strip()]
    if not all(sku and times.isdecimal() for sku, _, times in pairs):
        raise ValueError(f"write sku:times, separated by commas, not {value!r}")
    return {sku: int(times) for sku, _, times in pairs}


class KitchenSettings(BaseSettings):
    """Settings of the kitchen service."""

    model_config = SettingsConfigDict(env_prefix="KITCHEN_", frozen=True, env_ignore_empty=True)

    pace: float = Field(default=1.0, ge=0, description="Seconds that the simulated crew takes per step")
    autopilot: bool = Field(default=False, description="Simulate the crew; otherwise the API reports each step")
    opening_crew: Annotated[tuple[Arrival, ...], NoDecode, BeforeValidator(_parse_crew)] = Field(
        default=(), description="Staff clocked in on the very first start: id:Name:role,…"
    )
    failing_checks: Annotated[dict[str, int], NoDecode, BeforeValidator(_parse_failing_checks)] = Field(
        default={}, description="Number of quality checks that an order with a sku fails under autopilot: sku:times,…"
    )

    @property
    def step(self) -> timedelta:
        return timedelta(seconds=self.pace)


@cache
def settings() -> KitchenSettings:
    """Return the settings, read from the environment on the first call."""
    return KitchenSettings()
