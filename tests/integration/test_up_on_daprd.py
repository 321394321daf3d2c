"""`tidings up` with real sidecars and a real broker: two services exchange events, and processes are killed."""

import asyncio
import contextlib
import itertools
import json
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
import pytest_asyncio

from tidings_cli.programs import locate
from tidings_cli.up import state
from tidings_cli.up.errors import AlreadyRunning
from tidings_cli.up.probes import loaded
from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]
PINGPONG = Path(__file__).parent / "data" / "pingpong"
TIDINGS = str(Path(sys.executable).with_name("tidings"))
CHOICES = {"nats": {"broker": "nats"}, "redis": {"broker": "redis", "state": "redis"}}
NUMBERS = itertools.count(1)


@contextlib.asynccontextmanager
async def pingpong(run_dir: Path, **options: str | dict[str, int]) -> AsyncIterator[Run]:
    chosen = Options(free_ports=True, run_dir=run_dir, **options)  # type: ignore[arg-type]
    async with running(PINGPONG, chosen) as run:
        yield run


@pytest_asyncio.fixture(scope="module", params=["nats", "redis"], loop_scope="module")
async def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Run]:
    folder = tmp_path_factory.mktemp(request.param)
    async with pingpong(folder, **CHOICES[request.param]) as started:
        yield started


async def publish(run: Run, patience: float = 60.0) -> int:
    """Publish a number; returns once the sidecar has taken it."""
    number = next(NUMBERS)
    end = time.monotonic() + patience
    async with httpx2.AsyncClient(timeout=60) as client:
        while time.monotonic() < end:
            with contextlib.suppress(httpx2.TransportError):
                if (await client.post(f"{run.url('ping')}/send/{number}", timeout=5)).status_code == 200:
                    return number
            await asyncio.sleep(0.1)
    raise AssertionError(f"{number} could not be published within {patience} s")


async def arrives(run: Run, number: int, patience: float = 60.0) -> bool:
    """Wait until the number is in pong's state store; return True on success."""
    end = time.monotonic() + patience
    async with httpx2.AsyncClient(timeout=60) as client:
        while time.monotonic() < end:
            with contextlib.suppress(httpx2.TransportError):
                if (await client.get(f"{run.url('pong')}/seen/{number}", timeout=5)).text == "true":
                    return True
            await asyncio.sleep(0.05)
    return False


async def test_an_event_flows(run: Run) -> None:
    assert await arrives(run, await publish(run))


async def test_every_process_gets_all_addresses(run: Run) -> None:
    async with httpx2.AsyncClient(timeout=60) as client:
        assert (await client.get(f"{run.url('ping')}/healthz")).json() == {"pong": run.url("pong")}
        assert (await client.get(f"{run.url('pong')}/healthz")).json() == "pong-0"
        assert abs(float((await client.get(run.url("clock"))).text) - time.time()) < 60


async def test_a_sidecar_asks_for_the_token_and_listens_here_only(run: Run) -> None:
    async with httpx2.AsyncClient(timeout=60) as client:
        metadata = f"{run.url('pong.daprd')}/v1.0/metadata"
        assert (await client.get(metadata)).status_code == 401
        token = {"dapr-api-token": state.read(run.run_dir).dapr_api_token}
        assert (await client.get(metadata, headers=token)).json()["id"] == "pong"
    pids = {process.pid for process in run.state.processes}
    listening = [c for c in psutil.net_connections("tcp") if c.pid in pids and c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 10
    assert {c.laddr[0] for c in listening if c.laddr} <= {"127.0.0.1"}


@pytest.mark.parametrize("name", ["pong", "ping", "ping.daprd", "pong.daprd", "broker"])
async def test_what_is_killed_comes_back_and_no_event_is_lost(run: Run, name: str) -> None:
    name = run.state.broker if name == "broker" else name
    before = run.find(name)
    waiting = await publish(run)
    await run.kill(name)
    after_death = await publish(run)
    await run.wait_ready()
    now = run.find(name)
    assert now.process != before.process
    assert (now.restarts, now.last_exit) == (before.restarts + 1, "killed by SIGKILL")
    for number in (waiting, after_death, await publish(run)):
        assert await arrives(run, number), f"number {number} is lost"


async def test_events_wait_for_a_service_that_is_away(run: Run) -> None:
    async with run.stopped("pong"):
        numbers = [await publish(run) for _ in range(5)]
    for number in numbers:
        assert await arrives(run, number)


async def test_events_wait_for_a_suspended_subscription_also_after_a_restart_of_its_sidecar(run: Run) -> None:
    suspended = run.run_dir / "suspended" / "pong-ball-served"
    suspended.touch()
    await until_subscribed(run, subscribed=False)
    await run.restart("pong.daprd", deadline=120)
    number = await publish(run)
    async with asyncio.timeout(120):
        while not state.read(run.run_dir).broker_lag.get("pong"):  # noqa: ASYNC110 - another process counts
            await asyncio.sleep(0.1)
    suspended.unlink()
    await until_subscribed(run, subscribed=True)
    assert await arrives(run, number)
    assert state.read(run.run_dir).broker_faults == 0


async def until_subscribed(run: Run, *, subscribed: bool) -> None:
    """Wait until the sidecar reads the topic, or does not, and the system map says so."""
    token = {"dapr-api-token": state.read(run.run_dir).dapr_api_token}
    async with httpx2.AsyncClient(headers=token, timeout=60) as client, asyncio.timeout(120):
        while True:
            read = loaded((await client.get(f"{run.url('pong.daprd')}/v1.0/metadata")).json())
            (drawn,) = json.loads((run.run_dir / "map.json").read_text())["subscriptions"]
            if (("pubsub", "ping.ballServed.v1") in read, drawn["suspended"]) == (subscribed, not subscribed):
                return
            await asyncio.sleep(0.1)


async def test_a_restart_is_asked_for_from_outside(run: Run) -> None:
    before = run.find("pong").process
    command = [TIDINGS, "restart", "pong", "--run-dir", str(run.run_dir)]
    called = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await called.communicate()
    after = run.find("pong")
    assert output.decode() == f"pong is ready again, pid {after.pid}\n"
    assert after.process != before


async def test_a_second_run_in_the_same_folder_is_refused(run: Run) -> None:
    with pytest.raises(AlreadyRunning, match=r"a system already runs in .*: stop it with `tidings down`"):
        async with pingpong(run.run_dir):
            pass


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Return a folder that PostgreSQL's own account, which it uses when started as root, can read."""
    folder = Path(tempfile.mkdtemp(prefix="tidings-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(locate("postgres") is None, reason="PostgreSQL is not on this machine: `tidings tools postgres`")
async def test_postgres_keeps_state(open_folder: Path) -> None:
    async with pingpong(open_folder, state="postgres") as run:
        assert await arrives(run, await publish(run))


async def test_replicas_share_the_work_and_a_restart_keeps_the_data(tmp_path: Path) -> None:
    async with pingpong(tmp_path, replicas={"pong": 2}) as first:
        assert first.find("pong-1.daprd").app == "pong"
        async with first.stopped("pong"):
            number = await publish(first)
            async with httpx2.AsyncClient(timeout=60) as client:
                end = time.monotonic() + 120
                while (await client.get(f"{first.url('pong-1')}/seen/{number}", timeout=60)).text != "true":
                    assert time.monotonic() < end, "the other replica did not take over"
                    await asyncio.sleep(0.1)
    async with pingpong(tmp_path) as second:
        assert await arrives(second, number)
