"""Settings of the operator, from environment variables TIDINGS_OPERATOR_<FIELD>."""

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

PREFIX = "TIDINGS_OPERATOR_"
_SERVICE_LINK = re.compile(
    r".+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=.*|.+_PORT=(tcp|udp|sctp)://.*"
)
"""Variables that the kubelet sets for the namespace's Services; those of one named tidings-operator match PREFIX."""
ALLOWED = {"log": ("json", "console"), "log_level": ("DEBUG", "INFO", "WARNING", "ERROR")}
"""Allowed values of settings that are enumerations."""


class SettingsError(Exception):
    """A variable has an invalid value; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings; durations are in seconds.

    A plain dataclass, because pydantic would use a tenth of the operator's memory.
    """

    namespaces: tuple[str, ...] = ()
    """Namespaces to manage; empty for the whole cluster."""
    namespace: str = "tidings-system"
    """The operator's own namespace, which has its lease."""
    identity: str = socket.gethostname()
    """Identity of this operator among several: the pod's name."""
    log: str = "json"
    """`json` (one object per line) or `console`."""
    log_level: str = "INFO"
    workers: int = 8
    resync: float = 600.0
    """Interval of full resyncs with the API server; the dates of deprecations take effect with one of them."""
    host: str = ""
    """Address to listen on; empty for all IPv4 and IPv6 addresses."""
    port: int = 8080
    """Port of /healthz, /readyz and /metrics; 0 selects a free one."""
    stale: float = 120.0
    """Seconds without a sign of life from a watch after which the operator reports itself as dead."""
    lease: bool = True
    """True if only the holder of a lease writes. Without it, there must be only one operator."""
    lease_duration: float = 15.0
    webhook_port: int = 0
    """Port of the admission webhooks; 0 disables them."""
    webhook_configuration: str = "tidings"
    """Name of the Validating- and MutatingWebhookConfiguration, to which the operator adds its certificate."""
    webhook_certificate: str = ""
    """File with a certificate that is maintained elsewhere, such as by cert-manager; by default, the operator's own."""
    webhook_key: str = ""
    """File with the certificate's key."""
    webhook_client_ca: str = ""
    """File with the CA of client certificates; if set, clients must present one."""
    archive_url: str = "http://archive.{namespace}.svc"
    """URL of the archive that replays are requested from; `{namespace}` is replaced by the subscription's namespace."""
    archive_tokens: str = ""
    """Folder with a file for each namespace whose archive requires a token (ARCHIVE_TOKEN): the file is named like the
    namespace and holds its token. It is read for each request, because Secrets may appear late and change."""
    replay_poll: float = 2.0
    observe: float = 60.0
    """Seconds between queries of the sidecars' subscriptions; 0 disables them, and needs no permission to list pods."""
    notify: float = 60.0
    """Seconds between checks for notices to owners, which are sent to the archives; 0 disables them."""
    notify_grace: float = 600.0
    """Seconds that an EventSubscription may be not Ready before its owners are notified."""
    sidecar_port: int = 3500
    """Port of the sidecars' HTTP API."""
    sidecar_tokens: str = ""
    """Folder with a file for each namespace whose sidecars require an API token (DAPR_API_TOKEN): the file is named
    like the namespace and holds its token.

    A token is sent to pods of its namespace only.
    """


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raise SettingsError for invalid or unknown ones."""
    known = {f"{PREFIX}{field.name.upper()}": field for field in fields(Settings)}
    values: dict[str, Any] = {}
    for name, value in environment.items():
        if _SERVICE_LINK.fullmatch(f"{name}={value}"):
            continue
        if name not in known:
            if name.startswith(PREFIX):
                raise SettingsError(f"{name} is unknown: there are {', '.join(sorted(known))}")
            continue
        field = known[name]
        values[field.name] = _parse(name, value, getattr(Settings(), field.name))
        if value not in ALLOWED.get(field.name, (value,)):
            raise SettingsError(f"{name}={value}: write {' or '.join(ALLOWED[field.name])}")
    settings = Settings(**values)
    _check_archive(settings)
    return settings


def _check_archive(settings: Settings) -> None:
    """Raise SettingsError if one archive would get the requests and tokens of several namespaces."""
    if "{namespace}" in settings.archive_url or len(set(settings.namespaces)) == 1:
        return
    watched = f"{len(set(settings.namespaces))} namespaces are" if settings.namespaces else "the whole cluster is"
    raise SettingsError(
        f"{PREFIX}ARCHIVE_URL={settings.archive_url}: {watched} watched, and one archive would get the requests and "
        f"tokens of all. Write {{namespace}} in the URL, or name the archive's namespace alone in {PREFIX}NAMESPACES"
    )


def _parse(name: str, value: str, default: Any) -> Any:
    if isinstance(default, tuple):
        return tuple(item.strip() for item in value.split(",") if item.strip())
    if isinstance(default, bool):
        if value.lower() not in ("true", "false"):
            raise SettingsError(f"{name}={value}: write true or false")
        return value.lower() == "true"
    try:
        return type(default)(value)
    except ValueError as error:
        raise SettingsError(f"{name}={value}: not a number") from error
