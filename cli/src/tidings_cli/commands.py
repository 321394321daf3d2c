"""Table of all commands; a command's module is imported when it is called."""

import importlib
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from tidings.terminal import printable


class Command(NamedTuple):
    """Location of a command's function or group, with its help text."""

    module: str
    function: str
    help: str
    panel: str


START = "Getting started"
EVENTS, ARCHIVE, RUN = "Events and subscriptions", "Archived events and dead letters", "The local run"

COMMANDS: dict[str, Command] = {
    "new": Command("tidings_cli.new", "app", "Write a new service.", START),
    "doctor": Command("tidings_cli.doctor", "doctor", "Check requirements, and show how to fix them.", START),
    "adopt": Command("tidings_cli.adopt", "adopt", "Derive the resources of an existing Dapr system.", START),
    "lint": Command("tidings_cli.lint", "lint", "Check EventTypes and EventSubscriptions.", EVENTS),
    "plan": Command("tidings_cli.planning", "show", "Show the plan: topics, paths and limits of each app.", EVENTS),
    "impact": Command("tidings_cli.impact", "impact", "Show consumers that a schema change breaks.", EVENTS),
    "consumers": Command("tidings_cli.consumers", "consumers", "List consumers of event types, and contacts.", EVENTS),
    "asyncapi": Command("tidings_cli.asyncapi", "asyncapi", "Print an AsyncAPI 3.0 document of the system.", EVENTS),
    "render": Command("tidings_cli.render", "render", "Print the Dapr and Kubernetes resources of the plan.", EVENTS),
    "export": Command("tidings_cli.export", "export", "Write the JSON Schemas of a module's events.", EVENTS),
    "dlq": Command("tidings_cli.dlq", "app", "List, read, replay and discard dead letters.", ARCHIVE),
    "replay": Command("tidings_cli.replay", "replay", "Replay archived events to one consumer.", ARCHIVE),
    "forget": Command("tidings_cli.forget", "forget", "Destroy the key of a person's data.", ARCHIVE),
    "up": Command("tidings_cli.up.command", "up", "Start the whole system on this machine.", RUN),
    "ps": Command("tidings_cli.up.control_commands", "ps", "Show the processes of the run.", RUN),
    "logs": Command("tidings_cli.up.control_commands", "logs", "Show the run's log.", RUN),
    "restart": Command("tidings_cli.up.control_commands", "restart", "Restart a process of the run.", RUN),
    "stop": Command("tidings_cli.up.control_commands", "stop", "Stop a process of the run.", RUN),
    "start": Command("tidings_cli.up.control_commands", "start", "Start a stopped process of the run.", RUN),
    "down": Command("tidings_cli.up.control_commands", "down", "Stop the run.", RUN),
    "tools": Command("tidings_cli.programs.command", "tools", "Install the programs that the local run needs.", RUN),
}


class _Lazy(TyperGroup):
    """Command group that imports only the called command."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is click's
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002 - the signature is click's
        """Import a command and convert it as typer does."""
        if cmd_name not in COMMANDS:
            return None
        known = COMMANDS[cmd_name]
        function = getattr(importlib.import_module(known.module), known.function)
        if isinstance(function, typer.Typer):
            return typer.main.get_command(function)
        info = typer.models.CommandInfo(name=cmd_name, callback=function)
        return typer.main.get_command_from_info(info, pretty_exceptions_short=True, rich_markup_mode="rich")

    def invoke(self, ctx: Any) -> Any:
        """Run a command. A message about wrong usage may quote files, of which nothing may reach the terminal raw."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = printable(error.message, keep="\n")
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - the signature is click's
        for panel in dict.fromkeys(command.panel for command in COMMANDS.values()):
            with formatter.section(panel):
                formatter.write_dl(
                    [(name, command.help) for name, command in COMMANDS.items() if command.panel == panel]
                )


# The list of commands has plain help, since rich takes 200 ms to import. Each command's own help uses rich.
app = typer.Typer(cls=_Lazy, no_args_is_help=True, rich_markup_mode=None)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"tidings {version('tidings-cli')}")
        raise typer.Exit


@app.callback()
def _tidings(
    *,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Event subscriptions for Dapr: check them, plan them, run them."""


def main() -> None:
    """Run the command line."""
    app(prog_name="tidings")


def kubectl() -> None:
    """Run the command line as a kubectl plugin: `kubectl tidings …`. It reads the current cluster by default."""
    app(prog_name="kubectl tidings", default_map={name: {"live": True} for name in ("plan", "impact", "consumers")})
