"""The broker and the state store: started locally, or external.

`--broker nats` starts a local server; `--broker nats://10.0.0.7:4222` uses an external one. Each kind has a set of Dapr
components in the project's `components/` folder, whose placeholders are filled with `values`.
"""

import json
import os
import pwd
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from tidings.brokers.kafka import Address
from tidings_cli.programs.jars import command
from tidings_cli.up import kafka
from tidings_cli.up.errors import UpError
from tidings_cli.up.files import write_private
from tidings_cli.up.probes import HOST, Listens, Probe, Succeeds
from tidings_cli.up.process import Process
from tidings_cli.up.state import Role

Values = Mapping[str, str]
USER = "default"
"""User name for broker and store; the only user that Redis has by default."""
CONFIGURATION = "server.conf"
"""File with the password, in the server's data folder: command lines are visible to all users of the machine."""


@dataclass(frozen=True, slots=True)
class Local:
    """What a local server is started with."""

    ports: Mapping[str, int]
    tools: Mapping[str, Path]
    data: Path
    """Its own folder."""
    role: Role
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of broker or state store."""

    name: str
    """Also the name of the component set."""
    schemes: tuple[str, ...]
    """URL schemes of this kind."""
    values: Callable[[str], Values]
    """Returns the values of the component placeholders for a URL."""
    programs: tuple[str, ...] = ()
    """Programs needed to start a local server; empty if that is not supported."""
    process: str = ""
    """Name of the local server's process."""
    local_scheme: str = ""
    """URL scheme of the local server."""
    server: Callable[[Local], Process] | None = None
    """Returns the process of a local server."""
    pauses: bool = False
    """True if a sidecar may pause its subscriptions while its app is unavailable.

    daprd then never finishes bulk deliveries that are waiting for their turn: on Redis, each blocks one of the workers
    shared by all topics; on RabbitMQ, its message stays unacknowledged. JetStream delivers one message at a time here
    and redelivers it to the reopened subscription after the acknowledgement wait.
    """


@dataclass(frozen=True, slots=True)
class Backend:
    """The selected broker or state store."""

    kind: Kind
    address: str = ""
    """URL of an external server; empty for a local one, or if there is no server (SQLite)."""

    @property
    def process(self) -> str:
        return "" if self.address else self.kind.process

    @property
    def port_names(self) -> tuple[str, ...]:
        """Names of the ports of the local server."""
        return (self.process, kafka.CONTROLLER) if self.process == "kafka" else (self.process,) if self.process else ()

    @property
    def programs(self) -> tuple[str, ...]:
        return () if self.address else self.kind.programs

    def url(self, ports: Mapping[str, int], password: str) -> str:
        """Return the URL, with `password` for a local server; empty if there is no server."""
        if self.address or not self.process:
            return self.address
        return f"{self.kind.local_scheme}{USER}:{password}@{HOST}:{ports[self.process]}"

    def values(self, ports: Mapping[str, int], password: str) -> Values:
        """Return the values of the component placeholders."""
        return self.kind.values(self.url(ports, password))


def _redis(url: str) -> Values:
    parts = urlsplit(url)
    return {"REDIS_HOST": f"{parts.hostname}:{parts.port or 6379}", "REDIS_PASSWORD": parts.password or ""}


def _postgres(url: str) -> Values:
    return {"POSTGRES_URL": url if urlsplit(url).path.strip("/") else f"{url}/postgres?sslmode=disable"}


def _kafka(url: str) -> Values:
    address = Address.of(url)
    return {
        "KAFKA_BROKERS": address.brokers,
        "KAFKA_AUTH": "password" if address.user else "none",
        "KAFKA_USER": address.user,
        "KAFKA_PASSWORD": address.password,
        "KAFKA_DISABLE_TLS": "false" if address.tls else "true",
    }


def _server(local: Local, name: str, argv: Iterable[str], ready: Probe, **ports: int) -> Process:
    return Process(
        name=name,
        role=local.role,
        app=name,
        argv=tuple(argv),
        ready=ready,
        cwd=local.data,
        ports={"app": local.ports[name], **ports},
    )


def _nats_server(local: Local) -> Process:
    port = local.ports["nats"]
    argv = (
        *(str(local.tools["nats-server"]), "--config", str(local.data / CONFIGURATION)),
        *("--addr", HOST, "--port", str(port), "--jetstream", "--store_dir", str(local.data)),
    )
    return _server(local, "nats", argv, Listens(port, answer=b"INFO "))


