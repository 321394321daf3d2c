"""Differences between the brokers that tests run on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tidings_cli.programs import ProgramError, ensure
from tidings_cli.up.backends import BROKERS


def available(broker: str) -> str:
    """Return the broker's name; skip the test where its programs are not available."""
    try:
        ensure(*BROKERS[broker].programs, report=print)
    except ProgramError as error:
        pytest.skip(f"NOT TESTED, {broker} cannot be had here: {error}")
    return broker


def values_of(broker: str, address: str) -> Mapping[str, str]:
    """Return the values of a component set for a broker at an address, which is a URL or, of Redis, host:port."""
    return BROKERS[broker].values(f"redis://{address}" if broker == "redis" else address)
