"""Terminal output: a live table of all processes, and the coloured log of the run above it."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tidings.terminal import printable
from tidings_cli.up.logs import Entry, parse_line, worth_showing
from tidings_cli.up.state import ProcessState, RunState

if TYPE_CHECKING:  # keeps the import time of `tidings ps` low
    from tidings_cli.up.process import Process

FLUSH_EVERY = 0.1
TABLE_EVERY = 1.0
"""Seconds between two updates of the table without changes, for memory and uptime."""
REPEAT_EVERY = 5.0
"""Minimum seconds between two equal lines of a process, such as a sidecar's while its service is down."""
BACKLOG = 400
"""Maximum number of lines shown per flush; the log files have all of them."""
COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")
LEVEL_STYLES = ("dim", "", "yellow", "red", "bold red")
STATE_STYLES = {"ready": "green", "starting": "yellow", "waiting": "dim", "restarting": "yellow", "failing": "bold red"}
ROOM_FOR_LOG = 6
"""Lines of the terminal that must remain for the log; otherwise a one-line summary replaces the table."""
WIDE = 112
"""Width of the full table in columns."""
MIB = 1 << 20


class Terminal(Console):
    """Console that raises an OSError when its reader goes away, where rich would exit the program."""

    def on_broken_pipe(self) -> None:
        """Redirect the remaining output to /dev/null, as recommended in Python's documentation, and raise an error."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        raise BrokenPipeError(errno.EPIPE, "the reader of the output has closed it")


class View:
    """Reporter that writes to a terminal; without one, it writes lines only."""

    def __init__(self, console: Console, *, verbose: bool = False) -> None:
        self._console, self._verbose = console, verbose
        self._lines: deque[Text] = deque()
        self._dropped = 0
        self._changed = True
        self._colours: dict[str, str] = {}
        self._repeats: dict[tuple[str, str], tuple[float, int]] = {}
        self._showing = False
        self.width = 8
        """Width of the name column."""

    def line(self, process: Process, text: str) -> None:
        """Show a line of a process, unless it is below the level for its role."""
        entry = parse_line(text)
        if not worth_showing(entry, process.role, verbose=self._verbose):
            return
        again = self._times_again(process.name, entry)
        if again is not None:
            entry = replace(entry, details=(*entry.details, *again))
            self._add(
                log_line(
                    process.name,
                    entry,
                    self._colours.setdefault(process.app, COLOURS[len(self._colours) % len(COLOURS)]),
                    self.width,
                    _clock(),
                )
            )

    def note(self, text: str, *, level: int = 1) -> None:
        """Show an event of the run."""
        self._add(log_line("tidings", Entry(level, text), "bold", self.width, _clock()))
        if not self._showing:
            self.flush()

    def changed(self) -> None:
        """Schedule an update of the table."""
        self._changed = True

    def flush(self) -> None:
        """Write pending lines; raise OSError if the terminal is gone."""
        if self._dropped:
            self._lines.append(Text(f"… {self._dropped} more lines, see the log files", style="dim"))
        if self._lines:
            self._console.print(Text("\n").join(self._lines), soft_wrap=True, highlight=False)
        self._lines.clear()
        self._dropped = 0

    async def show(self, state: Callable[[], RunState]) -> None:
        """Write lines and update the table until cancelled; raise OSError if the terminal is gone."""
        self._showing = True
        if not self._console.is_terminal:
            while True:
                self.flush()
                await asyncio.sleep(FLUSH_EVERY)
        painted = 0.0
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                self.flush()
                if self._changed or time.monotonic() - painted > TABLE_EVERY:
                    self._changed = False
                    painted = time.monotonic()
                    current = state()
                    rows = table_rows(current.processes)
                    has_room = len(rows) + 3 + ROOM_FOR_LOG <= self._console.height
                    shown = table(current, rows, width=self._console.width) if has_room else summary(current, rows)
                    live.update(shown, refresh=True)
                await asyncio.sleep(FLUSH_EVERY)

    def _add(self, line: Text) -> None:
        if len(self._lines) >= BACKLOG:
            self._dropped += 1
        else:
            self._lines.append(line)

    def _times_again(self, name: str, entry: Entry) -> tuple[tuple[str, str], ...] | None:
        """Return details for a line suppressed before, None to suppress it now. Info lines are always shown."""
        if entry.level <= 1:
            return ()
        now, key = time.monotonic(), (name, entry.message)
        shown, left_out = self._repeats.get(key, (-REPEAT_EVERY, 0))
        if now - shown < REPEAT_EVERY:
            self._repeats[key] = (shown, left_out + 1)
            return None
        if len(self._repeats) > BACKLOG:
            self._repeats.clear()
        self._repeats[key] = (now, 0)
        return (("also_before", f"{left_out} times"),) if left_out else ()


def _clock() -> str:
    return f"{datetime.now():%H:%M:%S}"  # noqa: DTZ005  # the reader's own clock


def log_line(name: str, entry: Entry, colour: str, width: int, clock: str) -> Text:
    """One line of the log: time, who, what, details, correlation id."""
    line = Text()
    line.append(f"{printable(clock):8} ", style="dim")
    line.append(f"{name:<{width}} ", style=colour)
    line.append("│ ", style="dim")
    line.append(printable(entry.message), style=LEVEL_STYLES[entry.level])
    for key, value in entry.details:
        line.append(f" {printable(key)}=", style="dim")
        # Continuation lines of a traceback are indented, so that they cannot be mistaken for log lines.
        lines = value.split("\n") if key == "exception" else []
        indented = f"\n{'':{9 + width}} │ ".join(printable(continued, keep="\t") for continued in lines)
        line.append(indented or printable(value))
    if entry.correlation:
        line.append(f" [{printable(entry.correlation)}]", style="dim")
    return line


@dataclass(frozen=True, slots=True)
class Row:
    """Row of the table: a process with its sidecar, if any."""

    main: ProcessState
    sidecar: ProcessState | None = None

    @property
    def processes(self) -> list[ProcessState]:
        return [self.main, *([self.sidecar] if self.sidecar else [])]

    @property
    def ready(self) -> bool:
        return all(process.state == "ready" for process in self.processes)

    @property
    def problem(self) -> str:
        return next(
            (process.problem or process.last_exit for process in self.processes if process.state != "ready"), ""
        )


def table_rows(processes: Sequence[ProcessState]) -> list[Row]:
    """Return the rows of the table, each service with its sidecar."""
    sidecars = {process.name.removesuffix(".daprd"): process for process in processes if process.role == "sidecar"}
    return [Row(process, sidecars.get(process.name)) for process in processes if process.role != "sidecar"]


def table(state: RunState, rows: Sequence[Row], *, width: int, now: float | None = None) -> Group:
    """Return the table of processes; without process ids in a narrow terminal."""
    grid = Table(box=None, padding=(0, 2, 0, 0))
    wide = width >= WIDE
    for heading in ("name", "state", "port", *(["pid"] if wide else []), "sidecar", "port", *(["pid"] if wide else [])):
        grid.add_column(heading, no_wrap=True)
    for heading in ("restarts", "memory", "up"):
        grid.add_column(heading, justify="right", no_wrap=True)
    now = time.time() if now is None else now
    for row in rows:
        main, sidecar = row.main, row.sidecar
        grid.add_row(
            main.name,
            _state(main),
            str(main.ports.get("app", "")),
            *([str(main.pid or "")] if wide else []),
            _state(sidecar) if sidecar else "",
            str(sidecar.ports["http"]) if sidecar else "",
            *([str(sidecar.pid or "") if sidecar else ""] if wide else []),
            str(sum(process.restarts for process in row.processes) or ""),
            memory(row.processes),
            age(now - main.process.started) if main.process else "",
        )
    return Group(grid, summary(state, rows))


def summary(state: RunState, rows: Sequence[Row]) -> Text:
    """Return a one-line summary of the table."""
    ready = sum(row.ready for row in rows)
    line = Text.assemble(
        (f"{state.project} ", "bold"),
        (state.phase, STATE_STYLES.get(state.phase, "yellow")),
        f" · {ready}/{len(rows)} up",
    )
    if state.phase == "ready" and state.url:
        line.append(f" · {state.url}", style="bold")
    waiting = [row.main.name for row in rows if not row.ready]
    if waiting and state.phase in {"starting", "ready"}:
        line.append(f" · waiting for {', '.join(waiting)}", style="yellow")
    return line.append(" · Ctrl-C stops the run", style="dim")


def _state(process: ProcessState) -> Text:
    return Text(process.state, style=STATE_STYLES.get(process.state, "red"))


def memory(processes: Sequence[ProcessState]) -> str:
    """Return the total resident memory of processes."""
    total = 0
    for process in processes:
        try:
            total += psutil.Process(process.pid).memory_info().rss if process.pid else 0
        except psutil.Error:  # it has ended
            continue
    return f"{total / MIB:.0f} MiB" if total else ""


def age(seconds: float) -> str:
    """Format a time span with at most two units."""
    whole = max(0, int(seconds))
    minutes, hours = whole // 60, whole // 3600
    if hours:
        return f"{hours} h {minutes % 60:02} min"
    return f"{minutes} min {whole % 60:02} s" if minutes else f"{whole} s"
