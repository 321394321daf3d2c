"""How fast the archive's search is with a million events, and what storing an event costs.

python bench/archive_search.py                                # both databases, 1,000,000 events
python bench/archive_search.py --events 100000 --on sqlite    # less

The events go the way of every event: `record_events` stores batches of 200, as the archive's handler does. Each kind of
query then runs with changing values; the times are those of the search itself, without HTTP. So are those of the dead
letters, of which 100,000 are open.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from rounds import Section, short
from sqlalchemy.ext.asyncio import AsyncConnection

from tidings import Received
from tidings.messages.envelope import decode
from tidings.outbox.sql import Database
from tidings_archive import deadletters, event_queries
from tidings_archive.domain.deadletter import LetterFilter
from tidings_archive.domain.selection import Selection, TypePattern
from tidings_archive.migrations import upgrade
from tidings_archive.recording import record_dead_letter, record_events
from tidings_archive.tables import dead_letters
from tidings_cli.testing.programs import Ports, postgres_server, public_folder

EVENTS, DEAD_LETTERS, COPIES, BATCH, QUERIES, PAGE = 1_000_000, 10_000, 10, 200, 100, 50
TARGET = 0.2
"""Seconds at the 95th percentile."""
START = datetime(2026, 1, 1, tzinfo=UTC)
SOURCES = [f"service{number}" for number in range(20)]
FIRST_NAMES, LAST_NAMES = ("Ann", "Ben", "Chloé", "Dora", "Emil"), [f"Name{number}" for number in range(5_000)]
Query = Callable[[AsyncConnection], Awaitable[object]]


def kind(number: int) -> str:
    """Return the type of an event: 60 types, of which each domain's first is frequent and its last rare."""
    source = number % len(SOURCES)
    return f"domain{source}.{('happened', 'changed', 'ended')[0 if number % 50 else 1 + number % 100 // 50]}"


