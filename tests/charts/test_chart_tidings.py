from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts.rendered import APIS, CHARTS, KUBERNETES, render
from tests.support import definitions
from tests.support.charts import documents, failure, insecure, of_kind, pods, rendered, validate

from tidings_cli.programs import ensure
from tidings_operator import settings
from tidings_operator.webhook_paths import PLAIN

MANIFESTS = CHARTS.parent / "operator/manifests"


@pytest.mark.parametrize("chart", ["tidings", "pizza"])
def test_helm_finds_nothing_to_complain_of(chart: str) -> None:
    helm = str(ensure("helm")["helm"])
    done = subprocess.run(
        [helm, "lint", "--strict", "--kube-version", KUBERNETES, str(CHARTS / chart)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("chart", "present", "missing", "fix"),
    [
        ("tidings", (), "Dapr is not in this cluster", "dapr init -k"),
        ("pizza", (), "Dapr is not in this cluster", "dapr init -k"),
        ("pizza", ("dapr.io/v1alpha1",), "Tidings is not in this cluster", "helm upgrade --install tidings"),
    ],
)
def test_missing_parts_of_the_cluster_are_reported_in_one_line(
    chart: str, present: tuple[str, ...], missing: str, fix: str, tmp_path: Path
) -> None:
    helm = str(ensure("helm")["helm"])
    apis = [word for api in present for word in ("--api-versions", api)]
    done = subprocess.run(
        [helm, "template", chart, str(CHARTS / chart), "--kube-version", KUBERNETES, *apis],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode != 0
    (line,) = [item for item in done.stderr.splitlines() if missing in item]
    assert fix in line


def test_crds_are_the_operators_and_stay_on_uninstall() -> None:
    written = {
        document["metadata"]["name"]: document for document in yaml.safe_load_all((MANIFESTS / "crds.yaml").read_text())
    }
    shipped = of_kind(rendered("tidings"), "CustomResourceDefinition")
    assert shipped.keys() == written.keys()
    for name, crd in shipped.items():
        assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
        assert crd["spec"] == written[name]["spec"]
    assert not of_kind(rendered("tidings", {"crds": {"enabled": False}}), "CustomResourceDefinition")
    for crd in of_kind(rendered("tidings", {"crds": {"keep": False}}), "CustomResourceDefinition").values():
        assert "annotations" not in crd["metadata"]


def test_rights_are_those_that_the_operator_is_tested_with() -> None:
    written = list(yaml.safe_load_all((MANIFESTS / "rbac.yaml").read_text()))
    for kind in ("ClusterRole", "Role"):
        rules = {item["metadata"]["name"]: item["rules"] for item in written if item["kind"] == kind}
        result = of_kind(rendered("tidings"), kind)
        for archives in ("archive-contracts", "archive"):
            result.pop(archives, None)
        assert {name: item["rules"] for name, item in result.items()} == rules
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        for binding in of_kind(rendered("tidings"), kind).values():
            assert {subject["namespace"] for subject in binding["subjects"]} == {"tidings"}  # the release's own


def test_the_api_server_finds_the_webhooks() -> None:
    chosen = {"webhooks": {"failurePolicy": "Fail", "certificateSecret": "tls", "injectCaFrom": "a/b"}}
    for values, policy in (({}, "Ignore"), (chosen, "Fail")):
        resources = rendered("tidings", values)
        kinds = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
        result = [resource for resource in resources if resource["kind"] in kinds]
        read = settings.read(of_kind(resources, "ConfigMap")["tidings-operator-settings"]["data"])
        assert [item["metadata"]["name"] for item in result] == [read.webhook_configuration] * 2
        template = dict(pods(resources))["tidings-operator"]
        (container,) = template["spec"]["containers"]
        assert {"name": "webhooks", "containerPort": read.webhook_port} in container["ports"]
        for webhook in (item for configuration in result for item in configuration["webhooks"]):
            service = of_kind(resources, "Service")[webhook["clientConfig"]["service"]["name"]]
            assert webhook["clientConfig"]["service"]["namespace"] == "tidings"  # the release's own
            path = webhook["clientConfig"]["service"].get("path", "")
            assert path in PLAIN if read.webhook_certificate else not path, "else the operator writes a secret one"
            assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
            assert (webhook["failurePolicy"], service["spec"]["ports"][0]["targetPort"]) == (policy, "webhooks")
    without = rendered("tidings", {"webhooks": {"enabled": False}})
    assert not of_kind(without, "ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")


def test_every_pod_is_restricted() -> None:
    """Only an archive that may suspend no subscription has no token of the API server."""
    for values in ({}, {"archive": {"suspendSubscriptions": False}}):
        for name, template in pods(rendered("tidings", values)):
            token = name != "archive" or not values
            assert insecure(template, token=token, any_user=name == "tidings-operator") == [], name


@pytest.mark.parametrize("may", [True, False])
def test_an_archive_may_suspend_subscriptions_unless_the_values_say_otherwise(*, may: bool) -> None:
    resources = rendered("tidings", {} if may else {"archive": {"suspendSubscriptions": False}})
    roles, bindings = of_kind(resources, "Role"), of_kind(resources, "RoleBinding")
    assert ("archive" in roles, "archive" in bindings) == (may, may)
    settings_of = of_kind(resources, "ConfigMap")["archive-settings"]["data"]
    assert settings_of.get("ARCHIVE_SUSPENSIONS") == ("kubernetes" if may else None)
    egress = of_kind(resources, "NetworkPolicy")["archive"]["spec"]["egress"]
    assert ({"ports": [{"port": 443}, {"port": 6443}]} in egress) == may
    if may:
        rule = {"apiGroups": ["tidings.dev"], "resources": ["eventsubscriptions"], "verbs": ["list", "patch"]}
        assert roles["archive"]["rules"] == [rule]


def test_the_policies_are_those_that_are_tested_and_two_releases_share_none() -> None:
    written = list(yaml.safe_load_all((MANIFESTS / "policies.yaml").read_text()))
    kinds = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
    for kind in kinds:
        specs = {item["metadata"]["name"]: item["spec"] for item in written if item["kind"] == kind}
        assert {name: item["spec"] for name, item in of_kind(rendered("tidings"), kind).items()} == specs
    apart = rendered("tidings", {"namespaces": ["a", "b"]})
    policies, bindings = of_kind(apart, kinds[0]), of_kind(apart, kinds[1])
    assert policies.keys() == {"tidings-replays-tidings", "tidings-archives-tidings"}
    assert {name: item["spec"]["policyName"] for name, item in bindings.items()} == {name: name for name in policies}
    selector = policies["tidings-replays-tidings"]["spec"]["matchConstraints"]["namespaceSelector"]
    assert selector["matchExpressions"][0]["values"] == ["a", "b"]
    assert "namespaceSelector" not in policies["tidings-archives-tidings"]["spec"]["matchConstraints"]


def test_every_resource_is_valid() -> None:
    values: dict[str, Any] = {"namespaces": ["a", "b"], "replicas": 1}
    watched = {"metrics": {"prometheusRule": True, "dashboards": True, "serviceMonitor": True}}
    resources = [*rendered("tidings"), *rendered("tidings", values), *rendered("tidings", watched)]
    for resource in resources:
        if resource["apiVersion"].startswith(("monitoring.coreos.com/", "dapr.io/")):
            definitions.validate(resource)
        else:
            validate(resource)


def test_settings_reach_the_operator_as_it_reads_them() -> None:
    values = {
        "namespaces": ["a", "b"],
        "environment": {"TIDINGS_OPERATOR_WORKERS": 3},
        "archive": {"url": "http://{namespace}"},
    }
    data = of_kind(rendered("tidings", values), "ConfigMap")["tidings-operator-settings"]["data"]
    read = settings.read(data)
    assert (read.namespaces, read.workers, read.archive_url) == (("a", "b"), 3, "http://{namespace}")


def test_one_replica_has_no_disruption_budget() -> None:
    assert not of_kind(rendered("tidings", {"replicas": 1}), "PodDisruptionBudget")
    assert of_kind(rendered("tidings"), "PodDisruptionBudget")


def test_wrong_values_are_refused() -> None:
    assert "replica" in failure("tidings", {"replica": 2})
    assert "replicas" in failure("tidings", {"replicas": 0})
    assert render("tidings").returncode == 0


def test_namespaces_bound_the_rights_too() -> None:
    result = rendered("tidings", {"namespaces": ["a", "b"]})
    everywhere = {item["roleRef"]["name"] for item in result if item["kind"] == "ClusterRoleBinding"}
    assert everywhere == {"tidings-operator-cluster-tidings"}
    roles = of_kind(result, "ClusterRole")
    assert {
        resource for rule in roles["tidings-operator-cluster-tidings"]["rules"] for resource in rule["resources"]
    } == {
        "customresourcedefinitions",
        "namespaces",
        "subjectaccessreviews",
        "validatingwebhookconfigurations",
        "mutatingwebhookconfigurations",
    }
    bound = {
        (item["metadata"]["namespace"], item["roleRef"]["kind"], item["roleRef"]["name"])
        for item in result
        if item["kind"] == "RoleBinding" and not item["metadata"]["name"].startswith("archive")
    }
    assert bound == {
        ("tidings", "Role", "tidings-operator"),
        *((space, "ClusterRole", f"tidings-operator{part}-tidings") for space in "ab" for part in ("", "-observe")),
    }


def test_without_namespaces_the_rights_hold_everywhere() -> None:
    result = of_kind(rendered("tidings"), "ClusterRoleBinding")
    assert result.keys() == {"tidings-operator", "tidings-operator-cluster", "tidings-operator-observe"}


def test_two_releases_for_different_namespaces_share_no_name() -> None:
    helm = str(ensure("helm")["helm"])
    apis = [word for api in APIS for word in ("--api-versions", api)]
    names = []
    for release, namespaces in (("one", "a,b"), ("two", "c")):
        how = [
            "--namespace",
            release,
            "--set",
            f"namespaces={{{namespaces}}}",
            "--set",
            f"crds.enabled={release == 'one'}",
        ]
        command = [helm, "template", release, str(CHARTS / "tidings"), "--kube-version", KUBERNETES, *apis, *how]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        made = documents(done.stdout)
        names.append(
            {(item["kind"], item["metadata"].get("namespace", release), item["metadata"]["name"]) for item in made}
        )
        clusterwide = [item for item in made if item["kind"].startswith(("Cluster", "Validating", "Mutating"))]
        names[-1] |= {(item["kind"], "", item["metadata"]["name"]) for item in clusterwide}
        read = settings.read(of_kind(tuple(made), "ConfigMap")["tidings-operator-settings"]["data"])
        for entry in made:
            if entry["kind"].endswith("WebhookConfiguration"):
                assert entry["metadata"]["name"] == read.webhook_configuration
                (selected,) = {json.dumps(webhook["namespaceSelector"]) for webhook in entry["webhooks"]}
                assert json.loads(selected)["matchExpressions"][0]["values"] == namespaces.split(",")
        (patchable,) = [
            rule["resourceNames"]
            for item in made
            if item["kind"] == "ClusterRole"
            for rule in item["rules"]
            if "validatingwebhookconfigurations" in rule["resources"]
        ]
        assert patchable == [read.webhook_configuration]
    assert not names[0] & names[1]


def test_any_user_may_run_it() -> None:
    """OpenShift gives each namespace users of its own, and refuses a pod that names another."""
    manifest = yaml.safe_load((MANIFESTS / "deployment.yaml").read_text())["spec"]["template"]
    template = dict(pods(rendered("tidings")))["tidings-operator"]
    for item in (manifest, template):
        contexts = [item["spec"]["securityContext"], *(one["securityContext"] for one in item["spec"]["containers"])]
        assert not [name for context in contexts for name in context if name in ("runAsUser", "runAsGroup", "fsGroup")]
        assert "tmp" in {mount["name"] for mount in item["spec"]["containers"][0]["volumeMounts"]}
        assert item["spec"]["enableServiceLinks"] is False
    image = (CHARTS.parent / "images/operator.Dockerfile").read_text()
    assert "\nUSER 10001:10001\n" in image, "runAsNonRoot needs a number"
    chosen = rendered("tidings", {"podSecurityContext": {"runAsUser": 10001}})
    template = dict(pods(chosen))["tidings-operator"]
    assert template["spec"]["securityContext"]["runAsUser"] == 10001


def test_only_the_api_server_reaches_the_webhooks_where_its_address_is_known() -> None:
    peers = [{"ipBlock": {"cidr": "10.0.0.10/32"}}]
    policy = of_kind(rendered("tidings", {"networkPolicy": {"apiServerFrom": peers}}), "NetworkPolicy")[
        "tidings-operator"
    ]
    assert {"ports": [{"port": 8443}], "from": peers} in policy["spec"]["ingress"]


def test_secrets_are_mounted_for_sidecars_tokens_and_the_webhooks_clients() -> None:
    values = {"sidecarTokens": {"existingSecret": "tokens"}, "webhooks": {"clientCASecret": "clients"}}
    resources = rendered("tidings", values)
    read = settings.read(of_kind(resources, "ConfigMap")["tidings-operator-settings"]["data"])
    template = dict(pods(resources))["tidings-operator"]
    volumes = {
        volume["name"]: volume["secret"]["secretName"] for volume in template["spec"]["volumes"] if "secret" in volume
    }
    mounts = {
        volume_mount["mountPath"]: volumes.get(volume_mount["name"])
        for volume_mount in template["spec"]["containers"][0]["volumeMounts"]
    }
    assert mounts[read.sidecar_tokens] == "tokens"
    assert mounts[str(Path(read.webhook_client_ca).parent)] == "clients"


# --- the archive ---


def _named(resources: tuple[Any, ...], kind: str, name: str) -> dict[str, Any]:
    """Return the resources of a kind and name, by namespace; empty for the release's own."""
    return {
        resource["metadata"].get("namespace", ""): resource
        for resource in resources
        if (resource["kind"], resource["metadata"]["name"]) == (kind, name)
    }


def _container(resources: tuple[Any, ...], namespace: str = "tidings") -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the archive's pod and the variables of its container."""
    spec = _named(resources, "Deployment", "archive")[namespace]["spec"]["template"]["spec"]
    return spec, {item["name"]: item for item in spec["containers"][0]["env"]}


def test_the_archive_is_installed_with_the_operator_which_knows_its_address_and_token() -> None:
    resources = rendered("tidings")
    read = settings.read(of_kind(resources, "ConfigMap")["tidings-operator-settings"]["data"])
    assert read.archive_url.replace("{namespace}", "tidings") == "http://archive.tidings.svc"
    token = _named(resources, "Secret", "archive-token")["tidings"]["stringData"]["ARCHIVE_TOKEN"]
    assert _named(resources, "Secret", "tidings-archive-tokens")[""]["stringData"] == {"tidings": token}
    template = dict(pods(resources))["tidings-operator"]
    volumes = {volume["name"]: volume.get("secret") for volume in template["spec"]["volumes"]}
    mounts = {
        volume_mount["mountPath"]: volume_mount["name"]
        for volume_mount in template["spec"]["containers"][0]["volumeMounts"]
    }
    assert volumes[mounts[read.archive_tokens]] == {"secretName": "tidings-archive-tokens", "optional": True}
    spec, env = _container(resources)
    assert env["ARCHIVE_TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "archive-token", "key": "ARCHIVE_TOKEN"}
    assert "kubectl -n tidings get secret archive-token" in env["ARCHIVE_TOKEN_HINT"]["value"]
    assert {"name": "data", "persistentVolumeClaim": {"claimName": "archive-data"}} in spec["volumes"]
    assert {"name": "policy", "configMap": {"name": "tidings-archive"}} in spec["volumes"]
    for resource in resources:
        if resource["kind"] != "Secret":
            assert token not in json.dumps(resource), resource["metadata"]["name"]


def test_every_namespace_has_an_archive_and_a_token_of_its_own() -> None:
    resources = rendered("tidings", {"archive": {"namespaces": ["shop", "pizza"]}})
    for kind in ("Deployment", "Service", "NetworkPolicy", "PersistentVolumeClaim"):
        name = "archive-data" if kind == "PersistentVolumeClaim" else "archive"
        assert _named(resources, kind, name).keys() == {"shop", "pizza"}, kind
    secrets = _named(resources, "Secret", "archive-token")
    tokens = {namespace: item["stringData"]["ARCHIVE_TOKEN"] for namespace, item in secrets.items()}
    assert tokens["shop"] != tokens["pizza"]
    assert _named(resources, "Secret", "tidings-archive-tokens")[""]["stringData"] == tokens
    assert of_kind(resources, "Namespace").keys() == {"shop", "pizza"}
    for namespace in of_kind(resources, "Namespace").values():
        assert namespace["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_archives_contracts_are_applied_by_a_job_when_their_definitions_exist() -> None:
    values = {"archive": {"replayRequesters": ["tracking"]}}
    resources = rendered("tidings", values)
    assert not of_kind(resources, "EventType", "EventSubscription"), "Helm checks kinds before it creates any"
    text = _named(resources, "ConfigMap", "archive-contracts")["tidings"]["data"]["contracts.yaml"]
    contracts = list(yaml.safe_load_all(text))
    assert {contract["kind"] for contract in contracts} == {"EventType", "EventSubscription"}
    producers = {
        contract["spec"]["type"]: contract["spec"]["producers"]
        for contract in contracts
        if contract["kind"] == "EventType"
    }
    assert producers["archive.replayEvents"] == ["tracking"]
    assert producers["archive.recordReplayOutcome"] == ["archive"]
    (job,) = of_kind(resources, "Job").values()
    (other,) = of_kind(rendered("tidings"), "Job").values()
    assert job["metadata"]["name"] != other["metadata"]["name"], "a Job cannot be changed"
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    assert command[:3] == ["python", "-m", "tidings_operator.contracts"]
    assert command[3:] == ["tidings", "archive-contracts", "/etc/contracts/contracts.yaml"]


def test_the_archive_may_use_postgres_and_own_tokens() -> None:
    tokens = {"archiveSecret": "mine", "operatorSecret": "copies", "apiSecret": "out", "appSecret": "in"}
    secrets = {"databaseSecret": "database", "keysSecret": "keys", "webhookSecret": "hook"}
    resources = rendered("tidings", {"archive": {**secrets, "replicas": 2, "tokens": tokens}})
    spec, env = _container(resources)
    for name, reference in (
        ("ARCHIVE_DATABASE_URL", {"name": "database", "key": "ARCHIVE_DATABASE_URL"}),
        ("TIDINGS_KEYS_URL", {"name": "keys", "key": "TIDINGS_KEYS_URL"}),
        ("TIDINGS_MASTER_KEY", {"name": "keys", "key": "TIDINGS_MASTER_KEY", "optional": True}),
        ("TIDINGS_MASTER_KEY_SECRET", {"name": "keys", "key": "TIDINGS_MASTER_KEY_SECRET", "optional": True}),
        ("ARCHIVE_NOTICE_WEBHOOK", {"name": "hook", "key": "ARCHIVE_NOTICE_WEBHOOK"}),
        ("ARCHIVE_TOKEN", {"name": "mine", "key": "ARCHIVE_TOKEN"}),
        ("DAPR_API_TOKEN", {"name": "out", "key": "token"}),
        ("APP_API_TOKEN", {"name": "in", "key": "token"}),
    ):
        assert env[name]["valueFrom"]["secretKeyRef"] == reference
    assert not of_kind(resources, "Secret", "PersistentVolumeClaim")
    assert not [volume for volume in spec["volumes"] if "persistentVolumeClaim" in volume]
    assert "archive" in of_kind(resources, "PodDisruptionBudget")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replicas": 2}, "archive.databaseSecret"),
        ({"tokens": {"archiveSecret": "mine"}}, "archive.tokens.operatorSecret"),
        ({"tokens": {"apiSecret": "one", "appSecret": "one"}}, "name two Secrets"),
        ({"component": {"kind": "nats"}}, "archive.component.existingSecret"),
        ({"tokenSecret": "x"}, "tokenSecret"),
        ({"namespaces": ["shop", "pizza"], "url": "http://archive.shop.svc"}, "write {namespace} in it"),
    ],
)
def test_wrong_values_of_the_archive_are_rejected_with_the_fix(values: dict[str, Any], message: str) -> None:
    assert message in failure("tidings", {"archive": values})


def test_without_an_archive_nothing_of_it_is_installed() -> None:
    resources = rendered("tidings", {"archive": {"enabled": False}})
    assert not [resource["metadata"]["name"] for resource in resources if "archive" in resource["metadata"]["name"]]
    assert not settings.read(of_kind(resources, "ConfigMap")["tidings-operator-settings"]["data"]).archive_tokens


@pytest.mark.parametrize(("kind", "count"), [("nats", 8), ("redis", 1), ("rabbitmq", 32), ("kafka", 1)])
def test_the_components_of_the_archives_own_take_the_address_from_a_secret(kind: str, count: int) -> None:
    values = {"archive": {"component": {"kind": kind, "existingSecret": "broker"}}}
    components = of_kind(rendered("tidings", values), "Component")
    assert components.keys() == {"pubsub", *(f"pubsub-{number}" for number in range(1, count))}
    for component in components.values():
        definitions.validate(component)
        assert component["scopes"] == ["archive"]
        assert "${" not in json.dumps(component)
        references = [item["secretKeyRef"]["name"] for item in component["spec"]["metadata"] if "secretKeyRef" in item]
        assert set(references) == {"broker"}
    assert len({json.dumps(item["spec"]) for item in components.values()}) == 1


def test_the_plain_manifests_have_the_charts_network_policy() -> None:
    manifest = yaml.safe_load((MANIFESTS / "networkpolicy.yaml").read_text())
    chart = of_kind(rendered("tidings"), "NetworkPolicy")["tidings-operator"]
    assert {**manifest["spec"], "podSelector": {}} == {**chart["spec"], "podSelector": {}}
    pods_of = yaml.safe_load((MANIFESTS / "deployment.yaml").read_text())["spec"]["template"]["metadata"]["labels"]
    assert manifest["spec"]["podSelector"]["matchLabels"].items() <= pods_of.items()


def test_by_default_only_required_ports_are_open_and_the_docs_list_their_clients() -> None:
    policy = of_kind(rendered("tidings"), "NetworkPolicy")["tidings-operator"]
    open_to_all = [port["port"] for item in policy["spec"]["ingress"] if "from" not in item for port in item["ports"]]
    assert open_to_all == [8443]
    text = (CHARTS.parent / "docs/explanation/security.md").read_text()
    assert "so the chart can require neither by default" in " ".join(text.split())
