"""The API server goes on trusting the webhooks: over renewals, beside other operators, with files of cert-manager."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest
import pytest_asyncio
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from tests.operator import shop, webhooks
from tests.operator.cluster import Cluster, path_of
from tests.operator.conftest import Start, until

from tidings_cli.testing.programs import Ports
from tidings_operator import certificates
from tidings_operator.certificates import MountedCertificates, OwnCertificates
from tidings_operator.client import Client
from tidings_operator.server import serve

pytestmark = pytest.mark.real
LIFE = timedelta(days=7)
HOSTS = frozenset({"127.0.0.1"})


@dataclass
class Clock:
    """A clock that a test moves."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Webhook:
    """Answers every review with yes, with whatever certificate its context has."""

    port: int
    context: ssl.SSLContext = field(default_factory=lambda: ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))

    async def answer(self, request: web.Request) -> web.Response:
        review = await request.json()
        return web.json_response({**review, "response": {"uid": review["request"]["uid"], "allowed": True}})

    async def served(self) -> x509.Certificate:
        """Return the certificate that new connections get."""
        pem = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", self.port), timeout=60)
        return x509.load_pem_x509_certificate(pem.encode())


@pytest_asyncio.fixture
async def webhook(cluster: Cluster, namespace: str, ports: Ports) -> AsyncIterator[Webhook]:
    """Yield a webhook that the API server must ask (failurePolicy: Fail)."""
    made = Webhook(ports.take())
    app = web.Application()
    app.router.add_post("/{path}", made.answer)
    runner, _ = await serve(app, "127.0.0.1", made.port, made.context)
    async with webhooks.configured(cluster, namespace, made.port, failurePolicy="Fail"):
        yield made
    await runner.cleanup()


def bundles(cluster: Cluster) -> list[list[str]]:
    """Return the common names in the bundle of each webhook."""
    result = []
    for kind in ("validating", "mutating"):
        existing = cluster.get(f"/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/tidings")
        for item in existing["webhooks"]:
            pem = base64.b64decode(item["clientConfig"].get("caBundle", ""))
            names = [one.subject.rfc4514_string() for one in x509.load_pem_x509_certificates(pem)] if pem else []
            result.append(sorted(names))
    return result


def trusted(cluster: Cluster, namespace: str) -> str:
    """Apply something; return nothing, or why the webhook could not be asked."""
    try:
        cluster.apply(shop.event_type(namespace))
    except httpx2.HTTPStatusError as error:
        return error.response.text
    return ""


async def trusts(cluster: Cluster, namespace: str) -> None:
    await until(lambda: not trusted(cluster, namespace), "the API server trusts the webhook")


async def test_a_certificate_is_renewed_before_it_expires(
    cluster: Cluster, namespace: str, webhook: Webhook, client: Client
):
    clock = Clock(datetime.now(UTC) - timedelta(days=6))
    own = OwnCertificates(client, "tidings", "one", life=LIFE, clock=clock, settle=1.0)
    await own.begin(webhook.context)
    await trusts(cluster, namespace)
    first = await webhook.served()
    clock.now += LIFE * 2 / 3 - timedelta(minutes=1)
    assert await own.look(webhook.context)
    assert await webhook.served() == first, "it is not due yet"

    clock.now = datetime.now(UTC)
    assert first.not_valid_after_utc > clock.now, "it is renewed while it is good"
    await own.look(webhook.context)
    second = await webhook.served()
    assert second != first
    assert second.not_valid_after_utc > clock.now + LIFE - timedelta(minutes=1)
    assert bundles(cluster) == [["CN=one", "CN=one"]] * 2, "the one before is trusted as long as somebody may see it"
    await trusts(cluster, namespace)
    await own.look(webhook.context)
    assert bundles(cluster) == [["CN=one"]] * 2


