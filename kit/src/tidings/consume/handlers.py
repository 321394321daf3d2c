"""Registration of message handlers. `Handlers` is for events what an APIRouter is for requests."""

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from tidings.consume.policy import RetryPolicy
from tidings.conventions import event_path
from tidings.errors import DefinitionError
from tidings.messages import events, personal
from tidings.messages.delivery import DeliveryContext
from tidings.messages.envelope import Received
from tidings.messages.events import MessageType, message_type

_ANY = MessageType("*", 0, "fact", "*", None, Received)
Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])


@dataclass(frozen=True, slots=True)
class Handler:
    """A handler function, the message type it takes and its options.

    Attributes:
        function: `async def function(message, context)`; with a `batch_size`, it takes a list of messages.
        kind: Message type.
        paths: Paths of the deliveries.
        deduplicate: True to handle each event once.
        retry: Retry policy of scheduled messages.
        concurrency: Maximum concurrency of scheduled messages.
        versions: Versions that the handler can read.
        subscriptions: EventSubscriptions whose events it takes regardless of their type; usually empty.
        batch_size: Maximum number of messages per call, as a list; 0 to take single messages.
        linger: Seconds for which a batch of fewer than 16 messages waits for the next one.
        key: Function of a message; a batch holds messages with the same result only.

    """

    function: Callable[[Any, Any], Awaitable[Any]]
    kind: MessageType
    paths: tuple[str, ...]
    deduplicate: bool
    retry: RetryPolicy | None = None
    concurrency: int | None = None
    versions: frozenset[int] = frozenset()
    subscriptions: frozenset[str] = frozenset()
    batch_size: int = 0
    linger: float = 0.0
    key: Callable[[Any], str] | None = None

    def read(self, delivery: DeliveryContext) -> object:
        """Decode the message that is passed to the handler.

        Raises:
            MalformedEvent: The event's data does not match the handler's class.

        """
        if self.subscriptions:
            return delivery.received
        return events.decode(self.kind, int(delivery.envelope.version), personal.decrypt(delivery.envelope))

    @property
    def name(self) -> str:
        """The function's name, for logs and traces."""
        return getattr(self.function, "__qualname__", repr(self.function))


@dataclass(slots=True)
class Handlers:
    """Registry of handlers, which can be declared in any module and tested without a service."""

    _handlers: list[Handler] = field(default_factory=list)

    def on(
        self,
        *models: type[Any],
        path: str | None = None,
        deduplicate: bool = True,
        retry: RetryPolicy | None = None,
        concurrency: int | None = None,
    ) -> Callable[[Function], Function]:
        """Register `async def handler(event, context)` for one or several event or command classes.

        Args:
            models: The consumer's own message classes; several need nothing in common.
            path: Path of the deliveries; defaults to `/events/<topic>` for each version. Set it if the
                EventSubscription routes elsewhere.
            deduplicate: Handle each event once: its id is stored with the handler's writes. Disable it for idempotent
                handlers whose state must be rebuilt by replay.
            retry: Retry policy of scheduled messages; the policy of events is part of the EventSubscription.
            concurrency: Maximum number of scheduled messages handled at once.

        Raises:
            DefinitionError: The function is not `async def` with two parameters, or a class is not a message type.

        """

        def decorate(function: Function) -> Function:
            _check(function)
            for model in models:
                options = {"deduplicate": deduplicate, "retry": retry, "concurrency": concurrency}
                self._handlers.append(_handler(function, model, path, **options))
            return function

        return decorate

    def batch(
        self,
        *models: type[Any],
        path: str | None = None,
        batch_size: int = 100,
        key: Callable[[Any], str] | None = None,
        linger: float = 0.0,
        retry: RetryPolicy | None = None,
        deduplicate: bool = True,
    ) -> Callable[[Function], Function]:
        """Register `async def handler(messages, context)`, which handles all waiting messages in one unit of work.

        It takes a list. Batches run one at a time: messages that arrive while one commits form the next. A burst needs
        few commits, and messages do not conflict over a document that all of them change. Each delivery is acknowledged
        after the commit. If a batch fails, its messages are attempted individually, each with its own attempt, so a bad
        message does not affect the others. The returned outcome applies to the whole batch. `context` has the metadata
        of the first message; `context.batch_metadata` has that of each.

        Args:
            models: The consumer's own message classes, of events or of messages passed to `context.schedule`. Events of
                one EventSubscription share batches.
            path: Path of the deliveries, as for `on`.
            batch_size: Maximum number of messages per unit of work.
            key: Limit a batch to messages for which this function returns the same text; batches of different keys run
                concurrently. Use it for documents, since a unit of work saves only one. Otherwise, a batch must change
                a single document, or rows.
            linger: Let a batch wait this many seconds for the next message, until it has 16. A replay does not wait,
                nor does a batch with an event that is older than half a second: it has waited at the broker.
            retry: Retry policy of scheduled messages.
            deduplicate: Handle each message once. A document then stores the ids of seven days: for a document that
                many messages change, prefer an idempotent handler. In tables, deduplication is cheap.

        Raises:
            DefinitionError: The function is not `async def` with two parameters, or the class is not a message type.

        """

        def decorate(function: Function) -> Function:
            _check(function)
            for model in models:
                made = _handler(function, model, path, deduplicate=deduplicate, retry=retry)
                self._handlers.append(replace(made, batch_size=batch_size, key=key, linger=linger))
            return function

        return decorate

    def any(
        self, *subscriptions: str, deduplicate: bool = True, batch_size: int = 0, linger: float = 0.0
    ) -> Callable[[Function], Function]:
        """Register `async def handler(received, context)` for all events of some EventSubscriptions.

        For archives and bridges, which store or forward events without knowing their types. The handler receives
        `Received`, the unparsed event, including malformed ones. Replays are not delivered to it.

        Args:
            subscriptions: Names of EventSubscriptions that select by pattern: `*`, `orders.*`, `deadletter.*`.
            deduplicate: Handle each event once. A fact published in two versions has one id: disable it if each version
                counts.
            batch_size: Take up to this many events as a list in one unit of work, as in `batch`.
            linger: Let a batch wait this many seconds for the next event, as in `batch`.

        Raises:
            DefinitionError: The function is not `async def` with two parameters, or no subscription is named.

        """
        if not subscriptions:
            raise DefinitionError("Handlers.any: name at least one EventSubscription")

        def decorate(function: Function) -> Function:
            _check(function)
            made = Handler(function, _ANY, (), deduplicate, subscriptions=frozenset(subscriptions))
            self._handlers.append(replace(made, batch_size=batch_size, linger=linger))
            return function

        return decorate

    def __iter__(self) -> Iterator[Handler]:
        return iter(self._handlers)


def _handler(function: Callable[..., Any], model: type[Any], path: str | None, **options: Any) -> Handler:
    kind = message_type(model)
    versions = frozenset(kind.versions())
    topics = (kind.topic, *(f"{kind.name}.v{version}" for version in versions - {kind.version}))
    paths = (path,) if path else tuple(map(event_path, topics))
    return Handler(function, kind, paths, versions=versions, **options)


def _check(function: Callable[..., Any]) -> None:
    parameters = len(inspect.signature(function).parameters)
    if not inspect.iscoroutinefunction(function) or parameters != 2:  # noqa: PLR2004 - (event, context)
        name = getattr(function, "__qualname__", function)
        raise DefinitionError(f"{name}: declare the handler as `async def handler(event, context)`")
