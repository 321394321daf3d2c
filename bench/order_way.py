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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import psutil
from prometheus_client.parser import text_string_to_metric_families
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
AT_ONCE, CONFIRMED = 200, "orders.orderConfirmed"
BAR = 0.050
SIDECAR = ".daprd"
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
import os
import smtplib
from email.message import EmailMessage
from typing import Any

from dapr.clients import DaprClient
from dapr.clients.grpc._request import TransactionalStateOperation
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
def publish(topic: str, body: dict[str, Any]):
    event, entry = Event.model_validate(body), "outbox-" + body["id"]
    while not saved(event, TransactionalStateOperation(entry, json.dumps(body))):
        pass
    client.publish_event("pubsub", topic, json.dumps(body), data_content_type="application/cloudevents+json")
    client.delete_state("state", entry)


@app.post("/events/{topic}")
def handle(topic: str, bulk: Bulk):
    global delivered
    for entry in bulk.entries:
        raw = base64.b64decode(entry.event) if isinstance(entry.event, str) else json.dumps(entry.event)
        event = Event.model_validate_json(raw)
        while not saved(event):
            pass
        if event.type == "notifications.sendEmail":
            send(event)
        delivered += 1
    return {"statuses": [{"entryId": entry.entryId, "status": "SUCCESS"} for entry in bulk.entries]}


def saved(event, *others):
    key = event.subject or event.id
    stored = client.get_state("state", key)
    document = json.loads(stored.data) if stored.data else {"handled": []}
    if event.id in document["handled"]:
        return True
    document["handled"].append(event.id)
    document["latest"] = event.model_dump()
    write = TransactionalStateOperation(key, json.dumps(document), etag=stored.etag or None)
    try:
        client.execute_state_transaction("state", [write, *others])
    except RpcError:  # another delivery has written it first
        return False
    return True


def send(event):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "orders@pizza.example", "a@example.org", "Your order"
    message["Message-ID"], message["X-Order-Id"] = "<" + event.id + "@pizza.example>", event.subject
    message.set_content(json.dumps(event.data))
    message.add_alternative("<p>" + json.dumps(event.data) + "</p>", subtype="html")
    with smtplib.SMTP("127.0.0.1", int(os.environ["SMTP_PORT"])) as server:
        server.send_message(message)
