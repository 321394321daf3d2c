"""Restrict admission messages to what the requesting user may read."""

from collections.abc import Iterable

from tidings_operator.admission import UserInfo, Verdict
from tidings_operator.client import Api, ApiError, Client
from tidings_plan.resources import Finding, Inventory
from tidings_plan.resources.model import GROUP

REVIEWS = Api("authorization.k8s.io/v1", "subjectaccessreviews", "SubjectAccessReview")


async def readable(client: Client, user: UserInfo, plural: str, namespaces: Iterable[str]) -> set[str] | None:
    """Return the namespaces in which a user may list objects of a kind; None for all namespaces."""
    if await _may_list(client, user, plural, ""):
        return None
    return {namespace for namespace in namespaces if await _may_list(client, user, plural, namespace)}


def conceal(inventory: Inventory, visible: set[str]) -> None:
    """Remove the objects of other namespaces from an inventory.

    Use it in a copy of the process that evaluates only once more.
    """
    for kind, known in (("EventSubscription", inventory.subscriptions), ("EventType", inventory.types)):
        for key in [key for key in known if key[0] not in visible]:
            inventory.remove(kind, key)


def redact(full: Verdict, seen: Verdict) -> Verdict:
    """Return the part of a verdict that follows from objects the user may read, with a note if there is more."""
    if not full.errors:
        return Verdict((), seen.warnings)
    if seen.errors:
        return seen
    message = "This conflicts with an object in a namespace that you may not read"
    fix = "Ask whoever looks after the event type, or the cluster's administrators."
    rule, resource = "conflict", full.errors[0].resource
    return Verdict((Finding("error", rule, message, fix, resource=resource),), seen.warnings)


async def _may_list(client: Client, user: UserInfo, plural: str, namespace: str) -> bool:
    attributes = {"verb": "list", "group": GROUP, "resource": plural, "namespace": namespace}
    spec = {
        "user": user.username,
        "groups": list(user.groups),
        "uid": user.uid,
        "extra": user.extra,
        "resourceAttributes": attributes,
    }
    body = {"apiVersion": REVIEWS.group_version, "kind": REVIEWS.kind, "spec": spec}
    try:
        answer = await client.request("POST", REVIEWS.path(), body)
    except ApiError:
        return False  # without an answer, disclose nothing
    return bool(answer["status"].get("allowed"))