async def test_the_api_server_asks_at_the_path_that_the_operator_has_written(
    cluster: Cluster, namespace: str, ports: Ports, client: Client, monkeypatch: pytest.MonkeyPatch
):
    """A name leads to this machine, and the manifests name a service without a path, as on a cluster."""
    asked: list[str] = []
    context, port = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ports.take()
    own = OwnCertificates(client, "tidings", "one", settle=0.1)
    app = web.Application()

    async def answer(request: web.Request) -> web.Response:
        if not await own.admits(request.path):
            raise web.HTTPNotFound
        asked.append(request.path)
        review = await request.json()
        return web.json_response({**review, "response": {"uid": review["request"]["uid"], "allowed": True}})

    app.router.add_post("/{path:.*}", answer)
    name = {"name": "webhooks-by-name", "namespace": namespace}
    spec = {"type": "ExternalName", "externalName": "localhost"}
    cluster.apply({"apiVersion": "v1", "kind": "Service", "metadata": name, "spec": spec})
    genuine = webhooks.configurations(namespace, port, failurePolicy="Fail")
    for item in genuine:
        for one in item["webhooks"]:
            one["clientConfig"] = {"service": {**name, "port": port}}
    monkeypatch.setattr(webhooks, "configurations", lambda *_, **__: genuine)
    runner, _ = await serve(app, "127.0.0.1", port, context)
    try:
        async with webhooks.configured(cluster, namespace, port):
            await own.begin(context)
            await trusts(cluster, namespace)
            before = {*asked}
            assert all(len(path) > len("/validate/20260101-") + 40 for path in before), asked
            for item in genuine:  # who applies the manifests again leaves the path as it is
                await asyncio.to_thread(cluster.apply, item)
            await trusts(cluster, namespace)
            assert {*asked} == before
    finally:
        await runner.cleanup()


async def test_no_request_fails_over_many_renewals(
    cluster: Cluster, namespace: str, webhook: Webhook, client: Client, monkeypatch: pytest.MonkeyPatch
):
    """A life of six seconds, while somebody applies something all the time."""
    monkeypatch.setattr(certificates, "CHECK", 0.2)
    own = OwnCertificates(client, "tidings", "one", life=timedelta(seconds=6), settle=1.5)
    await own.begin(webhook.context)
    await trusts(cluster, namespace)
    keeping = asyncio.create_task(own.keep(webhook.context))
    seen: set[int] = set()
    answers: list[str] = []
    end = time.monotonic() + 120
    while (len(seen) < 3 or len(answers) <= 30) and time.monotonic() < end:
        answers.append(await asyncio.to_thread(trusted, cluster, namespace))
        seen.add((await webhook.served()).serial_number)
        await asyncio.sleep(0.1)
    keeping.cancel()
    assert len(seen) >= 3
    assert not [answer for answer in answers if answer]
    assert len(answers) > 30


async def test_several_operators_and_a_restart_do_not_interfere(
    cluster: Cluster, namespace: str, webhook: Webhook, client: Client
):
    clock = Clock()
    contexts = [webhook.context, ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)]
    one, two = (OwnCertificates(client, "tidings", name, life=LIFE, clock=clock) for name in ("one", "two"))
    await asyncio.gather(*(item.begin(context) for item, context in zip((one, two), contexts, strict=True)))
    assert bundles(cluster) == [["CN=one", "CN=two"]] * 2
    await trusts(cluster, namespace)

    again = OwnCertificates(client, "tidings", "two", life=LIFE, clock=clock)
    await again.begin(webhook.context)
    assert bundles(cluster) == [["CN=one", "CN=two"]] * 2, "a restarted pod replaces its own"
    await trusts(cluster, namespace)

    for configuration in webhooks.configurations(namespace, webhook.port):
        for hook in configuration["webhooks"]:
            hook["clientConfig"]["caBundle"] = ""
        cluster.apply(configuration)
    assert bundles(cluster) == [[], []]
    await asyncio.gather(one.look(contexts[1]), again.look(webhook.context))
    await asyncio.gather(one.look(contexts[1]), again.look(webhook.context))
    assert bundles(cluster) == [["CN=one", "CN=two"]] * 2, "what somebody took out is back"

    clock.now += LIFE + timedelta(hours=1)
    await again.look(webhook.context)
    assert {name for bundle in bundles(cluster) for name in bundle} == {"CN=two"}, "what has expired goes"


