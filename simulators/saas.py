"""Simulated third-party loyalty SaaS: keeps accounts and points, enters each Idempotency-Key once, fails on request.

    python saas.py --port 8101 --data FOLDER

API of the SaaS:
    POST /api/v2/TxnPost          {"acctRef", "extRef", "pts", "typ": "ERN"}, header Idempotency-Key
Control API for tests:
    GET  /control                 numbers of calls, responses, entries and duplicates, and the fault
    PUT  /control                 {"fault": "none|slow|throttle|error|down", "seconds": 2, "times": 3}
    GET  /control/accounts/{ref}  an account and its entries
    PUT  /control/accounts/{ref}  {"state": "open|frozen|unknown"}

An account is opened by its first entry, unless it was set to unknown. With --data, all data survives a restart.
"""

import argparse
import asyncio
import sqlite3
from collections import Counter
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Literal

import msgspec
import uvicorn
from msgspec import Meta
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

_TABLES = """
CREATE TABLE IF NOT EXISTS account (ref TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS txn (
    no INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE, ref TEXT NOT NULL, ext TEXT NOT NULL,
    pts INTEGER NOT NULL, bal INTEGER NOT NULL, ts TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_account ON txn (ref, no);
"""


class Posting(msgspec.Struct, frozen=True, rename={"account": "acctRef", "reference": "extRef", "points": "pts"}):
    """Request to enter points."""

    account: Annotated[str, Meta(min_length=1, max_length=100)]
    reference: Annotated[str, Meta(min_length=1, max_length=100)]
    points: Annotated[int, Meta(ge=1, le=100_000)]
    typ: Literal["ERN"]


class Fault(msgspec.Struct, forbid_unknown_fields=True):
    """Simulated fault, for a number of calls (`times`) or until another one is set.

    `slow` enters the points and responds after `seconds`; `throttle` responds 429 with `seconds` as Retry-After;
    `error` responds 500; `down` drops the connection.
    """

    fault: Literal["none", "slow", "throttle", "error", "down"] = "none"
    seconds: Annotated[float, Meta(ge=0)] = 2.0
    times: Annotated[int, Meta(ge=1)] | None = None


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Request to set the state of an account."""

    state: Literal["open", "frozen", "unknown"]


class Refusal(Exception):
    """Error response in the format of the SaaS."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.answer = JSONResponse({"stat": "ERR", "cd": code, "msg": message}, status)


class Books:
    """Accounts and entries."""

    def __init__(self, database: str) -> None:
        self._db = sqlite3.connect(database, isolation_level=None)
        self._db.executescript(_TABLES)

    def enter(self, posting: Posting, key: str | None) -> dict[str, object]:
        """Enter the points; a known key returns its first entry again.

        Raises:
            Refusal: The account is frozen or unknown, or the key was used for a different entry.

        """
        known = self._db.execute("SELECT no, ref, ext, pts, bal, ts FROM txn WHERE key = ?", (key,)).fetchone()
        if known is not None:
            if known[1:4] != (posting.account, posting.reference, posting.points):
                raise Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "K422", "key used for another txn")
            return _entry(known)
        match self.state(posting.account):
            case "unknown":
                raise Refusal(HTTPStatus.NOT_FOUND, "A404", "no such acct")
            case "frozen":
                raise Refusal(HTTPStatus.LOCKED, "A423", "acct frozen")
        balance = self.balance(posting.account) + posting.points
        row = (key, posting.account, posting.reference, posting.points, balance, _now())
        self._db.execute("INSERT INTO txn (key, ref, ext, pts, bal, ts) VALUES (?, ?, ?, ?, ?, ?)", row)
        return _entry(self._db.execute("SELECT no, ref, ext, pts, bal, ts FROM txn ORDER BY no DESC").fetchone())

    def balance(self, ref: str) -> int:
        """Return the balance of an account."""
        return int(self._db.execute("SELECT coalesce(sum(pts), 0) FROM txn WHERE ref = ?", (ref,)).fetchone()[0])

    def state(self, ref: str) -> str:
        """Return the state of an account; open by default."""
        row = self._db.execute("SELECT state FROM account WHERE ref = ?", (ref,)).fetchone()
        return str(row[0]) if row else "open"

    def set_state(self, ref: str, state: str) -> None:
        """Set the state of an account."""
        self._db.execute("INSERT OR REPLACE INTO account VALUES (?, ?)", (ref, state))

    def account(self, ref: str) -> dict[str, object]:
        """Return an account with its entries."""
        rows = self._db.execute("SELECT no, ref, ext, pts, bal, ts FROM txn WHERE ref = ? ORDER BY no", (ref,))
        entries = [_entry(row) for row in rows]
        return {"acctRef": ref, "state": self.state(ref), "bal": self.balance(ref), "txns": entries}

    def totals(self) -> dict[str, int]:
        """Return totals of entries. Double gifts are repeated `extRef` values of an account."""
        query = "SELECT count(*), coalesce(sum(pts), 0), count(*) - count(DISTINCT ref || ' ' || ext) FROM txn"
        gifts, points, doubles = self._db.execute(query).fetchone()
        return {"gifts": gifts, "points": points, "doubleGifts": doubles}


