"""The admission webhooks over HTTPS: /validate/… and /default/… accept an AdmissionReview each (see webhook_paths).

A refused incompatible change is reported to the owners, except in a dry run; there are no other side effects. Each
operator responds, including those without the lease: all of them have the complete state.
"""

import asyncio
import base64
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from aiohttp import web

from tidings.messages.envelope import UNREADABLE
from tidings_operator import access, admission, metrics, server
from tidings_operator.admission import Change, Part, Request, Verdict
from tidings_operator.cache import Cache
from tidings_operator.client import OWN, ApiError, Client
from tidings_operator.conditions import format_finding
from tidings_operator.judging import QUICK, Judge, JudgementError, TooLongError
from tidings_operator.settings import Settings
from tidings_plan.resources import EventType, parse_resource

if TYPE_CHECKING:
    from tidings_operator.certificates import Certificates

LOG = logging.getLogger(__name__)
LARGEST = 16 * 1024 * 1024
"""Maximum size of a review in bytes: the old and new object, each of at most 3 MiB, and a margin."""
BODY_DEADLINE = 5.0
"""Seconds within which a review must arrive."""
AT_ONCE = 8
"""Maximum number of reviews in memory; others wait unread."""
LEAVING = 3.0
"""Seconds that a type's deletion waits for its readers, which may be deleted at the same time."""
AGAIN = 0.5
COLLECTORS = tuple(
    f"system:serviceaccount:kube-system:{name}" for name in ("namespace-controller", "generic-garbage-collector")
)
"""Users that delete dependent objects: a rejection would keep a namespace terminating forever."""
MOST_WARNINGS, LONGEST_WARNING = 10, 256
"""The API server cuts off more."""

T = TypeVar("T")
Response = dict[str, Any]
Answer = Callable[[Request], Awaitable[Response]]
Propose = Callable[[EventType, Sequence[str], str], None]
"""Called with a refused change of an event type, the problems, and the user."""
INCOMPATIBLE = ("incompatible-schema", "breaks-subscription")


class Review(msgspec.Struct, rename="camel"):
    """An AdmissionReview."""

    api_version: str
    kind: str
    request: Request


async def serve(
    settings: Settings,
    cache: Cache,
    client: Client,
    unready: Callable[[], str],
    propose: Propose | None = None,
) -> None:
    """Serve the webhooks until cancelled, with the configured certificate."""
    # Imported here, because creating certificates uses memory.
    from tidings_operator.certificates import MountedCertificates, OwnCertificates  # noqa: PLC0415

    certificates: Certificates = (
        MountedCertificates(settings.webhook_certificate, settings.webhook_key)
        if settings.webhook_certificate
        else OwnCertificates(client, settings.webhook_configuration, settings.identity)
    )
    # The API server waits for ten seconds: no evaluation for a status, and no other process, may go first.
    judge = Judge(niceness=0)
    webhooks = Webhooks(
        cache, client, certificates, judge, namespaces=settings.namespaces, unready=unready, propose=propose
    )
    await webhooks.run(settings.host, settings.webhook_port, settings.webhook_client_ca)


