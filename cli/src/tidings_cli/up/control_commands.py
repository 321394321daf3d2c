"""Commands that observe and control a running system: `ps`, `logs`, `restart`, `stop`, `start`, `down`.

They are separate from `up`, whose imports take a second.
"""

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from tidings.conventions import ARCHIVE_APP
from tidings.errors import TidingsError
from tidings.terminal import printable
from tidings_cli.up import control, state
from tidings_cli.up.errors import NotRunning
from tidings_cli.up.folder import RUN_DIR
from tidings_cli.up.logs import follow, parse_line, tail
from tidings_cli.up.state import ProcessState
from tidings_cli.up.view import WIDE, log_line, table, table_rows

POLL_INTERVAL = 0.2
"""Seconds between two polls of idle log files."""

RunDir = Annotated[Path, typer.Option("--run-dir", help="Folder with the run's data, logs and state.")]
Name = Annotated[str, typer.Argument(help="Name of a process as in `tidings ps`: orders, orders.daprd, nats, …")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON with all fields of the state file.")]


@contextmanager
def reported_errors() -> Iterator[None]:
    """Print an expected error and exit with 1; other exceptions keep their traceback."""
    try:
        yield
    except TidingsError as error:
        Console(stderr=True, soft_wrap=True).print(
            printable(f"error: {error}", keep="\n"), style="red", markup=False, highlight=False
        )
        raise typer.Exit(1) from error


def ps(*, run_dir: RunDir = Path(RUN_DIR), as_json: Json = False) -> None:
    """Show the processes of the run, what waits at the broker, and the latest notices to owners."""
    with reported_errors():
        run_state = state.read(run_dir)
        if as_json:
            shown = msgspec.structs.replace(
                run_state, dapr_api_token="", app_api_token=""
            )  # secrets do not belong on a screen
            sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(shown)) + b"\n")
        elif not run_state.running:
            raise NotRunning(f"no system is running in {run_dir}; start it with `tidings up`")
        else:
            console = Console()
            width = console.width if console.is_terminal else 2 * WIDE  # a pipe has no width
            console.print(table(run_state, table_rows(run_state.processes), width=width), width=width)
            about_broker = (f"{run_state.broker}: {remark}" for remark in _about_broker(run_state))
            for remark in itertools.chain(about_broker, _about_notices(run_state)):
                console.print(printable(remark), markup=False, highlight=False, soft_wrap=True)


def _about_broker(run_state: state.RunState) -> Iterator[str]:
    if run_state.broker_problem:
        yield run_state.broker_problem
    if run_state.broker_lag:
        yield f"waiting events: {', '.join(f'{count} for {app}' for app, count in run_state.broker_lag.items())}"
    if run_state.unread_dead_letters:
        unread = ", ".join(f"{count} in {topic}" for topic, count in run_state.unread_dead_letters.items())
        yield f"dead letters that no app has read: {unread}"
    if run_state.broker_faults:
        yield f"faults since the start: {run_state.broker_faults}, latest: {run_state.latest_faults[-1]}"


def _about_notices(run_state: state.RunState) -> Iterator[str]:
    archives = (process for process in run_state.processes if (process.app, process.role) == (ARCHIVE_APP, "service"))
    archive = next((process for process in archives if process.state == "ready"), None)
    if archive is not None:
        from tidings_cli.up.notices import describe_latest  # noqa: PLC0415 - HTTP clients take time to import

        yield from describe_latest(archive)


def logs(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names of processes as in `tidings ps`; all by default.")
    ] = None,
    *,
    run_dir: RunDir = Path(RUN_DIR),
    following: Annotated[bool, typer.Option("--follow", "-f", help="Follow the log.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Number of last lines per process.")] = 50,
) -> None:
    """Show the last log lines of processes."""
    with reported_errors():
        run_state = state.read(run_dir)
        selected = [run_state.find(name) for name in names or [process.name for process in run_state.processes]]
        width = max(len(process.name) for process in selected)
        console = Console(soft_wrap=True, highlight=False)

        def show(process: ProcessState, line: str) -> None:
            entry = parse_line(line)
            console.print(log_line(process.name, entry, "cyan", width, entry.time))

        for process in selected:
            for line in tail(Path(process.log), lines):
                show(process, line)
        if following:
            with suppress(KeyboardInterrupt):
                _follow(selected, show)


def _follow(selected: Sequence[ProcessState], show: Callable[[ProcessState, str], None]) -> None:
    for written in zip(*(follow(Path(process.log)) for process in selected), strict=True):
        for process, line in zip(selected, written, strict=True):
            if line:
                show(process, line)
        if not any(written):
            time.sleep(POLL_INTERVAL)


def restart(name: Name, *, run_dir: RunDir = Path(RUN_DIR)) -> None:
    """Restart a process, and wait until it is ready."""
    with reported_errors():
        typer.echo(f"{name} is ready again, pid {control.restart(run_dir.resolve(), name).pid}")


def stop(name: Name, *, run_dir: RunDir = Path(RUN_DIR)) -> None:
    """Stop a process and keep it stopped, for example to see how the others work without it."""
    with reported_errors():
        control.stop(run_dir.resolve(), name)
        typer.echo(f"{name} is stopped; `tidings start {name}` starts it again")


def start(name: Name, *, run_dir: RunDir = Path(RUN_DIR)) -> None:
    """Start a stopped process, and wait until it is ready."""
    with reported_errors():
        typer.echo(f"{name} is ready, pid {control.start(run_dir.resolve(), name).pid}")


def down(*, run_dir: RunDir = Path(RUN_DIR)) -> None:
    """Stop the whole system, or end the orphaned processes of a killed one."""
    with reported_errors():
        control.down(run_dir.resolve(), typer.echo)
        typer.echo("all processes have stopped")
