"""`tidings asyncapi`: an AsyncAPI 3.0 document of the system, for portals, generators and people."""

import sys
from typing import Annotated, Literal

import typer

from tidings.asyncapi import document
from tidings.cli import inputs, output
from tidings.cli.documents import as_yaml
from tidings.cli.inputs import Paths
from tidings.plan import plan
from tidings.resources import load

Format = Annotated[Literal["yaml", "json"], typer.Option("-o", "--output", help="YAML or JSON.")]
App = Annotated[str, typer.Option("--app", help="Only this app, as AsyncAPI sees an application.", show_default=False)]
Title = Annotated[str, typer.Option(help="What the system is called.")]
Version = Annotated[str, typer.Option("--document-version", help="The version that the document is given.")]


def asyncapi(
    paths: Paths = None,
    output_format: Format = "yaml",
    app: App = "",
    title: Title = "Events",
    version: Version = "1.0.0",
) -> None:
    """Print channels, what each app sends and receives, and the messages with their schemas and examples.

    What has an error is left out; it stands on standard error and the exit code is 1. 2: wrong usage.
    """
    inventory = load(inputs.chosen(paths))
    planned = plan(inventory)
    if app and app not in planned.apps:
        raise typer.BadParameter(f"no app {app}: there are {', '.join(planned.apps)}", param_hint="--app")
    made = document(inventory, planned, title=title, version=version, app=app)
    if output_format == "json":
        output.dump(made)
    else:
        sys.stdout.write(as_yaml([made]))
    findings = [each for each in planned.findings if each.severity == "error"]
    output.show(findings, output.console(error=True))
    output.leave(findings)
