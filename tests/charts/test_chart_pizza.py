from __future__ import annotations

import importlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from charts import sync
from jsonschema import ValidationError
from tests.support import definitions
from tests.support.charts import SECRET, VALUE_SETS, Resource, failure, insecure, of_kind, pods, rendered, validate

from tidings.settings import Settings
from tidings_operator.children import SYSTEM_MAP
from tidings_plan import plan
from tidings_plan.resources import contracts_folders, load

ROOT = Path(__file__).parents[2]
PIZZA = ROOT / "charts/pizza"
SIDECARS = {folder.parent.name for folder in contracts_folders(ROOT)} - {"archive"}
"""The archive belongs to the chart tidings."""
SERVICES = SIDECARS | {"storefront"}
CUSTOM = ("tidings.dev/", "dapr.io/", "keda.sh/", "monitoring.coreos.com/")


def test_the_charts_match_the_repository() -> None:
    assert sync.drifted() == [], "run `make charts`"


def test_drift_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pizza/files/contracts/gone.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("of a service that is no more")
    expected = tmp_path / "pizza/files/plan.json"
    monkeypatch.setattr(sync, "CHARTS", tmp_path)
    monkeypatch.setattr(sync, "expected", lambda: {expected: "{}"})
    assert sync.drifted() == [file, expected]
    expected.write_text("{}")
    assert sync.drifted() == [file]


def test_the_packaged_contracts_are_the_same_plan() -> None:
    """Schemas are inline there and files here: what becomes of them is one and the same."""
    packaged, written = (
        plan(load([PIZZA / "files/contracts", PIZZA.parent / "tidings/files/contracts"])),
        plan(load(contracts_folders(ROOT))),
    )
    assert packaged.apps == written.apps
    assert packaged.scopes == written.scopes
    assert [finding for finding in packaged.findings if finding.severity == "error"] == []


@cache
def _validate(text: str) -> None:
    """Hold one resource against its schema; most are the same with all values, and schemas are slow."""
    resource = json.loads(text)
    if resource["apiVersion"].startswith(CUSTOM):
        definitions.validate(resource)
    else:
        validate(resource)


@pytest.mark.timeout(300)
def test_every_resource_is_valid() -> None:
    for values in VALUE_SETS.values():
        for resource in rendered("pizza", values):
            stringless = resource if resource["kind"] != "Secret" else {**resource, "stringData": {"": ""}}
            _validate(json.dumps(stringless))


@pytest.mark.timeout(300)
def test_what_the_operator_and_the_local_run_write_is_valid() -> None:
    """Subscriptions, Resiliency policies and components, as Dapr defines them."""
    written = [
        resource
        for app in plan(load(contracts_folders(ROOT))).apps.values()
        for resource in (*app.subscriptions, *([app.resiliency] if app.resiliency else []))
    ]
    written += [yaml.safe_load(file.read_text()) for file in ROOT.glob("components/*/*.yaml")]
    assert {item["kind"] for item in written} == {"Subscription", "Resiliency", "Component"}
    for resource in written:
        definitions.validate(resource)


@pytest.mark.parametrize(
    ("kind", "spoilt"), [("Component", {"ignoreError": True}), ("Configuration", {"metrics": {"enabled": "yes"}})]
)
def test_a_strange_field_of_dapr_would_be_noticed(kind: str, spoilt: Resource) -> None:
    (result,) = list(of_kind(rendered("pizza"), kind).values())[:1]
    with pytest.raises(ValidationError):
        definitions.validate({**result, "spec": {**result["spec"], **spoilt}})


