"""The consumer policy as a ConfigMap, which a pod mounts and `TIDINGS_POLICY` names."""

import json
from typing import Any

from tidings.plan.model import AppPlan

POLICY_FILE = "policy.json"


def config_map(planned: AppPlan) -> dict[str, Any]:
    """Build the ConfigMap `tidings-<app>`; the same policy gives the same text."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"tidings-{planned.app}", "namespace": planned.namespace},
        "data": {POLICY_FILE: json.dumps(planned.policy, indent=2, sort_keys=True) + "\n"},
    }
