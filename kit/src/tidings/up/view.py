"""What people see: a live table of what is up, and above it one coloured log of everything."""

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
from tidings.up.logs import Entry, understand, worth_showing
from tidings.up.state import ProcessState, RunState

if TYPE_CHECKING:  # the commands that only look need no more of it
    from tidings.up.process import Process

FLUSH_EVERY = 0.1
TABLE_EVERY = 1.0
"""Seconds between two paintings of the table while nothing changes: memory and age go on."""
REPEAT_EVERY = 5.0
"""Seconds between two showings of the same line of one process, such as a sidecar's while its service is down."""
BACKLOG = 400
"""Lines that are shown per flush at most; a terminal is no place to read more, the files have them all."""
COLOURS = ("cyan", "green", "magenta", "blue", "yellow", "bright_cyan", "bright_green", "bright_magenta", "bright_blue")
LEVEL_STYLES = ("dim", "", "yellow", "red", "bold red")
STATE_STYLES = {"ready": "green", "starting": "yellow", "waiting": "dim", "restarting": "yellow", "failing": "bold red"}
ROOM_FOR_LOG = 6
"""Lines of the terminal that the table must leave to the log, else a one-line summary stands in its place."""
WIDE = 112
"""Columns that the whole table needs."""
MIB = 1 << 20


class Terminal(Console):
    """A console whose reader may go away: that is an OSError like others, where rich would leave the program."""

    def on_broken_pipe(self) -> None:
        """Give what is still unwritten to nobody, as Python's own documentation advises, and say what happened."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        raise BrokenPipeError(errno.EPIPE, "nobody reads the output any more")


class View:
    """A reporter that writes to a terminal; without one, or with `plain`, lines alone."""

    def __init__(self, console: Console, *, verbose: bool = False, live: bool | None = None) -> None:
        self._console, self._verbose = console, verbose
        self._with_table = console.is_terminal if live is None else live
        self._lines: deque[Text] = deque()
        self._left_out = 0
        self._changed = True
        self._colours: dict[str, str] = {}
        self._repeats: dict[tuple[str, str], tuple[float, int]] = {}
        self._showing = False
        self.width = 8
        """Of the column of names."""

    def line(self, process: Process, text: str) -> None:
        """Show a line of a process, if it is worth it."""
        entry = understand(text)
        if not worth_showing(entry, process.role, verbose=self._verbose):
            return
        again = self._times_again(process.name, entry)
        if again is not None:
            entry = replace(entry, details=(*entry.details, *again))
            self._add(log_line(process.name, entry, self._colour(process.app), self.width, _clock()))

    def note(self, text: str, *, level: int = 1) -> None:
        """Show what the local run itself has to say."""
        self._add(log_line("tidings", Entry(level, text), "bold", self.width, _clock()))
        if not self._showing:
            self.flush()

    def changed(self) -> None:
        """Paint the table anew at the next occasion."""
        self._changed = True

    def flush(self) -> None:
        """Write what has come; raises OSError when the terminal is gone."""
        if self._left_out:
            self._lines.append(Text(f"… {self._left_out} lines more, see the log files", style="dim"))
        if self._lines:
            self._console.print(Text("\n").join(self._lines), soft_wrap=True, highlight=False)
        self._lines.clear()
        self._left_out = 0

    async def show(self, state: Callable[[], RunState]) -> None:
        """Write and paint until cancelled; raises OSError when the terminal is gone."""
        self._showing = True
        if not self._with_table:
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
                    live.update(self._picture(state()), refresh=True)
                await asyncio.sleep(FLUSH_EVERY)

    def _picture(self, state: RunState) -> Group | Text:
        rows = table_rows(state.processes)
        if len(rows) + 3 + ROOM_FOR_LOG > self._console.height:
            return summary(state, rows)
        return table(state, rows, width=self._console.width)

    def _add(self, line: Text) -> None:
        if len(self._lines) >= BACKLOG:
            self._left_out += 1
        else:
            self._lines.append(line)

    def _times_again(self, name: str, entry: Entry) -> tuple[tuple[str, str], ...] | None:
        """What to add to a line that was left out before; None to leave it out now. Plain talk is never left out."""
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

    def _colour(self, app: str) -> str:
        return self._colours.setdefault(app, COLOURS[len(self._colours) % len(COLOURS)])


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
        line.append(_traceback(value, width) if key == "exception" else printable(value))
    if entry.correlation:
        line.append(f" [{printable(entry.correlation)}]", style="dim")
    return line


def _traceback(text: str, width: int) -> str:
    """Lines of their own, which nobody can take for lines of the log."""
    return f"\n{'':{9 + width}} │ ".join(printable(line, keep="\t") for line in text.split("\n"))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: a process with its sidecar, if it has one."""

    main: ProcessState
    sidecar: ProcessState | None = None

    @property
    def both(self) -> list[ProcessState]:
        return [self.main, *([self.sidecar] if self.sidecar else [])]

    @property
    def ready(self) -> bool:
        return all(each.state == "ready" for each in self.both)

    @property
    def problem(self) -> str:
        return next((each.problem or each.last_exit for each in self.both if each.state != "ready"), "")


def table_rows(processes: Sequence[ProcessState]) -> list[Row]:
    """Put every sidecar beside its service."""
    sidecars = {each.name.removesuffix(".daprd"): each for each in processes if each.role == "sidecar"}
    return [Row(each, sidecars.get(each.name)) for each in processes if each.role != "sidecar"]


def table(state: RunState, rows: Sequence[Row], *, width: int, now: float | None = None) -> Group:
    """The table of what is up; in a narrow terminal without process ids."""
    drawn = Table(box=None, padding=(0, 2, 0, 0))
    wide = width >= WIDE
    for heading in ("name", "state", "port", *(["pid"] if wide else []), "sidecar", "port", *(["pid"] if wide else [])):
        drawn.add_column(heading, no_wrap=True)
    for heading in ("restarts", "memory", "up"):
        drawn.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        drawn.add_row(*_cells(row, time.time() if now is None else now, wide=wide))
    return Group(drawn, summary(state, rows))


def summary(state: RunState, rows: Sequence[Row]) -> Text:
    """The table in one line."""
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
    return line.append(" · Ctrl-C stops everything", style="dim")


def _cells(row: Row, now: float, *, wide: bool) -> list[Text | str]:
    main, sidecar = row.main, row.sidecar
    return [
        main.name,
        _state(main),
        str(main.ports.get("app", "")),
        *([str(main.pid or "")] if wide else []),
        _state(sidecar) if sidecar else "",
        str(sidecar.ports["http"]) if sidecar else "",
        *([str(sidecar.pid or "") if sidecar else ""] if wide else []),
        str(sum(each.restarts for each in row.both) or ""),
        memory(row.both),
        age(now - main.process.started) if main.process else "",
    ]


def _state(each: ProcessState) -> Text:
    return Text(each.state, style=STATE_STYLES.get(each.state, "red"))


def memory(processes: Sequence[ProcessState]) -> str:
    """Resident memory of processes together."""
    total = 0
    for each in processes:
        try:
            total += psutil.Process(each.pid).memory_info().rss if each.pid else 0
        except psutil.Error:  # just died: it uses none
            continue
    return f"{total / MIB:.0f} MiB" if total else ""


def age(seconds: float) -> str:
    """A time span in two units at most."""
    whole = max(0, int(seconds))
    minutes, hours = whole // 60, whole // 3600
    if hours:
        return f"{hours} h {minutes % 60:02} min"
    return f"{minutes} min {whole % 60:02} s" if minutes else f"{whole} s"
