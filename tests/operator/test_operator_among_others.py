"""The operator among the tools and tenants of a cluster: whole sets, collections, namespaces on their way out."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.operator import shop, webhooks
from tests.operator.cluster import ADMIN, Cluster, path_of
from tests.operator.conftest import Start, until
from tests.operator.webhooks import Guarded, guarded

from tidings_cli.testing.programs import Ports
from tidings_operator import certificates, crds
from tidings_operator.cache import Cache
from tidings_operator.judging import Judge
from tidings_operator.webhooks import Webhooks

__all__ = ["guarded"]
pytestmark = pytest.mark.real
V1 = {"type": "object", "properties": {"total": {"type": "integer"}}}


@pytest.fixture
def other(cluster: Cluster, namespace: str) -> str:
    """Return another tenant's namespace."""
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"{namespace}-other"}})
    return f"{namespace}-other"


async def asked(cluster: Cluster, resource: dict[str, Any], manager: str, **how: str) -> tuple[int, str]:
    """Apply a resource as a tool does; return the status code, and what was said."""
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/apply-patch+yaml"}
    user = {"Impersonate-User": how.pop("user")} if "user" in how else {}
    answer = await asyncio.to_thread(
        cluster.http.patch,
        path_of(resource),
        json=resource,
        params={"fieldManager": manager, "force": "true", **how},
        headers={**headers, **user},
    )
    output = answer.json()["message"] if answer.is_error else " ".join(answer.headers.get_list("warning"))
    return answer.status_code, output


@pytest.mark.parametrize(
    ("manager", "how"),
    [
        pytest.param("kustomize-controller", {"dryRun": "All"}, id="Flux, which first runs its set dry"),
        pytest.param("kubectl-client-side-apply", {"dryRun": "All"}, id="kubectl diff"),
        pytest.param("kustomize-controller", {}, id="Flux, which applies by kind"),
        pytest.param("argocd-controller", {}, id="Argo CD"),
        pytest.param("helm", {}, id="Helm"),
    ],
)
async def test_a_set_may_hold_a_type_and_its_readers(
    cluster: Cluster, namespace: str, guarded: Guarded, manager: str, how: dict[str, str]
) -> None:
    await guarded()
    manifest = shop.subscription(namespace)
    status, output = await asked(cluster, manifest, manager, **how)
    assert status in (200, 201), output
    assert "orders.orderConfirmed" in output, "it is warned of"
    status, output = await asked(cluster, shop.event_type(namespace), manager, **how)
    assert status in (200, 201), output
    if not how:
        await until(
            lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "it is programmed"
        )


async def test_a_person_is_refused_and_a_set_excuses_only_what_time_fixes(
    cluster: Cluster, namespace: str, guarded: Guarded
) -> None:
    await guarded()
    status, output = await asked(cluster, shop.subscription(namespace), "kubectl")
    assert (status, "await-type" in output) == (422, True)
    wrong = shop.subscription(namespace, filters=webhooks.MALFORMED)
    assert (await asked(cluster, wrong, "kustomize-controller", dryRun="All"))[0] == 422


async def test_a_collection_may_be_deleted_with_types_and_readers_at_once(
    cluster: Cluster, namespace: str, guarded: Guarded
) -> None:
    cluster.apply(shop.event_type(namespace))
    manifests = [shop.subscription(namespace, f"wish-{n}", consumer={"appId": f"app{n}"}) for n in range(5)]
    for item in manifests:
        cluster.apply(item)
    await guarded()
    await until(lambda: len(shop.resiliencies(cluster, namespace)) == 5, "they are programmed")
    kinds = "/apis/tidings.dev/v1alpha1/namespaces/" + namespace
    types = asyncio.create_task(asyncio.to_thread(cluster.delete, f"{kinds}/eventtypes"))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(cluster.delete, f"{kinds}/eventsubscriptions")
    await types
    assert cluster.get(f"{kinds}/eventtypes")["items"] == []
    await until(lambda: not shop.resiliencies(cluster, namespace), "their children go")


async def test_readers_that_a_finalizer_holds_back_count_as_deleted(
    cluster: Cluster, namespace: str, guarded: Guarded
) -> None:
    kind = cluster.apply(shop.event_type(namespace))
    manifest = shop.subscription(namespace)
    manifest["metadata"]["finalizers"] = ["example.org/slow"]
    cluster.apply(manifest)
    made = await guarded()
    await until(lambda: shop.resiliencies(cluster, namespace), "it is programmed")
    await asyncio.to_thread(cluster.delete, path_of(manifest))
    await until(lambda: not shop.resiliencies(cluster, namespace), "its children go at once")
    await asyncio.to_thread(cluster.delete, path_of(kind))
    assert made._late(await made._versions()) == {}, "it is known all the same"
    await asyncio.to_thread(cluster.patch, path_of(manifest), {"metadata": {"finalizers": None}})


