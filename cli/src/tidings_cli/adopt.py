"""`tidings adopt`: derive EventTypes and EventSubscriptions from Dapr's Subscriptions and Resiliency."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from tidings_cli import output
from tidings_cli.documents import as_yaml
from tidings_plan.adoption import adopt as derive
from tidings_plan.resources import reading, worst_first
from tidings_plan.resources.loading import items


def adopt(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Files or folders with Dapr's resources, such as the output of kubectl get -o yaml"),
    ],
) -> None:
    """Print EventTypes and EventSubscriptions that plan to the same Dapr resources.

    Problems in the old resources, and all differences, are reported on standard error. Exit code 1: an error.

    From a cluster: kubectl get subscriptions.dapr.io,resiliencies.dapr.io -o yaml > old.yaml; tidings adopt old.yaml
    """
    for path in paths:
        if not path.exists():
            raise typer.BadParameter(f"{path} does not exist", param_hint="PATHS")
    findings, documents = [], []
    for file in reading.files(paths):
        read, wrong = reading.read(file)
        findings += wrong
        documents += [(item.data, item.origin) for document in read for item in items(document)]
    adopted = derive(documents)
    sys.stdout.write(as_yaml(adopted.documents))
    findings_shown = worst_first([*findings, *adopted.findings])
    output.show(findings_shown, output.console(error=True))
    output.leave(findings_shown)
