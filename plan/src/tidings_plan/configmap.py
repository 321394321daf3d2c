"""Render the consumer policy as a ConfigMap. Pods mount it, and `TIDINGS_POLICY` names the file."""

from typing import Any

import msgspec

from tidings.consume.policy import Policy
from tidings_plan.model import AppPlan

POLICY_FILE = "policy.json"


def config_map(planned: AppPlan) -> dict[str, Any]:
    """Build the ConfigMap `tidings-<app>`. Equal policies yield equal text."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"tidings-{planned.app}", "namespace": planned.namespace},
        "data": {POLICY_FILE: text(planned.policy)},
    }


def text(policy: Policy) -> str:
    """Serialise a policy as indented JSON.

    msgspec, because `json.dumps` with an indent would take as long as the rest of the plan.
    """
    plain = msgspec.json.encode(policy, order="sorted")
    return msgspec.json.format(plain, indent=2).decode() + "\n"
