"""The view for people, rendered to a console in memory."""

import asyncio
import io
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tidings_cli.up.probes import Listens
from tidings_cli.up.process import Process
from tidings_cli.up.state import Identity, ProcessState, Role, RunState
from tidings_cli.up.view import View, age, summary, table, table_rows

ORDERS = Process("orders", "service", "orders", (), Listens(1), Path())
SIDECAR = Process("orders.daprd", "sidecar", "orders", (), Listens(1), Path())


@dataclass
class Seen:
    view: View
    console: Console

    @property
    def lines(self) -> list[str]:
        self.view.flush()
        assert isinstance(self.console.file, io.StringIO)
        return [line[9:] for line in self.console.file.getvalue().splitlines()]  # without the clock


def plain(**settings: Any) -> Seen:
    console = Console(file=io.StringIO(), width=120, height=40)
    return Seen(View(console, **settings), console)


def process(name: str, role: Role, state: str = "ready", **more: Any) -> ProcessState:
    ports = {"http": 3500} if role == "sidecar" else {"app": 8001}
    me = Identity.of(os.getpid()) if state == "ready" else None
    more = {"app": name, "ports": ports, "process": me, **more}
    return ProcessState(name=name, role=role, state=state, **more)  # type: ignore[arg-type]


def run(*processes: ProcessState, phase: str = "ready") -> RunState:
    me = Identity(os.getpid(), 0)
    return RunState(
        project="shop",
        root="/shop",
        supervisor=me,
        phase=phase,  # type: ignore[arg-type]
        broker="nats",
        store="sqlite",
        url="http://127.0.0.1:8080",
        processes=processes,
    )


def test_lines_carry_who_what_details_and_correlation() -> None:
    seen = plain()
    seen.view.line(ORDERS, '{"level":"info","event":"placed","order":"7","correlation_id":"c-1"}')
    seen.view.line(ORDERS, "plain words")
    seen.view.note("ready in 3.0 s")
    assert seen.lines == [
        "orders   │ placed order=7 [c-1]",
        "orders   │ plain words",
        "tidings  │ ready in 3.0 s",
    ]


def test_a_warning_that_comes_again_and_again_is_shown_a_single_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = plain()
    for _ in range(30):
        seen.view.line(SIDECAR, '{"level":"warning","msg":"app is not healthy"}')
    assert seen.lines == ["orders.daprd │ app is not healthy"]
    monkeypatch.setattr("tidings_cli.up.view.REPEAT_EVERY", 0.0)
    seen.view.line(SIDECAR, '{"level":"warning","msg":"app is not healthy"}')
    assert seen.lines[1:] == ["orders.daprd │ app is not healthy also_before=29 times"]


def test_a_flood_is_cut_and_marked_as_such() -> None:
    seen = plain()
    for number in range(1000):
        seen.view.line(ORDERS, f"line {number}")
    assert len(seen.lines) == 401
    assert seen.console.file.getvalue().splitlines()[-1] == "… 600 more lines, see the log files"  # type: ignore[attr-defined]


def test_sidecars_are_quiet_unless_asked() -> None:
    quiet, verbose = plain(), plain(verbose=True)
    for seen in (quiet, verbose):
        seen.view.line(SIDECAR, '{"level":"info","msg":"loaded"}')
    assert (quiet.lines, verbose.lines) == ([], ["orders.daprd │ loaded"])


def drawn(state: RunState, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(table(state, table_rows(state.processes), width=width))
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_the_table_shows_a_sidecar_next_to_its_service() -> None:
    orders = process("orders", "service", restarts=1)
    sidecar = process("orders.daprd", "sidecar", "restarting", restarts=2, last_exit="killed by SIGKILL")
    heading, row, last = drawn(run(orders, sidecar), 120)
    assert heading.split() == ["name", "state", "port", "pid", "sidecar", "port", "pid", "restarts", "memory", "up"]
    assert row.split()[:7] == ["orders", "ready", "8001", str(os.getpid()), "restarting", "3500", "3"]
    assert last == "shop ready · 0/1 up · http://127.0.0.1:8080 · waiting for orders · Ctrl-C stops the run"


def test_a_narrow_table_has_no_pids_and_nothing_is_cut() -> None:
    heading, row, _ = drawn(run(process("orders", "service"), process("orders.daprd", "sidecar")), 90)
    assert "pid" not in heading
    assert "…" not in row


def test_the_summary_names_what_is_waited_for() -> None:
    state = run(process("orders", "service"), process("nats", "broker", "starting"), phase="starting")
    assert summary(state, table_rows(state.processes)).plain.startswith("shop starting · 1/2 up · waiting for nats")


@pytest.mark.parametrize(("height", "table_shown"), [(40, True), (8, False)])
async def test_the_live_table_leaves_room_for_the_log(height: int, table_shown: bool) -> None:
    console = Console(file=io.StringIO(), width=120, height=height, force_terminal=True)
    view = View(console)
    showing = asyncio.create_task(view.show(lambda: run(process("orders", "service"))))
    await asyncio.sleep(0)
    view.line(ORDERS, "placed")
    view.changed()
    written = console.file.getvalue  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        while not ("placed" in written() and "1/1 up" in written()):  # noqa: ASYNC110 - painted a few times a second
            await asyncio.sleep(0.01)
    showing.cancel()
    with suppress(asyncio.CancelledError):
        await showing
    assert ("restarts" in written()) is table_shown


@pytest.mark.parametrize(
    ("seconds", "message"),
    [(-1, "0 s"), (59.9, "59 s"), (61, "1 min 01 s"), (3660, "1 h 01 min"), (90000, "25 h 00 min")],
)
def test_age(seconds: float, message: str) -> None:
    assert age(seconds) == message
