"""The order flow through ten services and their sidecars, at rising rates: duration of each leg, and CPU breakdown.

Orders are placed at an even pace, independent of the responses. A leg lasts from one fact to the next by the times of
the events: from the unit of work that records the first fact, through publishing, broker and delivery, to the start of
the handler that records the second one. A rate counts every event of the orders in the archive.

No client requests the state of an order during the measurement, because that would cause work of its own.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import psutil
from rounds import Section, p99, short

from tidings_cli.up.run import Run, running
from tidings_cli.up.system import Options
from tidings_plan.resources import contracts_folders

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from scenarios.ordering import LEGS, NotSettled, an_order, counts, difference, follow, legs, menu, place  # noqa: E402

PACE = {"KITCHEN_PACE": "0", "PICKUP_PACE": "0", "DELIVERY_PACE": "0"}
RATES = (50, 100, 150, 200, 300, 400, 600, 1_000)
SECONDS, WARM, RESTING = 15.0, 60, 5.0
BAR = 0.050
SETTINGS = (
    "ten services, ten sidecars, both simulators, NATS JetStream (file storage, flushed every 2 min) and the client on "
    "one machine; daprd's SQLite state stores in WAL mode as daprd opens them, the tables of payments and archive with "
    "synchronous=FULL; simulated staff and ovens take no time"
)


NOTHING = """\
import json

delivered = 0


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    body, more = b"", True
    while more:
        part = await receive()
        body, more = body + part.get("body", b""), part.get("more_body", False)
    status, answer = answered(scope, body)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


def answered(scope, body):
    global delivered
    if scope["path"].startswith("/dapr/"):
        return 404, {}
    if scope["method"] != "POST":
        return 200, {"isOther": True, "delivered": delivered}
    entries = json.loads(body)["entries"]
    delivered += len(entries)
    return 200, {"statuses": [{"entryId": each["entryId"], "status": "SUCCESS"} for each in entries]}
"""
USUAL = """\
import base64
import json
from typing import Any

from dapr.clients import DaprClient
from dapr.clients.grpc._state import Concurrency, StateOptions
from fastapi import FastAPI
from grpc import RpcError
from pydantic import BaseModel

app = FastAPI()
client = DaprClient()
delivered = 0


class Event(BaseModel):
    id: str
    source: str
    type: str
    topic: str = ""
    subject: str = ""
    data: dict[str, Any]


class Entry(BaseModel):
    entryId: str
    event: Any


class Bulk(BaseModel):
    entries: list[Entry]


@app.get("/healthz")
@app.get("/readyz")
@app.get("/deliveries")
def deliveries():
    return {"isOther": True, "delivered": delivered}


@app.post("/publish/{topic}")
def publish(topic: str, event: dict[str, Any]):
    client.publish_event("pubsub", topic, json.dumps(event), data_content_type="application/cloudevents+json")


@app.post("/events/{topic}")
def handle(topic: str, bulk: Bulk):
    global delivered
    for entry in bulk.entries:
        raw = base64.b64decode(entry.event) if isinstance(entry.event, str) else json.dumps(entry.event)
        while not saved(Event.model_validate_json(raw)):
            pass
        delivered += 1
    return {"statuses": [{"entryId": entry.entryId, "status": "SUCCESS"} for entry in bulk.entries]}


def saved(event):
    key = event.subject or event.id
    stored = client.get_state("state", key)
    document = json.loads(stored.data) if stored.data else {"handled": [], "events": []}
    if event.id in document["handled"]:
        return True
    document["handled"].append(event.id)
    document["events"].append(event.model_dump())
    options = StateOptions(concurrency=Concurrency.first_write)
    try:
        client.save_state("state", key, json.dumps(document), etag=stored.etag or None, options=options)
    except RpcError:  # another delivery has written it first
        return False
    return True
