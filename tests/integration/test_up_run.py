"""A whole run, made of small programs: order of start and stop, state file, steering from outside, what is left."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tidings.brokers.watch import BrokerWatch, Observation
from tidings_cli.up import control, orphans, state
from tidings_cli.up import run as run_module
from tidings_cli.up.backends import BROKERS, STORES, choose
from tidings_cli.up.errors import NotRunning, StartFailed
from tidings_cli.up.folder import RunFolder
from tidings_cli.up.prepare import Prepared
from tidings_cli.up.probes import Probe, Succeeds
from tidings_cli.up.process import Process
from tidings_cli.up.project import Home, Project, Service
from tidings_cli.up.run import Quiet, Run
from tidings_cli.up.state import Identity, Role
from tidings_cli.up.system import System
from tidings_plan import Plan

LIVES = """
import signal, sys, time
def end(*_):
    with open("order", "a") as file: file.write(sys.argv[1] + " ")
    sys.exit()
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + ".up", "w").close()
while True: time.sleep(60)
"""


def fake(folder: Path, name: str, role: Role, code: str = LIVES, ready: Probe | None = None) -> Process:
    return Process(
        name=name,
        role=role,
        app=name.removesuffix(".daprd"),
        argv=(sys.executable, "-I", "-S", "-c", code, name),
        ready=ready or Succeeds(("test", "-e", str(folder / f"{name}.up"))),
        cwd=folder,
        env={orphans.MARK: str(folder)},
        ports={"http": 7002} if role == "sidecar" else {"app": 7001},
        grace=10,
    )


def system(folder: Path, *processes: Process) -> Prepared:
    home = Home(folder, Project(name="shop", open="orders"), (Service(name="orders"),))
    backends = choose("redis", BROKERS, "broker"), choose("sqlite", STORES, "state")
    whole = System(home, Plan({}, (), {}, {}), (), (), *backends, {})
    run_folder = RunFolder(folder)
    run_folder.prepare([], fresh=False)
    return Prepared(whole, run_folder, processes, {"orders": 7001, "redis": 7000}, "to-dapr", "to-app", "pw")


@contextlib.asynccontextmanager
async def running(prepared: Prepared) -> AsyncIterator[Run]:
    run = Run(prepared, Quiet())
    try:
        await run.start(30)
        yield run
    finally:
        await run.stop()


def shop(folder: Path) -> Prepared:
    return system(
        folder,
        fake(folder, "redis", "broker"),
        fake(folder, "orders", "service"),
        fake(folder, "orders.daprd", "sidecar"),
    )


async def test_everything_starts_and_stops_in_order(tmp_path: Path) -> None:
    async with running(shop(tmp_path)) as run:
        result = state.read(tmp_path)
        assert result.supervisor.pid == os.getpid()
        assert {process.name: process.state for process in run.state.processes} == dict.fromkeys(
            ("redis", "orders", "orders.daprd"), "ready"
        )
        assert (run.url("orders"), run.url("orders.daprd")) == ("http://127.0.0.1:7001", "http://127.0.0.1:7002")
        began = {process.name: process.process.started for process in run.state.processes if process.process}
        assert began["redis"] < min(began["orders"], began["orders.daprd"])
    assert (tmp_path / "order").read_text().split() == ["orders", "orders.daprd", "redis"]
    assert (state.read(tmp_path).phase, state.read(tmp_path).find("redis").state) == ("stopped", "stopped")


async def test_the_state_file_follows_and_is_the_owners_alone(tmp_path: Path) -> None:
    async with running(shop(tmp_path)) as run:
        before = run.find("orders").process
        await run.kill("orders")
        await run.wait_ready("orders")
        await asyncio.sleep(0.2)
        result = state.read(tmp_path).find("orders")
        assert (result.restarts, result.last_exit, result.state) == (1, "killed by SIGKILL", "ready")
        assert result.process != before
        file = tmp_path / state.FILE_NAME
        assert file.stat().st_mode & 0o077 == 0
        assert json.loads(file.read_text())["dapr_api_token"] == "to-dapr"


async def test_the_broker_is_watched_despite_changes_of_the_components_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "WATCH_INTERVAL", 0.01)
    looks = asyncio.Semaphore(0)

    async def look(watch: BrokerWatch) -> Observation:
        looks.release()
        return Observation()

    monkeypatch.setattr(BrokerWatch, "look", look)
    async with running(shop(tmp_path)):  # there is no components folder
        for _ in range(3):
            await asyncio.wait_for(looks.acquire(), 60)


async def test_a_process_can_be_kept_away(tmp_path: Path) -> None:
    async with running(shop(tmp_path)) as run:
        async with run.stopped("orders"):
            await asyncio.sleep(0.5)
            assert run.find("orders").process is None
        assert run.find("orders").state == "ready"


async def test_what_does_not_become_ready_is_named_with_its_last_words(tmp_path: Path) -> None:
    broken = fake(tmp_path, "orders", "service", "print('no menu', flush=True); import time; time.sleep(60)")
    run = Run(system(tmp_path, broken), Quiet())
    with pytest.raises(StartFailed) as caught:
        await run.start(1.0)
    await run.stop()
    assert str(caught.value).startswith("orders is not ready (starting): `test` ends with exit code 1")
    assert str(caught.value).endswith("last output:\n    no menu")


async def test_a_broker_that_dies_stops_the_start(tmp_path: Path) -> None:
    run = Run(system(tmp_path, fake(tmp_path, "redis", "broker", "import sys; sys.exit('bad disk')")), Quiet())
    with pytest.raises(StartFailed, match=r"redis is not ready \(failing\)(.|\n)*bad disk"):
        await run.start()
    await run.stop()


async def test_a_second_request_ends_everything_immediately(tmp_path: Path) -> None:
    deaf = "import signal, time, sys; signal.signal(15, lambda *_: 0); open('orders.up', 'w')\nwhile 1: time.sleep(9)"
    run = Run(system(tmp_path, fake(tmp_path, "orders", "service", deaf)), Quiet())
    await run.start(30)
    stopping = asyncio.create_task(run.stop())
    await asyncio.sleep(0.3)
    assert not stopping.done()
    run.kill_all()
    await asyncio.wait_for(stopping, 60)
    assert run.find("orders").last_exit == "killed by SIGKILL"


async def test_it_is_steered_from_another_program(tmp_path: Path) -> None:
    async with running(shop(tmp_path)) as run:
        await asyncio.sleep(0.2)
        before = run.find("orders").process
        after = await asyncio.to_thread(control.restart, tmp_path, "orders")
        assert (after.process, after.last_exit) != (before, "")
        await asyncio.to_thread(control.stop, tmp_path, "orders")
        assert run.find("orders").state in {"held", "ready"}  # gone, and perhaps not yet noticed
        assert (await asyncio.to_thread(control.start, tmp_path, "orders")).state == "ready"
        with pytest.raises(NotRunning, match="unknown process order; known processes: redis, orders"):
            control.restart(tmp_path, "order")


def test_without_a_run_commands_fail(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="no system was started in"):
        control.running(tmp_path)
    for content in (b'{"old": 1}', b"", b'{"started": "\xff"}', b"[" * 9_000):
        (tmp_path / state.FILE_NAME).write_bytes(content)
        with pytest.raises(NotRunning, match="written by another version"):
            state.read(tmp_path)


SURVIVES = (
    "import subprocess, sys, time; subprocess.Popen(['sleep', '60']); open(sys.argv[1] + '.up', 'w'); time.sleep(60)"
)


def test_a_killed_run_leaves_nothing_after_the_next_start(tmp_path: Path) -> None:
    """kill -9 of the supervisor: its processes end with it, and what those had started is found and ended."""
    code = f"""
        import asyncio, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_up_run import SURVIVES, Quiet, Run, fake, system
        async def main():
            folder = Path({str(tmp_path)!r})
            await (run := Run(system(folder, fake(folder, "orders", "service", SURVIVES)), Quiet())).start(30)
            await asyncio.sleep(0.2)
            print("ready", flush=True)
            await asyncio.sleep(60)
        asyncio.run(main())
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE) as up:
        assert up.stdout
        assert up.stdout.readline() == b"ready\n"
        result = state.read(tmp_path)
        orders = result.find("orders").process
        assert orders
        sleeping = psutil.Process(orders.pid).children()
        with subprocess.Popen(["sleep", "60"], env={orphans.MARK: str(tmp_path)}) as bystander:
            up.kill()
            psutil.wait_procs([psutil.Process(orders.pid)] if orders.alive else [], timeout=60)
            assert not result.running
            output: list[str] = []
            orphans.end(tmp_path, result, output.append)
            assert output == [f"killing pid {sleeping[0].pid}, orphaned by an earlier run"]
            assert not any(item.is_running() for item in sleeping)
            assert bystander.poll() is None  # the same mark, but no session of ours
            bystander.kill()


def test_a_process_is_distinguished_from_a_later_one_with_its_pid() -> None:
    me = Identity.of(os.getpid())
    assert me
    assert me.alive
    assert not Identity(me.pid, me.started - 60).alive
    assert Identity.of(2**22 + 1) is None
