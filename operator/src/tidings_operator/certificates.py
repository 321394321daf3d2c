"""The webhooks' certificate: self-signed by the operator, or files maintained by cert-manager.

Each operator creates its certificate in memory and adds it to the `caBundle` of the webhook configurations, next to
those of other operators. No Secret is read, no key leaves the process, and operators need no coordination. Before a
certificate expires, the next one is added to the bundle and then served. See docs/decisions/0005.
"""

import asyncio
import base64
import ipaddress
import logging
import re
import ssl
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tidings_operator.client import MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS, ApiError, Client
from tidings_operator.webhook_paths import PLAIN, Paths, renewed

LOG = logging.getLogger(__name__)
LIFE = timedelta(days=7)
BACKDATED = timedelta(days=1)
"""Tolerance for API servers with a slow clock."""
_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
CHECK = 20.0
"""Seconds between checks that the certificate is valid and trusted."""
SETTLE = 5.0
"""Seconds after which every API server has observed a changed configuration and trusts the new certificate."""
REFRESH = 1.0
"""Minimum seconds between reads of the configurations because of requests at unknown paths."""
STRATEGIC = "application/strategic-merge-patch+json"

Clock = Callable[[], datetime]


class Certificates(Protocol):
    """Source of the webhooks' certificate."""

    async def begin(self, context: ssl.SSLContext) -> None:
        """Load the first certificate."""

    async def keep(self, context: ssl.SSLContext) -> None:
        """Keep the certificate valid and trusted, until cancelled."""

    async def admits(self, path: str) -> bool:
        """Return True for a path that the API server has been configured with."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A self-signed certificate."""

    certificate: bytes
    """PEM."""
    key: bytes
    """PEM."""
    hosts: frozenset[str]
    renewal: datetime
    """Time of the renewal, after two thirds of its life."""

    def load(self, context: ssl.SSLContext) -> None:
        """Serve new connections with it."""
        _load(context, self.certificate + self.key)


class OwnCertificates:
    """Creates certificates and adds them to the API server's bundles."""

    def __init__(
        self,
        client: Client,
        configuration: str,
        identity: str,
        *,
        life: timedelta = LIFE,
        clock: Clock = lambda: datetime.now(UTC),
        settle: float = SETTLE,
    ) -> None:
        self._client = client
        self._configuration = configuration
        self._identity = identity
        self._life = life
        self._clock = clock
        self._settle = settle
        self._current: Issued | None = None
        self._last_warning = ""
        self._paths = Paths()
        self._has_looked = False
        self._refreshed = 0.0
        self._refreshing = asyncio.Lock()

    async def begin(self, context: ssl.SSLContext) -> None:
        """Create the first certificate and add it to the bundles, once the configurations exist."""
        while not await self.look(context):  # noqa: ASYNC110 - there is no event for their creation
            await asyncio.sleep(1.0)

    async def keep(self, context: ssl.SSLContext) -> None:
        """Renew the certificate, and restore it in the bundles if it is removed."""
        while True:
            await asyncio.sleep(CHECK)
            await self.look(context)

    async def look(self, context: ssl.SSLContext) -> bool:
        """Check once, and renew if due; return True if the API server trusts the served certificate."""
        try:
            fetched = await self._fetch()
            configurations = [configuration for configuration in fetched if configuration]
            if not any(configuration.get("webhooks") for configuration in configurations):
                self._warn(
                    f"no webhook configuration is named {self._configuration}, or they are empty: nothing is validated"
                )
                return False
            now, current = self._clock(), self._current
            served = hosts(configurations)
            due = current is None or now >= current.renewal or served != current.hosts
            fresh = issue(self._identity, served, now, self._life) if due else current
            trusted = [issued.certificate for issued in dict.fromkeys((fresh, current)) if issued]
            kept = [
                await self._trust(api, configuration, trusted, now)
                for api, configuration in zip(_KINDS, fetched, strict=True)
                if configuration
            ]
            self._paths.observe(kept)
        except (ApiError, ValueError) as error:  # ValueError: a host that no certificate can name
            self._warn(f"the webhooks' certificate could not be looked after: {error}")
            return False
        self._last_warning, self._has_looked = "", True
        if due and fresh:
            if current:
                await asyncio.sleep(self._settle)
            fresh.load(context)
            self._current = fresh
            LOG.info("a certificate for %s is served, to be renewed on %s", ", ".join(sorted(served)), fresh.renewal)
        return True

    async def admits(self, path: str) -> bool:
        """Return True for a path in a configuration.

        Read the configurations again, because another operator may have changed it.
        """
        if self._paths.admits(path):
            return True
        async with self._refreshing:
            if time.monotonic() > self._refreshed + REFRESH:
                self._refreshed = time.monotonic()
                try:
                    await self._fetch()
                except ApiError as error:
                    self._warn(f"the webhooks' paths could not be read: {error}")
        return self._paths.admits(path)

    async def _fetch(self) -> list[Any]:
        """Return both configurations, None for one that is missing."""
        fetched = [await self._client.get(api, "", self._configuration) for api in _KINDS]
        self._paths.observe([configuration for configuration in fetched if configuration])
        return fetched

    def _warn(self, trouble: str) -> None:
        if trouble != self._last_warning:
            LOG.warning("%s", trouble)
        self._last_warning = trouble

    async def _trust(self, api: Any, configuration: Mapping[str, Any], own: list[bytes], now: datetime) -> Any:
        """Add certificates and the path to each bundle; retry after a concurrent change by another operator."""
        changed = []
        for webhook in configuration.get("webhooks") or ():
            client: dict[str, Any] = {}
            before = base64.b64decode(webhook["clientConfig"].get("caBundle") or "")
            after = bundle(before, own, self._identity, now)
            if after != before:
                client["caBundle"] = base64.b64encode(after).decode()
            if path := renewed(api.kind, webhook["clientConfig"], now.date(), is_new=not self._has_looked):
                client["service"] = {"path": path}
            if client:
                changed.append({"name": webhook["name"], "clientConfig": client})
        if not changed:
            return configuration
        version = configuration["metadata"]["resourceVersion"]
        patch = {"metadata": {"resourceVersion": version}, "webhooks": changed}
        at = api.path("", configuration["metadata"]["name"])
        return await self._client.request("PATCH", at, patch, content_type=STRATEGIC)


