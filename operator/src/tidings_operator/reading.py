"""Read what the API server sends: what cannot be read is a finding on that object, and holds up no other.

Python's and msgspec's JSON readers give up some hundred levels deep; the API server keeps ten thousand.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from tidings.resources import Finding, parse_resource
from tidings.resources.model import Resource
from tidings_operator.judging import Judge, JudgementError

INLINE = 64 * 1024
"""Bytes of a spec that is read at once; a larger one is read in a copy of the operator."""
UNREADABLE = "tidings.dev/unreadable"
"""Annotation that `decode` puts onto an object in place of a spec that it could not read: the reason."""

Read = tuple[Resource[Any] | None, Sequence[Finding]]


async def read(body: Mapping[str, Any], judge: Judge) -> Read:
    """Parse an object; whatever goes wrong is a finding."""
    reason = (body["metadata"].get("annotations") or {}).get(UNREADABLE)
    if reason and "spec" not in body:
        return None, [_unreadable(body, reason)]
    try:
        if len(msgspec.json.encode(body.get("spec"))) <= INLINE:
            return parse_resource(body)
        return await judge(partial(parse_resource, body))
    except JudgementError as error:
        return None, [_unreadable(body, str(error))]
    except Exception as error:  # noqa: BLE001 - whatever is raised is said on the object, and ends nothing
        return None, [_unreadable(body, f"{type(error).__name__}: {error}"[:500])]


def _unreadable(body: Mapping[str, Any], why: str) -> Finding:
    ref = f"{body['kind']}/{body['metadata']['name']}"
    return Finding(
        "error", "unreadable", f"This cannot be read: {why}", "Make it smaller or less nested.", resource=ref
    )