class Webhooks:
    """Evaluates requests to the API server on the operator's state."""

    def __init__(
        self,
        cache: Cache,
        client: Client,
        certificates: "Certificates",
        judge: Judge,
        *,
        namespaces: tuple[str, ...],
        unready: Callable[[], str],
        propose: Propose | None = None,
    ) -> None:
        self._cache = cache
        self._client = client
        self._certificates = certificates
        self._judge = judge
        self._namespaces = namespaces
        self._unready = unready
        self._propose = propose

    async def run(self, host: str, port: int, client_ca: str = "") -> None:
        """Serve until cancelled, with a trusted certificate; with `client_ca`, require client certificates."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca or None)
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
        await self._certificates.begin(context)
        runner, _ = await server.serve(self.application(), host, port, context)
        try:
            await self._certificates.keep(context)
        finally:
            await runner.cleanup()

    def application(self) -> web.Application:
        """Build the application."""
        app = web.Application(client_max_size=LARGEST)
        slots = asyncio.Semaphore(AT_ONCE)
        admits = self._certificates.admits
        app.router.add_post("/validate{secret:(/.*)?}", _reviewed(self.validate, slots, admits))
        app.router.add_post("/default{secret:(/.*)?}", _reviewed(self.default, slots, admits))
        return app

    async def validate(self, request: Request) -> Response:
        """Decide whether a request is allowed."""
        if wrong := self._unready():
            raise web.HTTPServiceUnavailable(text=wrong)  # failurePolicy decides
        is_collected = request.operation == "DELETE" and request.user_info.username in COLLECTORS
        if is_collected or not self._is_managed(request.namespace):
            return {"allowed": True}
        try:
            fresh: Sequence[Part] = ()
            change, verdict = await self._judged(request, fresh)
            deadline = time.monotonic() + (LEAVING if request.operation == "DELETE" else 0.0)
            while verdict.errors and not change.unreadable:
                # The watch may lag: do not reject because of outdated state.
                fresh = await self._unseen(
                    {namespace for namespace in {change.key[0], *_homes(change)} if self._is_managed(namespace)}
                )
                change, verdict = await self._judged(request, fresh)
                if time.monotonic() >= deadline:
                    break
                await asyncio.sleep(AGAIN)
            if (verdict.errors or verdict.warnings) and not change.unreadable:
                verdict = await self._for(request, change, verdict, fresh)
        except JudgementError as error:
            return self._unjudged(request, error)
        # Owners are notified of an incompatible change, with what its author is told; a dry run has no effects.
        problems = [format_finding(finding) for finding in verdict.errors if finding.rule in INCOMPATIBLE]
        if self._propose and problems and change.kind == "EventType" and change.new and not request.dry_run:
            self._propose(change.new, problems, request.user_info.username)
        metrics.ADMISSIONS.labels(change.kind, "refused" if verdict.errors else "allowed").inc()
        return _response(change, verdict)

    async def _judged(self, request: Request, fresh: Sequence[Part]) -> tuple[Change, Verdict]:
        return await self._in_time(lambda: self._verdict(request, fresh))

    async def _in_time(self, work: Callable[[], T]) -> T:
        """Evaluate among the quick requests first: others that take long must not use up the API server's patience."""
        try:
            return await self._judge(work, QUICK)
        except TooLongError:
            return await self._judge(work)

    def _verdict(self, request: Request, fresh: Sequence[Part]) -> tuple[Change, Verdict]:
        """Evaluate a request. Runs in a fork."""
        now = datetime.now(UTC)
        change = admission.read(request, now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        return change, admission.judge(change, self._cache.inventory, now.date(), fresh)

    async def _for(self, request: Request, change: Change, verdict: Verdict, fresh: Sequence[Part]) -> Verdict:
        """Return the verdict that the user may know: it is evaluated again on the objects that the user may read."""
        inventory, own = self._cache.inventory, change.key[0]
        spaces = {key[0] for known in (inventory.subscriptions, inventory.types) for key in known} - {own}
        text = " ".join((*map(format_finding, verdict.errors), *verdict.warnings))
        asked_of = {namespace for namespace in spaces if f"{namespace}/" in text} | _homes(change) - {own}
        if not spaces and not asked_of:
            return verdict
        plural = "eventsubscriptions" if change.kind == "EventType" else "eventtypes"
        visible = await access.readable(self._client, request.user_info, plural, sorted(asked_of))
        if visible is None or (spaces | asked_of) <= visible:
            return verdict

        def judge() -> tuple[Change, Verdict]:
            seen = {*visible, own}
            access.conceal(inventory, seen)
            return self._verdict(request, [part for part in fresh if part[1][0] in seen])

        return access.redact(verdict, (await self._in_time(judge))[1])

    @staticmethod
    def _unjudged(request: Request, error: JudgementError) -> Response:
        """Reject a request that cannot be evaluated, except for deletions."""
        metrics.ADMISSIONS.labels(request.kind.kind, "unjudged").inc()
        if request.operation == "DELETE":
            return {"allowed": True}
        message = f"This cannot be judged: {error}. Make it smaller or simpler."
        status = {"code": int(HTTPStatus.UNPROCESSABLE_ENTITY), "reason": "Invalid", "message": message}
        return {"allowed": False, "status": status}

    async def default(self, request: Request) -> Response:
        """Set the defaults that the CRD's schema cannot express."""
        spec = (request.object or {}).get("spec")
        if not isinstance(spec, dict):  # the API server calls before it validates the object's schema
            return {"allowed": True}
        filled = admission.defaults(request.kind.kind, request.operation, spec, request.user_info.username)
        if not spec or not filled:
            return {"allowed": True}
        patch = [{"op": "add", "path": f"/spec/{name}", "value": value} for name, value in filled.items()]
        encoded = base64.b64encode(msgspec.json.encode(patch)).decode()
        return {"allowed": True, "patchType": "JSONPatch", "patch": encoded}

    def _is_managed(self, namespace: str) -> bool:
        """Return True if the operator manages a namespace; it has no permissions in others."""
        return not self._namespaces or namespace in self._namespaces

    async def _unseen(self, namespaces: set[str]) -> list[Part]:
        """Return objects of the API server that differ from the inventory; none if it does not answer."""
        try:
            differences = [
                await self._differing(kind, namespace)
                for kind in ("EventType", "EventSubscription")
                for namespace in namespaces
            ]
        except ApiError as error:
            raise web.HTTPServiceUnavailable(text=str(error)) from error
        return [part for parts in differences for part in parts]

    async def _differing(self, kind: str, namespace: str) -> list[Part]:
        items, _ = await self._client.list(OWN[kind], namespace, metadata_only=True)
        versions = {item["metadata"]["name"]: int(item["metadata"]["resourceVersion"]) for item in items}
        known = {
            name: tracked.version
            for (of, space, name), tracked in self._cache.objects.items()
            if (of, space) == (kind, namespace)
        }
        parts: list[Part] = [(kind, (namespace, name), None) for name in known.keys() - versions.keys()]
        late = [name for name, version in versions.items() if known.get(name, 0) < version]
        bodies = await asyncio.gather(*(self._client.get(OWN[kind], namespace, name) for name in late))
        for name, body in zip(late, bodies, strict=True):
            exists = body and not body["metadata"].get("deletionTimestamp")
            parts.append((kind, (namespace, name), parse_resource(body)[0] if exists else None))
        return parts


def _homes(change: Change) -> set[str]:
    """Return the namespaces of the types that a change concerns."""
    if change.kind == "EventSubscription" and change.new:
        return {event.namespace or change.key[0] for event in change.new.spec.events}
    return {change.key[0]}


def _response(change: Change, verdict: Verdict) -> Response:
    warnings = [warning[:LONGEST_WARNING] for warning in verdict.warnings[:MOST_WARNINGS]]
    if not verdict.errors:
        return {"allowed": True, "warnings": warnings}
    code = HTTPStatus.CONFLICT if change.operation == "DELETE" else HTTPStatus.UNPROCESSABLE_ENTITY
    reason = "Conflict" if change.operation == "DELETE" else "Invalid"
    message = " | ".join(format_finding(finding) for finding in verdict.errors[:MOST_WARNINGS])
    if len(verdict.errors) > MOST_WARNINGS:
        message += f" | and {len(verdict.errors) - MOST_WARNINGS} more"
    return {"allowed": False, "status": {"code": int(code), "reason": reason, "message": message}, "warnings": warnings}


def _reviewed(
    answer: Answer, slots: asyncio.Semaphore, admits: Callable[[str], Awaitable[bool]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Respond to an AdmissionReview; clients that do not know the path get no response."""

    async def handle(http: web.Request) -> web.Response:
        if not await admits(http.raw_path.partition("?")[0]):
            raise web.HTTPNotFound(text="only the API server is answered, at the path in the webhook configuration")
        if http.headers.get("Content-Encoding", "identity") != "identity":  # 300 kB may become 300 MB at once
            raise web.HTTPUnsupportedMediaType(text="send the review without Content-Encoding")
        async with slots:
            return await read(http)

    async def read(http: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(BODY_DEADLINE):
                text = await http.read()
            review = msgspec.json.decode(text, type=Review)
        except TimeoutError as error:
            raise web.HTTPRequestTimeout(text=f"the review did not arrive within {BODY_DEADLINE:g} s") from error
        except UNREADABLE as error:
            raise web.HTTPBadRequest(text=f"this is no AdmissionReview of admission.k8s.io/v1: {error}") from error
        response = {"uid": review.request.uid, **await answer(review.request)}
        body = {"apiVersion": review.api_version, "kind": review.kind, "response": response}
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    return handle
