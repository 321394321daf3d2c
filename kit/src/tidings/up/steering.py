"""The commands that look at a running system and steer it: `ps`, `logs`, `restart`, `stop`, `start`, `down`.

Apart from `up`, whose imports take a second.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from tidings.errors import TidingsError
from tidings.terminal import printable
from tidings.up import control, state
from tidings.up.errors import NotRunning
from tidings.up.folder import RUN_DIR
from tidings.up.logs import follow, tail, understand
from tidings.up.state import ProcessState
from tidings.up.view import WIDE, log_line, table, table_rows

LOOK_EVERY = 0.2
"""Seconds between two looks into log files that nobody writes to."""

RunDir = Annotated[Path, typer.Option("--run-dir", help="Folder of the run: its data, logs and state.")]
Name = Annotated[str, typer.Argument(help="A process, as `tidings ps` names it: orders, orders.daprd, nats, …")]
Json = Annotated[bool, typer.Option("--json", help="As JSON, with every field of the state file.")]


@contextmanager
def told() -> Iterator[None]:
    """Say an error in plain words and leave with 1; a bug keeps its traceback."""
    try:
        yield
    except TidingsError as error:
        Console(stderr=True, soft_wrap=True).print(
            printable(f"error: {error}", keep="\n"), style="red", markup=False, highlight=False
        )
        raise typer.Exit(1) from error


def ps(*, run_dir: RunDir = Path(RUN_DIR), as_json: Json = False) -> None:
    """Show what runs: state, addresses, pids, restarts, memory."""
    with told():
        found = state.read(run_dir)
        if as_json:
            shown = msgspec.structs.replace(found, dapr_api_token="", app_api_token="")  # a screen is no place for them
            sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(shown)) + b"\n")
        elif not found.running:
            raise NotRunning(f"nothing runs in {run_dir} now; start it with `tidings up`")
        else:
            console = Console()
            width = console.width if console.is_terminal else 2 * WIDE  # a pipe has no edge
            console.print(table(found, table_rows(found.processes), width=width), width=width)
            if found.broker_problem:
                console.print(f"{found.broker}: {printable(found.broker_problem)}", markup=False, highlight=False)
            if found.broker_repairs:
                console.print(f"{found.broker}: repaired {found.broker_repairs} times", markup=False, highlight=False)


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Processes, named as by `tidings ps`; all by default.")
    ] = None,
    *,
    run_dir: RunDir = Path(RUN_DIR),
    following: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines are written.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines to show of each.")] = 50,
) -> None:
    """Show the last lines of processes."""
    with told():
        found = state.read(run_dir)
        chosen = [found.find(name) for name in names or [each.name for each in found.processes]]
        width = max(len(each.name) for each in chosen)
        console = Console(soft_wrap=True, highlight=False)

        def show(each: ProcessState, line: str) -> None:
            entry = understand(line)
            console.print(log_line(each.name, entry, "cyan", width, entry.time))

        for each in chosen:
            for line in tail(Path(each.log), lines):
                show(each, line)
        if following:
            with suppress(KeyboardInterrupt):
                _follow(chosen, show)


def _follow(chosen: Sequence[ProcessState], show: Callable[[ProcessState, str], None]) -> None:
    for written in zip(*(follow(Path(each.log)) for each in chosen), strict=True):
        for each, line in zip(chosen, written, strict=True):
            if line:
                show(each, line)
        if not any(written):
            time.sleep(LOOK_EVERY)


def restart(name: Name, *, run_dir: RunDir = Path(RUN_DIR)) -> None:
    """Stop a process; `tidings up` starts it again. Returns once it is ready."""
    with told():
        typer.echo(f"{name} is ready again, pid {control.restart(run_dir.resolve(), name).pid}")


def stop(name: Name, *, run_dir: RunDir = Path(RUN_DIR)) -> None:
    """Stop a process and keep it away, to see how the others go on without it."""
    with told():
        control.stop(run_dir.resolve(), name)
        typer.echo(f"{name} is stopped; `tidings start {name}` starts it again")


def start(name: Name, *, run_dir: RunDir = Path(RUN_DIR)) -> None:
    """Start a process that was stopped. Returns once it is ready."""
    with told():
        typer.echo(f"{name} is ready, pid {control.start(run_dir.resolve(), name).pid}")


def down(*, run_dir: RunDir = Path(RUN_DIR)) -> None:
    """Stop the whole system from another terminal, or clear away what a killed one has left."""
    with told():
        control.down(run_dir.resolve(), typer.echo)
        typer.echo("everything is stopped")
