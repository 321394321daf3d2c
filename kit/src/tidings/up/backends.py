"""The broker and the state store: started here, or somebody's own, reached by its address.

`--broker nats` starts one here; `--broker nats://10.0.0.7:4222` uses that one. Each has a set of Dapr components in the
project's `components/` folder, whose placeholders are filled with `values`.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from tidings.up.errors import UpError
from tidings.up.folder import write_private
from tidings.up.probes import HOST, Listens, Succeeds
from tidings.up.process import Process
from tidings.up.state import Role

Values = Mapping[str, str]
USER = "default"
"""The account of broker and store: the one name that Redis knows from the start."""
CONFIGURATION = "server.conf"
"""A file in a server's data folder, since everybody on the machine can read a command line."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of broker or state store."""

    name: str
    """Also the name of its component set."""
    schemes: tuple[str, ...]
    """Of addresses that mean this kind."""
    values: Callable[[str], Values]
    """Component placeholders for an address."""
    programs: tuple[str, ...] = ()
    """What must be there to start one here; empty where none is started."""
    process: str = ""
    """Name of the process that is started here."""
    scheme_here: str = ""
    """Scheme of the address of one that is started here."""
    pauses: bool = False
    """Whether a sidecar may pause its subscriptions while its app is away.

    daprd leaves bulk deliveries that wait for their turn then waiting for ever: on Redis each takes one of the workers
    that all topics share, on RabbitMQ its message stays unacknowledged. Where JetStream delivers one message at a time,
    it is delivered again after the acknowledgement wait, to the subscription that has been opened anew.
    """


@dataclass(frozen=True, slots=True)
class Backend:
    """A chosen broker or state store."""

    kind: Kind
    address: str = ""
    """Somebody's own; empty where one is started here, or where none is needed (SQLite)."""

    @property
    def process(self) -> str:
        return "" if self.address else self.kind.process

    @property
    def programs(self) -> tuple[str, ...]:
        return () if self.address else self.kind.programs

    def url(self, ports: Mapping[str, int], password: str) -> str:
        """Where it is reached; `password` is that of one that is started here."""
        here = f"{self.kind.scheme_here}{USER}:{password}@{HOST}"
        return self.address or (f"{here}:{ports[self.process]}" if self.process else "")

    def values(self, ports: Mapping[str, int], password: str) -> Values:
        """What the placeholders of its components stand for."""
        return self.kind.values(self.url(ports, password))


def _redis(url: str) -> Values:
    parts = urlsplit(url)
    return {"REDIS_HOST": f"{parts.hostname}:{parts.port or 6379}", "REDIS_PASSWORD": parts.password or ""}


def _postgres(url: str) -> Values:
    return {"POSTGRES_URL": url if urlsplit(url).path.strip("/") else f"{url}/postgres?sslmode=disable"}


BROKERS = {
    kind.name: kind
    for kind in (
        Kind("nats", ("nats", "tls"), lambda url: {"NATS_URL": url}, ("nats-server",), "nats", "nats://", pauses=True),
        Kind("redis", ("redis", "rediss"), _redis, ("redis-server",), "redis", "redis://"),
        Kind("rabbitmq", ("amqp", "amqps"), lambda url: {"RABBITMQ_URL": url}),
        Kind("kafka", ("kafka",), lambda url: {"KAFKA_BROKERS": urlsplit(url).netloc}),
    )
}
STORES = {
    kind.name: kind
    for kind in (
        Kind("sqlite", (), lambda _url: {}),
        Kind("redis", ("redis", "rediss"), _redis, ("redis-server",), "redis", "redis://"),
        Kind("postgres", ("postgres", "postgresql"), _postgres, ("postgres", "initdb"), "postgres", "postgresql://"),
    )
}


def choose(text: str, kinds: Mapping[str, Kind], what: str) -> Backend:
    """Read a choice: a kind's name, or the address of one.

    Raises:
        UpError: neither, or a kind that is only used by address.

    """
    if text in kinds:
        kind = kinds[text]
        if kind.schemes and not kind.process:
            raise UpError(
                f"{kind.name} is not started here; give its address: --{what} {kind.schemes[0]}://user:password@host:port"
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
    """What to start; a Redis that is both broker and store is one process."""
    chosen: list[tuple[Backend, Role]] = [(store, "store"), (broker, "broker")]
    roles = {backend.process: role for backend, role in chosen if backend.process}
    makers = {"nats": _nats_server, "redis": _redis_server, "postgres": _postgres_server}
    made = [makers[name](ports[name], tools, data / name, role) for name, role in roles.items()]
    redis = b"AUTH %b\r\nPING\r\n" % password.encode()
    return [
        replace(each, ready=replace(each.ready, ask=redis))
        if each.name == "redis" and isinstance(each.ready, Listens)
        else each
        for each in made
    ]


_CONFIGURATIONS: Mapping[str, Callable[[str], str]] = {
    "nats": lambda password: f"authorization {{user: {USER}, password: {json.dumps(password)}}}\n",
    "redis": lambda password: f"requirepass {password}\n",
}


def configure(made: Iterable[Process], password: str) -> None:
    """Write the files that tell the servers which password to ask for."""
    for process in made:
        if process.name in _CONFIGURATIONS:
            write_private(process.cwd / CONFIGURATION, _CONFIGURATIONS[process.name](password))


def _nats_server(port: int, tools: Mapping[str, Path], data: Path, role: Role) -> Process:
    return Process(
        name="nats",
        role=role,
        app="nats",
        argv=(
            *(str(tools["nats-server"]), "--config", str(data / CONFIGURATION), "--addr", HOST, "--port", str(port)),
            *("--jetstream", "--store_dir", str(data)),
        ),
        ready=Listens(port, answer=b"INFO "),
        cwd=data,
        ports={"app": port},
    )


def _redis_server(port: int, tools: Mapping[str, Path], data: Path, role: Role) -> Process:
    settings = {
        "bind": HOST,
        "port": str(port),
        "dir": str(data),
        "appendonly": "yes",  # a message or document that was acknowledged survives a kill
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",  # a full store refuses; it never forgets a message
    }
    return Process(
        name="redis",
        role=role,
        app="redis",
        argv=(
            str(tools["redis-server"]),
            str(data / CONFIGURATION),
            *(word for key, value in settings.items() for word in (f"--{key}", value)),
        ),
        ready=Listens(port, answer=b"+OK\r\n+PONG"),
        cwd=data,
        ports={"app": port},
    )


def _postgres_server(port: int, tools: Mapping[str, Path], data: Path, role: Role) -> Process:
    postgres = tools["postgres"]
    settings = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "wal_level": "logical",  # for change data capture
        "max_connections": "300",
    }
    words = tuple(word for key, value in settings.items() for word in ("-c", f"{key}={value}"))
    ready = postgres.with_name("pg_isready")
    return Process(
        name="postgres",
        role=role,
        app="postgres",
        argv=(str(postgres), "-D", str(data / "cluster"), *words),
        ready=Succeeds((str(ready), "-q", "-h", HOST, "-p", str(port))) if ready.exists() else Listens(port),
        cwd=data,
        ports={"app": port},
        stop_signal=signal.SIGINT,  # PostgreSQL's fast shutdown; on SIGTERM it would wait for every client
        user=unprivileged(),
    )


def unprivileged() -> str | None:
    """The account for programs that refuse to run as root; None where we are not root."""
    if os.geteuid() != 0:
        return None
    accounts = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"