async def test_without_configurations_it_waits_for_them(
    cluster: Cluster, namespace: str, operator: Start, ports: Ports, caplog: pytest.LogCaptureFixture
):
    port = ports.take()
    await operator(webhook_port=port)
    await until(lambda: "no webhook configuration is named tidings" in caplog.text, "it says so")
    async with webhooks.configured(cluster, namespace, port):
        await webhooks.watching(cluster, namespace)


async def test_files_that_something_else_keeps_are_read_again(
    cluster: Cluster,
    namespace: str,
    operator: Start,
    ports: Ports,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """As with cert-manager: the Secret's files change, and its injector keeps the bundle."""
    monkeypatch.setattr(certificates, "CHECK", 0.2)
    port, files = ports.take(), (tmp_path / "tls.crt", tmp_path / "tls.key")

    def renew(name: str) -> certificates.Issued:
        made = certificates.issue(name, HOSTS, datetime.now(UTC), LIFE)
        files[0].write_bytes(made.certificate)
        files[1].write_bytes(made.key)
        return made

    first, seen = renew("first"), Webhook(port)
    async with webhooks.configured(cluster, namespace, port):
        await operator(webhook_port=port, webhook_certificate=str(files[0]), webhook_key=str(files[1]))
        await until(lambda: _answers(port), "it serves")
        assert (await seen.served()).public_bytes(Encoding.PEM) == first.certificate
        assert bundles(cluster) == [[], []], "the bundle is not the operator's then"
        renew("second")
        deadline = time.monotonic() + 60
        while (await seen.served()).subject.rfc4514_string() != "CN=second":
            assert time.monotonic() < deadline, "the new files are not served"
            await asyncio.sleep(0.1)


def _pem(content: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(content) + b"\n-----END CERTIFICATE-----\n"


FOREIGN = certificates.issue("somebody", HOSTS, datetime.now(UTC), LIFE).certificate
BUNDLES = {
    "empty": b"",
    "no PEM": b"not a certificate",
    "not text": bytes(range(256)),
    "PEM of rubbish": _pem(b"rubbish"),
    "half a certificate": FOREIGN[: len(FOREIGN) // 2],
    "no base64": b"-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n",
    "somebody else's": FOREIGN,
    "somebody else's among rubbish": b"# ours\n" + _pem(b"rubbish") + FOREIGN + b"the end",
    "hundreds": FOREIGN + b"".join(_pem(b"%d" % number) for number in range(300)),
}


@pytest.mark.parametrize("replaced", BUNDLES.values(), ids=BUNDLES)
async def test_a_bundle_that_somebody_replaced_is_right_again_and_ends_no_operator(
    cluster: Cluster,
    namespace: str,
    operator: Start,
    ports: Ports,
    monkeypatch: pytest.MonkeyPatch,
    replaced: bytes,
) -> None:
    monkeypatch.setattr(certificates, "CHECK", 0.2)
    port = ports.take()
    async with webhooks.configured(cluster, namespace, port, failurePolicy="Fail"):
        running = await operator(webhook_port=port)
        await webhooks.watching(cluster, namespace)
        for configuration in webhooks.configurations(namespace, port, failurePolicy="Fail"):
            for hook in configuration["webhooks"]:
                hook["clientConfig"]["caBundle"] = base64.b64encode(replaced).decode()
            await asyncio.to_thread(cluster.apply, configuration)

        def repaired() -> bool:
            found = bundles(cluster)
            return all(len(names) == 1 + (FOREIGN in replaced) for names in found)

        await until(lambda: _readable(cluster) and repaired(), "the bundle has the operator's and what was valid", 60)
        await webhooks.watching(cluster, namespace)
        assert not running.dead()


def _readable(cluster: Cluster) -> bool:
    try:
        return bool(bundles(cluster))
    except ValueError:
        return False


@pytest.mark.parametrize("webhooks_left", [None, []])
async def test_a_configuration_without_webhooks_ends_no_operator(
    cluster: Cluster,
    namespace: str,
    operator: Start,
    ports: Ports,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    webhooks_left: list[object] | None,
) -> None:
    monkeypatch.setattr(certificates, "CHECK", 0.2)
    port = ports.take()
    async with webhooks.configured(cluster, namespace, port):
        running = await operator(webhook_port=port)
        await webhooks.watching(cluster, namespace)
        configurations = webhooks.configurations(namespace, port)
        for configuration in configurations:
            await asyncio.to_thread(cluster.patch, path_of(configuration), {"webhooks": webhooks_left})
        await until(lambda: "nothing is validated" in caplog.text, "it says so", 60)
        for configuration in configurations:
            await asyncio.to_thread(cluster.apply, configuration)
        await webhooks.watching(cluster, namespace)
        assert not running.dead()


async def test_while_files_are_rotated_the_certificate_before_is_served(
    cluster: Cluster, namespace: str, webhook: Webhook, tmp_path: Path
) -> None:
    """A new certificate appears before its key, empty, or half written; requests go on throughout."""
    files = (tmp_path / "tls.crt", tmp_path / "tls.key")
    old, new = (certificates.issue(name, HOSTS, datetime.now(UTC), LIFE) for name in ("old", "new"))
    files[0].write_bytes(old.certificate)
    files[1].write_bytes(old.key)
    mounted = MountedCertificates(str(files[0]), str(files[1]))
    await mounted.begin(webhook.context)
    for configuration in webhooks.configurations(namespace, webhook.port, failurePolicy="Fail"):
        for hook in configuration["webhooks"]:
            hook["clientConfig"]["caBundle"] = base64.b64encode(old.certificate + new.certificate).decode()
        await asyncio.to_thread(cluster.apply, configuration)
    await trusts(cluster, namespace)
    states = [
        (new.certificate, old.key),
        (b"", old.key),
        (new.certificate[:200], new.key),
        (new.certificate, b""),
        (new.key, new.certificate[:100]),
    ]
    for number, (certificate, key) in enumerate(states):
        for file, content in zip(files, (certificate, key), strict=True):
            file.write_bytes(content)
            os.utime(file, (number, number))
        with pytest.raises((OSError, ssl.SSLError)):
            mounted.look(webhook.context)
        assert (await webhook.served()).subject.rfc4514_string() == "CN=old", number
        assert not await asyncio.to_thread(trusted, cluster, namespace), number
    files[0].write_bytes(new.certificate)
    files[1].write_bytes(new.key)
    mounted.look(webhook.context)
    assert (await webhook.served()).subject.rfc4514_string() == "CN=new"
    assert not await asyncio.to_thread(trusted, cluster, namespace)


def test_an_api_server_whose_clock_is_hours_behind_finds_the_certificate_valid() -> None:
    now = datetime.now(UTC)
    issued = x509.load_pem_x509_certificate(certificates.issue("one", HOSTS, now, LIFE).certificate)
    assert issued.not_valid_before_utc < now - timedelta(hours=23)
    assert issued.not_valid_after_utc > now + LIFE - timedelta(minutes=1)


def test_missing_files_end_the_operator(tmp_path: Path):
    mounted = MountedCertificates(str(tmp_path / "tls.crt"), str(tmp_path / "tls.key"))
    with pytest.raises(FileNotFoundError):
        mounted.look(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))


def _answers(port: int) -> bool:
    try:
        return bool(ssl.get_server_certificate(("127.0.0.1", port), timeout=5))
    except OSError:
        return False
