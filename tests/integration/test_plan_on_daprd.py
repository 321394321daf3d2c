"""The rendered plan on a real daprd: it loads, it subscribes, and events follow the planned routes."""

import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from tests.support.contracts import one_event

from tidings.consume import bulk
from tidings.conventions import IGNORED_PATH, event_path
from tidings_cli.programs import ensure
from tidings_cli.testing.programs import Ports
from tidings_plan import AppPlan, plan
from tidings_plan import cel as checker
from tidings_plan.resources import Inventory, parse_resource

pytestmark = pytest.mark.real

APP = "reader"
PHASES = (Phase.explicit, Phase.generate)  # shrinking would start hundreds of sidecars
COMPONENT = {
    "apiVersion": "dapr.io/v1alpha1",
    "kind": "Component",
    "metadata": {"name": "pubsub"},
    "spec": {"type": "pubsub.in-memory", "version": "v1", "metadata": []},
}


@pytest.fixture(scope="module")
def daprd() -> Path:
    return ensure("daprd", report=print)["daprd"]


class App:
    """A tiny app: remembers the path that each event id came to, and answers each entry of a delivery."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = {}
        app = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                entries = bulk.entries(body) or []
                for event in [json.loads(entry.body) for entry in entries] or [json.loads(body)]:
                    app.seen.setdefault(event["id"], []).append(self.path)
                self._answer(200, bulk.answer(entries, [b'{"status":"SUCCESS"}'] * len(entries)) if entries else b"")

            def do_GET(self) -> None:
                self._answer(404, b"")

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Keep the test's output clean."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]


@contextmanager
def running_app() -> Iterator[App]:
    app = App()
    thread = threading.Thread(target=app.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield app
    finally:
        app.server.shutdown()
        app.server.server_close()
        thread.join()


@contextmanager
def sidecar(daprd: Path, folder: Path, app_port: int, patience: float = 120) -> Iterator[httpx2.Client]:
    """Run daprd on a folder of resources; ends in an assertion with its log if it does not come up."""
    log = folder.parent / f"{folder.name}.log"
    with Ports() as ports, log.open("w") as output:
        http, grpc, internal, metrics = (ports.take() for _ in range(4))
        command = [
            *(daprd, "--app-id", APP, "--app-port", app_port, "--app-protocol", "http", "--resources-path", folder),
            *("--dapr-http-port", http, "--dapr-grpc-port", grpc, "--dapr-internal-grpc-port", internal),
            *("--dapr-listen-addresses", "127.0.0.1", "--metrics-port", metrics),
            *("--metrics-listen-address", "127.0.0.1", "--log-level", "info"),
        ]
        process = subprocess.Popen(
            [str(part) for part in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "DAPR_HOST_IP": "127.0.0.1"},
        )
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{http}", timeout=60) as client:
                _await_ready(process, client, log, patience)
                yield client
        finally:
            process.kill()
            process.wait()


def _await_ready(process: subprocess.Popen[bytes], client: httpx2.Client, log: Path, patience: float) -> None:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        assert process.poll() is None, f"daprd died:\n{_complaints(log)}"
        try:
            if client.get("/v1.0/healthz/outbound").status_code == 204 and _subscriptions(client) is not None:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    pytest.fail(f"daprd is not ready:\n{_complaints(log)}")


def _complaints(log: Path) -> str:
    lines = [line for line in log.read_text().splitlines() if "level=info" not in line]
    return "\n".join(lines[-20:])


def _subscriptions(client: httpx2.Client) -> list[dict[str, Any]] | None:
    result: list[dict[str, Any]] | None = client.get("/v1.0/metadata").json().get("subscriptions")
    return result


def loaded(client: httpx2.Client, topics: set[str]) -> dict[str, dict[str, Any]]:
    """Wait until daprd has loaded the subscriptions to these topics, one after the other; return all by topic."""
    end = time.monotonic() + 120
    while True:
        live = {item["topic"]: item for item in _subscriptions(client) or []}
        if live.keys() >= topics:
            return live
        assert time.monotonic() < end, f"not loaded: {topics - live.keys()}"
        time.sleep(0.05)


def write(folder: Path, planned: AppPlan) -> None:
    folder.mkdir()
    resources = [COMPONENT, *planned.subscriptions, planned.resiliency]
    for place, resource in enumerate(resources):
        (folder / f"{place}.yaml").write_text(yaml.safe_dump(resource, allow_unicode=True))


def inventory_of(specs: dict[str, dict[str, Any]]) -> Inventory:
    """Build an inventory of one event type per subscription, so that each has a topic of its own."""
    inventory = Inventory()
    for name, spec in specs.items():
        event_type = {
            "apiVersion": "tidings.dev/v1alpha1",
            "kind": "EventType",
            "metadata": {"name": name},
            "spec": {
                "type": f"fuzz.{name}Seen",
                "owner": {"team": "fuzz"},
                "producers": ["writer"],
                "versions": [{"name": "v1"}],
            },
        }
        subscription = {
            "apiVersion": "tidings.dev/v1alpha1",
            "kind": "EventSubscription",
            "metadata": {"name": name},
            "spec": one_event({"type": f"fuzz.{name}Seen", "versions": ["v1"], "consumer": {"appId": APP}, **spec}),
        }
        for document in (event_type, subscription):
            resource, findings = parse_resource(document)
            assert resource is not None, findings
            inventory.put(resource)
    return inventory


attributes = st.sampled_from(["subject", "type", "data.total", "data.channel", "data.customer.country", "data.a-b"])
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8) | st.sampled_from(
    ["web", "DE", 'quo"te', "back\\slash", "new\nline", "tab\t", "'", "${x}", "\u2028", "\U0001f355", "\x7f"]
)
scalars = texts | st.integers(-(2**53), 2**53) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
leaves = (
    st.builds(lambda key, value: {"exact": {key: value}}, attributes, scalars)
    | st.builds(lambda key, value: {"prefix": {key: value}}, attributes, texts)
    | st.builds(lambda key, value: {"suffix": {key: value}}, attributes, texts)
    | st.sampled_from(
        [
            {"cel": "has(event.data.total) && event.data.total > 20"},
            {"cel": "has(event.data.items) && event.data.items.exists(item, has(item.count) && item.count > 1)"},
            {"cel": "has(event.subject) && event.subject.matches('^1.*')"},
            {"cel": "!has(event.data.channel) || event.data.channel in ['web', 'phone']"},
            {"cel": "size(event.id) > 0 // a comment"},
        ]
    )
)
conditions = st.recursive(
    leaves,
    lambda inner: (
        st.builds(lambda item: {"not": item}, inner)
        | st.builds(lambda item: {"all": item}, st.lists(inner, min_size=1, max_size=3))
        | st.builds(lambda item: {"any": item}, st.lists(inner, min_size=1, max_size=3))
    ),
    max_leaves=5,
)
retries = st.fixed_dictionaries(
    {
        "policy": st.sampled_from(["Constant", "Exponential"]),
        "duration": st.sampled_from(["500ms", "1.5s", "1m30s"]),
        "maxInterval": st.sampled_from(["10s", "2h"]),
        "maxRetries": st.integers(0, 500),
    }
)
breaker = {"timeout": "5s", "interval": "1m", "trip": "consecutiveFailures > 3 && requests > 10"}
deliveries = st.fixed_dictionaries(
    {"retry": retries, "timeout": st.sampled_from(["100ms", "30s", "1h"])},
    optional={"circuitBreaker": st.just(breaker)},
)
specs = st.fixed_dictionaries(
    {"filters": st.lists(conditions, max_size=3), "delivery": deliveries, "enforcement": st.just("BestEffort")},
    optional={
        "routes": st.fixed_dictionaries(
            {}, optional={"default": st.just("/mine"), "rules": st.just([{"match": "event.id != ''", "path": "/id"}])}
        ),
        "bulk": st.just({"maxMessages": 10, "maxAwait": "20ms"}),
        "source": st.just({}),
    },
)
orders = st.fixed_dictionaries(
    {},
    optional={
        "total": st.integers(0, 40) | st.floats(0, 40) | texts,
        "channel": st.sampled_from(["web", "phone", "shop"]),
        "customer": st.fixed_dictionaries({}, optional={"country": st.sampled_from(["DE", "AT"]) | texts}),
        "a-b": scalars,
        "items": st.lists(st.fixed_dictionaries({}, optional={"count": st.integers(0, 3)}), max_size=2),
    },
)
folders = itertools.count()


@given(st.booleans(), st.lists(specs, min_size=30, max_size=60))
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
def test_daprd_loads_and_subscribes_to_every_planned_resource(
    daprd: Path,
    tmp_path_factory: pytest.TempPathFactory,
    kit: bool,
    drawn: list[dict[str, Any]],
) -> None:
    named = {f"e{place}": {**item, "consumer": {"appId": APP, "kit": kit}} for place, item in enumerate(drawn)}
    inventory = inventory_of(named)
    planned = plan(inventory)
    app = planned.apps[APP]
    errors = [finding for finding in planned.findings if finding.severity == "error"]
    assume(not any("it may cost" in finding.message for finding in errors))  # drawn filters may be too expensive
    assert not errors
    folder = tmp_path_factory.mktemp("fuzz") / str(next(folders))
    write(folder, app)
    with running_app() as served, sidecar(daprd, folder, served.port) as client:
        live = loaded(client, set(app.reads["pubsub"]))
    assert set(live) == set(app.reads["pubsub"])
    for subscription in app.subscriptions:
        spec = subscription["spec"]
        published = [(rule.get("match", ""), rule["path"]) for rule in live[spec["topic"]]["rules"]]
        rules = [(rule["match"], rule["path"]) for rule in spec["routes"].get("rules", [])]
        assert published == [*rules, ("", spec["routes"]["default"])]
        assert live[spec["topic"]]["deadLetterTopic"] == spec["deadLetterTopic"]
    assert "Could not read" not in (folder.parent / f"{folder.name}.log").read_text(), "a Resiliency was refused"


@given(st.lists(st.tuples(conditions, st.lists(orders, min_size=1, max_size=4)), min_size=20, max_size=40))
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
def test_daprd_routes_events_as_the_filters_mean(
    daprd: Path, tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[dict[str, Any], list[dict[str, Any]]]]
) -> None:
    inventory = inventory_of({f"e{place}": {"filters": [item]} for place, (item, _) in enumerate(drawn)})
    app = plan(inventory).apps[APP]
    by_topic = {subscription["spec"]["topic"]: subscription["spec"]["routes"] for subscription in app.subscriptions}
    folder = tmp_path_factory.mktemp("routes") / str(next(folders))
    write(folder, app)
    expected: dict[str, list[str]] = {}
    with running_app() as served, sidecar(daprd, folder, served.port) as client:
        _await_subscribed(served, client, list(by_topic))
        for place, (_, data) in enumerate(drawn):
            topic = f"fuzz.e{place}Seen.v1"
            for number, order in enumerate(data):
                event = _event(f"{place}-{number}", topic, order)
                _publish(client, topic, event)
                matched = checker.evaluate(by_topic[topic]["rules"][0]["match"], event)
                if isinstance(matched, bool):  # else it fails to evaluate: daprd dead-letters it
                    expected[event["id"]] = [event_path(topic) if matched else IGNORED_PATH]
        end = time.monotonic() + 120
        while not served.seen.keys() >= expected.keys() and time.monotonic() < end:
            time.sleep(0.02)
    assert {number: paths for number, paths in served.seen.items() if number not in by_topic} == expected


def _publish(client: httpx2.Client, topic: str, event: dict[str, Any]) -> None:
    headers = {"content-type": "application/cloudevents+json"}
    client.post(f"/v1.0/publish/pubsub/{topic}", content=json.dumps(event), headers=headers).raise_for_status()


def _await_subscribed(served: App, client: httpx2.Client, topics: list[str]) -> None:
    """Wait until an event comes through on every topic: the in-memory broker keeps none for who is not there yet."""
    end = time.monotonic() + 120
    while missing := [topic for topic in topics if topic not in served.seen]:
        assert time.monotonic() < end, f"nothing comes through on {missing}"
        for topic in missing:
            _publish(client, topic, _event(topic, topic, {}))
        time.sleep(0.1)


atoms = st.sampled_from(
    [
        *("event", "event.type", "event.data.total", "event['a-b']", "event.data.items[0]", "other", "event.in", "_x"),
        *("1", "-1", "1u", "2.5", "1e3", "0x1F", "'a'", '"b"', "b'a'", "r'\\d'", "true", "false", "null", "''"),
        *(
            "9223372036854775808",
            "'\\u00e9'",
            "'\\x41'",
            "'\\q'",
            "[]",
            "{}",
            "duration('5m')",
            "type(1)",
            "int",
            "map",
        ),
        *("'''multi\nline'''", "google.protobuf.Duration{}", "google.rpc.Status{}", "event.`a`", "event.?a", "dyn(1)"),
    ]
)


def _combined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    operators = ["==", "!=", "<", ">=", "&&", "||", "+", "-", "*", "/", "%", "in", "=", "and"]
    methods = ["startsWith", "matches", "contains", "size", "getHours", "lowerAscii", "format", "exists", "nope"]
    functions = [
        "size",
        "string",
        "int",
        "double",
        "timestamp",
        "duration",
        "bool",
        "type",
        "dyn",
        "has",
        "abs",
        "nope",
        "_in_",
    ]
    macros = ["exists", "all", "exists_one", "map", "filter", "existsOne", "sortBy"]
    return st.one_of(
        st.builds("{} {} {}".format, inner, st.sampled_from(operators), inner),
        st.builds("({}) {} ({})".format, inner, st.sampled_from(operators), inner),
        st.builds("!({})".format, inner),
        st.builds("{}({})".format, st.sampled_from(functions), inner),
        st.builds("{}.{}({})".format, inner, st.sampled_from(methods), inner),
        st.builds("{}.{}(x, {})".format, inner, st.sampled_from(macros), inner.map(lambda item: f"x == {item}")),
        st.builds("{} ? {} : {}".format, inner, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{'k': {}, {}: 1}}".format, inner, inner),
        st.builds("has({}.field)".format, inner),
        st.builds("{} // {}".format, inner, inner),
    )


@given(st.lists(st.recursive(atoms, _combined, max_leaves=6), min_size=200, max_size=600, unique=True))
@settings(max_examples=6, deadline=None, suppress_health_check=list(HealthCheck), phases=PHASES)
def test_daprd_accepts_all_accepted_cel(
    daprd: Path, tmp_path_factory: pytest.TempPathFactory, drawn: list[str]
) -> None:
    accepted = [item for item in drawn if checker.check(item) is None]
    app = plan(inventory_of({"e0": {}})).apps[APP]
    routes = app.subscriptions[0]["spec"]["routes"]
    routes["rules"] = [{"match": item, "path": f"/{place}"} for place, item in enumerate(accepted)]
    folder = tmp_path_factory.mktemp("cel") / str(next(folders))
    write(folder, app)
    with running_app() as served, sidecar(daprd, folder, served.port) as client:
        live = loaded(client, {"fuzz.e0Seen.v1"})
    assert len(live["fuzz.e0Seen.v1"]["rules"]) == len(accepted) + 1


def _event(number: str, topic: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return an event in the form that daprd routes: it went through JSON once."""
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": number,
        "source": "fuzz",
        "type": topic.removesuffix(".v1"),
        "version": "1",
        "subject": number,
        "datacontenttype": "application/json",
        "data": data,
    }
    return event


