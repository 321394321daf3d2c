"""Kubernetes events about objects, shown by `kubectl describe`."""

from datetime import UTC, datetime
from typing import Any, Literal

from tidings_operator.client import EVENTS, Client
from tidings_plan.resources import API_VERSION

LONGEST_NOTE = 1024
Type = Literal["Normal", "Warning"]


def event(
    place: tuple[str, str, str],
    uid: str,
    *,
    reason: str,
    note: str,
    kind: Type,
    by: str,
    now: datetime,
) -> dict[str, Any]:
    """Build an event about one of our own objects."""
    regarding, namespace, name = place
    return {
        "apiVersion": EVENTS.group_version,
        "kind": "Event",
        "metadata": {"generateName": f"{name[:200]}-", "namespace": namespace},
        "eventTime": now.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": "tidings.dev/operator",
        "reportingInstance": by,
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": regarding,
            "namespace": namespace,
            "name": name,
            "uid": uid,
        },
        "action": "Reconcile",
        "reason": reason,
        "type": kind,
        "note": note[:LONGEST_NOTE],
    }


async def post(client: Client, built: dict[str, Any]) -> None:
    """Post the event; raise ApiError if the API server rejects it."""
    await client.request("POST", EVENTS.path(built["metadata"]["namespace"]), built)
