"""`tidings plan`: show the plan of the files, or the changes they would cause on a cluster."""

from typing import Any

import msgspec
import typer
from rich.table import Table

from tidings.conventions import event_path
from tidings_cli import applying, cluster, inputs, output
from tidings_cli.cluster import Context, Live, Namespace
from tidings_cli.inputs import Against, Paths
from tidings_cli.output import Format
from tidings_plan import Plan, plan
from tidings_plan.resources import load

MANY = 3
"""Maximum number of topics of one subscription that are listed individually."""


def show(
    paths: Paths = None,
    against: Against = None,
    live: Live = False,
    context: Context = None,
    namespace: Namespace = None,
    output_format: Format = "table",
) -> None:
    """Show the plan: the topics, paths and limits of each app.

    With --live, --context or -n, show the changes that applying the files would cause on the cluster, as a diff.
    Exit code 0: no errors and no changes on a cluster; 1: at least one error; 2: wrong usage; 3: changes on a cluster.
    """
    chosen = inputs.chosen(paths)
    if live_cluster := cluster.chosen(live=live, context=context, namespace=namespace):
        if against:
            raise typer.BadParameter(
                "not allowed with a cluster, which is the earlier state itself", param_hint="--against"
            )
        outcome = applying.compare(live_cluster, chosen)
        if output_format == "json":
            changes = [change.to_dict() for change in outcome.changes]
            output.dump({"changes": changes, "findings": [finding.to_dict() for finding in outcome.findings]})
        else:
            applying.show(outcome)
            output.show(outcome.findings, output.console(error=True))
        if outcome.code:
            raise typer.Exit(outcome.code)
        return
    planned = plan(load(chosen), history=inputs.history(against, chosen))
    if output_format == "json":
        output.dump(as_dict(planned))
    else:
        console = output.console()
        console.print(_table(planned))
        console.print(f"{len(planned.topics)} topics: {', '.join(planned.topics)}", style="dim")
        output.show(planned.findings, output.console(error=True))
    output.leave(planned.findings)


def as_dict(planned: Plan) -> dict[str, Any]:
    """Return the plan as plain data."""
    return {
        "apps": {
            name: {
                "namespace": app.namespace,
                "subscriptions": list(app.subscriptions),
                "resiliency": app.resiliency,
                "policy": msgspec.to_builtins(app.policy),
                "reads": app.reads,
                "publishes": app.publishes,
                "enforcement": app.enforcement,
            }
            for name, app in planned.apps.items()
        },
        "topics": {pubsub: list(topics) for pubsub, topics in planned.channels.items()},
        "scopes": {
            pubsub: {"publishingScopes": scopes.publishing, "subscriptionScopes": scopes.subscription}
            for pubsub, scopes in planned.scopes.items()
        },
        "findings": [finding.to_dict() for finding in planned.findings],
    }


def _table(planned: Plan) -> Table:
    table = Table("app", "subscription", "topic", "how", box=None, header_style="bold")
    for column in table.columns:
        column.overflow = "fold"
    for name, app in planned.apps.items():
        read: dict[tuple[str, str], list[str]] = {}
        for entry in app.policy.subscriptions:
            rate, retry = entry.rate_limit, entry.retry
            parts = [
                f"to {entry.path}" if entry.path != event_path(entry.topic) else "",
                f"{retry.max_retries} {retry.policy} retries",
                f"{entry.max_concurrency} at once" if entry.max_concurrency else "",
                f"{rate.events:g}/s" if rate else "",
                f"in order of {entry.ordering.key}" if entry.ordering.mode == "key" else "",
                "suspended" if entry.suspend else "",
            ]
            read.setdefault((entry.name, ", ".join(part for part in parts if part)), []).append(entry.topic)
        for (subscription, how), topics in read.items():
            shown = ", ".join(topics) if len(topics) <= MANY else f"{len(topics)} topics: {topics[0]}, …"
            table.add_row(name, subscription, shown, how)
    return table
