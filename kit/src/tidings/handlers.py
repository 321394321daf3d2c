"""Which function handles which message. A `Handlers` is to events what an APIRouter is to requests."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tidings import events
from tidings.context import Cause
from tidings.envelope import Received
from tidings.errors import DefinitionError
from tidings.events import MessageType, message_type
from tidings.policy import RetryPolicy

_ANY = MessageType("*", 0, "fact", "*", None, Received)
Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True)
class Handler:
    """A function, the message it takes, and how it wants to be called.

    `subscriptions` names those of which it takes whatever they deliver; most handlers take a type instead. `together`
    is how many scheduled messages it takes at once; most take one.
    """

    function: Callable[[Any, Any], Awaitable[Any]]
    kind: MessageType
    paths: tuple[str, ...]
    once: bool
    retry: RetryPolicy | None
    concurrency: int | None
    versions: frozenset[int]
    subscriptions: frozenset[str] = frozenset()
    together: int = 0

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
                kind = message_type(model)
                versions = frozenset(kind.versions())
                topics = (kind.topic, *(f"{kind.name}.v{version}" for version in versions - {kind.version}))
                paths = (path,) if path else tuple(f"/events/{topic}" for topic in topics)
                self.found.append(Handler(function, kind, paths, once, retry, concurrency, versions))
            return function

        return decorate

    def together(
        self, model: type[Any], *, limit: int = 100, retry: RetryPolicy | None = None, once: bool = False
    ) -> Callable[[Function], Function]:
        """Register `async def handler(messages, context)` for scheduled messages that change one and the same document.

        All that wait in this process are given to it as a list, in one unit of work, and one unit runs at a time: a
        burst costs few writes instead of fighting for the document. Where a list fails, its messages are tried one
        by one. A message may come again after a crash: handling it twice must change nothing, or `once` be set.

        Args:
            model: The class of the messages, as `context.schedule` is given them.
            limit: The most that one unit of work takes.
            retry: How often and how far apart.
            once: Handle each message once in effect, all of a list. The document then keeps the ids of seven days: for
                one that many messages change, choose a handler that may be repeated; a table keeps them at no cost.

        Raises:
            DefinitionError: The function is not `async def` with two parameters, or the class is no event.

        """

        def decorate(function: Function) -> Function:
            _check(function)
            kind = message_type(model)
            self.found.append(
                Handler(function, kind, (), once, retry, None, frozenset(kind.versions()), together=limit)
            )
            return function

        return decorate

    def any(self, *subscriptions: str, once: bool = True) -> Callable[[Function], Function]:
        """Register `async def handler(received, context)` for whatever those EventSubscriptions deliver.

        For who keeps or hands on events without knowing their types; it is given `Received`, the event whole, and also
        what no other handler could read. Replays are for handlers that know what they handle: it is given none.

        Args:
            subscriptions: Names of EventSubscriptions that read by pattern: `*`, `orders.*`, `deadletter.*`.
            once: Handle each event once in effect. One fact published in two versions has one id: switch it off where
                each version counts.

        Raises:
            DefinitionError: The function is not `async def` with two parameters, or no subscription is named.

        """
        if not subscriptions:
            raise DefinitionError("Handlers.any: name the EventSubscriptions that it takes everything of")

        def decorate(function: Function) -> Function:
            _check(function)
            named = frozenset(subscriptions)
            self.found.append(Handler(function, _ANY, (), once, None, None, frozenset(), named))
            return function

        return decorate

    def __iter__(self) -> Iterator[Handler]:
        return iter(self.found)


def _check(function: Callable[..., Any]) -> None:
    parameters = len(inspect.signature(function).parameters)
    if not inspect.iscoroutinefunction(function) or parameters != 2:  # noqa: PLR2004 - (event, context)
        name = getattr(function, "__qualname__", function)
        raise DefinitionError(f"{name}: a handler is `async def handler(event, context)`")