def _redis_server(local: Local) -> Process:
    port = local.ports["redis"]
    settings = {
        "bind": HOST,
        "port": str(port),
        "dir": str(local.data),
        "appendonly": "yes",  # acknowledged messages and documents survive a kill
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",  # a full store rejects writes instead of dropping messages
    }
    words = (word for key, value in settings.items() for word in (f"--{key}", value))
    ready = Listens(port, ask=b"AUTH %b\r\nPING\r\n" % local.password.encode(), answer=b"+OK\r\n+PONG")
    return _server(local, "redis", (str(local.tools["redis-server"]), str(local.data / CONFIGURATION), *words), ready)


def _kafka_server(local: Local) -> Process:
    argv = command(local.tools["kafka"], "kafka.Kafka", str(local.data / CONFIGURATION))
    return _server(local, "kafka", argv, Listens(local.ports["kafka"]), controller=local.ports[kafka.CONTROLLER])


def _postgres_server(local: Local) -> Process:
    postgres, port = local.tools["postgres"], str(local.ports["postgres"])
    settings = {
        "listen_addresses": HOST,
        "port": port,
        "unix_socket_directories": "",
        "wal_level": "logical",  # for change data capture
        "max_connections": "300",
    }
    words = (word for key, value in settings.items() for word in ("-c", f"{key}={value}"))
    probe = postgres.with_name("pg_isready")
    asked = Succeeds((str(probe), "-q", "-h", HOST, "-p", port))
    ready = asked if probe.exists() else Listens(local.ports["postgres"])
    server = _server(local, "postgres", (str(postgres), "-D", str(local.data / "cluster"), *words), ready)
    # SIGINT: fast shutdown; on SIGTERM it waits until all clients have disconnected.
    return replace(server, stop_signal=signal.SIGINT, user=unprivileged())


BROKERS = {
    kind.name: kind
    for kind in (
        Kind(
            name="nats",
            schemes=("nats", "tls"),
            values=lambda url: {"NATS_URL": url},
            programs=("nats-server",),
            process="nats",
            local_scheme="nats://",
            server=_nats_server,
            pauses=True,
        ),
        Kind("redis", ("redis", "rediss"), _redis, ("redis-server",), "redis", "redis://", _redis_server),
        Kind("rabbitmq", ("amqp", "amqps"), lambda url: {"RABBITMQ_URL": url}),
        Kind("kafka", ("kafka", "kafkas"), _kafka, ("kafka",), "kafka", "kafka://", _kafka_server),
    )
}
STORES = {
    kind.name: kind
    for kind in (
        Kind("sqlite", (), lambda _url: {}),
        BROKERS["redis"],
        Kind(
            name="postgres",
            schemes=("postgres", "postgresql"),
            values=_postgres,
            programs=("postgres", "initdb"),
            process="postgres",
            local_scheme="postgresql://",
            server=_postgres_server,
        ),
    )
}


def choose(text: str, kinds: Mapping[str, Kind], what: str) -> Backend:
    """Parse an option: the name of a kind, or a URL.

    Raises:
        UpError: It is neither, or the kind cannot be started locally.

    """
    if text in kinds:
        kind = kinds[text]
        if kind.schemes and not kind.process:
            raise UpError(
                f"{kind.name} cannot be started locally; set its URL: --{what} {kind.schemes[0]}://user:password@host:port"
            )
        return Backend(kind)
    scheme = text.partition("://")[0] if "://" in text else ""
    for kind in kinds.values():
        if scheme and scheme in kind.schemes:
            return Backend(kind, text)
    addresses = ", ".join(f"{scheme}://…" for kind in kinds.values() for scheme in kind.schemes[:1])
    raise UpError(f"--{what} {text}: unknown; use {', '.join(kinds)}, or an address such as {addresses}")


def processes(
    broker: Backend, store: Backend, ports: Mapping[str, int], tools: Mapping[str, Path], data: Path, password: str
) -> list[Process]:
    """Return the local servers to start; a Redis that is both broker and store is one process."""
    chosen: list[tuple[Backend, Role]] = [(store, "store"), (broker, "broker")]
    kinds = {backend.process: (backend.kind, role) for backend, role in chosen if backend.process}
    return [
        kind.server(Local(ports, tools, data / name, role, password))
        for name, (kind, role) in kinds.items()
        if kind.server
    ]


def configure(servers: Iterable[Process], password: str) -> None:
    """Write the servers' configuration files, which hold the password."""
    for process in servers:
        if process.name == "nats":
            text = f"authorization {{user: {USER}, password: {json.dumps(password)}}}\n"
        elif process.name == "redis":
            text = f"requirepass {password}\n"
        elif process.name == "kafka":
            client, controller = process.ports["app"], process.ports["controller"]
            text = kafka.configuration(process.cwd, client, controller, login=(USER, password))
        else:
            continue
        write_private(process.cwd / CONFIGURATION, text)


def unprivileged() -> str | None:
    """Return the account for programs that refuse to run as root; None if the current user is not root."""
    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"
