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
"""What the kubelet sets for each Service of the pod's namespace: one named tidings-operator begins with PREFIX, too."""
ALLOWED = {"log": ("json", "console"), "log_level": ("DEBUG", "INFO", "WARNING", "ERROR")}
"""Values of those that cannot have any."""


class SettingsError(Exception):
    """A variable holds what cannot be used; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Durations are seconds. A plain dataclass: pydantic would cost the operator a tenth of its memory."""

    namespaces: tuple[str, ...] = ()
    """Only these; none means the whole cluster."""
    namespace: str = "tidings-system"
    """Where the operator itself lives: its lease."""
    identity: str = socket.gethostname()
    """Which of several operators this is: the pod's name."""
    log: str = "json"
    """`json` (one object a line) or `console`."""
    log_level: str = "INFO"
    workers: int = 8
    resync: float = 600.0
    """Interval of full resyncs with the API server."""
    host: str = ""
    """Address to listen on; empty: every one that there is, of IPv4 and IPv6."""
    port: int = 8080
    """Serves /healthz, /readyz and /metrics; 0 takes a free one."""
    stale: float = 120.0
    """After so long without a sign from a watch, the operator calls itself dead."""
    lease: bool = True
    """Whether only the holder of a lease writes. Without it there must be only one operator."""
    lease_duration: float = 15.0
    webhook_port: int = 0
    """Serves the admission webhooks; 0 leaves them out."""
    webhook_configuration: str = "tidings"
    """Name of the Validating- and of the MutatingWebhookConfiguration: the operator lets them trust its certificate."""
    webhook_certificate: str = ""
    """File with a certificate that something else keeps, such as cert-manager; without one the operator makes its own,
    and renews it."""
    webhook_key: str = ""
    """File with the certificate's key."""
    webhook_client_ca: str = ""
    """File with the authority of client certificates; where it is given, nobody without one is answered."""
    archive_url: str = "http://archive.{namespace}.svc"
    """URL of the archive that replays are requested from; `{namespace}` is replaced by the subscription's namespace."""
    archive_tokens: str = ""
    """Folder with a file for each namespace whose archive requires a token (ARCHIVE_TOKEN): the file is named like the
    namespace and holds its token. It is read for each request, because Secrets may appear late and change."""
    replay_poll: float = 2.0
    observe: float = 60.0
    """How often the sidecars are asked what they are subscribed to; 0 is never, and needs no right to list pods."""
    sidecar_port: int = 3500
    """Where a sidecar has its HTTP API."""
    sidecar_tokens: str = ""
    """Folder with a file for each namespace whose sidecars ask for an API token (DAPR_API_TOKEN): the file is named as
    the namespace and holds its token. A token is sent to pods of its namespace only."""


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raise SettingsError for what is no number, or unknown."""
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
    return Settings(**values)


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
