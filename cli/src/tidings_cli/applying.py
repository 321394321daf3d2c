"""Difference between files and a live cluster, including the resources that the operator would generate."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import unified_diff
from pathlib import Path
from typing import Any

from rich.text import Text

from tidings.messages.envelope import timestamp
from tidings_cli import output
from tidings_cli.cluster import Cluster
from tidings_cli.documents import as_yaml
from tidings_cli.render import resources_of
from tidings_plan import Plan, difference, plan, plan_app
from tidings_plan.difference import Change
from tidings_plan.resources import Finding, Inventory, has_errors, load
from tidings_plan.resources.inventory import Key

DIFFERENT = 3
"""Exit code: applying the files would change something."""
STYLES = {"+": "green", "-": "red", "@": "cyan"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Changes that applying the files would cause, and findings about them."""

    changes: list[Change]
    findings: list[Finding]

    @property
    def code(self) -> int:
        return 1 if has_errors(self.findings) else DIFFERENT if self.changes else 0


def compare(cluster: Cluster, paths: list[Path]) -> Outcome:
    """Compare the cluster before and after applying the files: declared resources first, then generated ones."""
    current = cluster.state().inventory
    files = load(paths, namespace=cluster.namespace)
    desired, touched = difference.applied(current, files, timestamp())
    declared, applied_resources = difference.known(current), difference.known(files)
    changes = [
        change
        for key, resource in applied_resources.items()
        if (
            change := difference.change(
                difference.manifest(declared[key]) if key in declared else None, difference.manifest(resource)
            )
        )
    ]
    changes += _children(cluster, current, desired, touched, {namespace for _, (namespace, _) in applied_resources})
    refs = {resource.ref for resource in applied_resources.values()}
    findings = [*_relevant_findings(plan(desired, history=[current]), plan(current), refs)]
    findings += (
        finding for key in files.types if key in current.types for finding in difference.unreadable(current.types[key])
    )
    return Outcome(changes, findings)


def applied(current: Inventory, paths: list[Path], namespace: str) -> tuple[Inventory, frozenset[Key]]:
    """Return the cluster's inventory after applying the files, and the affected apps."""
    return difference.applied(current, load(paths, namespace=namespace), timestamp())


def show(outcome: Outcome) -> None:
    """Print the changes as a unified diff, then their numbers."""
    console = output.console()
    for change in outcome.changes:
        before, after = (
            as_yaml([manifest], sort_keys=True).splitlines() if manifest else []
            for manifest in (change.before, change.after)
        )
        for line in unified_diff(before, after, f"cluster/{change.name}", f"files/{change.name}", lineterm=""):
            console.print(Text(line, STYLES.get(line[0], "")), soft_wrap=True)
    actions = [change.action for change in outcome.changes]
    counts = [f"{actions.count(action)} to {action}" for action in ("create", "update", "delete") if action in actions]
    console.print(", ".join(counts) or "No change.", style="bold")


def _children(
    cluster: Cluster, current: Inventory, desired: Inventory, touched: Iterable[Key], own: set[str]
) -> Iterator[Change]:
    """Yield the differences between the cluster's generated resources and those that the operator would write.

    Apps outside of the namespaces `own` are included only if the files change their plan. Any other difference there
    concerns the owners of these apps.
    """
    today = datetime.now(UTC).date()
    existing = cluster.children(sorted({namespace for namespace, _ in touched}))
    for app in sorted(touched):
        before = difference.objects(_resources_of(app, current, today))
        after = difference.objects(_resources_of(app, desired, today))
        if before == after and app[0] not in own:
            continue
        for key in sorted({*before, *after}):
            # `existing` holds only resources with the operator's label. A resource of another origin is read by name.
            change = difference.change(existing.get(key) or cluster.child(*key), after.get(key))
            if change:
                yield change


def _resources_of(app: Key, inventory: Inventory, today: Any) -> list[dict[str, Any]]:
    """Return the generated resources of an app; none if it has no subscriptions."""
    return resources_of(plan_app(app, inventory, today)) if app in inventory.consuming_apps else []


def _relevant_findings(desired: Plan, before: Plan, refs: set[str]) -> Iterator[Finding]:
    """Yield findings about the applied resources, and new findings about others."""
    old = {(finding.rule, finding.resource, finding.message) for finding in before.findings}
    for finding in desired.findings:
        is_new = (finding.rule, finding.resource, finding.message) not in old
        if finding.severity != "info" and (is_new or finding.resource in refs):
            yield finding
