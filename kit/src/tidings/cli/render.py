"""`tidings render`: the Dapr and Kubernetes resources of a plan, or what is declared, on standard output."""

import sys
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import typer

from tidings.cli import inputs, output
from tidings.cli.documents import as_yaml
from tidings.cli.inputs import Paths
from tidings.plan import AppPlan, plan, system_map
from tidings.plan.configmap import config_map
from tidings.resources import Inventory, has_errors, load, writing

Format = Annotated[
    Literal["yaml", "json", "map"],
    typer.Option("-o", "--output", help="YAML documents, a JSON list, or the map that the archive's console draws."),
]
App = Annotated[str, typer.Option("--app", help="Only this app's resources.", show_default=False)]
Declared = Annotated[
    bool,
    typer.Option(
        "--declared",
        help="The EventTypes, EventSubscriptions and EventReplays themselves, types first, with the schemas and "
        "examples that stand in files beside them: for kubectl apply -f -, where the operator does the rest.",
    ),
]


def render(paths: Paths = None, output_format: Format = "yaml", app: App = "", *, declared: Declared = False) -> None:
    """Print each app's Dapr Subscriptions, its Resiliency, and its consumer policy as a ConfigMap.

    What has an error is left out, as the operator does; it stands on standard error and the exit code is 1.
    """
    inventory = load(inputs.chosen(paths))
    planned = plan(inventory)
    if app and app not in planned.apps:
        raise typer.BadParameter(f"no app {app}: there are {', '.join(planned.apps)}", param_hint="--app")
    if declared:
        resources = writing.documents(_of_app(planned.apps[app], inventory) if app else inventory)
    else:
        resources = rendered([planned.apps[app]] if app else planned.apps.values())
    if output_format == "map":
        output.dump(system_map(inventory, planned))
    elif output_format == "json":
        output.dump(resources)
    else:
        sys.stdout.write(as_yaml(resources))
    findings = [each for each in planned.findings if each.severity != "info"]
    output.show(findings, output.console(error=True))
    if has_errors(findings):
        raise typer.Exit(1)


def _of_app(planned: AppPlan, inventory: Inventory) -> Inventory:
    """Return what an app declares: the types that it publishes, and what it reads."""
    key = (planned.namespace, planned.app)
    return Inventory([*inventory.produced_by(key), *inventory.of_app(key)])


def rendered(apps: Iterable[AppPlan]) -> list[dict[str, Any]]:
    """Return all resources of the apps, in a stable order."""
    return [resource for each in apps for resource in resources_of(each)]


def resources_of(planned: AppPlan) -> list[dict[str, Any]]:
    """Return the resources of one app: subscriptions, resiliency, policy."""
    resiliency = [planned.resiliency] if planned.resiliency else []
    return [*planned.subscriptions, *resiliency, config_map(planned)]
