"""`tidings dlq` and `tidings replay` against the real archive on a SQLite file."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tests.conformance.support import PATIENCE
from tests.support.newsroom import migrated
from typer.testing import CliRunner, Result

from tidings import Service, Settings
from tidings.consume.policy import Policy, SubscriptionPolicy
from tidings.fastapi import create_app
from tidings.messages.envelope import new_id
from tidings.outbox.table import TableOutbox
from tidings.testing import MemorySidecar
from tidings_archive import api, api_deadletters, api_replays, consumers, deadletters, replays
from tidings_archive.handlers import handlers
from tidings_archive.migrations import upgrade
from tidings_archive.responses import ERRORS
from tidings_archive.settings import ArchiveSettings, settings
from tidings_cli import archive as cli_archive
from tidings_cli.commands import app
from tidings_cli.testing.programs import Ports
from tidings_cli.testing.serving import Served


def entry(name: str, topic: str) -> SubscriptionPolicy:
    return SubscriptionPolicy(name=name, type="*", path=f"/events/{topic}", topic=topic)


POLICY = Policy(
    "archive", (entry("archive-everything", "shop.itemSold.v1"), entry("archive-dead-letters", "deadletter.shop"))
)


class Archive:
    """The service behind HTTP in a thread of its own, and the command line before it."""

    def __init__(self, folder: Path, port: int) -> None:
        self.sidecar = MemorySidecar("archive")
        (folder / "archive.db").write_bytes(migrated())
        outbox = TableOutbox.on(f"sqlite:///{folder / 'archive.db'}", tables=upgrade)
        self.service = Service(
            "archive", handlers, settings=Settings(), sidecar=self.sidecar, outbox=outbox, policy=POLICY
        )
        routers = [api.router, api_deadletters.router, api_replays.router]
        application = create_app(self.service, routers, errors=ERRORS)
        application.dependency_overrides[settings] = lambda: self.settings
        self.settings = ArchiveSettings()
        self._server = Served(application, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def start(self) -> None:
        self._thread.start()
        self.run(self._server.start())
        while not self.run(self.service.ready()):
            time.sleep(0.005)

    def stop(self) -> None:
        self.run(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)

    def receive(self, topic: str, identity: str, **attributes: str) -> None:
        standard = {"id": identity, "source": "t", "type": "shop.itemSold", "specversion": "1.0", "version": "1"}
        body = json.dumps({**standard, "time": "2026-03-14T12:00:00Z", "data": {"item": "pie"}, **attributes})
        assert b"SUCCESS" in self.run(self.service.ingress.deliver(f"/events/{topic}", body.encode()))

    def died(self, identity: str, **attributes: str) -> None:
        failure = {"failurereason": "no [such] shelf", "failuresubscription": "shop-sold", "failureattempts": "3"}
        self.receive("deadletter.shop", identity, **{**failure, **attributes})

    def answer(self, outcome: str, reason: str = "") -> None:
        """Let the consumer confirm each event that it is sent again, as its SDK does."""

        async def confirm(topic: str, event: bytes) -> None:
            await publish(topic, event)
            if topic == "replay.shop":
                sent = json.loads(event)
                output = {"replayId": sent["replayid"], "eventId": sent["id"], "source": sent["source"]}
                data = {**output, "subscription": sent["replayto"], "outcome": outcome, "reason": reason}
                confirmed = {"id": new_id(), "source": "shop", "type": "archive.recordReplayOutcome", "version": "1"}
                body = json.dumps({**confirmed, "specversion": "1.0", "data": data}).encode()
                path = "/events/archive.recordReplayOutcome.v1"
                assert b"SUCCESS" in await self.service.ingress.deliver(path, body)

        publish = type(self.sidecar).publish.__get__(self.sidecar)
        self.sidecar.publish = confirm  # type: ignore[method-assign, assignment]

    def tidings(self, *words: str, typed: str = "") -> Result:
        return CliRunner().invoke(app, [*words, "--archive", self._server.url], input=typed)

    def json(self, *words: str) -> Any:
        result = self.tidings(*words, "-o", "json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    def replayed(self) -> list[str]:
        deadline = time.monotonic() + PATIENCE
        while self.service.outbox.depth:
            assert time.monotonic() < deadline, f"{self.service.outbox.depth} messages still wait in the outbox"
            self.run(asyncio.sleep(0.005))
        return [event["id"] for event in self.sidecar.broker.events("replay.shop")]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    monkeypatch.setattr(replays, "settings", lambda: ArchiveSettings(replay_settle=0.0))
    monkeypatch.setattr(consumers, "known_consumers", lambda: frozenset({"shop"}))
    with Ports() as ports:
        result = Archive(tmp_path, ports.take())
        result.start()
        yield result
        result.stop()


def test_a_list_requests_one_more_than_it_shows(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    requested, find = list[int](), deadletters.find

    async def spy(connection: Any, letter_filter: Any, limit: int, *rest: Any, **more: Any) -> Any:
        requested.append(limit)
        return await find(connection, letter_filter, limit, *rest, **more)

    monkeypatch.setattr(deadletters, "find", spy)
    archive.died("e-1")
    assert "e-1" in archive.tidings("dlq", "list", "--limit", "5", "-o", "json").output
    assert requested == [6]


def test_a_list_reads_on_where_a_page_finds_none(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadletters, "EXAMINED", 1)
    archive.died("e-1")
    for number in (2, 3):
        archive.died(f"e-{number}", failuresubscription="shop-counted")
    assert [item["eventId"] for item in archive.json("dlq", "list", "--subscription", "shop-sold")] == ["e-1"]
    assert "more than" not in archive.tidings("dlq", "list", "--subscription", "shop-sold", "--limit", "1").output


def test_dead_letters_are_listed_and_shown(archive: Archive) -> None:
    archive.died("e-1")
    archive.died("e-2", failuresubscription="shop-counted")
    listed = archive.tidings("dlq", "list").output
    assert [word in listed for word in ("e-1", "shop-sold", "shop-counted", "no [such] shelf")] == [
        False,
        True,
        True,
        True,
    ]
    assert [item["eventId"] for item in archive.json("dlq", "list")] == ["e-2", "e-1"]
    assert [item["eventId"] for item in archive.json("dlq", "list", "--subscription", "shop-sold")] == ["e-1"]
    assert "more than 1" in archive.tidings("dlq", "list", "--limit", "1").output
    shown = archive.tidings("dlq", "show", "1").output
    assert "no [such] shelf" in shown
    assert '"item": "pie"' in shown
    assert archive.json("dlq", "show", "1")["event"]["id"] == "e-1"


def test_a_dead_letter_is_replayed_after_a_person_has_agreed(archive: Archive) -> None:
    archive.died("e-1")
    assert archive.tidings("dlq", "replay", "1", typed="n\n").exit_code == 1
    assert archive.replayed() == []
    archive.answer("handled")
    assert "Replay: 1 handled." in archive.tidings("dlq", "replay", "1", typed="y\n").output
    assert archive.replayed() == ["e-1"]
    audit = archive.json("dlq", "show", "1")["audit"]
    assert [item["action"] for item in audit] == ["handled", "sent"]
    assert "@" in audit[1]["who"]


def test_many_are_replayed_by_filter_no_faster_than_allowed_the_oldest_first(archive: Archive) -> None:
    for number in range(5):
        archive.died(f"e-{number}")
    archive.died("other", failuresubscription="shop-counted")
    assert (
        "Would replay 5 dead letters"
        in archive.tidings("dlq", "replay", "--subscription", "shop-sold", "--dry-run").output
    )
    archive.answer("handled")
    begun = archive._loop.time()
    results = archive.json("dlq", "replay", "--subscription", "shop-sold", "--rate", "20", "--yes")
    assert archive._loop.time() - begun >= 4 / 20
    assert [(result["number"], result["state"]) for result in results] == [
        (number, "handled") for number in range(1, 6)
    ]
    assert archive.replayed() == [f"e-{number}" for number in range(5)]
    assert "nothing to do" in archive.tidings("dlq", "replay", "--subscription", "shop-sold", "--yes").output


def test_a_rejected_item_is_reported_and_the_rest_continues(archive: Archive) -> None:
    archive.died("e-1", failuresubscription="")
    archive.died("e-2")
    archive.answer("handled")
    result = archive.tidings("dlq", "replay", "--all", "--yes")
    assert result.exit_code == 1
    assert "1: the failed subscription is not recorded" in result.output
    assert archive.replayed() == ["e-2"]
    assert archive.tidings("dlq", "replay", "1", "--to", "shop-sold", "--yes").exit_code == 0
    assert archive.replayed() == ["e-2", "e-1"]


def test_discarding_needs_a_reason(archive: Archive) -> None:
    archive.died("e-1")
    assert archive.tidings("dlq", "discard", "1", "--yes").exit_code == 2
    assert archive.json("dlq", "discard", "1", "--reason", "a test", "--yes") == [{"number": 1, "state": "discarded"}]
    assert archive.json("dlq", "list") == []
    assert [item["state"] for item in archive.json("dlq", "list", "--state", "discarded")] == ["discarded"]


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (("dlq", "show", "9"), 1, "there is no dead letter 9"),
        (("dlq", "replay"), 2, "by number"),
        (("dlq", "replay", "1", "--all"), 2, "by number"),
        (("replay", "nobody", "--yes"), 1, "nobody reads no events"),
        (("replay", "shop", "--type", "X"), 1, "is no type"),
    ],
)
def test_what_makes_no_sense_is_refused(archive: Archive, words: tuple[str, ...], code: int, complaint: str) -> None:
    result = archive.tidings(*words)
    assert (result.exit_code, complaint in result.output) == (code, True), result.output


@pytest.mark.parametrize(
    ("url", "code", "complaint"),
    [("http://127.0.0.1:9", 1, "no archive answers"), ("nowhere", 2, "is not the URL of an archive")],
)
def test_a_missing_archive_is_reported_in_one_line(url: str, code: int, complaint: str) -> None:
    result = CliRunner().invoke(app, ["dlq", "list", "--archive", url])
    assert (result.exit_code, complaint in result.output) == (code, True), result.output


def test_events_are_replayed_to_one_consumer(archive: Archive) -> None:
    for number in range(3):
        archive.receive("shop.itemSold.v1", f"e-{number}")
    counted = archive.tidings("replay", "shop", "--dry-run").output
    assert "3  shop.itemSold.v1" in counted
    assert archive.tidings("replay", "shop", typed="n\n").exit_code == 1
    assert archive.replayed() == []
    archive.answer("handled")
    result = archive.tidings("replay", "shop", "--type", "shop.itemSold", "--yes")
    assert "completed, 3 of 3 sent, 3 handled" in result.output, result.output
    assert archive.replayed() == ["e-0", "e-1", "e-2"]


def test_a_replay_is_bounded_in_time_and_need_not_be_waited_for(archive: Archive) -> None:
    archive.receive("shop.itemSold.v1", "e-1")
    since = archive.json("replay", "shop", "--since", "2026-03-14T12:00:01", "--dry-run")
    until = archive.json("replay", "shop", "--until", "2026-03-14T13:00:01+01:00", "--dry-run")
    assert (since["matched"], until["matched"]) == (0, 1)
    begun = archive.json("replay", "shop", "--correlation-id", "c", "--no-wait", "--yes")
    assert (begun["correlationId"], begun["matched"]) == ("c", 0)


def test_an_archive_that_asks_for_a_token_is_sent_it(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.settings = ArchiveSettings(token=SecretStr("s3cret"))
    archive.died("e-1")
    refused = archive.tidings("replay", "shop", "--yes")
    assert refused.exit_code == 1
    assert "TIDINGS_ARCHIVE_TOKEN" in refused.output
    assert "TIDINGS_ARCHIVE_TOKEN" in archive.tidings("dlq", "replay", "1", "--yes").output
    monkeypatch.setenv("TIDINGS_ARCHIVE_TOKEN", "s3cret")
    archive.answer("handled")
    assert archive.tidings("dlq", "replay", "1", "--yes").exit_code == 0
    assert archive.replayed() == ["e-1"]


@pytest.mark.parametrize(
    ("outcome", "shown", "state"),
    [
        ("failed", "1 failed again", "open (failed again)"),
        ("unread", "1 read by no consumer", "open (read by no consumer)"),
        ("dropped", "1 dropped by the handler", ""),
    ],
)
def test_a_replay_reports_what_the_consumer_confirmed(archive: Archive, outcome: str, shown: str, state: str) -> None:
    archive.died("e-1")
    archive.answer(outcome, "no \x1b[2J such version")
    result = archive.tidings("dlq", "replay", "1", "--yes")
    assert (result.exit_code, shown in result.output) == (0 if outcome == "dropped" else 1, True), result.output
    assert "\x1b" not in result.output
    assert state in archive.tidings("dlq", "list").output
    if state:
        assert archive.tidings("dlq", "discard", "1", "--reason", "known", "--yes").exit_code == 0


def test_an_unconfirmed_replay_is_reported(archive: Archive) -> None:
    archive.died("e-1")
    result = archive.tidings("dlq", "replay", "1", "--yes", "--timeout", "0")
    assert (result.exit_code, "1 sent but not confirmed" in result.output) == (1, True), result.output
    assert [item["state"] for item in archive.json("dlq", "list", "--state", "sent")] == ["sent"]
    archive.receive("shop.itemSold.v1", "e-2")
    result = archive.tidings("replay", "shop", "--yes", "--timeout", "0")
    assert (result.exit_code, "not confirmed in time" in result.output) == (1, True), result.output


def test_what_a_dead_letter_holds_is_shown_and_never_sent_to_the_terminal(archive: Archive) -> None:
    reason = "bad [/bold] [red]text[/red] \x1b[2J\x1b[31mESC \u202eRTL \U0001f355"
    archive.died("e-1", failurereason=reason, subject="<img src=x onerror=alert(1)>")
    for words in (("list",), ("show", "1"), ("list", "-o", "json"), ("replay", "1", "--dry-run")):
        shown = archive.tidings("dlq", *words).output
        assert "[red]text[/red]" in shown
        assert "\x1b" not in shown
        assert "\u202e" not in shown


def test_what_the_archive_could_not_keep_is_pointed_out() -> None:
    letter = {"number": 7, "state": "open", "app": "archive", "subscription": "archive-everything", "type": "a.b",
              "version": 1, "subject": "", "attempts": 1, "lastAttempt": None, "receivedAt": "2026-03-14T12:00:00Z",
              "reason": "the disk is full"}  # fmt: skip
    with answering(json.dumps({"deadLetters": [letter], "next": None}).encode()) as url:
        shown = CliRunner().invoke(app, ["dlq", "list", "--archive", url])
    assert "of the archive itself" in shown.output


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"<html>\x1b[31mno</html>", "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"[" * 100_000, "not JSON"),
        (b'"' + b"x" * 3_000_000 + b'"', "has more than"),
    ],
)
def test_an_invalid_response_of_the_archive_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, body: bytes, complaint: str
) -> None:
    monkeypatch.setattr(cli_archive, "MAX_ANSWER", 2 * 1024 * 1024)
    with answering(body) as url:
        for words in (("dlq", "list"), ("dlq", "show", "1"), ("dlq", "replay", "--all", "--yes"),
                      ("replay", "kitchen", "--yes")):  # fmt: skip
            result = CliRunner().invoke(app, [*words, "--archive", url])
            assert result.exit_code == 1, result.output
            assert complaint in " ".join(result.output.split())
            assert "\x1b" not in result.output
            assert "Traceback" not in result.output


def test_pages_that_do_not_go_on_end_with_an_error() -> None:
    with answering(b'{"deadLetters": [], "next": 5}') as url:
        result = CliRunner().invoke(app, ["dlq", "replay", "--all", "--yes", "--archive", url])
    assert (result.exit_code, "follows page" in " ".join(result.output.split())) == (1, True)


@contextmanager
def answering(body: bytes) -> Iterator[str]:
    """Run a server that answers everything with the same bytes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            with suppress(ConnectionError):
                self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the standard library's name

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_dead_letter_without_a_version_shows_that(archive: Archive) -> None:
    archive.died("e-1", version=None, failureclass="MalformedEvent")  # type: ignore[arg-type]
    listed, shown = archive.tidings("dlq", "list"), archive.tidings("dlq", "show", "1")
    for item in (listed, shown):
        assert "no version" in " ".join(item.output.split()), item.output
        assert ".v0" not in item.output
