"""Real programs for tests, each on a free port with a folder of its own: brokers, PostgreSQL, daprd."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import psutil
import yaml

from tidings.conventions import DAPR_API_TOKEN, TOKEN_HEADER
from tidings.errors import TidingsError
from tidings_cli.programs import ensure
from tidings_cli.programs.jars import command as kafka_command
from tidings_cli.up import kafka, launch
from tidings_cli.up.backends import unprivileged
from tidings_cli.up.control import READY_TIMEOUT
from tidings_cli.up.ports import HOST, block

DEBIANS_RABBITMQ = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")  # the one on PATH would log beside the system's own


class NotStarted(TidingsError):
    """A program ended, or did not come up in time; the message holds the last lines of its log."""


class Ports:
    """Free ports, reserved on this machine for the holder: test processes that run side by side do not meet."""

    def __init__(self) -> None:
        self._blocks = ExitStack()
        self._free: Iterator[int] = iter(())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks.close()

    def take(self) -> int:
        """Return a port that has not been allocated before."""
        port = next(self._free, None)
        if port is None:
            self._free = self._blocks.enter_context(block())
            port = next(self._free)
        return port


@contextmanager
def nats_server(folder: Path, port: int) -> Iterator[str]:
    """Run NATS with JetStream; gives its URL."""
    command = [str(_program("nats-server")), "--jetstream", "--store_dir", str(folder)]
    command += ["--addr", HOST, "--port", str(port)]
    with running(command, folder / "nats.log", lambda: listens(port)):
        yield f"nats://{HOST}:{port}"


@dataclass(frozen=True, slots=True)
class Node:
    """One server of a cluster."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def redis_server(folder: Path, port: int) -> Iterator[str]:
    """Run Redis without a password, keeping nothing on disk; gives host:port."""
    command = [str(_program("redis-server")), "--bind", HOST, "--port", str(port), "--save", "", "--dir", str(folder)]
    with running(command, folder / "redis.log", lambda: listens(port)):
        yield f"{HOST}:{port}"


@contextmanager
def postgres_server(folder: Path, port: int, *settings: str) -> Iterator[str]:
    """Run PostgreSQL, which waits for no disk: a crash of the machine would lose data, that of a process does not.

    Gives the URL of the database `postgres`. `settings` are as `wal_level=logical`. An existing folder `data` is kept.
    """
    user = unprivileged()
    if user:
        shutil.chown(folder, user)
    data = folder / "data"
    options = ["fsync=off", "synchronous_commit=off", "full_page_writes=off", *settings]
    initdb = [str(_program("initdb")), "--pgdata", str(data), "--username", "tidings", "--auth", "trust", "--no-sync"]
    if not data.exists():
        subprocess.run(initdb, check=True, capture_output=True, user=user)
    command = [str(_program("postgres")), "-D", str(data), "-h", HOST, "-p", str(port), "-k", str(folder)]
    command += [part for setting in options for part in ("-c", setting)]
    log = folder / "postgres.log"
    with running(command, log, lambda: "is ready to accept" in log.read_text(), user=user, stop=signal.SIGINT):
        yield f"postgresql://tidings@{HOST}:{port}/postgres?sslmode=disable"


@contextmanager
def rabbitmq_server(folder: Path, ports: Ports) -> Iterator[str]:
    """Run RabbitMQ, with a port mapper of its own; gives its URL."""
    executable = _program("rabbitmq-server")
    port, names = ports.take(), str(ports.take())
    environment = os.environ | {
        "HOME": str(folder),
        "ERL_EPMD_PORT": names,
        "ERL_EPMD_ADDRESS": HOST,
        "RABBITMQ_NODENAME": f"tidings{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": HOST,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(ports.take()),
        "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
        "RABBITMQ_LOG_BASE": str(folder),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
    }
    command = [str(DEBIANS_RABBITMQ if DEBIANS_RABBITMQ.exists() else executable)]
    try:
        with running(command, folder / "rabbitmq.log", lambda: listens(port), environment=environment):
            yield f"amqp://guest:guest@{HOST}:{port}/"
    finally:
        subprocess.run(["epmd", "-port", names, "-kill"], env=environment, check=False, capture_output=True)


@contextmanager
def kafka_server(folder: Path, ports: Ports) -> Iterator[str]:
    """Run Kafka without a password; gives its URL."""
    with kafka_servers(folder, ports, 1) as [server]:
        yield server.url


@contextmanager
def kafka_servers(folder: Path, ports: Ports, many: int) -> Iterator[list[Node]]:
    """Run a cluster of Kafka servers, each of which is a broker and a controller."""
    jars = _program("kafka")
    numbers = range(1, many + 1)
    clients = {number: ports.take() for number in numbers}
    voters = {number: ports.take() for number in numbers}
    with ExitStack() as stack:
        started: list[Node] = []
        for number in numbers:
            data = folder / f"kafka-{number}"
            data.mkdir(exist_ok=True)
            file = data / "server.properties"
            file.write_text(
                kafka.configuration(data, clients[number], voters[number], node=number, voters=voters), encoding="utf-8"
            )
            kafka.format_storage(jars, file, data)
            started.append(
                Node(
                    f"kafka://{HOST}:{clients[number]}",
                    stack.enter_context(
                        running([*kafka_command(jars, "kafka.Kafka", str(file))], data / "kafka.log", lambda: True)
                    ),
                )
            )
        for number, node in zip(numbers, started, strict=True):
            log, deadline = folder / f"kafka-{number}/kafka.log", time.monotonic() + READY_TIMEOUT
            while not listens(clients[number]):
                _still_starting(node.process, log, deadline)
                time.sleep(0.1)
        yield started


