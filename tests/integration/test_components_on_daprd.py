"""Every component set, loaded by a real daprd against the real program behind it."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import pytest
import yaml
from tests.support.brokers import values_of

from tidings.brokers.components import render
from tidings.brokers.jetstream import ensure_streams
from tidings.brokers.kafka import ensure_topics
from tidings.messages.envelope import new_id
from tidings_cli.programs import ProgramError, ensure
from tidings_cli.testing.programs import Ports, nats_server, postgres_server

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

SETS = Path(__file__).parents[2] / "components"
TOPIC = f"orders.order{new_id()[-6:]}Placed.v1"


def eventually(what: str, check: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (answer := check()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)
    return answer


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def running(command: Sequence[str | Path], log: Path, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **how)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder that a server may use which will not run as root."""
    path = Path(tempfile.mkdtemp(prefix="tidings-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def program(name: str) -> Path:
    try:
        return ensure(name, report=print)[name]
    except ProgramError as error:
        pytest.skip(f"NOT TESTED, {name} cannot be had here: {error}")


@contextmanager
def nats(folder: Path) -> Iterator[dict[str, str]]:
    with Ports() as ports, nats_server(folder, ports.take()) as url:
        yield {"NATS_URL": url}


@contextmanager
def redis(folder: Path) -> Iterator[dict[str, str]]:
    with Ports() as ports:
        port = ports.take()
        command = [program("redis-server"), "--bind", "127.0.0.1", "--port", port, "--requirepass", "p$w: #"]
        with running([str(part) for part in command], folder / "redis.log", cwd=folder):
            eventually("Redis", lambda: listens(port))
            yield {"REDIS_HOST": f"127.0.0.1:{port}", "REDIS_PASSWORD": "p$w: #"}


@contextmanager
def postgres(folder: Path) -> Iterator[dict[str, str]]:
    program("postgres")
    (folder / "pg").mkdir()
    with Ports() as ports, postgres_server(folder / "pg", ports.take()) as url:
        yield {"POSTGRES_URL": url}


@contextmanager
def sqlite(folder: Path) -> Iterator[dict[str, str]]:
    yield {"STATE_FILE": str(folder / "orders.db")}


class App:
    """The app of the consuming sidecar, which records every event."""

    def __init__(self) -> None:
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.may_answer = threading.Event()
        self.may_answer.set()
        app = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(b"[]")

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                app.events.put(body)
                app.may_answer.wait(60)
                with suppress(OSError):  # the sidecar may have been killed meanwhile
                    self._answer(b'{"status":"SUCCESS"}')

            def _answer(self, body: bytes) -> None:
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing; pytest shows what matters."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    def received(self, seconds: float = 120) -> str:
        """Return the data of the next event."""
        return str(self.events.get(timeout=seconds)["data"])


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    thread = threading.Thread(target=app.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield app
    app.may_answer.set()
    app.server.shutdown()
    app.server.server_close()
    thread.join()


class Sidecar(NamedTuple):
    process: subprocess.Popen[bytes]
    http: httpx2.Client
    log: Path

    def publish(self, text: str) -> None:
        answer = self.http.post(f"/v1.0/publish/pubsub/{TOPIC}", json=text)
        assert answer.status_code == 204, answer.text

    def subscribed(self) -> bool:
        return bool(self.http.get("/v1.0/metadata").json().get("subscriptions"))

    def transaction(self, *operations: Mapping[str, Any]) -> int:
        answer = self.http.post("/v1.0/state/state/transaction", json={"operations": operations})
        return answer.status_code

    def insert(self, key: str, value: str) -> int:
        document = {"key": key, "value": value, "options": {"concurrency": "first-write"}}
        return self.http.post("/v1.0/state/state", json=[document]).status_code

    def get(self, key: str) -> httpx2.Response:
        return self.http.get(f"/v1.0/state/state/{key}")


@contextmanager
def daprd(app_id: str, resources: list[dict[str, Any]], folder: Path, app: App | None = None) -> Iterator[Sidecar]:
    path, log = Path(tempfile.mkdtemp(dir=folder)), folder / f"{app_id}.log"
    (path / "resources.yaml").write_text(yaml.safe_dump_all(resources))
    flags: dict[str, Any] = {"app-id": app_id, "resources-path": path}
    local = {"dapr-listen-addresses": "127.0.0.1", "metrics-listen-address": "127.0.0.1"}
    if app is not None:
        local |= {"app-port": str(app.port)}
    with Ports() as ports:
        flags |= {f"{use}-port": ports.take() for use in ("dapr-http", "dapr-grpc", "dapr-internal-grpc", "metrics")}
        command = [str(program("daprd")), *(f"--{flag}={value}" for flag, value in {**flags, **local}.items())]
        with (
            running(command, log, env=os.environ | {"DAPR_HOST_IP": "127.0.0.1"}) as process,
            httpx2.Client(base_url=f"http://127.0.0.1:{flags['dapr-http-port']}", timeout=60) as client,
        ):
            yield Sidecar(process, client, log)


def ready(sidecar: Sidecar) -> Sidecar:
    def healthy() -> bool:
        assert sidecar.process.poll() is None, sidecar.log.read_text()[-3000:]
        with suppress(httpx2.TransportError):
            return sidecar.http.get("/v1.0/healthz/outbound").status_code == 204
        return False

    eventually("daprd", healthy)
    return sidecar


SUBSCRIPTION = {
    "apiVersion": "dapr.io/v2alpha1",
    "kind": "Subscription",
    "metadata": {"name": "kitchen"},
    "spec": {"pubsubname": "pubsub", "topic": TOPIC, "routes": {"default": "/events"}},
    "scopes": ["kitchen"],
}
# Redelivery after a crash takes as long as the sets say; the mechanism is the same with shorter times.
SHORT = {"ackWait": "2s", "processingTimeout": "2s", "redeliverInterval": "500"}


def shortened(component: dict[str, Any]) -> dict[str, Any]:
    settings = component["spec"]["metadata"]
    changed = [{**item, "value": SHORT.get(item["name"], item["value"])} for item in settings]
    return {**component, "spec": {**component["spec"], "metadata": changed}}


@pytest.mark.parametrize("name", ["nats", "redis", "rabbitmq", "kafka"])
async def test_a_broker_loses_nothing_when_the_consuming_sidecar_is_killed(
    name: str, request: pytest.FixtureRequest, folder: Path, app: App
) -> None:
    with ExitStack() as producing:
        if name == "redis":  # with a password that must be quoted
            values = producing.enter_context(redis(folder))
        else:
            values = dict(values_of(name, request.getfixturevalue(name)))
        if name == "nats":
            await ensure_streams(values["NATS_URL"], [TOPIC])
        if name == "kafka":
            await asyncio.to_thread(ensure_topics, f"kafka://{values['KAFKA_BROKERS']}", [TOPIC])
        resources = [*map(shortened, render(SETS / name, values)), SUBSCRIPTION]
        with daprd("kitchen", resources, folder, app) as sidecar:
            eventually("the subscription", ready(sidecar).subscribed)
            producer = ready(producing.enter_context(daprd("orders", resources, folder)))
            producer.publish("first")
            assert app.received() == "first"
            app.may_answer.clear()
            producer.publish("in flight")
            assert app.received() == "in flight"
            sidecar.process.kill()
        producer.publish("while it is away")
        app.may_answer.set()
        with daprd("kitchen", resources, folder, app) as sidecar:
            ready(sidecar)
            due = {"in flight", "while it is away"}
            while due:  # Kafka redelivers "first", too: daprd commits only once a second
                due.discard(app.received())


async def test_changed_settings_reach_an_existing_consumer(folder: Path, app: App) -> None:
    with nats(folder) as values:
        for components in (render(SETS / "nats", values), [*map(shortened, render(SETS / "nats", values))]):
            await ensure_streams(values["NATS_URL"], [TOPIC], component=components[0])
            with daprd("kitchen", [*components, SUBSCRIPTION], folder, app) as sidecar:
                eventually("the subscription", ready(sidecar).subscribed)
                sidecar.publish("received")
                assert app.received() == "received"


class Guarantees(NamedTuple):
    """Guarantees of a store's transactions: atomicity, and 'insert if absent' (first-write without an etag)."""

    all_or_nothing: bool
    insert_if_absent: bool


STORES = [
    pytest.param("state-sqlite", sqlite, Guarantees(True, True), id="sqlite"),
    pytest.param("state-postgres", postgres, Guarantees(True, True), id="postgres"),
    # Known and said in components/README.md. If this fails, Redis has become fit for an outbox: tell its readers.
    pytest.param("state-redis", redis, Guarantees(False, False), id="redis"),
]


def upsert(key: str, value: str, **more: Any) -> dict[str, Any]:
    return {"operation": "upsert", "request": {"key": key, "value": value, **more}}


@pytest.mark.parametrize(("name", "server", "keeps"), STORES)
def test_what_a_state_set_keeps(name: str, server: Callable[[Path], Any], keeps: Guarantees, folder: Path) -> None:
    first_write = {"options": {"concurrency": "first-write"}}
    with server(folder) as values, daprd("orders", render(SETS / name, values, ["orders"]), folder) as sidecar:
        ready(sidecar)
        assert sidecar.transaction(upsert("order", "placed"), upsert("inbox", "1", **first_write)) == 204
        etag = sidecar.get("order").headers["etag"]
        assert sidecar.transaction(upsert("order", "confirmed", etag=etag, **first_write)) == 204

        stale = upsert("order", "cancelled", etag=etag, **first_write)
        assert sidecar.transaction(upsert("outbox", "event"), stale) >= 400
        assert sidecar.get("order").json() == "confirmed"
        assert (sidecar.get("outbox").status_code == 204) is keeps.all_or_nothing

        again = sidecar.transaction(upsert("inbox", "2", **first_write), upsert("effect", "twice"))
        assert (again >= 400) is keeps.insert_if_absent
        assert (sidecar.get("effect").status_code == 204) is keeps.insert_if_absent

        assert sidecar.insert("document", "mine") == 204
        assert sidecar.insert("document", "theirs") >= 400
        assert sidecar.get("document").json() == "mine"

        for key, seconds in (("lasting", "600"), ("marker", "1")):
            assert sidecar.transaction(upsert(key, "here", metadata={"ttlInSeconds": seconds})) == 204
        eventually("expiry", lambda: sidecar.get("marker").status_code == 204)
        assert sidecar.get("lasting").json() == "here"
        assert sidecar.transaction(upsert("marker", "anew", **first_write)) == 204