def test_a_strange_field_would_be_noticed() -> None:
    deployment = of_kind(rendered("pizza"), "Deployment")["menu"]
    strange = {**deployment, "spec": {**deployment["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(strange)


@pytest.mark.parametrize("name", sorted(VALUE_SETS.keys() - {"dev"}))
def test_every_pod_is_restricted(name: str) -> None:
    result = pods(rendered("pizza", VALUE_SETS[name]))
    wrong = {pod: insecure(template, token=pod == "topology") for pod, template in result}  # it talks to the API server
    assert {pod: item for pod, item in wrong.items() if item} == {}


def test_only_for_skaffold_dev_may_services_write_where_they_run() -> None:
    templates = dict(pods(rendered("pizza", VALUE_SETS["dev"])))
    assert insecure(templates["menu"]) == ["menu may write to its root file system"]
    assert insecure(templates["nats"]) == []


def test_services_are_those_of_the_local_run() -> None:
    local = yaml.safe_load((ROOT / "tidings.yaml").read_text())["services"]
    values = yaml.safe_load((PIZZA / "values.yaml").read_text())["services"]
    assert {item["name"]: item.get("sidecar", True) for item in local if item["name"] != "archive"} == {
        name: (value or {}).get("sidecar", True) for name, value in values.items()
    }


def test_settings_are_known_to_the_services() -> None:
    values = yaml.safe_load((PIZZA / "values.yaml").read_text())["services"]
    for name, value in values.items():
        for variable in (value or {}).get("environment", {}):
            owner, _, field = variable.lower().partition("_")
            if owner == "tidings":
                assert variable.lower() in Settings.model_fields, f"{variable} of {name}"
                continue
            assert owner in SERVICES, variable
            models = vars(importlib.import_module(f"{owner}.settings"))
            assert field in models[f"{owner.capitalize()}Settings"].model_fields, f"{variable} of {name}"


def _rights(component: Resource, kind: str) -> str:
    (result,) = [item["value"] for item in component["spec"]["metadata"] if item["name"] == kind]
    return str(result)


def test_scopes_are_those_of_the_plan() -> None:
    component = of_kind(rendered("pizza"), "Component")["pubsub"]
    scopes = plan(load(contracts_folders(ROOT))).scopes["pubsub"]
    assert _rights(component, "publishingScopes") == scopes.publishing
    assert _rights(component, "subscriptionScopes") == scopes.subscription
    assert set(component["scopes"]) == SIDECARS | {"archive"}  # the archive comes with the chart tidings


def test_a_new_app_gets_its_routes_and_its_dead_letters_are_stored() -> None:
    resources = rendered("pizza", {"scopes": {"additional": {"fraud": {"subscribe": ["orders.orderConfirmed.v2"]}}}})
    component = of_kind(resources, "Component")["pubsub"]
    subscribe = dict(part.split("=") for part in _rights(component, "subscriptionScopes").split(";"))
    publish = dict(part.split("=") for part in _rights(component, "publishingScopes").split(";"))
    assert subscribe["fraud"] == "orders.orderConfirmed.v2,replay.fraud"
    assert publish["fraud"] == "deadletter.fraud"
    assert "deadletter.fraud" in subscribe["archive"]
    assert "replay.fraud" in publish["archive"]
    assert "fraud" in component["scopes"]
    granted = json.loads(of_kind(resources, "ConfigMap")["topology-granted"]["data"]["granted.json"])
    assert granted["fraud"] == {
        "publish": ["deadletter.fraud"],
        "subscribe": ["orders.orderConfirmed.v2", "replay.fraud"],
    }


def test_more_rights_for_an_app_of_the_plan_are_added_to_its_own() -> None:
    more = {"scopes": {"additional": {"tracking": {"subscribe": ["staff.memberClockedIn.v1"]}}}}
    before, after = (
        dict(
            part.split("=") for part in _rights(of_kind(result, "Component")["pubsub"], "subscriptionScopes").split(";")
        )
        for result in (rendered("pizza"), rendered("pizza", more))
    )
    assert set(after["tracking"].split(",")) == {*before["tracking"].split(","), "staff.memberClockedIn.v1"}
    assert {app for app in after if after[app] != before[app]} == {"tracking"}


@pytest.mark.parametrize("name", ["defaults", "redis", "kafka", "rabbitmq", "own", "postgres"])
def test_components_are_the_sets_with_secrets_in_the_place_of_addresses(name: str) -> None:
    resources = rendered("pizza", VALUE_SETS[name])
    values = VALUE_SETS[name]
    sets = {
        "pubsub": values.get("broker", {}).get("kind", "nats"),
        "state": f"state-{values.get('state', {}).get('kind', 'redis')}",
    }
    secrets = of_kind(resources, "Secret")
    for component, folder in sets.items():
        result = of_kind(resources, "Component")[component]
        (file,) = (ROOT / "components" / folder).glob("*.yaml")
        content = yaml.safe_load(file.read_text())
        assert (result["spec"]["type"], result["spec"]["version"]) == (
            content["spec"]["type"],
            content["spec"]["version"],
        )
        value = {entry["name"]: entry for entry in result["spec"]["metadata"]}
        for item in content["spec"]["metadata"]:
            if item["value"].startswith("${"):
                reference = value[item["name"]]["secretKeyRef"]
                assert f"${{{reference['key']}}}" == item["value"]
                assert reference["name"] == SECRET or reference["key"] in secrets[reference["name"]]["stringData"]
            else:
                assert value[item["name"]] == item


def test_the_archive_mounts_the_map_that_the_operator_writes() -> None:
    archive = {item["metadata"].get("namespace"): item for item in _tidings() if item["kind"] == "Deployment"}["pizza"]
    (volume,) = [item for item in archive["spec"]["template"]["spec"]["volumes"] if item["name"] == "map"]
    assert volume["configMap"] == {"name": SYSTEM_MAP, "optional": True}


def _tidings() -> tuple[Resource, ...]:
    """Return the chart tidings with the values that the pizzeria needs."""
    return rendered("tidings", yaml.safe_load((PIZZA / "values-tidings.yaml").read_text()))


def test_no_secret_is_outside_of_secrets() -> None:
    resources = rendered("pizza")
    passwords = [
        of_kind(resources, "Secret")[name]["stringData"]
        for name in ("pizza-nats", "pizza-redis", "pizza-api-token", "pizza-app-token")
    ]
    words = [
        next(password[key] for key in ("password", "REDIS_PASSWORD", "token") if key in password)
        for password in passwords
    ]
    assert len({*words}) == len(words)
    for resource in resources:
        if resource["kind"] != "Secret":
            assert not [word for word in words if word in json.dumps(resource)], resource["metadata"]["name"]


@pytest.mark.parametrize(
    ("values", "api", "app"),
    [({}, "pizza-api-token", "pizza-app-token"), ({"apiSecret": "out", "appSecret": "in"}, "out", "in")],
)
def test_every_direction_between_service_and_sidecar_has_a_token_of_its_own(
    values: dict[str, str], api: str, app: str
) -> None:
    resources = rendered("pizza", {"tokens": values})
    assert {api, app} - set(of_kind(resources, "Secret")) == ({api, app} if values else set())
    for name, template in pods(resources):
        annotations = template["metadata"].get("annotations", {})
        env = {item["name"]: item for item in template["spec"]["containers"][0].get("env", ())}
        if name in SIDECARS:
            assert annotations["dapr.io/api-token-secret"] == api
            assert annotations["dapr.io/app-token-secret"] == app
            for variable, secret in (("DAPR_API_TOKEN", api), ("APP_API_TOKEN", app)):
                assert env[variable]["valueFrom"]["secretKeyRef"] == {"name": secret, "key": "token"}
        else:
            assert "dapr.io/enabled" not in annotations
            assert "DAPR_API_TOKEN" not in env


def test_no_app_calls_another_through_dapr() -> None:
    (configuration,) = of_kind(rendered("pizza"), "Configuration").values()
    control = configuration["spec"]["accessControl"]
    assert control["defaultAction"] == "deny"
    assert not [policy for policy in control.get("policies", ()) if policy.get("defaultAction") != "deny"]
    for name, template in pods(rendered("pizza")):
        if name in SIDECARS:
            assert template["metadata"]["annotations"]["dapr.io/config"] == configuration["metadata"]["name"]


def test_one_secret_for_both_directions_is_refused() -> None:
    assert "name two Secrets" in failure("pizza", {"tokens": {"apiSecret": "one", "appSecret": "one"}})


@pytest.mark.parametrize("image", ["", "ghcr.io/dapr/daprd:1.18.3"])
def test_a_sidecar_may_be_another_one_than_the_injectors(image: str) -> None:
    result = {
        name: template["metadata"]["annotations"].get("dapr.io/sidecar-image", "")
        for name, template in pods(rendered("pizza", {"dapr": {"sidecarImage": image}}))
        if name in SIDECARS
    }
    assert result == dict.fromkeys(SIDECARS, image)


def _waits(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the conditions that each pod waits for before its sidecar starts."""
    result = {name: template["spec"].get("initContainers", []) for name, template in pods(rendered("pizza", values))}
    return {name: " ".join(item[0]["command"][3:]) for name, item in result.items() if item}


def test_a_sidecar_starts_when_its_required_parts_exist() -> None:
    assert _waits({}) == dict.fromkeys(SIDECARS, "nats:4222 redis:6379")
    own = {"existingSecret": SECRET}
    assert _waits({"broker": own}) == dict.fromkeys(SIDECARS, "redis:6379")
    assert _waits({"broker": own, "state": own}) == {}
    shipped = _waits({"broker": own, "state": {"kind": "postgres"}, "postgres": {"enabled": True}})
    assert shipped == dict.fromkeys(SIDECARS, "postgres:5432")


def test_what_a_pod_waits_for_may_come_late() -> None:
    template = dict(pods(rendered("pizza")))["menu"]
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        name = "{}:{}".format(*place.getsockname())
        script = template["spec"]["initContainers"][0]["command"][1:3]
        with subprocess.Popen([sys.executable, *script, name], stdout=subprocess.PIPE, text=True) as waiting:
            assert waiting.stdout
            assert waiting.stdout.readline().startswith(f"waiting for {name}: ")
            assert waiting.poll() is None
            place.listen()
            assert waiting.wait(10) == 0


@pytest.mark.parametrize("name", ["defaults", "two", "hpa", "keda"])
def test_what_keeps_sqlite_has_one_copy_and_its_volume(name: str) -> None:
    resources = rendered("pizza", VALUE_SETS[name])
    payments = of_kind(resources, "Deployment")["payments"]["spec"]
    assert (payments["replicas"], payments["strategy"]) == (1, {"type": "Recreate"})
    assert "payments-data" in of_kind(resources, "PersistentVolumeClaim")
    assert "payments" not in of_kind(resources, "HorizontalPodAutoscaler", "ScaledObject", "PodDisruptionBudget")


def test_two_of_all_but_what_keeps_sqlite() -> None:
    resources = rendered("pizza", VALUE_SETS["two"])
    copies = {name: item["spec"]["replicas"] for name, item in of_kind(resources, "Deployment").items()}
    assert {name for name, many in copies.items() if many == 2} == SERVICES - {"payments"}
    assert set(of_kind(resources, "PodDisruptionBudget")) == SERVICES - {"payments"}


def test_two_of_everything_with_the_shipped_postgres() -> None:
    resources = rendered("pizza", VALUE_SETS["ha"])
    deployments = of_kind(resources, "Deployment")
    assert {name for name, item in deployments.items() if item["spec"]["replicas"] == 2} == SERVICES
    assert set(of_kind(resources, "PodDisruptionBudget")) == SERVICES
    assert not of_kind(resources, "PersistentVolumeClaim")
    secret = of_kind(resources, "Secret")["pizza-postgres"]["stringData"]
    env = {item["name"]: item for item in deployments["payments"]["spec"]["template"]["spec"]["containers"][0]["env"]}
    reference = {"name": "pizza-postgres", "key": "PAYMENTS_DATABASE_URL"}
    assert env["PAYMENTS_DATABASE_URL"]["valueFrom"]["secretKeyRef"] == reference
    assert deployments["payments"]["spec"]["strategy"]["type"] == "RollingUpdate"
    for name in ("archive", "payments"):
        variable = f"{name.upper()}_DATABASE_URL"
        user, _, where = secret[variable].removeprefix("postgresql://").partition("@")
        assert where == f"postgres:5432/{name}"
        role, password = user.split(":")
        assert f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}'" in secret["databases.sql"]


@pytest.mark.parametrize("name", ["hpa", "keda", "keda-redis", "keda-rabbitmq", "keda-kafka"])
def test_a_scaled_service_leaves_its_copies_to_the_scaler(name: str) -> None:
    resources = rendered("pizza", VALUE_SETS[name])
    scaled = SERVICES - {"payments"}
    assert set(of_kind(resources, "HorizontalPodAutoscaler", "ScaledObject")) == scaled
    assert not [app for app in scaled if "replicas" in of_kind(resources, "Deployment")[app]["spec"]]


def test_keda_may_scale_one_service_only() -> None:
    values = {"broker": {"kind": "redis"}, "services": {"kitchen": {"autoscaling": {"kind": "keda", "maxReplicas": 3}}}}
    resources = rendered("pizza", values)
    [(name, scaled)] = of_kind(resources, "ScaledObject").items()
    assert (name, scaled["spec"]["maxReplicaCount"]) == ("kitchen", 3)
    assert of_kind(resources, "TriggerAuthentication")
    assert "kubernetes.io/metadata.name: keda" in yaml.safe_dump(of_kind(resources, "NetworkPolicy")["redis"])
    everywhere_else = {
        **values,
        "autoscaling": {"kind": "keda"},
        "services": {"kitchen": {"autoscaling": {"kind": "none"}}},
    }
    assert set(of_kind(rendered("pizza", everywhere_else), "ScaledObject")) == SIDECARS - {"kitchen", "payments"}


def test_keda_watches_every_topic_that_an_app_reads() -> None:
    triggers = of_kind(rendered("pizza", VALUE_SETS["keda"]), "ScaledObject")["kitchen"]["spec"]["triggers"]
    assert [trigger["metadata"]["stream"] for trigger in triggers] == [
        "menu_recipePublished_v1", "orders_orderCancelled_v1", "orders_orderConfirmed_v2", "replay_kitchen",
    ]  # fmt: skip
    assert {trigger["metadata"]["consumer"] for trigger in triggers} == {"kitchen"}


@pytest.mark.parametrize(("name", "place"), [("keda-kafka", "topic"), ("keda-rabbitmq", "queueName")])
def test_keda_looks_at_the_lag_on_brokers_of_ones_own_and_logs_in(name: str, place: str) -> None:
    resources = rendered("pizza", VALUE_SETS[name])
    triggers = of_kind(resources, "ScaledObject")["kitchen"]["spec"]["triggers"]
    read = ["menu.recipePublished.v1", "orders.orderCancelled.v1", "orders.orderConfirmed.v2", "replay.kitchen"]
    prefix = "kitchen:-" if place == "queueName" else ""
    assert [trigger["metadata"][place] for trigger in triggers] == [f"{prefix}{topic}" for topic in read]
    [login] = of_kind(resources, "TriggerAuthentication")
    assert {trigger["authenticationRef"]["name"] for trigger in triggers} == {login}


def test_with_kafka_the_chart_has_its_topics_kept() -> None:
    [container] = of_kind(rendered("pizza", VALUE_SETS["kafka"]), "Deployment")["topology"]["spec"]["template"]["spec"][
        "containers"
    ]
    names = {item["name"] for item in container["env"]}
    assert {"KAFKA_BROKERS", "KAFKA_USER", "KAFKA_PASSWORD", "KAFKA_DISABLE_TLS", "TOPOLOGY_PARTITIONS"} <= names


def test_a_service_that_is_switched_off_leaves_nothing() -> None:
    resources = rendered("pizza", VALUE_SETS["few"])
    labelled = [
        resource["metadata"]["name"]
        for resource in resources
        if resource["metadata"]["labels"].get("app.kubernetes.io/name") in ("loyalty", "notifications")
    ]
    assert labelled == []


WRONG: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "kafka without address": (
        {"broker": {"kind": "kafka"}},
        "name the Secret with KAFKA_BROKERS in broker.existingSecret",
    ),
    "postgres without address": ({"state": {"kind": "postgres"}}, "name the Secret with POSTGRES_URL"),
    "sqlite twice": ({"services": {"payments": {"replicas": 2}}}, "has one copy; for 2, set postgres.enabled"),
    "keda and kafka": (
        {"autoscaling": {"kind": "keda"}, "broker": {"kind": "kafka", "existingSecret": "x"}},
        "KEDA cannot take Kafka's address from a Secret: set kafka.bootstrapServers",
    ),
    "misspelt": ({"simulator": {"enabled": False}}, "simulator"),
    "misspelt in a service": ({"services": {"menu": {"replica": 2}}}, "replica"),
    "misspelt in how a service scales": ({"services": {"menu": {"autoscaling": {"kinds": "keda"}}}}, "kinds"),
    "no such way to scale a service": ({"services": {"menu": {"autoscaling": {"kind": "kedo"}}}}, "kedo|one of|keda"),
    "one service with keda and kafka": (
        {
            "services": {"menu": {"autoscaling": {"kind": "keda"}}},
            "broker": {"kind": "kafka", "existingSecret": "x"},
        },
        "KEDA cannot take Kafka's address from a Secret: set kafka.bootstrapServers",
    ),
    "no such broker": ({"broker": {"kind": "mqtt"}}, "mqtt|one of|nats"),
    "no number": ({"defaults": {"replicas": "two"}}, "replicas"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_values_are_refused_with_their_name(name: str) -> None:
    values, words = WRONG[name]
    output = failure("pizza", values)
    assert any(word in output for word in words.split("|")), output


def test_redis_state_may_not_be_sqlite() -> None:
    assert "state" in failure("pizza", {"state": {"kind": "sqlite"}})


# --- who may talk to whom ---


def _chosen(selector: Resource, labels: Mapping[str, str]) -> bool:
    by_label = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return by_label and all(
        labels.get(match_expression["key"]) in match_expression["values"]
        for match_expression in selector.get("matchExpressions", ())
    )


def _lets(rules: list[Resource], side: str, labels: Mapping[str, str], port: int) -> bool:
    for rule in rules:
        peers = rule.get(side)
        reaches = peers is None or any("podSelector" in peer and _chosen(peer["podSelector"], labels) for peer in peers)
        if reaches and ("ports" not in rule or port in [item.get("port") for item in rule["ports"]]):
            return True
    return False


def _edges(resources: tuple[Resource, ...]) -> Iterator[tuple[str, str, int]]:
    """Yield the connections between the namespace's pods that the policies allow, as a network plugin decides."""
    policies = [item["spec"] for item in of_kind(resources, "NetworkPolicy").values()]
    labels = {name: template["metadata"]["labels"] for name, template in pods(resources)}
    labels["archive"] = dict(pods(_tidings()))["archive"]["metadata"]["labels"]
    policies += [
        item["spec"] for item in _tidings() if item["kind"] == "NetworkPolicy" and "namespace" in item["metadata"]
    ]
    for source, its in labels.items():
        leaving = [policy for policy in policies if _chosen(policy["podSelector"], its)]
        out = [rule for policy in leaving if "Egress" in policy["policyTypes"] for rule in policy.get("egress", ())]
        for target, theirs in labels.items():
            arriving = [policy for policy in policies if _chosen(policy["podSelector"], theirs)]
            into = [
                rule for policy in arriving if "Ingress" in policy["policyTypes"] for rule in policy.get("ingress", ())
            ]
            for port in (2525, 3500, 4222, 5432, 6379, 8080, 8222, 9090, 9091):
                if source != target and _lets(out, "to", theirs, port) and _lets(into, "from", its, port):
                    yield source.partition("-")[0], target, port


def test_pods_reach_only_what_they_need() -> None:
    apps = SIDECARS | {"archive"}
    expected = {(app, "nats", 4222) for app in apps | {"topology"}} | {(app, "redis", 6379) for app in apps}
    expected |= {("storefront", app, 8080) for app in ("orders", "menu", "tracking")}
    expected |= {("loyalty", "saas", 8080), ("notifications", "smtp", 2525)}
    # The archive may connect within its namespace, whose broker and stores it does not know; the storefront is public.
    expected |= {("archive", "storefront", 8080), ("archive", "topology", 8080)}  # for the lag of each app
    assert set(_edges(rendered("pizza"))) == expected


def test_with_redis_for_both_nats_is_not_required() -> None:
    edges = set(_edges(rendered("pizza", VALUE_SETS["redis"])))
    assert {(app, "redis", 6379) for app in SIDECARS} <= edges
    assert "nats" not in {target for _, target, _ in edges}


@pytest.mark.parametrize(
    ("name", "apps"),
    [
        ("ha", {"archive", "payments"}),
        ("postgres", SIDECARS | {"archive"}),
        ("personal", SIDECARS | {"archive"}),
    ],
)
def test_only_what_is_kept_in_postgres_reaches_it(name: str, apps: set[str]) -> None:
    edges = {edge for edge in _edges(rendered("pizza", VALUE_SETS[name])) if "postgres" in edge[:2]}
    assert edges == {(app, "postgres", 5432) for app in apps}


KEYS = {"TIDINGS_KEYS_URL": False, "TIDINGS_MASTER_KEY": True, "TIDINGS_MASTER_KEY_SECRET": True}
"""Variables, and whether the Secret may lack them: it has one of the last two."""


@pytest.mark.parametrize(("name", "secret"), [("personal", "pizza-postgres"), ("personal-own", SECRET)])
def test_every_service_has_the_same_keys_of_persons(name: str, secret: str) -> None:
    supplied: dict[str, set[str]] = {}
    for pod, template in pods(rendered("pizza", VALUE_SETS[name])):
        for container in template["spec"]["containers"]:
            for item in container.get("env", ()):
                if item["name"] in KEYS:
                    optional = {"optional": True} if KEYS[item["name"]] else {}
                    assert item["valueFrom"]["secretKeyRef"] == {"name": secret, "key": item["name"], **optional}
                    supplied.setdefault(pod, set()).add(item["name"])
    assert supplied == {service: set(KEYS) for service in SIDECARS}


def test_the_shipped_postgres_has_a_database_for_the_keys_that_only_its_role_enters() -> None:
    secret = of_kind(rendered("pizza", VALUE_SETS["personal"]), "Secret")["pizza-postgres"]["stringData"]
    assert secret["TIDINGS_KEYS_URL"] == f"postgresql://keys:{secret['keys-password']}@postgres:5432/keys"
    assert len(secret["TIDINGS_MASTER_KEY"]) >= 32
    assert 'REVOKE CONNECT ON DATABASE "keys" FROM PUBLIC' in secret["databases.sql"]


def test_without_a_secret_no_service_has_keys() -> None:
    text = json.dumps(rendered("pizza"))
    assert not any(variable in text for variable in KEYS)
