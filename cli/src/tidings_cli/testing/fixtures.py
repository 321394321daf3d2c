"""Fixtures for pytest that run real programs.

Import the ones you use into a conftest.py:

    from tidings_cli.testing.fixtures import daprd, nats, ports, serve  # noqa: F401

Servers are started once for a test process (with pytest-xdist once for each worker), sidecars and apps for each test.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from tidings.testing.asgi import App
from tidings_cli.programs import ProgramError, ensure
from tidings_cli.testing import programs
from tidings_cli.testing.programs import Daprd, Ports
from tidings_cli.testing.serving import Served


class StartDaprd(Protocol):
    """Type of the fixture `daprd`; the arguments are those of `tidings_cli.testing.programs.daprd`."""

    def __call__(
        self,
        app_id: str,
        *,
        resources: Iterable[Mapping[str, Any]],
        app_port: int | None = None,
        environment: Mapping[str, str] | None = None,
        flags: Iterable[str] = (),
    ) -> Awaitable[Daprd]:
        """Start a sidecar and wait until it is ready; it is stopped after the test."""


Serve = Callable[[App], Awaitable[Served]]


@pytest.fixture(scope="session")
def ports() -> Iterator[Ports]:
    """Free ports: `ports.take()`."""
    with Ports() as free:
        yield free


@pytest.fixture(scope="session")
def nats(ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a NATS server with JetStream. Tests create streams: `tidings.brokers.jetstream.ensure_streams`."""
    with programs.nats_server(tmp_path_factory.mktemp("nats"), ports.take()) as url:
        yield url


@pytest.fixture(scope="session")
def redis(ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Redis server as host:port."""
    _must_have("redis-server")
    with programs.redis_server(tmp_path_factory.mktemp("redis"), ports.take()) as address:
        yield address


@pytest.fixture(scope="session")
def kafka(ports: Ports, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a Kafka server. Tests create topics: `tidings.brokers.kafka.ensure_topics`."""
    _must_have("kafka")
    with programs.kafka_server(tmp_path_factory.mktemp("kafka"), ports) as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq(ports: Ports) -> Iterator[str]:
    """URL of a RabbitMQ server. Tests create queues: `tidings.brokers.rabbitmq.ensure_queues`."""
    _must_have("rabbitmq-server")
    with programs.public_folder() as folder, programs.rabbitmq_server(folder, ports) as url:
        yield url


@pytest.fixture(scope="session")
def postgres(ports: Ports) -> Iterator[str]:
    """URL of a PostgreSQL server; tests create their own databases with `create database`."""
    _must_have("initdb", "postgres")
    with programs.public_folder() as folder, programs.postgres_server(folder, ports.take()) as url:
        yield url


def _must_have(*names: str) -> None:
    try:
        ensure(*names, report=print)
    except ProgramError as error:
        pytest.skip(f"NOT TESTED, {' and '.join(names)} cannot be had here: {error}")


@pytest_asyncio.fixture
async def daprd(ports: Ports, tmp_path: Path) -> AsyncIterator[StartDaprd]:
    """Start sidecars: await it with an app id, resources and the app's port."""
    started: list[Daprd] = []

    async def start(app_id: str, **how: Any) -> Daprd:
        sidecar = programs.daprd(app_id, tmp_path / f"{app_id}-{len(started)}", ports, **how)
        started.append(sidecar)
        await sidecar.start()
        return sidecar

    yield start
    for sidecar in started:
        await sidecar.stop()


@pytest_asyncio.fixture
async def serve(ports: Ports) -> AsyncIterator[Serve]:
    """Put ASGI apps behind HTTP: await it with an app."""
    started: list[Served] = []

    async def start(app: App) -> Served:
        server = Served(app, ports.take())
        started.append(server)
        await server.start()
        return server

    yield start
    for server in started:
        await server.stop()
