"""Real programs for every integration test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tidings_cli.programs import ProgramError, ensure
from tidings_cli.testing import programs
from tidings_cli.testing.fixtures import daprd, kafka, nats, ports, postgres, rabbitmq, redis, serve
from tidings_cli.testing.programs import Ports

__all__ = ["daprd", "kafka", "nats", "ports", "postgres", "rabbitmq", "redis", "serve"]


@pytest.fixture(scope="session")
def logical(ports: Ports) -> Iterator[str]:
    """Yield the URL of a PostgreSQL whose log can be read, and keeps 64 MB for who reads it."""
    try:
        ensure("initdb", "postgres", report=print)
    except ProgramError as error:
        pytest.skip(f"NOT TESTED, PostgreSQL cannot be had here: {error}")
    settings = ("wal_level=logical", "max_slot_wal_keep_size=64MB", "max_replication_slots=200")
    with (
        programs.public_folder() as folder,
        programs.postgres_server(folder, ports.take(), *settings) as url,
    ):
        yield url