async def test_the_namespace_controller_is_not_refused(cluster: Cluster, namespace: str, guarded: Guarded) -> None:
    kind = cluster.apply(shop.event_type(namespace))
    cluster.apply(shop.subscription(namespace))
    await guarded()

    def delete(user: str) -> int:
        headers = {"Authorization": f"Bearer {ADMIN}", **({"Impersonate-User": user} if user else {})}
        groups = {"Impersonate-Group": "system:masters"} if user else {}
        return int(cluster.http.delete(path_of(kind), headers={**headers, **groups}).status_code)

    assert await asyncio.to_thread(delete, "") == 409
    assert await asyncio.to_thread(delete, "system:serviceaccount:kube-system:namespace-controller") == 200


async def test_a_namespace_on_its_way_out_makes_no_errors(
    cluster: Cluster, namespace: str, operator: Start, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.apply(shop.event_type(namespace))
    manifest = cluster.apply(shop.subscription(namespace))
    made = await operator()
    await until(lambda: shop.conditions(cluster, manifest).get("Ready", {}).get("status") == "True", "it is programmed")
    caplog.clear()
    await asyncio.to_thread(cluster.delete, f"/api/v1/namespaces/{namespace}")
    # The namespace controller deletes one after the other; nothing new may be made in their place.
    await asyncio.to_thread(cluster.delete, f"/apis/dapr.io/v1alpha1/namespaces/{namespace}/resiliencies/kitchen")
    await until(lambda: ("kitchen" not in shop.resiliencies(cluster, namespace)) and made.queue.idle, "it has settled")
    await asyncio.to_thread(cluster.patch, path_of(manifest), {"spec": {"filters": [{"cel": "event.data.a == 1"}]}})
    await until(lambda: shop.conditions(cluster, manifest).get("Ready"), "its status is still written")
    await until(lambda: made.queue.idle, "nothing is tried again and again")
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING and "drift" not in
                record.getMessage() and "by somebody else" not in record.getMessage()]  # fmt: skip


TENANT = "ada"


def allow(cluster: Cluster, namespace: str) -> None:
    """Let the tenant do as she likes in her namespace, and nowhere else."""
    group = "rbac.authorization.k8s.io"
    metadata = {"name": "tenant", "namespace": namespace}
    rule = {"apiGroups": ["tidings.dev"], "resources": ["*"], "verbs": ["*"]}
    cluster.apply({"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]})
    subjects = [{"kind": "User", "name": TENANT, "apiGroup": group}]
    ref = {"apiGroup": group, "kind": "Role", "name": "tenant"}
    binding = {"apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": ref}
    cluster.apply({**binding, "subjects": subjects})


async def test_a_refusal_reveals_no_namespace_that_its_reader_may_not_read(
    cluster: Cluster, namespace: str, other: str, guarded: Guarded
) -> None:
    allow(cluster, namespace)
    opened = {"namespaces": [other]}
    cluster.apply(shop.event_type(namespace, versions=[{"name": "v1", "schema": V1}], access=opened))
    hidden = shop.subscription(
        other,
        "hidden-reader",
        type="orders.orderConfirmed",
        namespace=namespace,
        consumer={"appId": "hidden-app"},
        filters=[{"exact": {"data.total": 1}}],
    )
    cluster.apply(hidden)
    cluster.apply(shop.event_type(other, "orders.secretThing"))
    await guarded(namespaces=(namespace, other))

    retired = shop.event_type(
        namespace,
        versions=[{"name": "v1", "schema": V1, "state": "Retired"}, {"name": "v2", "schema": V1}],
        access=opened,
    )
    probe = shop.subscription(namespace, "probe2", type="orders.secretThin", namespace=other)
    for user in ({}, {"user": TENANT}):
        status, output = await asked(cluster, retired, "kubectl", **user)
        assert status == 422, output
        shown = [item for item in ("hidden-reader", "hidden-app", other) if item in output]
        assert bool(shown) is not bool(user), f"{user or 'an administrator'} is told: {output}"
        # A status shows the same to whoever may read it: there, nobody is told of types that may not be read.
        status, output = await asked(cluster, probe, "kubectl", **user)
        assert status == 422, output
        assert "secretThing" not in output
    # What is wrong with her own objects she is told in full.
    status, output = await asked(
        cluster, shop.subscription(namespace, filters=webhooks.MALFORMED), "kubectl", user=TENANT
    )
    assert (status, "spec.events[0].filters[0].cel" in output) == (422, True)


async def test_a_warning_reveals_no_namespace_that_its_reader_may_not_read(
    cluster: Cluster, namespace: str, other: str, guarded: Guarded
) -> None:
    allow(cluster, namespace)
    opened = {"namespaces": [other]}
    versions = [{"name": "v1", "schema": V1}, {"name": "v2", "schema": V1}]
    cluster.apply(shop.event_type(namespace, versions=versions, access=opened))
    cluster.apply(shop.subscription(other, "hidden-reader", namespace=namespace, consumer={"appId": "hidden-app"}))
    await guarded(namespaces=(namespace, other))
    ends = {"effective": "2026-01-01", "removal": "2099-01-01", "alternative": "v2"}
    deprecated = [{**versions[0], "state": "Deprecated", "deprecation": ends}, versions[1]]
    resource = shop.event_type(namespace, versions=deprecated, access=opened)
    for user, shown in (({}, True), ({"user": TENANT}, False)):
        status, output = await asked(cluster, resource, "kubectl", dryRun="All", **user)
        assert status == 200, output
        assert any(item in output for item in ("hidden-reader", "hidden-app", f"{other}/")) is shown, output


async def test_the_webhooks_require_a_client_certificate(tmp_path: Path, ports: Ports) -> None:
    now = datetime.now(UTC)
    issued = {
        item: certificates.issue(item, frozenset({"127.0.0.1"}), now, timedelta(days=1))
        for item in ("server", "stranger")
    }
    authority = client_certificate(tmp_path, now)
    for name, entry in issued.items():
        (tmp_path / f"{name}.pem").write_bytes(entry.certificate)
        (tmp_path / f"{name}.key").write_bytes(entry.key)
    mounted = certificates.MountedCertificates(str(tmp_path / "server.pem"), str(tmp_path / "server.key"))
    client: Any = None
    made = Webhooks(Cache(lambda _: None), client, mounted, Judge(), namespaces=(), unready=lambda: "")
    port = ports.take()
    serving = asyncio.create_task(made.run("127.0.0.1", port, str(authority)))
    review = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "1",
            "kind": {"kind": "EventType"},
            "operation": "DELETE",
            "namespace": "x",
            "userInfo": {"username": "a"},
        },
    }

    async def ask(certificate: str) -> int:
        context = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
        if certificate:
            context.load_cert_chain(tmp_path / f"{certificate}.pem", tmp_path / f"{certificate}.key")
        async with aiohttp.ClientSession() as session:
            url = f"https://127.0.0.1:{port}/validate"
            async with session.post(url, data=json.dumps(review), ssl=context) as answer:
                return answer.status

    async def answers() -> bool:
        try:
            return await ask("apiserver") == 200
        except aiohttp.ClientConnectorError:
            return False

    async with asyncio.timeout(60):
        while not await answers():  # noqa: ASYNC110 - nobody signals it
            await asyncio.sleep(0.05)
    for certificate in ("", "stranger"):
        with pytest.raises(aiohttp.ClientError):
            await ask(certificate)
    serving.cancel()
    await asyncio.wait([serving])


