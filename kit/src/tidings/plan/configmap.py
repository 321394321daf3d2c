"""The consumer policy as a ConfigMap, which a pod mounts and `TIDINGS_POLICY` names."""

from typing import Any

import msgspec

from tidings.plan.model import AppPlan

POLICY_FILE = "policy.json"


def config_map(planned: AppPlan) -> dict[str, Any]:
    """Build the ConfigMap `tidings-<app>`; the same policy gives the same text."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"tidings-{planned.app}", "namespace": planned.namespace},
        "data": {POLICY_FILE: text(planned.policy)},
    }


def text(policy: dict[str, Any]) -> str:
    """Write a policy for people and programs. `json` with an indent would take as long as all the rest of the plan."""
    plain = msgspec.json.encode(policy, order="sorted")
    return msgspec.json.format(plain, indent=2).decode() + "\n"
