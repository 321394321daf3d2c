"""The simulators as the programs they are: the SaaS and the mail server, and what they do wrong on request."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import aiosmtplib
import httpx2
import pytest
from simulators.saas import create as create_saas

from tidings_cli.testing.programs import Ports

SIMULATORS = Path(__file__).parents[2] / "simulators"
HOST = "127.0.0.1"
Run = Callable[..., Any]


@pytest.fixture
def ports():
    with Ports() as free:
        yield free


@asynccontextmanager
async def program(name: str, url: str, *arguments: object) -> AsyncIterator[httpx2.AsyncClient]:
    """Run a simulator until its control answers."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SIMULATORS / name), *map(str, arguments), stderr=asyncio.subprocess.PIPE
    )
    try:
        async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            async with asyncio.timeout(60):
                while True:
                    try:
                        await client.get("/control")
                        break
                    except httpx2.TransportError:
                        assert process.returncode is None, (await process.communicate())[1]
                        await asyncio.sleep(0.05)
            yield client
    finally:
        process.terminate()
        _, complaints = await process.communicate()
        assert not complaints.strip(), complaints


def posting(account: str = "ada", order: str = "o-1", points: object = 12) -> dict[str, object]:
    return {"acctRef": account, "extRef": order, "pts": points, "typ": "ERN"}


async def post(saas: httpx2.AsyncClient, key: str, **content: Any) -> tuple[int, Any]:
    answer = await saas.post("/api/v2/TxnPost", json=posting(**content), headers={"idempotency-key": key})
    return answer.status_code, answer.json() if "json" in answer.headers.get("content-type", "") else answer.text


async def test_the_saas_enters_every_key_a_single_time_and_reports_double_gifts(ports: Ports, tmp_path: Path):
    port = ports.take()
    arguments = ("saas.py", f"http://{HOST}:{port}", "--port", port, "--data", tmp_path)
    async with program(*arguments) as saas:
        first = await post(saas, "k-1")
        assert (first[0], first[1]["txn"] | {"ts": ""}) == (
            200,
            {"no": 1, "acctRef": "ada", "extRef": "o-1", "pts": 12, "balAft": 12, "ts": ""},
        )
        assert await post(saas, "k-1") == first
        assert (await post(saas, "k-1", points=13))[0] == 422
        assert (await post(saas, "k-2", order="o-2", points=3))[1]["txn"]["balAft"] == 15
        counts = (await saas.get("/control")).json()
        assert (counts["calls"], counts["gifts"], counts["points"], counts["doubleGifts"]) == (4, 2, 15, 0)
        assert (await post(saas, "another key"))[1]["txn"]["balAft"] == 27
    async with program(*arguments) as saas:  # it remembers
        assert await post(saas, "k-1") == first
        assert (await saas.get("/control")).json()["doubleGifts"] == 1
        account = (await saas.get("/control/accounts/ada")).json()
        assert (account["bal"], [entry["extRef"] for entry in account["txns"]]) == (27, ["o-1", "o-2", "o-1"])


async def test_the_saas_fails_as_configured(ports: Ports):
    port = ports.take()
    async with program("saas.py", f"http://{HOST}:{port}", "--port", port) as saas:
        await saas.put("/control", json={"fault": "throttle", "seconds": 3, "times": 2})
        for _ in range(2):
            busy = await saas.post("/api/v2/TxnPost", json=posting(), headers={"idempotency-key": "k-1"})
            assert (busy.status_code, busy.headers["retry-after"], busy.json()["cd"]) == (429, "3", "T429")
        assert (await post(saas, "k-1"))[0] == 200
        await saas.put("/control", json={"fault": "error", "times": 1})
        assert (await post(saas, "k-2"))[0] == 500
        await saas.put("/control", json={"fault": "down"})
        for _ in range(2):
            with pytest.raises((httpx2.RemoteProtocolError, httpx2.ReadError)):  # the connection is closed or reset
                await post(saas, "k-3")
        await saas.put("/control", json={"fault": "slow", "seconds": 1})
        with pytest.raises(httpx2.ReadTimeout):
            await saas.post(
                "/api/v2/TxnPost", json=posting(order="o-4"), headers={"idempotency-key": "k-4"}, timeout=0.3
            )
        counts = (await saas.put("/control", json={})).json()
        assert (counts["calls"], counts["gifts"], counts["fault"]) == (7, 2, "none")  # late, but entered
        assert (await post(saas, "k-4", order="o-4"))[1]["txn"]["no"] == 2
        answers = (await saas.get("/control")).json()["answers"]
        assert (answers["429"], answers["500"], answers["down"]) == (2, 1, 2)