def _entry(row: tuple[object, ...]) -> dict[str, object]:
    return dict(zip(("no", "acctRef", "extRef", "pts", "balAft", "ts"), row, strict=True))


def _now() -> str:
    return datetime.now(UTC).strftime("%Y%m%d%H%M%S")


class Saas:
    """Request handlers of the SaaS."""

    def __init__(self, database: str) -> None:
        self._books = Books(database)
        self._fault = Fault()
        self._calls = 0
        self._answers: Counter[str] = Counter()

    async def post(self, request: Request) -> Response:
        """Enter points, or simulate the fault."""
        self._calls += 1
        fault = self._take_fault()
        answer = _failure(fault) or self._entered(await request.body(), request.headers.get("idempotency-key"))
        if fault.fault == "slow":
            await asyncio.sleep(fault.seconds)
        self._answers[fault.fault if fault.fault == "down" else str(answer.status_code)] += 1
        return answer

    def _take_fault(self) -> Fault:
        """Return the fault for this call, and count it down."""
        fault = self._fault
        if fault.times is not None:
            fault.times -= 1
            self._fault = fault if fault.times else Fault()
        return fault

    def _entered(self, body: bytes, key: str | None) -> Response:
        try:
            entry = self._books.enter(msgspec.json.decode(body, type=Posting), key)
        except msgspec.MsgspecError as error:
            return Refusal(HTTPStatus.BAD_REQUEST, "V400", str(error)).answer
        except Refusal as refusal:
            return refusal.answer
        return JSONResponse({"stat": "OK", "txn": entry})

    async def counts(self, _request: Request) -> Response:
        """Return the numbers of calls, responses and entries."""
        counts = {"calls": self._calls, "answers": self._answers, **self._books.totals()}
        return JSONResponse({**msgspec.to_builtins(self._fault), **counts})

    async def set_fault(self, request: Request) -> Response:
        """Set the fault."""
        try:
            self._fault = msgspec.json.decode(await request.body(), type=Fault)
        except msgspec.MsgspecError as error:
            return JSONResponse({"detail": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)
        return await self.counts(request)

    async def account(self, request: Request) -> Response:
        """Return an account."""
        return JSONResponse(self._books.account(request.path_params["ref"]))

    async def set_account(self, request: Request) -> Response:
        """Set the state of an account."""
        try:
            setting = msgspec.json.decode(await request.body(), type=Setting)
        except msgspec.MsgspecError as error:
            return JSONResponse({"detail": str(error)}, HTTPStatus.UNPROCESSABLE_ENTITY)
        self._books.set_state(request.path_params["ref"], setting.state)
        return await self.account(request)


class _Incomplete(Response):
    """Response that is shorter than its content length, so that the server closes the connection."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send a part of the body."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"100")]})
        await send({"type": "http.response.body", "body": b'{"stat": "', "more_body": True})


def _failure(fault: Fault) -> Response | None:
    match fault.fault:
        case "throttle":
            return JSONResponse(
                {"stat": "ERR", "cd": "T429", "msg": "slow down"},
                HTTPStatus.TOO_MANY_REQUESTS,
                {"retry-after": f"{fault.seconds:.0f}"},
            )
        case "error":
            return Response("<h1>Internal Server Error</h1>", HTTPStatus.INTERNAL_SERVER_ERROR)
        case "down":
            return _Incomplete()
    return None


def create(database: str = ":memory:") -> Starlette:
    """Create the ASGI application."""
    saas = Saas(database)
    return Starlette(
        routes=[
            Route("/api/v2/TxnPost", saas.post, methods=["POST"]),
            Route("/control", saas.counts, methods=["GET"]),
            Route("/control", saas.set_fault, methods=["PUT"]),
            Route("/control/accounts/{ref}", saas.account, methods=["GET"]),
            Route("/control/accounts/{ref}", saas.set_account, methods=["PUT"]),
        ]
    )


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description="Simulated loyalty SaaS.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8101)
    parser.add_argument("--data", type=Path, help="folder for the data; by default in memory")
    arguments = parser.parse_args()
    database = ":memory:"
    if arguments.data is not None:
        arguments.data.mkdir(parents=True, exist_ok=True)
        database = str(arguments.data / "saas.db")
    # At lower levels uvicorn logs the connections that are dropped on purpose.
    uvicorn.run(create(database), host=arguments.host, port=arguments.port, access_log=False, log_level="critical")


if __name__ == "__main__":
    main()
