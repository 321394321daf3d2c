"""Files against a live cluster: what applying them would change, down to what the sidecars are given."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import unified_diff
from pathlib import Path
from typing import Any

from rich.text import Text

from tidings.cli import output
from tidings.cli.cluster import Cluster
from tidings.cli.documents import as_yaml
from tidings.cli.render import resources_of
from tidings.envelope import timestamp
from tidings.plan import Plan, difference, plan, plan_app
from tidings.plan.difference import Change
from tidings.resources import Finding, Inventory, has_errors, load
from tidings.resources.inventory import Key

DIFFERENT = 3
"""Exit code: applying the files would change something."""
STYLES = {"+": "green", "-": "red", "@": "cyan"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would change, and what there is to say about it."""

    changes: list[Change]
    findings: list[Finding]

    @property
    def code(self) -> int:
        return 1 if has_errors(self.findings) else DIFFERENT if self.changes else 0


def compare(cluster: Cluster, paths: list[Path]) -> Outcome:
    """Compare the cluster with what it would be: the resources themselves, then what the operator makes of them."""
    there = cluster.state().inventory
    given = load(paths, namespace=cluster.namespace)
    wanted, touched = difference.applied(there, given, timestamp())
    declared, found = difference.known(there), difference.known(given)
    changes = [
        change
        for key, resource in found.items()
        if (
            change := difference.change(
                difference.manifest(declared[key]) if key in declared else None, difference.manifest(resource)
            )
        )
    ]
    changes += _children(cluster, there, wanted, touched, {namespace for _, (namespace, _) in found})
    refs = {resource.ref for resource in found.values()}
    findings = [*_new(plan(wanted, history=[there]), plan(there), refs)]
    findings += (each for key in given.types if key in there.types for each in difference.unreadable(there.types[key]))
    return Outcome(changes, findings)


def applied(there: Inventory, paths: list[Path], namespace: str) -> tuple[Inventory, frozenset[Key]]:
    """Return what the cluster would have once the files are applied, and the apps that it touches."""
    return difference.applied(there, load(paths, namespace=namespace), timestamp())


def show(outcome: Outcome) -> None:
    """Print the changes as `diff -u` does, then how many there are."""
    console = output.console()
    for change in outcome.changes:
        for line in _diff(change):
            console.print(Text(line, STYLES.get(line[0], "")), soft_wrap=True)
    actions = [change.action for change in outcome.changes]
    counts = [f"{actions.count(each)} to {each}" for each in ("create", "update", "delete") if each in actions]
    console.print(", ".join(counts) or "No change.", style="bold")


def _children(
    cluster: Cluster, there: Inventory, wanted: Inventory, touched: Iterable[Key], own: set[str]
) -> Iterator[Change]:
    """Yield what the operator would write, compared with what is there now, whoever wrote that.

    An app outside of the namespaces `own` counts only where the files change its plan: how far the cluster is from that
    plan otherwise is its owner's affair.
    """
    today = datetime.now(UTC).date()
    made = cluster.children(sorted({namespace for namespace, _ in touched}))
    for app in sorted(touched):
        before = difference.objects(_made_of(app, there, today))
        after = difference.objects(_made_of(app, wanted, today))
        if before == after and app[0] not in own:
            continue
        for key in sorted({*before, *after}):
            # What is not among them may be there all the same, made by somebody else.
            change = difference.change(made.get(key) or cluster.child(*key), after.get(key))
            if change:
                yield change


def _made_of(app: Key, inventory: Inventory, today: Any) -> list[dict[str, Any]]:
    """Return an app's children; an app that reads nothing has none."""
    return resources_of(plan_app(app, inventory, today)) if app in inventory.consuming_apps else []


def _new(wanted: Plan, before: Plan, given: set[str]) -> Iterator[Finding]:
    """Yield what is said about the given resources, and about others only what was not to be said before."""
    old = {(each.rule, each.resource, each.message) for each in before.findings}
    for finding in wanted.findings:
        is_new = (finding.rule, finding.resource, finding.message) not in old
        if finding.severity != "info" and (is_new or finding.resource in given):
            yield finding


def _diff(change: Change) -> Iterator[str]:
    def text(manifest: Any) -> list[str]:
        return as_yaml([manifest], sort_keys=True).splitlines() if manifest else []

    return unified_diff(
        text(change.before), text(change.after), f"cluster/{change.name}", f"files/{change.name}", lineterm=""
    )