def client_certificate(folder: Path, now: datetime) -> Path:
    """Write an authority, and a certificate of it for the API server as a client; return the authority's file."""
    keys = {item: ec.generate_private_key(ec.SECP256R1()) for item in ("authority", "apiserver")}
    names = {item: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, item)]) for item in keys}
    for entry, key in keys.items():
        certificate = (
            x509.CertificateBuilder()
            .subject_name(names[entry])
            .issuer_name(names["authority"])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=entry == "authority", path_length=None), critical=True)
            .sign(keys["authority"], hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        (folder / f"{entry}.pem").write_bytes(certificate.public_bytes(pem))
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        (folder / f"{entry}.key").write_bytes(private)
    return folder / "authority.pem"


def test_no_list_item_has_a_default() -> None:
    """Argo CD compares lists as a whole: what the API server adds to an item would be a difference for ever."""

    def within(schema: Any, path: str, in_list: bool) -> Any:
        if not isinstance(schema, dict):
            return
        if in_list and "default" in schema:
            yield path
        if isinstance(schema.get("items"), dict):
            yield from within(schema["items"], f"{path}[]", True)
        for name, item in (schema.get("properties") or {}).items():
            yield from within(item, f"{path}.{name}", in_list)
        if isinstance(schema.get("additionalProperties"), dict):
            yield from within(schema["additionalProperties"], f"{path}.*", in_list)

    definitions = [
        path
        for definition in crds.definitions()
        for version in definition["spec"]["versions"]
        for path in within(version["schema"]["openAPIV3Schema"], definition["spec"]["names"]["kind"], False)
    ]
    assert not definitions


async def test_a_field_of_a_newer_crd_is_reported_and_not_dropped_silently(
    cluster: Cluster, namespace: str, operator: Start
) -> None:
    for definition in crds.definitions():
        (version,) = definition["spec"]["versions"]
        version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["colour"] = {"type": "string"}
        cluster.apply(definition)
    try:
        await operator()
        cluster.apply(shop.event_type(namespace))
        manifest = shop.subscription(namespace, colour="green")

        def taken() -> Any:
            try:
                kept = cluster.apply(manifest)
            except httpx2.HTTPStatusError:
                return None  # the API server makes the kind ready anew
            return kept if kept["spec"].get("colour") else None

        await until(taken, "the newer schema holds")
        output = await until(lambda: shop.conditions(cluster, manifest).get("Ready"), "it is told")
        assert (output["status"], output["reason"]) == ("False", "UnknownField")
        assert "colour" in output["message"]
        assert not shop.dapr_subscriptions(cluster, namespace)
    finally:
        for definition in crds.definitions():
            cluster.apply(definition)
        cluster._until("the kinds are served again", cluster._serves_all)