def event(number: int, chance: random.Random) -> bytes:
    """Return an event of about 700 bytes."""
    order = str(uuid.UUID(int=number // 8 * 7919 + 2**122))
    attributes = {
        "specversion": "1.0",
        "id": str(uuid.UUID(int=chance.getrandbits(128))),
        "source": SOURCES[number % len(SOURCES)],
        "type": kind(number),
        "version": "1" if number % 3 else "2",
        "subject": order,
        "time": (START + timedelta(seconds=number)).isoformat(),
        "correlationid": order,
        "traceparent": f"00-{chance.getrandbits(128):032x}-{chance.getrandbits(64):016x}-01",
        "datacontenttype": "application/json",
    }
    data = {
        "orderId": order,
        "customer": f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}",
        "items": [{"recipe": f"recipe-{chance.randrange(40)}", "price": chance.randrange(500, 2_000)} for _ in "abc"],
        "address": {"street": f"Street {chance.randrange(900)}", "city": chance.choice(("Berlin", "Paris", "Oslo"))},
    }
    return json.dumps({**attributes, "data": data}, ensure_ascii=False).encode()


def arrivals(start: int, count: int) -> Iterator[Received]:
    chance = random.Random(start)
    for number in range(start, start + count):
        body = event(number, chance)
        envelope = decode(body)
        yield Received(envelope, body, f"{envelope.type}.v{envelope.version}")


async def fill(database: Database, count: int) -> list[float]:
    """Store events; return the rate of each tenth, in events per second of `record_events` and its commit."""
    rates = []
    tenth = max(count // 10, BATCH)
    for start in range(0, count, tenth):
        seconds = 0.0
        for batch in range(start, start + tenth, BATCH):
            received = list(arrivals(batch, BATCH))
            began = time.perf_counter()
            async with database.transaction() as connection:
                await record_events(connection, received, START + timedelta(seconds=batch + BATCH))
            seconds += time.perf_counter() - began
        rates.append(tenth / seconds)
    return rates


async def fill_dead_letters(database: Database) -> None:
    """Store dead letters, and copies of them."""
    async with database.transaction() as connection:
        for number, received in enumerate(arrivals(0, DEAD_LETTERS)):
            letter = json.loads(received.body)
            letter |= {
                "originalid": letter["id"],
                "id": f"dead-{number}",
                "failuresubscription": f"reader{number % 40}-on-events",
                "failurereason": f"reason {number % 7}",
            }
            body = json.dumps(letter).encode()
            await record_dead_letter(
                connection, Received(decode(body), body, f"deadletter.reader{number % 40}"), datetime.now(UTC)
            )
        letter_columns = [column for column in dead_letters.c if column.name not in ("seq", "key")]
        names = ["key", *(column.name for column in letter_columns)]
        for copy in range(1, COPIES):
            copied = sa.select(dead_letters.c.key + f"-{copy}", *letter_columns).where(
                dead_letters.c.seq <= DEAD_LETTERS
            )
            await connection.execute(sa.insert(dead_letters).from_select(names, copied))


def queries(count: int) -> dict[str, Iterator[Query]]:
    """Return kinds of queries with changing values."""
    chance = random.Random(7)

    def found(make: Callable[[], Selection], before: Callable[[], int | None] = lambda: None) -> Iterator[Query]:
        while True:
            yield partial(_search, make(), before())

    def order() -> str:
        return str(uuid.UUID(int=chance.randrange(count) // 8 * 7919 + 2**122))

    def hour(*patterns: TypePattern, text: str | None = None) -> Selection:
        since = START + timedelta(seconds=chance.randrange(count))
        return Selection(patterns, since, since + timedelta(hours=1), text=text)

    def until() -> datetime:
        return START + timedelta(seconds=chance.randrange(1, count))

    def rare() -> TypePattern:
        return TypePattern(f"domain{chance.randrange(len(SOURCES))}.ended")

    def text(words: Callable[[], str]) -> Callable[[], Selection]:
        return lambda: Selection(text=words())

    one_name = text(lambda: chance.choice(LAST_NAMES))
    letters = (
        LetterFilter(state="open"),
        LetterFilter(state="open", app="reader7"),
        LetterFilter(state="open", subscription="reader7-on-events"),
    )
    return {
        "latest": found(Selection),
        "a page anywhere": found(Selection, lambda: chance.randrange(PAGE, count)),
        "id": (partial(_id, count, chance) for _ in itertools.count()),
        "correlation id": found(lambda: Selection(correlation_id=order())),
        "subject": found(lambda: Selection(subject=order())),
        "source": found(lambda: Selection(source=chance.choice(SOURCES)), lambda: chance.randrange(PAGE, count)),
        "type, frequent": found(
            lambda: Selection((TypePattern("domain3.happened"),)), lambda: chance.randrange(PAGE, count)
        ),
        "type, rare": found(lambda: Selection((rare(),))),
        "all types of a domain": found(lambda: Selection((TypePattern("domain7", wildcard=True),))),
        "no such type": found(lambda: Selection((TypePattern("nowhere", wildcard=True),))),
        "one hour": found(hour),
        "one hour, one type": found(lambda: hour(TypePattern("domain3.happened"))),
        "before a time, one source": found(lambda: Selection(source="service3", until=until())),
        "text, one name": found(one_name),
        "text, two words": found(text(lambda: f"{chance.choice(FIRST_NAMES)} {chance.choice(LAST_NAMES)}")),
        "text, in every event": found(text(lambda: "specversion")),
        "text, two frequent words": found(text(lambda: f"berlin recipe chloé {chance.randrange(900)}")),
        "text, nowhere": found(text(lambda: f"absent{chance.random()}")),
        "text and rare type": found(lambda: Selection((rare(),), text="berlin")),
        "text and hour": found(lambda: hour(text="berlin")),
        "counts of all types": (_counts for _ in itertools.count()),
        "dead letters": (partial(_letters, chance.choice(letters), None) for _ in itertools.count()),
        "dead letters, a page anywhere": (
            partial(_letters, LetterFilter(state="open"), chance.randrange(1, DEAD_LETTERS * COPIES))
            for _ in itertools.count()
        ),
        "dead letters, frequent reason": (
            partial(_letters, LetterFilter(state="open", reason=f"Reason {chance.randrange(7)}"), None)
            for _ in itertools.count()
        ),
        "dead letters, no such reason": (
            partial(_letters, LetterFilter(state=chance.choice(("open", None)), reason="rejected"), None)
            for _ in itertools.count()
        ),
    }


async def _search(selection: Selection, before: int | None, connection: AsyncConnection) -> object:
    return await event_queries.search(connection, selection, PAGE, before)


async def _id(count: int, chance: random.Random, connection: AsyncConnection) -> object:
    start = chance.randrange(count) // BATCH * BATCH
    return await event_queries.find_versions(connection, next(arrivals(start, 1)).envelope.id)


async def _counts(connection: AsyncConnection) -> object:
    return await event_queries.count_by_type(connection)


async def _letters(wanted: LetterFilter, before: int | None, connection: AsyncConnection) -> object:
    return await deadletters.find(connection, wanted, PAGE, before)


async def timed(database: Database, made: Iterator[Query]) -> list[float]:
    """Return the milliseconds of some queries, each in its own transaction."""
    times = []
    for query in itertools.islice(made, QUERIES):
        began = time.perf_counter()
        async with database.connect(write=False) as connection:
            await query(connection)
        times.append((time.perf_counter() - began) * 1_000)
    return times


async def measure(name: str, url: str, count: int) -> Section:
    database = Database(url, deadline=300.0)
    await database.create(upgrade)
    rates = await fill(database, count)
    await fill_dead_letters(database)
    if database.dialect == "postgresql":  # autovacuum does it within minutes
        async with database.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(sa.text("VACUUM ANALYZE"))
    lines = [f"| {name} | p50, ms | p95, ms | met |", "|---|---|---|---|"]
    for query, made in queries(count).items():
        times = await timed(database, made)
        p95 = statistics.quantiles(times, n=20)[18]
        met = "yes" if p95 <= TARGET * 1_000 else "**no**"
        lines.append(f"| {query} | {short(statistics.median(times))} | {short(p95)} | {met} |")
        print(lines[-1], flush=True)
    await database.close()
    stored = f"Stored at {short(rates[0])} events/s in the first tenth and {short(rates[-1])} in the last one."
    print(stored, flush=True)
    table = "\n".join([f"{stored} Target: p95 of at most {TARGET * 1_000:.0f} ms.", "", *lines])
    return Section(f"Search in the archive, {name}, {count:,} events", table)


async def run(count: int = EVENTS, only: str = "") -> list[Section]:
    """Measure on each database."""
    with ExitStack() as stack:
        found = []
        if only != "postgresql":
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            found.append(await measure("SQLite", f"sqlite:///{Path(folder)}/archive.db", count))
        if only != "sqlite":
            ports, public = stack.enter_context(Ports()), stack.enter_context(public_folder())
            found.append(await measure("PostgreSQL", stack.enter_context(postgres_server(public, ports.take())), count))
        return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--on", choices=["sqlite", "postgresql"], default="")
    arguments = parser.parse_args()
    for section in asyncio.run(run(arguments.events, arguments.on)):
        print(f"\n## {section.title}\n\n{section.text}")