"""
FLOOR = """\
The floor: the same events on the same topics to the same consumers, but ten services that acknowledge every delivery
immediately and neither read, write nor publish. This is the cost of daprd, NATS and HTTP. At {rate:,.0f} events/s, the
highest rate above, an event costs **{floor:.2f} ms of CPU** and is delivered {deliveries:.1f} times. The whole order
flow takes **{ratio:.1f} times** as much there. Neither figure has the client's part and what the programs take at rest
({resting:.1%} of a core for the whole order flow).
"""
THE_USUAL_WAY = """\
The usual way: the same events at {rate:,.0f} events/s, published and read by ten services of FastAPI, pydantic and
`DaprClient` with its synchronous calls. A publisher writes its document and the event in one state transaction,
publishes the event and deletes it (Dapr's own outbox publishes one event per second). A handler reads the document of
the event's subject, adds the event's id and data, and saves it under its etag; notifications sends each e-mail to the
simulated mail server. There is no relay after a crash, no dead letter with a reason, no searchable archive, no
scheduled step and no business logic. An event costs **{usual:.2f} ms of CPU** and is handled
{deliveries:.1f} times; that is **{ratio:.1f} times** what it costs in the whole order flow at this rate, both without
the client and the programs' part at rest."""
PROFILE = """\
Profile at 100 events/s (2026-11-30, two rounds of both sides in turn, other programs running on the machine):

| per event | services | sidecars | NATS | client | all | calls to sidecars |
|---|---|---|---|---|---|---|
| tracking writes an order for each event | 6.5 to 6.9 ms | 4.1 to 4.4 ms | 1.6 to 1.8 ms | 0.3 ms | 12.5 to 13.4 ms \
| 7.4 to 7.5 |
| an order's events that follow each other share a write | 5.6 ms | 3.8 to 3.9 ms | 1.8 to 1.9 ms | 0.3 ms | 11.5 \
to 11.7 ms | 5.2 to 5.4 |

| calls per event | reads before | reads | transactions before | transactions | publishes |
|---|---|---|---|---|---|
| tracking | 1.36 to 1.44 | 0.29 to 0.38 | 1.34 to 1.42 | 0.23 to 0.33 | 0 |
| kitchen | 0.62 | 0.62 | 0.48 | 0.47 to 0.48 | 0.26 |
| orders | 0.35 to 0.36 | 0.34 to 0.35 | 0.36 to 0.37 | 0.35 | 0.36 |
| loyalty | 0.31 | 0.31 to 0.32 | 0.26 to 0.27 | 0.27 to 0.28 | 0.05 |
| notifications | 0.21 | 0.21 | 0.28 | 0.29 | 0.10 |
| delivery | 0.24 | 0.24 | 0.22 | 0.21 | 0.08 |
| pickup | 0.18 to 0.19 | 0.19 | 0.17 to 0.18 | 0.17 to 0.18 | 0.05 |
| payments (its own database) | 0 | 0 | 0 | 0 | 0.10 |
| all | 3.30 to 3.37 | 2.20 to 2.30 | 3.12 to 3.18 | 1.99 to 2.11 | 1.00 |

Each event is delivered about 2.5 times, of which tracking and the archive take nearly two. Before, 15% to 40% of
tracking's units of work were repetitions after write conflicts, because events of one order arrive together.

What is left of 11.6 ms: the floor takes 3.0 to 3.5 ms; what all programs take at rest, 0.6 to 0.8 ms at this rate
(6% to 8% of a core). The services, with their part of both, take: archive 1.0, notifications 0.84, payments 0.75,
tracking 0.70, orders 0.70, kitchen 0.45, loyalty 0.34, delivery 0.30, pickup 0.23, and both simulators 0.31 ms.

Where the time of a service goes (py-spy, time with the interpreter's lock; perf for the kernel's share; 70 events/s,
2026-11-30 04:30, load of 20 by other programs; before the changes below):

| service | largest parts | kernel, of all its time |
|---|---|---|
| notifications | composing e-mails 50%, delivery and unit of work 16%, calls to the sidecar 10%, SMTP 10% | 10% |
| payments | SQLAlchemy 29%, delivery 17%, the thread of SQLite and waiting for it 11%, HTTP of deliveries 8% | 26% |
| archive | HTTP of deliveries 22%, delivery 22%, SQLAlchemy 14%, rows and words 10% | 20% |
| tracking | delivery and batches 37%, calls to the sidecar 22%, HTTP of deliveries 16%, log strategy 8% | 10% |
| orders | calls to the sidecar 29%, delivery 28%, HTTP of deliveries 12%, its API 12% | 16% |
| kitchen | calls to the sidecar 38%, delivery 22%, log strategy 15% | 15% |
| loyalty | calls to the sidecar 30%, the SaaS 21%, delivery 14% | 15% |

- The same code takes about twice as long at a few events per second as in a loop, probably because other
  programs replace it in the processor's caches in between. A read and a transaction of two writes take 0.21 ms in
  Python and 0.44 ms in daprd one directly after another, but 0.36 to 0.43 and 0.73 to 0.87 ms at 150 a second. The
  calls for state of an event (2.2 reads, 2.1 transactions) thus take about 2.3 ms, not 0.9 as this page said. 0.34 of
  the transactions only remove messages that have been published.
- An e-mail took 2.8 to 3.0 ms to compose and encode in a loop: the standard library creates a class for every header of
  every message. With one class per name, and the HTML part in base64, it takes 2.0 to 2.1 ms; the rest is mostly the
  library's parsing of headers. Notifications as a whole went from 0.95 and 0.97 to 0.90 and 0.86 ms per event (two
  rounds of both sides in turn, load of 28 to 35).
- A full garbage collection visited all objects of all modules: 0.16 s in notifications, 0.57 s in the archive (on the
  busy machine), 0.2% to 9% of a service's time (perf). It no longer visits those that exist at the start.
- Of a sidecar's time (pprof), SQLite takes 31% (17% to parse the same statements again for each call), garbage
  collection 9%, growing the stacks of new goroutines 8%, and its metrics 8%.
- NATS writes the position of each active consumer to a new file up to ten times a second: 57% of its time (perf). A
  third of that is the file system here, ext4 without a journal, which looks for an inode that was not deleted recently.
- Three changes followed these profiles. The check of JetStream takes one request every two seconds, and one per topic
  every ten, instead of two per topic every two. Of the transactions, the 17% that only removed published messages are
  at most one per second and service. A unit of work of payments with its relay calls the thread of SQLite 8 times
  instead of 24. The tables of events per second and of calls above are from an idle machine with these changes.

Tried and not adopted: `GOGC=400` for sidecars (three rounds of both sides in turn: 4.01 to 3.83 ms, but 113 MB instead
of 92 MB each); answering the pings that daprd sends after each call once a second (16 pings instead of 1,500, but no
measurable difference in daprd and at most 5% in Python).

Why not 6 ms: the floor alone is 2.7 ms, about 1.1 ms per delivery, of which archive and tracking take 1.8 of 2.5. They
would have to receive several events per request. daprd subscribes to each topic separately and collects only events of
one topic; at 150 events/s, a topic has 4 to 15 per second, so that a bulk of three would wait for 0.2 to 0.8 s. One
subscription to all topics would need one stream for all of them, and with it one retention and one set of rights.

Until 2026-11-30, a topic with a backlog was delivered to the archive and to tracking at 10 to 25 events/s, because each
event waited for others to share its commit, and the broker brings the next one of a topic only after it: "reached" was
135 events/s at the rates above 150. Events older than half a second no longer wait.

The limit of 1 s for the confirmations of 200 orders at once is about the floor: three events of each order have to
be delivered before it is confirmed, and 600 events take 1.8 to 2.1 s of CPU, thus about 1 s on two cores, in
services that do nothing. Here, an order is five events until it is confirmed, with the commands and both versions of
the confirmation, which tracking and the archive read as well: 1,000 events of 9 ms take 4.5 s on two cores. Where staff
and ovens take no time, the confirmations share the cores with all 3,900 events of these orders, which take 35 to 40 s
of CPU."""


MEMORY = """\
Memory after these orders: {groups}; **{service:.0f} MB for a service with its sidecar** (median, without the archive).
Pages that processes share, such as those of a program's file, count once, in equal parts (PSS): a sidecar's resident
memory (RSS) is {resident:.0f} MB, of which {shared:.0f} MB are shared."""


DELIVERIES = "deliveries"
CALLS = {"GetState": "reads", "GetBulkState": "reads", "ExecuteStateTransaction": "transactions"}
CALLS |= {"PublishEvent": "publishes", "BulkPublishEvent": "publishes"}


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
    calls: Counter[tuple[str, str]]
    """Deliveries and calls of each service, as its sidecar counts them."""
    unfinished: str = ""

    @property
    def per_event(self) -> float:
        """Seconds of CPU."""
        return sum(self.cpu.values()) / max(self.events, 1)

    def services_per_event(self, resting: float) -> float:
        """Return the seconds of CPU without the client and what the programs take at rest, as `cost` measures them."""
        busy = sum(spent for name, spent in self.cpu.items() if name != "client") - resting * self.seconds
        return busy / max(self.events, 1)

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


def memory(run: Run) -> str:
    """Return a sentence about the memory of all processes."""
    used = {
        process.name: psutil.Process(process.process.pid).memory_full_info()
        for process in run.state.processes
        if process.process is not None
    }
    groups: Counter[str] = Counter()
    for name, taken in used.items():
        groups[_group(name)] += taken.pss
    sidecars = {name.removesuffix(SIDECAR): taken for name, taken in used.items() if name.endswith(SIDECAR)}
    pairs = [used[name].pss + sidecar.pss for name, sidecar in sidecars.items() if name != "archive"]
    resident = statistics.median(sidecar.rss for sidecar in sidecars.values())
    return MEMORY.format(
        groups=", ".join(f"{name} {size / 1e6:,.0f} MB" for name, size in groups.most_common()),
        service=statistics.median(pairs) / 1e6,
        resident=resident / 1e6,
        shared=(resident - statistics.median(sidecar.uss for sidecar in sidecars.values())) / 1e6,
    )


def _group(process: str) -> str:
    return "sidecars" if process.endswith(SIDECAR) else process if process in ("nats", "client") else "services"


async def calls(client: httpx2.AsyncClient, run: Run) -> Counter[tuple[str, str]]:
    """Return the numbers of deliveries and calls of each service so far, from the metrics of its sidecar."""
    counted: Counter[tuple[str, str]] = Counter()
    for sidecar in (each for each in run.state.processes if each.role == "sidecar"):
        answer = await client.get(f"http://127.0.0.1:{sidecar.ports['metrics']}/metrics")
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                method = sample.labels.get("grpc_server_method", "").rpartition("/")[2]
                if family.name == "dapr_component_pubsub_ingress_bulk_event_count":
                    counted[sidecar.app, DELIVERIES] += int(sample.value)
                elif family.name == "dapr_grpc_io_server_completed_rpcs" and method in CALLS:
                    counted[sidecar.app, CALLS[method]] += int(sample.value)
    return counted


async def step(run: Run, client: httpx2.AsyncClient, rate: float, per_order: float, skus: Mapping[str, int]) -> Step:
    """Place orders at a rate of events per second, and measure their legs once no more events arrive."""
    called = await calls(client, run)
    before, busy, began = await counts(client, run.url), used(run), time.perf_counter()
    ids = await paced(client, run, rate / per_order, skus)
    events, ended = await quiet(client, run, before)
    seconds = ended - began
    cpu = {name: spent - busy.get(name, 0.0) for name, spent in used(run).items()}
    called = await calls(client, run) - called
    try:
        tracked, problem = await follow(client, run.url, ids, patience=SECONDS), ""
    except NotSettled as error:
        tracked, problem = {}, str(error)
    whole = {leg: values for leg, values in legs(tracked.values()).items() if leg != LEGS[-1] and len(values) > 1}
    return Step(rate, events / seconds, whole, cpu, events, seconds, called, problem)


async def burst_confirmed(client: httpx2.AsyncClient, run: Run) -> float:
    """Place orders at once; return the seconds until the last one was confirmed."""
    before, began = await counts(client, run.url), datetime.now(UTC)
    await place(client, run.url, AT_ONCE, concurrency=AT_ONCE, declined_every=0, seed=2)
    async with asyncio.timeout(120):
        while difference(before, await counts(client, run.url)).get(f"{CONFIRMED}.v2", 0) < AT_ONCE:  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    answer = await client.get(f"{run.url('archive')}/events?type={CONFIRMED}&limit=50")
    confirmed = [each["time"] for each in answer.raise_for_status().json()["events"]]
    return (datetime.fromisoformat(max(confirmed)) - began).total_seconds()


async def burst_as_run(folder: Path) -> float:
    """Return the same with staff and ovens as `make run` has them, whose steps take a second."""
    limits = httpx2.Limits(max_connections=AT_ONCE)
    async with (
        running(ROOT, Options(free_ports=True, run_dir=folder)) as system,
        httpx2.AsyncClient(timeout=60, trust_env=False, limits=limits) as client,
    ):
        first = await place(client, system.url, WARM, concurrency=4, declined_every=0)
        await follow(client, system.url, first.ids, patience=300)
        return await burst_confirmed(client, system)


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
    environment = {"SMTP_PORT": "${port:smtp}"}
    services = [
        {"name": name, "port": 8001 + number, "environment": environment} for number, name in enumerate(contracts)
    ]
    command = ["${python}", "smtp.py", "--port", "${port}", "--control-port", "${port:smtp.control}"]
    smtp = {"name": "smtp", "folder": str(ROOT / "simulators"), "command": command, "port": 8102}
    smtp |= {"ports": {"control": 8103}}
    about = {"name": "nothing", "folders": ["services/*"], "components": str(ROOT / "components"), "open": "orders"}
    (folder / "tidings.yaml").write_text(json.dumps({**about, "services": services, "programs": [smtp]}))
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
        resting = await at_rest(system)
        loop, busy = asyncio.get_running_loop(), total(system)
        began = loop.time()
        path, app = ("/publish/", "") if "/publish/" in code else ("/v1.0/publish/pubsub/", SIDECAR)

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


async def at_rest(run: Run) -> float:
    """Return the CPU seconds per second of all processes except this one without any events."""
    before = total(run)
    await asyncio.sleep(RESTING)
    return (total(run) - before) / RESTING


async def run() -> list[Section]:
    """Increase the load until two consecutive steps exceed the limit by far; then measure without handlers."""
    with tempfile.TemporaryDirectory() as folder:
        options = Options(free_ports=True, environment=PACE, run_dir=Path(folder) / "run")
        limits = httpx2.Limits(max_connections=AT_ONCE)
        async with (
            running(ROOT, options) as system,
            httpx2.AsyncClient(timeout=60, trust_env=False, limits=limits) as client,
        ):
            skus, before = await menu(client, system.url), await counts(client, system.url)
            first = await place(client, system.url, WARM, concurrency=4, declined_every=0)
            await follow(client, system.url, first.ids, patience=120)
            await asyncio.sleep(3)  # settlement and points follow the completion
            examples = [await events_of(client, system, order) for order in first.ids[:2]]
            per_order = sum(difference(before, await counts(client, system.url)).values()) / WARM
            resting = await at_rest(system)
            steps: list[Step] = []
            for rate in RATES:
                steps.append(await step(system, client, rate, per_order, skus))
                print(line(steps[-1]), flush=True)
                if len(steps) > 1 and all(step.worst > 10 * BAR for step in steps[-2:]):
                    break
            taken = memory(system)
            confirmed = await burst_confirmed(client, system)
        usually = await burst_as_run(Path(folder) / "burst")
        burst = (
            f"{AT_ONCE} orders at once: the last one was confirmed after **{usually:.2f} s** (target: 1 s) with staff "
            "and ovens that take a second per step, as in `make run`, and after "
            f"{confirmed:.2f} s where they take no time."
        )
        print(burst, flush=True)
        bare = await cost(Path(folder) / "nothing", NOTHING, examples, steps[-1].asked)
        usual = await cost(Path(folder) / "usual", USUAL, examples, RATES[0])
        return [Section("The whole order flow", text(steps, per_order, burst, resting, taken, bare, usual))]


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


def text(
    steps: list[Step],
    per_order: float,
    burst: str,
    resting: float,
    taken: str,
    bare: Cost,
    usual: Cost,
) -> str:
    """Return the section of the page; `bare` is an event's cost without handlers, `usual` that of other ones.

    `burst` is the sentence about orders at once, `taken` that about memory.
    """
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
        burst,
        f"Each leg at {shown.asked:,.0f} events/s:",
        table(("from", "to", "orders", "p50", "p99"), (_leg(leg, values) for leg, values in shown.legs.items())),
        f"CPU per event by process at {shown.asked:,.0f} events/s. {whole}",
        table(("process", "CPU per event", "share"), _cpu_rows(shown)),
        "Deliveries and calls to the sidecar per event at that rate, as the sidecars count them:",
        table(("service", DELIVERIES, *dict.fromkeys(CALLS.values()), "all calls"), _call_rows(shown)),
        taken,
        FLOOR.format(
            rate=steps[-1].asked,
            floor=bare.cpu * 1000,
            deliveries=bare.deliveries,
            ratio=steps[-1].services_per_event(resting) / bare.cpu,
            resting=resting,
        ),
        THE_USUAL_WAY.format(
            rate=RATES[0],
            usual=usual.cpu * 1000,
            deliveries=usual.deliveries,
            ratio=usual.cpu / steps[0].services_per_event(resting),
        ),
        PROFILE,
    )
    return "\n\n".join(parts)