@pytest.mark.parametrize(
    ("state", "content", "refusal"),
    [
        ("unknown", posting(), (404, "A404")),
        ("frozen", posting(), (423, "A423")),
        ("open", posting(points=0), (400, "V400")),
        ("open", {"pts": "many"}, (400, "V400")),
    ],
)
async def test_the_saas_refuses_in_its_own_form(state: str, content: dict[str, object], refusal: tuple[int, str]):
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(create_saas()), base_url="http://saas") as client:
        assert (await client.put("/control/accounts/ada", json={"state": state})).json()["state"] == state
        answer = await client.post("/api/v2/TxnPost", json=content, headers={"idempotency-key": "k"})
        assert (answer.status_code, answer.json()["cd"]) == refusal
        assert (await client.put("/control", json={"fault": "odd"})).status_code == 422
        assert (await client.put("/control/accounts/ada", json={"state": "odd"})).status_code == 422


def mail(number: int, order: str = "o-1", to: str = "ada@example.org") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "shop@pizza.example"
    message["To"] = to
    message["Subject"] = f"Grüße {number}"
    message["Message-ID"] = f"<{number}@pizza.example>"
    message["X-Order-Id"] = order
    message.set_content("plain words")
    message.add_alternative("<p>fine words</p>", subtype="html")
    return message


@pytest.fixture
async def post_office(ports: Ports):
    """Run the mail server; yield a client of its control API and a function that sends to it."""
    smtp, control = ports.take(), ports.take()

    async def send(message: EmailMessage) -> None:
        await aiosmtplib.send(message, hostname=HOST, port=smtp, timeout=60)

    async with AsyncExitStack() as stack:
        arguments = ("--port", smtp, "--control-port", control)
        yield await stack.enter_async_context(program("smtp.py", f"http://{HOST}:{control}", *arguments)), send


async def test_the_mail_server_stores_every_mail_a_single_time_and_lists_it_by_order(post_office: tuple[Any, Any]):
    control, send = post_office
    for message in (mail(1), mail(2, to="eve@example.org"), mail(1), mail(3, order="o-2")):
        await send(message)
    body = (await control.get("/mails", params={"order": "o-1"})).json()
    assert [(item["subject"], item["copies"]) for item in body] == [("Grüße 1", 2), ("Grüße 2", 1)]
    assert (body[0]["text"].strip(), body[0]["html"].strip()) == ("plain words", "<p>fine words</p>")
    assert len((await control.get("/mails", params={"to": "eve@example.org"})).json()) == 1
    counts = (await control.get("/control")).json()
    assert (counts["received"], counts["copies"]) == (4, 1)
    assert (await control.delete("/mails")).status_code == 204
    assert (await control.get("/mails")).json() == []


@pytest.mark.parametrize("at", ["rcpt", "data"])
@pytest.mark.parametrize(("fault", "code"), [("temporary", 451), ("permanent", 550)])
async def test_the_mail_server_rejects_as_configured(post_office: tuple[Any, Any], fault: str, code: int, at: str):
    control, send = post_office
    await control.put("/control", json={"fault": fault, "at": at, "times": 1})
    with pytest.raises(aiosmtplib.SMTPException) as refused:
        await send(mail(1))
    error = refused.value.recipients[0] if at == "rcpt" else refused.value  # type: ignore[attr-defined]
    assert error.code == code  # type: ignore[union-attr]
    await send(mail(1))
    counts = (await control.get("/control")).json()
    assert (counts[fault], counts["received"], counts["fault"]) == (1, 1, "none")


async def test_the_mail_server_goes_down_and_comes_back(post_office: tuple[Any, Any]):
    control, send = post_office
    assert (await control.put("/control", json={"fault": "odd"})).status_code == 422
    await control.put("/control", json={"fault": "down"})
    with pytest.raises(aiosmtplib.SMTPConnectError):
        await send(mail(1))
    await control.put("/control", json={})
    await send(mail(1))
    assert (await control.get("/control")).json()["received"] == 1
