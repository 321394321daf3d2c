"""The supervisor of one process, on small programs that run, crash, hang and leave children."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tidings_cli.up import launch, supervisor
from tidings_cli.up.ports import block
from tidings_cli.up.probes import Listens, Probe, Succeeds
from tidings_cli.up.process import Process
from tidings_cli.up.state import Identity
from tidings_cli.up.supervisor import Supervisor, describe_exit, pause

READY = Succeeds(("true",))
LIVES = "import time; print('alive', flush=True); time.sleep(60)"


@dataclass
class Recorder:
    """A reporter that remembers."""

    lines: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def line(self, process: Process, text: str) -> None:
        self.lines.append(text)

    def note(self, text: str, *, level: int = 1) -> None:
        self.notes.append(text)

    def changed(self) -> None:
        pass


Begin = Callable[..., Coroutine[Any, Any, Supervisor]]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def begin(tmp_path: Path, recorder: Recorder) -> AsyncIterator[Begin]:
    client = httpx2.AsyncClient(timeout=60)
    begun: list[Supervisor] = []

    async def start(code: str, *, ready: Probe = READY, grace: float = 5.0, cwd: Path = tmp_path) -> Supervisor:
        process = Process("it", "service", "it", (sys.executable, "-I", "-S", "-c", code), ready, cwd, grace=grace)
        begun.append(Supervisor(process, tmp_path / "it.log", tmp_path / "held", client, recorder))
        begun[-1].start()
        return begun[-1]

    yield start
    for item in begun:
        item.give_up()
        await item.stop()
    await client.aclose()


async def until(holds: Callable[[], object], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to this"
        await asyncio.sleep(0.01)


async def test_it_becomes_ready_and_stops_when_asked(begin: Begin, recorder: Recorder) -> None:
    it = await begin(LIVES)
    await asyncio.wait_for(it.ready.wait(), 60)
    await until(lambda: "alive" in recorder.lines)
    assert it.state.state == "ready"
    identity = it.state.process
    assert identity
    assert identity.alive
    await it.stop()
    assert Identity.of(identity.pid) is None
    assert (it.state.state, it.state.last_exit, it.state.restarts) == ("stopped", "killed by SIGTERM", 0)
    assert not recorder.notes


async def test_a_killed_process_is_reported_with_its_last_lines_and_started_again(
    begin: Begin, recorder: Recorder
) -> None:
    it = await begin(LIVES)
    await asyncio.wait_for(it.ready.wait(), 60)
    await until(lambda: recorder.lines)
    before = it.state.process
    it.kill()
    await until(lambda: it.state.restarts == 1 and it.state.state == "ready")
    assert it.state.process != before
    assert recorder.notes == [
        "it died: killed by SIGKILL; last output:\n    alive",
        "it: restarting in 0.2 s",
    ]


async def test_a_process_that_keeps_dying_is_reported_as_failing(
    begin: Begin, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.0)
    it = await begin("import sys; sys.exit('no database')", ready=Succeeds(("false",)))
    await until(lambda: it.state.state == "failing")
    assert it.state.last_exit == "exit code 1"
    assert "no database" in recorder.notes[0]
    assert "it: died 5 times in a row right after its start: fix it; restarting in 0.0 s" in recorder.notes
    assert not it.ready.is_set()


@pytest.mark.parametrize(("deaths", "seconds"), [(0, 0.2), (1, 0.2), (2, 0.4), (4, 1.6), (9, 15.0), (400, 15.0)])
def test_pauses_grow_and_end_growing(deaths: int, seconds: float) -> None:
    assert pause(deaths) == seconds


@pytest.mark.parametrize(
    ("code", "message"), [(0, "exit code 0"), (-9, "killed by SIGKILL"), (-99, "killed by signal 99")]
)
def test_exits_in_words(code: int, message: str) -> None:
    assert describe_exit(code) == message


async def test_one_that_will_not_stop_is_killed_after_its_grace(begin: Begin, recorder: Recorder) -> None:
    it = await begin(
        "import signal, time; signal.signal(signal.SIGTERM, lambda *_: None); print('deaf', flush=True)\n"
        "while True: time.sleep(60)",
        grace=0.3,
    )
    await until(lambda: "deaf" in recorder.lines)
    await it.stop()
    assert it.state.last_exit == "killed by SIGKILL"
    assert recorder.notes == ["it did not stop within 0.3 s: killing it"]


async def test_its_children_end_with_it(begin: Begin, recorder: Recorder) -> None:
    it = await begin(
        "import os, time\nprint(os.fork() or 0, flush=True)\ntime.sleep(60)",
    )
    await until(lambda: len(recorder.lines) == 2)
    child = max(int(line) for line in recorder.lines)
    it.signal(signal.SIGTERM)
    await until(lambda: it.state.restarts)
    await until(lambda: not psutil.pid_exists(child))


def test_it_ends_with_the_process_that_started_it() -> None:
    """kill -9 of `tidings up` leaves nothing: the kernel ends each of its children."""
    launcher = [sys.executable, "-I", "-S", launch.__file__]
    code = (
        "import os, subprocess, sys\n"
        "child = subprocess.Popen([*sys.argv[1:], str(os.getpid()), '-', 'sleep', '60'], stdout=subprocess.DEVNULL)\n"
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", code, *launcher], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert not psutil.wait_procs([child], timeout=60)[1]


async def test_a_process_that_cannot_be_started_reports_the_reason(
    begin: Begin, recorder: Recorder, tmp_path: Path
) -> None:
    it = await begin(LIVES, cwd=tmp_path / "nowhere")
    await until(lambda: it.state.restarts)
    assert it.state.last_exit == "cannot be started: No such file or directory"
    assert "nowhere" in recorder.notes[0]


async def test_a_program_that_does_not_exist_is_named(begin: Begin, recorder: Recorder, tmp_path: Path) -> None:
    process = Process("it", "service", "it", ("no-such-program",), READY, tmp_path)
    async with httpx2.AsyncClient(timeout=60) as client:
        it = Supervisor(process, tmp_path / "it.log", tmp_path / "held", client, recorder)
        it.start()
        await until(lambda: recorder.notes)
        assert "cannot start no-such-program: No such file or directory" in recorder.notes[0]
        await it.stop()


async def test_a_held_process_stays_away_until_it_is_let_go(begin: Begin, recorder: Recorder, tmp_path: Path) -> None:
    it = await begin(LIVES)
    await asyncio.wait_for(it.ready.wait(), 60)
    (tmp_path / "held").touch()
    it.signal(signal.SIGTERM)
    await until(lambda: it.state.state == "held")
    assert recorder.notes == ["it is stopped (killed by SIGTERM); start it with `tidings start it`"]
    (tmp_path / "held").unlink()
    await until(lambda: it.state.state == "ready")


async def test_why_it_is_not_ready_is_known(begin: Begin) -> None:
    with block() as free:
        port = next(free)
        it = await begin(LIVES, ready=Listens(port))
        await until(lambda: it.state.problem)
        assert it.state.problem == f"port {port} does not accept connections yet"
        assert it.state.state == "starting"


async def test_a_stop_while_it_is_being_started_is_kept(begin: Begin) -> None:
    it = await begin(LIVES)
    await asyncio.sleep(0)
    await it.stop()
    assert it.state.state == "stopped"
    assert it.state.process is None


async def test_a_line_without_end_does_not_stop_the_reading(begin: Begin, recorder: Recorder) -> None:
    await begin("print('x' * 3_000_000, flush=True); print('after', flush=True); import time; time.sleep(60)")
    await until(lambda: "after" in recorder.lines)
    assert sum(len(line) for line in recorder.lines) >= 3_000_000


async def test_it_is_in_a_session_of_its_own(begin: Begin) -> None:
    it = await begin(LIVES)
    await asyncio.wait_for(it.ready.wait(), 60)
    assert it.state.pid
    assert os.getsid(it.state.pid) == it.state.pid  # Ctrl-C in our terminal does not reach it
