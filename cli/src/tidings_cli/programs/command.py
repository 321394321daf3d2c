"""The command `tidings tools`."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tidings_cli.programs.errors import ProgramError
from tidings_cli.programs.obtain import ensure
from tidings_cli.programs.pins import PROGRAMS
from tidings_cli.programs.places import locate

LOCAL_RUN = ("daprd", "nats-server")
_BY_DEFAULT = f"Programs to install; by default {' and '.join(LOCAL_RUN)}, which the local run requires."


def _known(names: list[str] | None) -> list[str]:
    for name in names or ():
        if name not in PROGRAMS:
            raise typer.BadParameter(f"{name} is none of {', '.join(PROGRAMS)}")
    return names or list(LOCAL_RUN)


def tools(
    names: Annotated[list[str] | None, typer.Argument(callback=_known, help=_BY_DEFAULT)] = None,
    *,
    show: Annotated[bool, typer.Option("--list", help="List programs without installing any.")] = False,
) -> None:
    """Get the programs that run next to the services: from PATH, the cache, their releases, or built from source."""
    if show:
        table = Table("program", "version", "where")
        for program in PROGRAMS.values():
            version = program.version if program.pinned else f"{program.version} or newer"
            table.add_row(program.name, version, str(locate(program.name) or "[dim]not here yet[/]"))
        Console(soft_wrap=True).print(table)
        return
    stderr = Console(stderr=True, soft_wrap=True)
    try:
        with stderr.status("looking for programs") as status:
            report = status.update if stderr.is_terminal else stderr.print
            paths = ensure(*(names or LOCAL_RUN), report=report)
    except ProgramError as error:
        stderr.print(f"[red]error:[/] {error}", highlight=False)
        raise typer.Exit(1) from error
    for name, path in paths.items():
        typer.echo(f"{name}\t{path}")