class MountedCertificates:
    """Reads certificates from files that cert-manager renews; its injector maintains the bundles."""

    def __init__(self, certificate: str, key: str) -> None:
        self._files = (certificate, key)
        self._loaded: tuple[float, ...] = ()

    async def begin(self, context: ssl.SSLContext) -> None:
        """Load the files; raise OSError if they are missing."""
        self.look(context)

    async def keep(self, context: ssl.SSLContext) -> None:
        """Reload the files whenever they have changed."""
        while True:
            await asyncio.sleep(CHECK)
            try:
                self.look(context)
            except (OSError, ssl.SSLError) as error:
                # Between two renames, certificate and key may not belong together.
                LOG.warning("the certificate in %s cannot be read, the one before is served: %s", self._files[0], error)

    async def admits(self, path: str) -> bool:
        """Return True for the plain paths: the configurations are maintained elsewhere."""
        return path in PLAIN

    def look(self, context: ssl.SSLContext) -> None:
        """Reload the files if they have changed."""
        changed = tuple(Path(file).stat().st_mtime for file in self._files)
        if changed != self._loaded:
            content = b"\n".join(Path(file).read_bytes() for file in self._files)
            # A certificate without its key would replace the one that is served: try them apart first.
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), content)
            _load(context, content)
            self._loaded = changed


def _load(context: ssl.SSLContext, content: bytes) -> None:
    """Load a certificate with its key. OpenSSL reads files only, so a temporary file is used."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        context.load_cert_chain(file.name)


_KINDS = (VALIDATING_WEBHOOKS, MUTATING_WEBHOOKS)


def hosts(configurations: Iterable[Mapping[str, Any]]) -> frozenset[str]:
    """Return the names by which the API server calls the webhooks."""
    names = set()
    for configuration in configurations:
        for webhook in configuration.get("webhooks") or ():
            service = webhook["clientConfig"].get("service")
            url = webhook["clientConfig"].get("url")
            names.add(f"{service['name']}.{service['namespace']}.svc" if service else urlsplit(url).hostname or "")
    return frozenset(names)


def issue(identity: str, served: frozenset[str], now: datetime, life: timedelta) -> Issued:
    """Create a certificate for these hosts, valid from now on."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity[:64])])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in sorted(served)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Issued(certificate.public_bytes(pem), private, served, now + life * 2 / 3)


def bundle(before: bytes, own: list[bytes], identity: str, now: datetime) -> bytes:
    """Return a bundle with these certificates: replace this operator's earlier ones, keep others until they expire.

    Anything that is no certificate is removed: somebody else may have written the bundle.
    """
    return b"".join([*(pem for block in _CERTIFICATE.findall(before) if (pem := _foreign(block, identity, now))), *own])


def _foreign(block: bytes, identity: str, now: datetime) -> bytes:
    """Return another operator's certificate; nothing for this one's, an expired one, or an unreadable one."""
    try:
        certificate = x509.load_pem_x509_certificate(block)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        expired = certificate.not_valid_after_utc <= now
    except ValueError:
        return b""
    own = bool(names) and names[0].value == identity[:64]
    return b"" if expired or own else certificate.public_bytes(serialization.Encoding.PEM)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