@pytest.mark.parametrize(
    "expression",
    [
        "event.type ==",
        "(event.id",
        "event.id = '1'",
        "1 + 'a' == 2",
        "event.`a-b` == 1",
        "'\\/' == event.id",
        "size(1) == 1",
    ],
)
def test_what_kills_daprd_is_refused(daprd: Path, tmp_path: Path, expression: str) -> None:
    """The reason for all the checking: daprd does not survive these, and we never let one through."""
    assert checker.check(expression) is not None
    app = plan(inventory_of({"e0": {}})).apps[APP]
    app.subscriptions[0]["spec"]["routes"]["rules"] = [{"match": expression, "path": "/x"}]
    write(tmp_path / "resources", app)
    with (
        running_app() as served,
        pytest.raises(AssertionError, match="daprd died"),
        sidecar(daprd, tmp_path / "resources", served.port),
    ):
        pass


@pytest.mark.parametrize("expression", ["lower(event.type) == 'x'", "_in_(event.type, event.data)"])
def test_what_hangs_daprd_is_refused(daprd: Path, tmp_path: Path, expression: str) -> None:
    """daprd takes an unknown function for a variable it has to declare, and compiles again, for ever."""
    assert checker.check(expression) is not None
    app = plan(inventory_of({"e0": {}})).apps[APP]
    app.subscriptions[0]["spec"]["routes"]["rules"] = [{"match": expression, "path": "/x"}]
    write(tmp_path / "resources", app)
    with (
        running_app() as served,
        pytest.raises(pytest.fail.Exception, match="daprd is not ready"),
        sidecar(daprd, tmp_path / "resources", served.port, patience=3),
    ):
        pass
