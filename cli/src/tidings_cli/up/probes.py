"""Readiness probes. A probe is data; `problem` runs it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tidings.conventions import TOKEN_HEADER
from tidings.web.answers import PLAIN, AnswerTooLarge, read_bounded

HOST = "127.0.0.1"
DEADLINE = 2.0
"""Timeout of one probe in seconds."""
MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of an answer: the metadata of a sidecar lists every subscription."""
FIRST_ERROR = 400


@dataclass(frozen=True, slots=True)
class Listens:
    """Ready once the port accepts connections and, with `ask`, the response begins with `answer`."""

    port: int
    ask: bytes = b""
    answer: bytes = b""


@dataclass(frozen=True, slots=True)
class Answers:
    """Ready once the URL answers 2xx or 3xx."""

    url: str


@dataclass(frozen=True, slots=True)
class Succeeds:
    """Ready once the command ends with exit code 0."""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SidecarServes:
    """Ready once daprd is healthy and its metadata lists every planned subscription."""

    url: str
    token: str = field(repr=False)
    subscriptions: frozenset[tuple[str, str]] = frozenset()
    """Planned (pubsub, topic) pairs."""


Probe = Listens | Answers | Succeeds | SidecarServes


async def problem(probe: Probe, client: httpx2.AsyncClient) -> str:
    """Return why the process is not ready; empty if it is ready."""
    try:
        async with asyncio.timeout(DEADLINE):
            match probe:
                case Listens():
                    return await _listens(probe)
                case Answers():
                    return await _answers(probe.url, client)
                case Succeeds():
                    return await _succeeds(probe.argv)
                case SidecarServes():
                    return await _serves(probe, client)
    except TimeoutError:
        return f"no answer within {DEADLINE:g} s"


async def _listens(probe: Listens) -> str:
    try:
        reader, writer = await asyncio.open_connection(HOST, probe.port)
    except OSError:
        return f"port {probe.port} does not accept connections yet"
    try:
        if not probe.answer:
            return ""
        writer.write(probe.ask)
        answer = await reader.read(len(probe.answer))
    except OSError as error:
        return f"port {probe.port}: {error}"
    finally:
        writer.close()
    return "" if answer == probe.answer else f"answers {answer!r}, not {probe.answer!r}"


async def _get(url: str, client: httpx2.AsyncClient, headers: Mapping[str, str]) -> httpx2.Response | str:
    try:
        request = client.build_request("GET", url, headers={**PLAIN, **headers}, timeout=DEADLINE)
        response = await client.send(request, stream=True)
        return httpx2.Response(response.status_code, content=await read_bounded(response, MAX_ANSWER))
    except (httpx2.HTTPError, AnswerTooLarge) as error:
        return f"{url}: {str(error) or type(error).__name__}"


async def _answers(url: str, client: httpx2.AsyncClient, headers: Mapping[str, str] | None = None) -> str:
    response = await _get(url, client, headers or {})
    if isinstance(response, str):
        return response
    return f"{url} answers {response.status_code}: {response.text[:200]}" if response.status_code >= FIRST_ERROR else ""


async def _succeeds(argv: Sequence[str]) -> str:
    nothing = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdout=nothing, stderr=nothing)
    try:
        code = await process.wait()
    finally:
        if process.returncode is None:  # timeout or cancellation
            process.kill()
            await process.wait()
    return f"`{argv[0]}` ends with exit code {code}" if code else ""


async def _serves(probe: SidecarServes, client: httpx2.AsyncClient) -> str:
    headers = {TOKEN_HEADER: probe.token}
    unhealthy = await _answers(f"{probe.url}/v1.0/healthz", client, headers)
    if unhealthy:
        return unhealthy
    response = await _get(f"{probe.url}/v1.0/metadata", client, headers)
    if isinstance(response, str):
        return response
    try:
        components = loaded(response.json())
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return f"{probe.url}/v1.0/metadata answers something else than a sidecar does"
    missing = sorted(topic for _, topic in probe.subscriptions - components)
    return f"not subscribed yet to {', '.join(missing)}" if missing else ""


def loaded(metadata: Mapping[str, Any]) -> frozenset[tuple[str, str]]:
    """Return the (pubsub, topic) pairs in a sidecar's metadata."""
    subscriptions = metadata.get("subscriptions") or ()
    return frozenset((subscription["pubsubname"], subscription["topic"]) for subscription in subscriptions)
