"""`tidings render`: print the Dapr and Kubernetes resources of a plan, or the declared resources."""

import sys
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import typer

from tidings_cli import inputs, output
from tidings_cli.documents import as_yaml
from tidings_cli.inputs import Paths
from tidings_plan import AppPlan, system_map
from tidings_plan.configmap import config_map
from tidings_plan.resources import Inventory, has_errors, writing

Format = Annotated[
    Literal["yaml", "json", "map"],
    typer.Option("-o", "--output", help="YAML documents, a JSON list, or the system map for the archive's console."),
]
App = Annotated[str, typer.Option("--app", help="Only this app's resources.", show_default=False)]
Declared = Annotated[
    bool,
    typer.Option(
        "--declared",
        help="Print the declared EventTypes, EventSubscriptions and EventReplays, types first, with schemas and "
        "examples from files inlined: for kubectl apply -f - on a cluster with the operator.",
    ),
]


def render(paths: Paths = None, output_format: Format = "yaml", app: App = "", *, declared: Declared = False) -> None:
    """Print each app's Dapr Subscriptions, its Resiliency, and its consumer policy as a ConfigMap.

    Resources with errors are left out, as by the operator, and reported on standard error with exit code 1.
    """
    inventory, planned = inputs.planned(paths, app)
    if declared:
        shown = inventory
        if app:  # the event types that it publishes, and its subscriptions
            key = (planned.apps[app].namespace, planned.apps[app].app)
            shown = Inventory([*inventory.produced_by(key), *inventory.of_app(key)])
        resources = writing.documents(shown)
    else:
        resources = rendered([planned.apps[app]] if app else planned.apps.values())
    if output_format == "map":
        output.dump(system_map(inventory, planned))
    elif output_format == "json":
        output.dump(resources)
    else:
        sys.stdout.write(as_yaml(resources))
    findings = [finding for finding in planned.findings if finding.severity != "info"]
    output.show(findings, output.console(error=True))
    if has_errors(findings):
        raise typer.Exit(1)


def rendered(apps: Iterable[AppPlan]) -> list[dict[str, Any]]:
    """Return all resources of the apps, in a stable order."""
    return [resource for app in apps for resource in resources_of(app)]


def resources_of(planned: AppPlan) -> list[dict[str, Any]]:
    """Return the resources of one app: subscriptions, resiliency, policy."""
    resiliency = [planned.resiliency] if planned.resiliency else []
    return [*planned.subscriptions, *resiliency, config_map(planned)]