"""
FLOOR = """\
The floor: the same events on the same topics to the same consumers, but ten services that acknowledge every delivery
immediately and neither read, write nor publish. This is the cost of daprd, NATS and HTTP. At {rate:,.0f} events/s, the
highest rate above, an event costs **{floor:.2f} ms of CPU** and is delivered {deliveries:.1f} times. The whole order
flow takes **{ratio:.1f} times** as much there.
"""
THE_USUAL_WAY = """\
The usual way: the same events at {rate:,.0f} events/s, published and read by ten services of FastAPI, pydantic and
`DaprClient` with its synchronous calls. A handler reads the document of the event's subject, adds the event and its id,
and saves it under its etag. There is no outbox (Dapr's own one sleeps for a second per event), no dead letter with a
reason, no archive, no e-mail and no business logic. An event costs **{usual:.2f} ms of CPU** and is handled
{deliveries:.1f} times; that is **{ratio:.1f} times** what it costs in the whole order flow at this rate."""
PROFILE = """\
Profile at 100 events/s (2026-11-29, two rounds of both sides in turn, other programs running on the machine):

| CPU per event, ms | services | sidecars | NATS | client | all |
|---|---|---|---|---|---|
| `grpc.aio`, archive without interval | 8.4 to 9.4 | 4.0 to 4.5 | 1.6 | 0.2 | 14.2 to 15.7 |
| own gRPC channel, marks of personal data looked up, archive every 30 ms | 6.3 to 6.6 | 4.1 to 4.2 | 1.6 to 1.9 | 0.2 \
| 12.2 to 12.8 |

Sidecars, NATS and client take 6 ms without any Python, so 6 ms per event need fewer calls to the sidecar per event
(about six today: read and write per delivery, publish, removal of slots). The Python time of tracking, by py-spy:
calls to the sidecar 30%, marks of personal data in its documents 15%, HTTP server and guard 15%, the rest is decoding,
merging, encoding, and the event loop. The SDK's part without handlers is 170 µs for reading a document, writing two
keys and publishing an event (560 µs with `grpc.aio`); daprd takes another 500 µs. Notifications and the simulated mail
server take 1.4 ms per event; composing e-mails and handing them over is a third of the Python time of notifications."""


@dataclass(frozen=True, slots=True)
class Step:
    """One rate."""

    asked: float
    came: float
    """Events a second from the first order to the last event."""
    legs: Mapping[tuple[str, str], list[float]]
    cpu: Mapping[str, float]
    """Seconds of CPU by process."""
    events: int
    seconds: float
    unfinished: str = ""

    @property
    def per_event(self) -> float:
        """Seconds of CPU."""
        return sum(self.cpu.values()) / max(self.events, 1)

    @property
    def worst(self) -> float:
        return float("inf") if self.unfinished else max(map(p99, self.legs.values()))


def used(run: Run) -> dict[str, float]:
    """Return the CPU seconds of all processes so far."""
    by_process = {"client": _cpu(psutil.Process())}
    for process in run.state.processes:
        if process.process is not None:
            by_process[process.name] = _cpu(psutil.Process(process.process.pid))
    return by_process


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def step(run: Run, client: httpx2.AsyncClient, rate: float, per_order: float, skus: Mapping[str, int]) -> Step:
    """Place orders at a rate of events per second, and measure their legs once no more events arrive."""
    before, busy, began = await counts(client, run.url), used(run), time.perf_counter()
    ids = await paced(client, run, rate / per_order, skus)
    events, ended = await quiet(client, run, before)
    seconds = ended - began
    cpu = {name: spent - busy.get(name, 0.0) for name, spent in used(run).items()}
    try:
        tracked, problem = await follow(client, run.url, ids, patience=SECONDS), ""
    except NotSettled as error:
        tracked, problem = {}, str(error)
    whole = {leg: values for leg, values in legs(tracked.values()).items() if leg != LEGS[-1] and len(values) > 1}
    return Step(rate, events / seconds, whole, cpu, events, seconds, problem)


async def quiet(client: httpx2.AsyncClient, run: Run, before: Mapping[str, int]) -> tuple[int, float]:
    """Wait until no event has arrived for two seconds; return their number and the time of the last one."""
    came, last = -1, time.perf_counter()
    while time.perf_counter() - last < 2:
        count = sum(difference(before, await counts(client, run.url)).values())
        if count != came:
            came, last = count, time.perf_counter()
        await asyncio.sleep(0.5)
    return came, last


async def paced(client: httpx2.AsyncClient, run: Run, orders_per_second: float, skus: Mapping[str, int]) -> list[str]:
    """Place orders at a fixed rate, independent of their duration; return their ids."""
    chance, loop = random.Random(7), asyncio.get_running_loop()
    began, count = loop.time(), max(int(orders_per_second * SECONDS), 2)

    async def one(number: int) -> str:
        await asyncio.sleep(began + number / orders_per_second - loop.time())
        answer = await client.post(f"{run.url('orders')}/orders", json=an_order(number, skus, chance))
        return str(answer.raise_for_status().json()["orderId"])

    return list(await asyncio.gather(*(one(number) for number in range(count))))


OrderEvents = list[Mapping[str, Any]]
"""The archived events of one order, oldest first."""


async def events_of(client: httpx2.AsyncClient, run: Run, order: str) -> OrderEvents:
    """Return the events of an order."""
    answer = await client.get(f"{run.url('archive')}/events", params={"correlationId": order, "limit": 100})
    latest_first: OrderEvents = answer.raise_for_status().json()["events"]
    return latest_first[::-1]


def with_code(folder: Path, code: str) -> Path:
    """Create a project with the contracts of all services, but with other code; return its folder."""
    contracts = {path.parent.name: path for path in contracts_folders(ROOT)}
    for name, path in contracts.items():
        shutil.copytree(path, folder / "services" / name / "contracts")
        package = folder / "services" / name / "src" / name
        package.mkdir(parents=True)
        # Without it this is a namespace package, and the installed service of that name would win over it.
        (package / "__init__.py").touch()
        (package / "main.py").write_text(code)
    services = [{"name": name, "port": 8001 + number} for number, name in enumerate(contracts)]
    about = {"name": "nothing", "folders": ["services/*"], "components": str(ROOT / "components"), "open": "orders"}
    (folder / "tidings.yaml").write_text(json.dumps({**about, "services": services}))
    return folder


@dataclass(frozen=True, slots=True)
class Cost:
    """What an event costs with other services."""

    cpu: float
    """Seconds of CPU per event."""
    deliveries: float
    """Per event."""


async def cost(folder: Path, code: str, orders: Sequence[OrderEvents], rate: float) -> Cost:
    """Measure an event's cost with other code in all services: the events of orders are published at a fixed rate.

    Services with a path `/publish/` publish their events themselves; for the others, their sidecars are called.
    """
    options = Options(free_ports=True, run_dir=folder / "run")
    async with (
        running(with_code(folder, code), options) as system,
        httpx2.AsyncClient(
            timeout=60, trust_env=False, headers={"dapr-api-token": system.state.dapr_api_token}
        ) as client,
    ):
        events = [event for number in range(int(rate * SECONDS)) for event in orders[number % len(orders)]]
        events = events[: int(rate * SECONDS)]
        await asyncio.sleep(RESTING)  # after the start
        already = await delivered(client, system)
        rest = total(system)
        await asyncio.sleep(RESTING)
        loop, busy = asyncio.get_running_loop(), total(system)
        resting = (busy - rest) / RESTING
        began = loop.time()
        path, app = ("/publish/", "") if "/publish/" in code else ("/v1.0/publish/pubsub/", ".daprd")

        async def one(number: int, event: Mapping[str, Any]) -> None:
            await asyncio.sleep(began + number / rate - loop.time())
            where = f"{system.url(event['source'] + app)}{path}{event['topic']}"
            subject = f"{number // 20}-{event.get('subject', '')}"  # every order has its own documents
            sent = {**event, "id": f"{number}-{event['id']}", "subject": subject}
            headers = {"content-type": "application/cloudevents+json" if app else "application/json"}
            (await client.post(where, content=json.dumps(sent), headers=headers)).raise_for_status()

        await asyncio.gather(*(one(number, event) for number, event in enumerate(events)))
        await asyncio.sleep(RESTING)  # the last are on their way
        spent = total(system) - busy - resting * (loop.time() - began)
        came = await delivered(client, system) - already
    if came < len(events):  # the archive alone reads each of them
        raise RuntimeError(f"the other services got {came} deliveries of {len(events)} events")
    return Cost(spent / len(events), came / len(events))


async def delivered(client: httpx2.AsyncClient, run: Run) -> int:
    """Return how many events the other services were given.

    Raises:
        RuntimeError: Another service answers in the place of one of them.

    """
    count = 0
    for each in run.state.processes:
        if each.role == "service":
            answer = (await client.get(f"{run.url(each.name)}/deliveries")).json()
            if not answer.get("isOther"):
                raise RuntimeError(f"{each.name} is not the other service: {answer}")
            count += answer["delivered"]
    return count


def total(run: Run) -> float:
    """Return the CPU seconds of all processes except this one so far."""
    return sum(spent for name, spent in used(run).items() if name != "client")


async def run() -> list[Section]:
    """Increase the load until two consecutive steps exceed the limit by far; then measure without handlers."""
    with tempfile.TemporaryDirectory() as folder:
        options = Options(free_ports=True, environment=PACE, run_dir=Path(folder) / "run")
        limits = httpx2.Limits(max_connections=100)
        async with (
            running(ROOT, options) as system,
            httpx2.AsyncClient(timeout=60, trust_env=False, limits=limits) as client,
        ):
            skus, before = await menu(client, system.url), await counts(client, system.url)
            burst = await place(client, system.url, WARM, concurrency=4, declined_every=0)
            await follow(client, system.url, burst.ids, patience=120)
            await asyncio.sleep(3)  # settlement and points follow the completion
            examples = [await events_of(client, system, order) for order in burst.ids[:2]]
            per_order = sum(difference(before, await counts(client, system.url)).values()) / WARM
            steps: list[Step] = []
            for rate in RATES:
                steps.append(await step(system, client, rate, per_order, skus))
                print(line(steps[-1]), flush=True)
                if len(steps) > 1 and all(step.worst > 10 * BAR for step in steps[-2:]):
                    break
        bare = await cost(Path(folder) / "nothing", NOTHING, examples, steps[-1].asked)
        usual = await cost(Path(folder) / "usual", USUAL, examples, RATES[0])
        return [Section("The whole order flow", text(steps, per_order, bare, usual))]


def best(steps: Sequence[Step]) -> Step:
    """Return the highest rate within the limit, else the lowest rate."""
    return next((candidate for candidate in reversed(steps) if candidate.worst <= BAR), steps[0])


def line(step: Step) -> str:
    """Return a row of the table of rates."""
    worst = "not all orders came to an end" if step.unfinished else f"{step.worst * 1000:,.0f} ms"
    middle = max(map(statistics.median, step.legs.values()), default=float("nan")) * 1000
    busy = sum(step.cpu.values())
    cells = (
        f"{step.asked:,.0f}",
        f"{step.came:,.0f}",
        f"{middle:,.0f} ms",
        worst,
        "yes" if step.worst <= BAR else "**no**",
        f"{busy / step.seconds:.2f}",
        f"{busy / max(step.events, 1) * 1000:.2f} ms",
    )
    return f"| {' | '.join(cells)} |"


def text(steps: list[Step], per_order: float, bare: Cost, usual: Cost) -> str:
    """Return the section of the page; `bare` is an event's cost without handlers, `usual` that of other ones."""
    shown = best(steps)
    highest = (
        f"{shown.asked:,.0f} events/s" if shown.worst <= BAR else f"none of these, not even {shown.asked:,.0f} events/s"
    )
    bar = f"1,000 events/s on two cores with p99 of every leg at most {BAR * 1000:.0f} ms"
    whole = "At 1,000 events/s, two cores have 2 ms per event for everything."
    slowest = ("p50 of the slowest leg", "p99 of the slowest leg")
    parts = (
        f"An order is {per_order:.1f} events. Target: {bar}. Highest rate that meets it: **{highest}**. {SETTINGS}.",
        table(("events/s requested", "reached", *slowest, "met", "cores busy", "CPU per event"), map(line, steps)),
        f"Each leg at {shown.asked:,.0f} events/s:",
        table(("from", "to", "orders", "p50", "p99"), (_leg(leg, values) for leg, values in shown.legs.items())),
        f"CPU per event by process at {shown.asked:,.0f} events/s. {whole}",
        table(("process", "CPU per event", "share"), _cpu_rows(shown)),
        FLOOR.format(
            rate=steps[-1].asked,
            floor=bare.cpu * 1000,
            deliveries=bare.deliveries,
            ratio=steps[-1].per_event / bare.cpu,
        ),
        THE_USUAL_WAY.format(
            rate=RATES[0], usual=usual.cpu * 1000, deliveries=usual.deliveries, ratio=usual.cpu / steps[0].per_event
        ),
        PROFILE,
    )
    return "\n\n".join(parts)


def table(header: Sequence[str], rows: Iterable[str]) -> str:
    return "\n".join((f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *rows))


def _leg(leg: tuple[str, str], values: list[float]) -> str:
    middle, high = (short(1000 * seconds) for seconds in (statistics.median(values), p99(values)))
    return f"| {leg[0]} | {leg[1]} | {len(values)} | {middle} ms | {high} ms |"


def _cpu_rows(step: Step) -> Iterable[str]:
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, spent in step.cpu.items():
        groups["sidecars" if name.endswith(".daprd") else name if name in ("nats", "client") else "services"][name] += (
            int(spent * 1e6)
        )
    whole = sum(step.cpu.values())
    for group, members in sorted(groups.items(), key=lambda group: -group[1].total()):
        spent = members.total() / 1e6
        most = ", ".join(f"{name} {n / 1e3 / step.events:.2f}" for name, n in members.most_common(4))
        named = f"{group} ({most}, … ms)" if len(members) > 1 else group
        yield f"| {named} | {spent / step.events * 1000:.2f} ms | {spent / whole:.0%} |"


if __name__ == "__main__":
    for section in asyncio.run(run()):
        print(section.text)
