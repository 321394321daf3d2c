"""PostgreSQL with a standby: its primary is killed under load, and no event is lost or doubled."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest
from tests.conformance import Recorder, poll, subscription, unique
from tests.conformance.processes import Process
from tests.conformance.shop import TOPIC, counted
from tests.conformance.worlds import CdcWorld, TableWorld, World
from tests.support.realworld import RealWorld

from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams
from tidings_cli.programs import ProgramError, ensure
from tidings_cli.testing import programs
from tidings_cli.testing.fixtures import Serve, StartDaprd
from tidings_cli.testing.programs import Ports
from tidings_cli.up.ports import HOST

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]
COMPONENTS = Path(__file__).parents[2] / "components"
ITEMS = [f"item-{number}" for number in range(8)]
SETTINGS = ("synchronous_commit=on", "wal_keep_size=1GB", "wal_level=logical")


@dataclass
class Pair:
    """A primary, and a standby that has received every commit before its client is answered."""

    primary: Path
    ports: tuple[int, int]

    @property
    def url(self) -> str:
        """Return the URL of both: a client connects to whichever accepts writes."""
        hosts = "&".join(f"host={HOST}:{port}" for port in self.ports)
        return f"postgresql://tidings@/postgres?{hosts}&sslmode=disable&target_session_attrs=read-write"

    @property
    def connection(self) -> str:
        """Return the URL in the form that Dapr's component reads."""
        ports = ",".join(map(str, self.ports))
        server = f"host={HOST},{HOST} port={ports} target_session_attrs=read-write"
        return f"{server} user=tidings dbname=postgres sslmode=disable"

    async def fail_over(self) -> None:
        """Kill the primary, and let the standby take its place."""
        server = psutil.Process(int((self.primary / "data/postmaster.pid").read_text().split()[0]))
        for process in (server, *server.children(recursive=True)):
            process.kill()
        standby = f"host={HOST} port={self.ports[1]} user=tidings dbname=postgres"
        async with await psycopg.AsyncConnection.connect(standby, autocommit=True) as connection:
            await connection.execute("select pg_promote()")


@contextmanager
def started(folder: Path, ports: Ports) -> Iterator[Pair]:
    """Run both. They begin as copies of one empty database; the standby follows from there."""
    primary, standby = folder / "primary", folder / "standby"
    primary.mkdir()
    standby.mkdir()
    pair = Pair(primary, (ports.take(), ports.take()))
    with programs.postgres_server(primary, pair.ports[0]):
        pass
    subprocess.run(["cp", "-a", str(primary / "data"), str(standby)], check=True)
    (standby / "data/standby.signal").touch()
    follows = f"primary_conninfo=host={HOST} port={pair.ports[0]} user=tidings application_name=standby"
    with (
        programs.postgres_server(primary, pair.ports[0], *SETTINGS, "synchronous_standby_names=standby"),
        programs.postgres_server(standby, pair.ports[1], *SETTINGS, follows),
    ):
        yield pair


@pytest.fixture
def pair(ports: Ports) -> Iterator[Pair]:
    try:
        ensure("initdb", "postgres", report=print)
    except ProgramError as error:
        pytest.skip(f"NOT TESTED, PostgreSQL cannot be had here: {error}")
    with programs.public_folder() as folder, started(folder, ports) as result:
        yield result


async def counts_through_a_failover(world: World, pair: Pair) -> None:
    """Deliver numbered events all the time, and fail over in the middle: each is counted and published once."""
    done, stop = Counter[str](), asyncio.Event()

    async def deliver(process: Process, item: str) -> None:
        while not stop.is_set():
            cause = counted(item, done[item] + 1)
            while not await process.deliver(cause):  # noqa: ASYNC110 - a broker brings it again, too
                await asyncio.sleep(0.05)
            done[item] += 1

    async with world.process() as process:
        async with asyncio.TaskGroup() as delivering:
            for item in ITEMS:
                delivering.create_task(deliver(process, item))
            await poll(lambda: done.total() >= 100, patience=120)
            await pair.fail_over()
            before = done.copy()
            await poll(lambda: all(done[item] >= before[item] + 10 for item in ITEMS), patience=120)
            stop.set()
        await world.until({item: list(range(1, done[item] + 1)) for item in ITEMS})


@pytest.mark.parametrize("strategy", [TableWorld, CdcWorld])
async def test_rows_and_their_outbox_go_on_with_the_standby(pair: Pair, strategy: type[TableWorld]) -> None:
    await counts_through_a_failover(strategy(pair.url), pair)


async def test_documents_and_their_outbox_go_on_with_the_standby(
    pair: Pair, nats: str, daprd: StartDaprd, serve: Serve
) -> None:
    values = {"NATS_URL": nats, "POSTGRES_URL": pair.connection}
    pubsub, state = (render(COMPONENTS / name, values) for name in ("nats", "state-postgres"))
    await ensure_streams(nats, [TOPIC])
    recorder = Recorder()
    app = await serve(recorder)
    await daprd(unique("watcher"), resources=[*pubsub, subscription(TOPIC, "/watch")], app_port=app.port)
    shop = await daprd(unique("shop"), resources=[*pubsub, *state])
    await counts_through_a_failover(RealWorld(shop.address, recorder), pair)
