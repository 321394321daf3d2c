"""`tidings asyncapi`: print an AsyncAPI 3.0 document of the system."""

import sys
from typing import Annotated, Literal

import typer

from tidings_cli import inputs, output
from tidings_cli.documents import as_yaml
from tidings_cli.inputs import Paths
from tidings_plan.asyncapi import document

Format = Annotated[Literal["yaml", "json"], typer.Option("-o", "--output", help="YAML or JSON.")]
App = Annotated[
    str, typer.Option("--app", help="Describe only this app, as an AsyncAPI application.", show_default=False)
]
Title = Annotated[str, typer.Option(help="Title of the document.")]
Version = Annotated[str, typer.Option("--document-version", help="Version of the document.")]


def asyncapi(
    paths: Paths = None,
    output_format: Format = "yaml",
    app: App = "",
    title: Title = "Events",
    version: Version = "1.0.0",
) -> None:
    """Print channels, each app's operations, and messages with schemas and examples.

    Resources with errors are left out and reported on standard error. Exit code 0: no errors; 1: at least one error;
    2: wrong usage.
    """
    inventory, planned = inputs.planned(paths, app)
    described = document(inventory, planned, title=title, version=version, app=app)
    if output_format == "json":
        output.dump(described)
    else:
        sys.stdout.write(as_yaml([described]))
    findings = [finding for finding in planned.findings if finding.severity == "error"]
    output.show(findings, output.console(error=True))
    output.leave(findings)
