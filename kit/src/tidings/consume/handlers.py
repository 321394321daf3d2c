"""Which function handles which message. A `Handlers` is to events what an APIRouter is to requests."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tidings.consume.policy import RetryPolicy
from tidings.errors import DefinitionError
from tidings.messages import events
from tidings.messages.delivery import Cause
from tidings.messages.envelope import Received
from tidings.messages.events import MessageType, message_type

_ANY = MessageType("*", 0, "fact", "*", None, Received)
Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True)
class Handler:
    """A function, the message it takes, and how it wants to be called.

    `subscriptions` names those of which it takes whatever they deliver; most handlers take a type instead. `together`
    is how many messages it takes at once, as a list; 0 is one, not as a list. `per_subject` keeps lists to one subject.
    """

    function: Callable[[Any, Any], Awaitable[Any]]
    kind: MessageType
    paths: tuple[str, ...]
    once: bool
    retry: RetryPolicy | None = None
    concurrency: int | None = None
    versions: frozenset[int] = frozenset()
    subscriptions: frozenset[str] = frozenset()
    together: int = 0
    per_subject: bool = False

    def read(self, cause: Cause) -> object:
        """Make the handler's message of an event.

        Raises:
            MalformedEvent: The event's data does not fit the handler's class.

        """
        if self.subscriptions:
            return cause.received
        return events.decode(self.kind, int(cause.envelope.version), cause.envelope.data)

    @property
    def name(self) -> str:
        """The function's name, for logs and traces."""
        return getattr(self.function, "__qualname__", repr(self.function))


@dataclass(slots=True)
class Handlers:
    """Collects handlers, so that they can be declared where they stand and be tested without a service."""

    found: list[Handler] = field(default_factory=list)

    def on(
        self,
        *models: type[Any],
        path: str | None = None,
        once: bool = True,
        retry: RetryPolicy | None = None,
        concurrency: int | None = None,
    ) -> Callable[[Function], Function]:
        """Register `async def handler(event, context)` for one or several event or command classes.

        Args:
            models: The consumer's own classes; where there are several they need nothing in common.
            path: Where the sidecar delivers; `/events/<topic>` for every version unless the EventSubscription routes
                elsewhere.
            once: Handle each event once in effect: its id is kept in the document that the handler saves. Switch it
                off where handling twice changes nothing anyhow and a rebuild by replay must be possible.
            retry: For scheduled messages, how often and how far apart; an EventSubscription says it for events.
            concurrency: For scheduled messages, how many are handled at once.

        Raises:
            DefinitionError: The function is not `async def` with two parameters, or a class is no event.

        """

        def decorate(function: Function) -> Function:
            _check(function)
            for model in models:
                self.found.append(_handler(function, model, path, once=once, retry=retry, concurrency=concurrency))
            return function

        return decorate

    def together(
        self,
        model: type[Any],
        *,
        path: str | None = None,
        limit: int = 100,
        per_subject: bool = False,
        retry: RetryPolicy | None = None,
        once: bool = True,
    ) -> Callable[[Function], Function]:
        """Register `async def handler(messages, context)`: all that wait in this process are one unit of work.

        They are given to it as a list, and one unit runs at a time: what comes while it commits is the next list, and
        nobody waits for a longer one. A burst costs few commits instead of one each, and nobody fights for a document
        that all of them change. Each message is answered for itself after the commit. Where a list fails, its messages
        are tried one by one, each as its own attempt, so that a bad one harms no other; what the handler returns
        counts for the whole list. `context` tells the metadata of the first.

        Args:
            model: The consumer's own class of an event, or of a message that `context.schedule` is given.
            path: Where the sidecar delivers, as for `on`.
            limit: The most that one unit of work takes.
            per_subject: A list holds messages of one subject only, and other subjects' lists run beside it: for
                documents, of which a unit of work saves one. Without it, what a list changes must be one document, or
                rows.
            retry: For scheduled messages, how often and how far apart.
            once: Handle each message once in effect, all of a list. A document then keeps the ids of seven days: for
                one that many messages change, choose a handler that may be repeated; a table keeps them at no cost.

        Raises:
            DefinitionError: The function is not `async def` with two parameters, or the class is no event.

        """

        def decorate(function: Function) -> Function:
            _check(function)
            how = {"once": once, "retry": retry, "together": limit, "per_subject": per_subject}
            self.found.append(_handler(function, model, path, **how))
            return function

        return decorate

    def any(self, *subscriptions: str, once: bool = True, together: int = 0) -> Callable[[Function], Function]:
        """Register `async def handler(received, context)` for whatever those EventSubscriptions deliver.

        For who keeps or hands on events without knowing their types; it is given `Received`, the event whole, and also
        what no other handler could read. Replays are for handlers that know what they handle: it is given none.

        Args:
            subscriptions: Names of EventSubscriptions that read by pattern: `*`, `orders.*`, `deadletter.*`.
            once: Handle each event once in effect. One fact published in two versions has one id: switch it off where
                each version counts.
            together: Take up to so many at once, as a list in one unit of work: see `together` above.

        Raises:
            DefinitionError: The function is not `async def` with two parameters, or no subscription is named.

        """
        if not subscriptions:
            raise DefinitionError("Handlers.any: name the EventSubscriptions that it takes everything of")

        def decorate(function: Function) -> Function:
            _check(function)
            named = frozenset(subscriptions)
            self.found.append(Handler(function, _ANY, (), once, subscriptions=named, together=together))
            return function

        return decorate

    def __iter__(self) -> Iterator[Handler]:
        return iter(self.found)


def _handler(function: Callable[..., Any], model: type[Any], path: str | None, **how: Any) -> Handler:
    kind = message_type(model)
    versions = frozenset(kind.versions())
    topics = (kind.topic, *(f"{kind.name}.v{version}" for version in versions - {kind.version}))
    paths = (path,) if path else tuple(f"/events/{topic}" for topic in topics)
    return Handler(function, kind, paths, versions=versions, **how)


def _check(function: Callable[..., Any]) -> None:
    parameters = len(inspect.signature(function).parameters)
    if not inspect.iscoroutinefunction(function) or parameters != 2:  # noqa: PLR2004 - (event, context)
        name = getattr(function, "__qualname__", function)
        raise DefinitionError(f"{name}: a handler is `async def handler(event, context)`")