@contextmanager
def public_folder() -> Iterator[Path]:
    """Make a folder that PostgreSQL may use where the tests run as root: pytest's own are closed to other users."""
    with tempfile.TemporaryDirectory(prefix="tidings-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def _program(name: str) -> Path:
    return ensure(name, report=print)[name]


def listens(port: int) -> bool:
    """Return True if a server accepts connections on the port."""
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False


@contextmanager
def running(
    command: list[str],
    log: Path,
    ready: Callable[[], bool],
    *,
    user: str | None = None,
    stop: signal.Signals = signal.SIGTERM,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the context.

    Raises:
        NotStarted: It ended at once or was not ready in time.

    """
    with log.open("wb") as out:
        process = subprocess.Popen(
            command if user else tied(command), stdout=out, stderr=subprocess.STDOUT, user=user, env=environment
        )
    try:
        deadline = time.monotonic() + READY_TIMEOUT
        while not ready():
            _still_starting(process, log, deadline)
            time.sleep(0.02)
        yield process
    finally:
        end(process, stop)


def tied(command: list[str]) -> list[str]:
    """Let the kernel end a program with this process, also where this one is killed (Linux)."""
    return [sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), launch.CURRENT_USER, *command]


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    """Ask a program to stop, and make it stop if it does not within ten seconds."""
    process.send_signal(how)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _still_starting(process: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
    if process.poll() is None and time.monotonic() < deadline:
        return
    how = (
        f"ended with {process.returncode}"
        if process.returncode is not None
        else f"was not ready within {READY_TIMEOUT:g} s"
    )
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise NotStarted(f"{process.args!r} {how}:\n{tail}")


@dataclass(slots=True)
class Daprd:
    """One sidecar as a real process, which a test may stop, kill, suspend and start again."""

    app_id: str
    http_port: int
    grpc_port: int
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    subscriptions: int
    process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def address(self) -> str:
        """Address of the gRPC API, for `DaprSidecar`."""
        return f"{HOST}:{self.grpc_port}"

    async def start(self) -> None:
        """Start it, and wait until its components and subscriptions are loaded.

        Raises:
            NotStarted: It ended, or was not ready in time.

        """
        self.process = self._launch()
        deadline = time.monotonic() + READY_TIMEOUT
        # Without TLS there is nothing to verify, and loading certificates costs more than the start of a sidecar.
        url = f"http://{HOST}:{self.http_port}"
        async with httpx2.AsyncClient(base_url=url, trust_env=False, verify=False) as client:
            while not await self._loaded(client):
                _still_starting(self.process, self.log, deadline)
                await asyncio.sleep(0.02)

    def _launch(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as out:
            return subprocess.Popen(tied(self.command), stdout=out, stderr=subprocess.STDOUT, env=self.environment)

    async def _loaded(self, client: httpx2.AsyncClient) -> bool:
        token = {TOKEN_HEADER: value} if (value := self.environment.get(DAPR_API_TOKEN)) is not None else {}
        try:
            health = await client.get("/v1.0/healthz/outbound", headers=token)
            metadata = await client.get("/v1.0/metadata", headers=token)
        except httpx2.TransportError:
            return False
        loaded = len(metadata.json().get("subscriptions") or ()) if metadata.is_success else -1
        return health.is_success and loaded >= self.subscriptions

    async def stop(self) -> None:
        """Stop it gracefully."""
        if self.process is not None:
            self.resume()
            await asyncio.to_thread(end, self.process)

    def kill(self) -> None:
        """End it as a crash does (kill -9)."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    async def suspend(self) -> None:
        """Let it hang: it keeps its connections and answers nothing; returns once it does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGSTOP)
            while psutil.Process(self.process.pid).status() != psutil.STATUS_STOPPED:  # noqa: ASYNC110  # there is no event to wait for
                await asyncio.sleep(0.005)

    def resume(self) -> None:
        """Let it go on."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)

    def lines(self) -> list[dict[str, Any]]:
        """Return the log."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def daprd(
    app_id: str,
    folder: Path,
    ports: Ports,
    *,
    resources: Iterable[Mapping[str, Any]],
    app_port: int | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Iterable[str] = (),
) -> Daprd:
    """Prepare a sidecar; `await` its `start`.

    Args:
        app_id: The app's id.
        folder: Its own; resources and log are written there.
        ports: Where its ports come from.
        resources: Components, Subscriptions, Resiliency: as dicts, in the form of their YAML.
        app_port: Where the app listens; without one nothing is delivered.
        environment: On top of this process's, such as DAPR_API_TOKEN and APP_API_TOKEN.
        flags: Further flags.

    """
    documents, place = list(resources), folder / "resources"
    place.mkdir(parents=True)
    for number, resource in enumerate(documents):  # daprd reads a Resiliency only from a file of its own
        (place / f"{number}.yaml").write_text(yaml.safe_dump(resource))
    http_port, grpc_port = ports.take(), ports.take()
    command = [
        str(_program("daprd")),
        *("--app-id", app_id, "--resources-path", str(place), "--log-as-json"),
        *("--dapr-http-port", str(http_port), "--dapr-grpc-port", str(grpc_port)),
        *("--dapr-internal-grpc-port", str(ports.take()), "--metrics-port", str(ports.take())),
        *("--dapr-listen-addresses", HOST, "--metrics-listen-address", HOST),
        *(("--app-port", str(app_port), "--app-protocol", "http") if app_port else ()),
        *flags,
    ]
    subscriptions = [
        item for item in documents if item["kind"] == "Subscription" and app_id in (item.get("scopes") or [app_id])
    ]
    variables = {**os.environ, "DAPR_HOST_IP": HOST, **(environment or {})}
    loaded = len(subscriptions) if app_port else 0
    return Daprd(app_id, http_port, grpc_port, command, variables, folder / "daprd.log", loaded)
