"""Argo CD's Lua and Flux's CEL say the same about every resource: run by a real Lua and a real CEL."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from cel_expr_python import cel  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from lupa.lua51 import LuaRuntime  # type: ignore[import-untyped]  # has no stubs

HEALTH = Path("operator/health").resolve()
KINDS = ("EventType", "EventSubscription", "EventReplay")
SAME = {"Healthy": "Current", "Suspended": "Current", "Degraded": "Failed", "Progressing": "InProgress"}
"""What Flux calls what Argo CD says."""


def argo(resource: dict[str, Any]) -> tuple[str, str]:
    """Evaluate as Argo CD does: Lua 5.1 without I/O, `obj` is the resource, a table comes back."""
    lua = LuaRuntime(unpack_returned_tuples=True, register_eval=False)
    lua.execute("io = nil; os = nil; require = nil; package = nil; python = nil")
    lua.globals().obj = lua.table_from(resource, recursive=True)
    answer = lua.execute((HEALTH / "argocd" / "health.lua").read_text())
    return answer["status"], answer["message"]


def expressions(kind: str) -> dict[str, str]:
    patch = yaml.safe_load((HEALTH / "flux" / "healthcheckexprs.yaml").read_text())
    (result,) = [
        health_check_expr
        for health_check_expr in patch["spec"]["healthCheckExprs"]
        if health_check_expr["kind"] == kind
    ]
    assert result["apiVersion"] == "tidings.dev/v1alpha1"
    return {name: result[name] for name in ("inProgress", "failed", "current")}


ENVIRONMENT = cel.NewEnv(variables=dict.fromkeys(("status", "metadata", "spec"), cel.Type.DYN))
PROGRAMS = {kind: {name: ENVIRONMENT.compile(text) for name, text in expressions(kind).items()} for kind in KINDS}


def flux(resource: dict[str, Any]) -> str:
    """Evaluate in Flux's order (its RFC 9); an error is asked again, which is waiting."""
    status, metadata = resource.get("status"), resource["metadata"]
    if status and status.get("observedGeneration", metadata["generation"]) != metadata["generation"]:
        return "InProgress"
    data = {name: resource[name] for name in ("status", "metadata", "spec") if name in resource}
    programs = PROGRAMS[resource["kind"]]
    for name, meaning in (("inProgress", "InProgress"), ("failed", "Failed"), ("current", "Current")):
        value = programs[name].eval(data=data).value()
        if not isinstance(value, bool):
            assert "status" not in resource, f"{name}: {value}"
            return "InProgress"
        if value:
            return meaning
    return "InProgress"


def resource(kind: str, status: dict[str, Any] | None, **spec: Any) -> dict[str, Any]:
    written = {} if status is None else {"status": status}
    return {"kind": kind, "metadata": {"name": "a", "generation": 3}, "spec": spec, **written}


def conditions(observed: int | None = 3, /, **output: str) -> dict[str, Any]:
    """Make a status: `Ready="False because of this"`."""
    result = []
    for kind, text in output.items():
        truth, _, message = text.partition(" ")
        result.append({"type": kind, "status": truth, "reason": f"{kind}Reason", "message": message})
    return {"conditions": result, **({} if observed is None else {"observedGeneration": observed})}


def stale(status: dict[str, Any], kind: str) -> dict[str, Any]:
    """Let one condition speak of an older generation, as with an operator of another version."""
    for condition in status["conditions"]:
        condition["observedGeneration"] = 2 if condition["type"] == kind else 3
    return status


DONE = {"Reconciling": "False", "Stalled": "False"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "health", "message"),
    [
        pytest.param(None, "Progressing", "Waiting for the Tidings operator", id="not looked at"),
        pytest.param({}, "Progressing", "Waiting", id="an empty status"),
        pytest.param({"conditions": []}, "Progressing", "Waiting", id="no condition"),
        pytest.param(conditions(Ready="True all well", **DONE), "Healthy", "all well", id="ready"),
        pytest.param(conditions(None, Ready="True"), "Healthy", "ReadyReason", id="ready, without a message"),
        pytest.param(conditions(2, Ready="True", **DONE), "Progressing", "latest change", id="ready before the change"),
        pytest.param(
            conditions(Ready="False no such type", Stalled="True", Reconciling="False"),
            "Degraded",
            "no such type",
            id="stalled",
        ),
        pytest.param(conditions(Ready="False it broke"), "Degraded", "it broke", id="not ready"),
        pytest.param(
            conditions(Ready="False", Reconciling="True sending", Stalled="False"), "Progressing", "sending", id="at it"
        ),
        pytest.param(conditions(Ready="Unknown", **DONE), "Progressing", "ReadyReason", id="unknown"),
        pytest.param(stale(conditions(Ready="True", **DONE), "Ready"), "Progressing", "Waiting", id="an old Ready"),
        pytest.param(
            stale(conditions(Ready="True yes", Stalled="True no"), "Stalled"), "Healthy", "yes", id="an old Stalled"
        ),
        pytest.param(
            conditions(Ready="True fine", Observed="False nobody listens", **DONE), "Healthy", "fine", id="only Ready"
        ),
    ],
)
def test_health(kind: str, status: dict[str, Any] | None, health: str, message: str):
    result = resource(kind, status)
    assert argo(result)[0] == health
    assert message in argo(result)[1]
    assert flux(result) == SAME[health]


def test_a_suspended_subscription_is_no_failure():
    status = conditions(Ready="True", **DONE)
    assert argo(resource("EventSubscription", status, suspend=True))[0] == "Suspended"
    assert argo(resource("EventSubscription", status, suspend=False))[0] == "Healthy"
    assert argo(resource("EventSubscription", conditions(Ready="False why"), suspend=True)) == ("Degraded", "why")


statuses = st.fixed_dictionaries(
    {
        "conditions": st.lists(
            st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["Ready", "Stalled", "Reconciling", "Programmed"]),
                    "status": st.sampled_from(["True", "False", "Unknown"]),
                    "reason": st.just("Why"),
                },
                optional={"observedGeneration": st.integers(2, 3), "message": st.sampled_from(["", "because"])},
            ),
            unique_by=lambda fixed_dictionary: fixed_dictionary["type"],
        )
    },
    optional={"observedGeneration": st.integers(2, 3)},
)


@given(st.sampled_from(KINDS), st.none() | statuses, st.booleans())
def test_both_agree_on_any_input(kind: str, status: dict[str, Any] | None, suspend: bool):
    result = resource(kind, status, suspend=suspend)
    health, message = argo(result)
    assert SAME[health] == flux(result)
    assert message


def test_every_kind_is_checked_alike():
    assert expressions("EventType") == expressions("EventSubscription") == expressions("EventReplay")
    component = yaml.safe_load((HEALTH / "argocd" / "kustomization.yaml").read_text())
    (generated,) = component["configMapGenerator"]
    assert generated["files"] == [f"resource.customizations.health.tidings.dev_{kind}=health.lua" for kind in KINDS]
