"""The command `tidings up`."""

import asyncio
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tidings_cli.up import dapr_run as dapr_run_file
from tidings_cli.up import system
from tidings_cli.up.control_commands import reported_errors
from tidings_cli.up.folder import RUN_DIR
from tidings_cli.up.prepare import Prepared, prepared
from tidings_cli.up.run import Run
from tidings_cli.up.system import Options
from tidings_cli.up.view import Terminal, View

REMIND_EVERY = 20.0
"""Seconds between two reports of the processes that are not ready yet."""
Broker = Annotated[str, typer.Option(help="nats, redis, or the URL of an external broker (nats://…, amqp://…).")]
Store = Annotated[str, typer.Option("--state", help="sqlite, redis, postgres, or the URL of an external store.")]
Only = Annotated[list[str] | None, typer.Option(help="Start only these services and programs, with the broker: a,b.")]
DaprRun = Annotated[
    Path | None,
    typer.Option(
        help="Write this file for `dapr run -f` instead of starting anything; broker and state store must be "
        "external (--broker URL), or files."
    ),
]


def up(
    *,
    broker: Broker = "",
    store: Store = "",
    only: Only = None,
    replicas: Annotated[list[str] | None, typer.Option(help="Number of replicas: NAME=NUMBER,…")] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help=f"Folder for data, logs and state; by default {RUN_DIR}.")
    ] = None,
    port_base: Annotated[int | None, typer.Option(help="Number the fixed ports from this one.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the data of earlier runs.")] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Print log lines only, without table and colours.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show all log lines, including those of sidecars and broker.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check the project and its events without starting anything.")
    ] = False,
    dapr_run: DaprRun = None,
) -> None:
    """Start the system on this machine: broker, sidecars, services. Ctrl-C stops it."""
    options = Options(
        broker=broker,
        state=store,
        only=_split(only),
        replicas=_replica_counts(replicas),
        run_dir=run_dir,
        port_base=port_base,
        fresh=fresh,
    )
    console = Terminal(no_color=True, force_terminal=False) if plain else Terminal()
    view = View(console, verbose=verbose)
    with reported_errors():
        if check:
            _check(options, console)
            return
        with prepared(Path.cwd(), options, view) as ready_to_start:
            if dapr_run:
                dapr_run_file.write(ready_to_start, dapr_run)
                return
            view.width = max(len(process.name) for process in ready_to_start.processes)
            asyncio.run(_until_stopped(ready_to_start, view))


def _split(texts: Sequence[str] | None) -> tuple[str, ...]:
    return tuple(name for text in texts or () for name in text.split(",") if name)


def _replica_counts(texts: Sequence[str] | None) -> dict[str, int]:
    counts: dict[str, int] = {}
    for text in _split(texts):
        name, _, number = text.partition("=")
        if not name or not number.isdigit() or int(number) < 1:
            raise typer.BadParameter(f"{text!r}: write NAME=NUMBER, such as orders=2", param_hint="--replicas")
        counts[name] = int(number)
    return counts


def _check(options: Options, console: Console) -> None:
    planned = system.read(Path.cwd(), options)
    for finding in planned.plan.findings:
        if finding.severity == "warning":
            console.print(system.describe(finding), style="yellow", soft_wrap=True, markup=False, highlight=False)
    console.print(
        f"{planned.home.project.name}: {len(planned.instances)} services on {planned.broker.kind.name} and "
        f"{planned.store.kind.name}, {len(planned.plan.topics)} topics; nothing was started"
    )


async def _until_stopped(ready_to_start: Prepared, view: View) -> None:
    run = Run(ready_to_start, view)
    stop = asyncio.Event()

    def request_stop() -> None:
        if stop.is_set():
            view.note("killing all processes", level=2)
            run.kill_all()
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, request_stop)
    showing = asyncio.create_task(view.show(lambda: run.state))
    showing.add_done_callback(lambda _task: stop.set())  # the terminal is gone
    starting = asyncio.create_task(_start(run, view))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()  # raises the error of a failed start
            await stopping
    finally:
        starting.cancel()
        await asyncio.wait([starting])
        view.note("stopping services, sidecars, programs, broker; press Ctrl-C again to kill them")
        await run.stop()
        view.note("all processes have stopped")
        showing.cancel()
        await asyncio.wait([showing])
        with suppress(OSError):  # the terminal is gone
            if not showing.cancelled():
                showing.result()
            view.flush()


async def _start(run: Run, view: View) -> None:
    reminder = asyncio.create_task(_report_pending(run, view))
    try:
        await run.start()
    finally:
        reminder.cancel()
    state = run.state
    view.note(f"ready in {state.ready_after:.1f} s")
    if state.url:
        view.note(f"open {state.url}")


async def _report_pending(run: Run, view: View) -> None:
    while True:
        await asyncio.sleep(REMIND_EVERY)
        for process in run.state.processes:
            if process.state not in {"ready", "waiting"}:
                view.note(
                    f"waiting for {process.name} ({process.state}): {process.problem or process.last_exit}", level=2
                )