def _call_rows(step: Step) -> Iterable[str]:
    kinds = (DELIVERIES, *dict.fromkeys(CALLS.values()))
    by_service: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for (service, kind), number in step.calls.items():
        by_service[service][kind] += number
        by_service["all"][kind] += number
    for service, numbers in sorted(by_service.items(), key=lambda item: -item[1].total()):
        sums = *(numbers[kind] for kind in kinds), numbers.total() - numbers[DELIVERIES]
        yield f"| {service} | {' | '.join(f'{number / step.events:.2f}' for number in sums)} |"


def table(header: Sequence[str], rows: Iterable[str]) -> str:
    return "\n".join((f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *rows))


def _leg(leg: tuple[str, str], values: list[float]) -> str:
    middle, high = (short(1000 * seconds) for seconds in (statistics.median(values), p99(values)))
    return f"| {leg[0]} | {leg[1]} | {len(values)} | {middle} ms | {high} ms |"


def _cpu_rows(step: Step) -> Iterable[str]:
    groups: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for name, spent in step.cpu.items():
        groups[_group(name)][name] += int(spent * 1e6)
    whole = sum(step.cpu.values())
    for group, members in sorted(groups.items(), key=lambda group: -group[1].total()):
        spent = members.total() / 1e6
        most = ", ".join(f"{name} {n / 1e3 / step.events:.2f}" for name, n in members.most_common(4))
        named = f"{group} ({most}, … ms)" if len(members) > 1 else group
        yield f"| {named} | {spent / step.events * 1000:.2f} ms | {spent / whole:.0%} |"


if __name__ == "__main__":
    for section in asyncio.run(run()):
        print(section.text)
