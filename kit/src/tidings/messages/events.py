"""Events and commands as typed classes.

A fact is declared with `@event`, an imperative with `@command`, above any class that msgspec can decode
(`tidings.Event`, a `msgspec.Struct`, a dataclass) or a pydantic model. The same decorator serves the producer's
class and the consumer's own, smaller one: a consumer declares only the fields it reads (tolerant reader).

    @event("orders.orderConfirmed", version=2, subject="order_id")
    class OrderConfirmed(Event):
        order_id: str
        items: list[Line]
"""

import dataclasses
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any, Literal, TypeVar

import msgspec

from tidings.errors import DefinitionError, MalformedEvent
from tidings.messages.envelope import normalise_time

T = TypeVar("T")
Moment = typing.Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with a UTC offset (RFC 3339)."""
Intent = Literal["fact", "command"]

NAME = re.compile(r"^[a-z][a-zA-Z0-9]*(\.[a-z][a-zA-Z0-9]*)+$")
_ATTRIBUTE = "__tidings__"


class _KeywordOnly(msgspec.StructMeta):
    """Metaclass that applies msgspec's `kw_only` to all subclasses of an event base, not only to one class."""

    def __new__(
        cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, kw_only: bool = True, **options: Any
    ) -> Any:
        return super().__new__(cls, name, bases, namespace, kw_only=kw_only, **options)


# Declares msgspec's behaviour to type checkers, which cannot infer it from the metaclass.
@typing.dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Event(msgspec.Struct, metaclass=_KeywordOnly, frozen=True, rename="camel"):
    """An optional base class: immutable, keyword-only, `camelCase` in JSON."""


@dataclass(frozen=True, slots=True)
class MessageType:
    """Declaration of the messages that a class represents."""

    name: str
    version: int
    intent: Intent
    topic: str
    subject: str | None
    model: type[Any]
    upcasts: dict[int, tuple[type[Any], Callable[[Any], Any]]] = field(default_factory=dict, compare=False)

    @property
    def label(self) -> str:
        """Name and version, such as `orders.orderConfirmed.v2`."""
        return f"{self.name}.v{self.version}"

    def subject_of(self, message: object) -> str | None:
        """Return the id of the entity that the message is about: the value of the field named by `subject`."""
        return None if self.subject is None else str(getattr(message, self.subject))

    def versions(self) -> Iterator[int]:
        """Yield every version that this class can be read from: its own first, then those with upcasters."""
        yield self.version
        for source, _ in self.upcasts.values():
            yield from message_type(source).versions()


def event(
    name: str, *, version: int = 1, subject: str | None = None, topic: str | None = None
) -> Callable[[type[T]], type[T]]:
    """Declare a class as a business fact: `<domain>.<pastTense>`, such as `kitchen.pizzaBoxed`.

    Args:
        name: Event type without its version.
        version: Major version; a change that is incompatible with readers of the previous version needs a new one.
        subject: Field that names the entity the fact is about; it becomes the CloudEvents `subject`.
        topic: Topic to publish to; `<name>.v<version>` unless the EventType specifies another.

    Raises:
        DefinitionError: The name is not `<domain>.<fact>`, the version is below 1, or the subject is not a field.

    """
    return _declare(name, version, "fact", subject, topic)


def command(
    name: str, *, version: int = 1, subject: str | None = None, topic: str | None = None
) -> Callable[[type[T]], type[T]]:
    """Declare a class as a command to one owner: `<owner>.<imperative>`, such as `payments.takePayment`.

    The arguments and errors are those of `event`.
    """
    return _declare(name, version, "command", subject, topic)


def _declare(
    name: str, version: int, intent: Intent, subject: str | None, topic: str | None
) -> Callable[[type[T]], type[T]]:
    if not NAME.match(name):
        raise DefinitionError(f"{name!r} is not an event type: write <domain>.<fact>, such as orders.orderConfirmed")
    if version < 1:
        raise DefinitionError(f"{name}: the version is a major version, 1 or higher, not {version}")

    def decorate(cls: type[T]) -> type[T]:
        if subject is not None and subject not in typing.get_type_hints(cls):
            raise DefinitionError(f"{name}: subject={subject!r} is not a field of {cls.__qualname__}")
        setattr(cls, _ATTRIBUTE, MessageType(name, version, intent, topic or f"{name}.v{version}", subject, cls))
        return cls

    return decorate


def message_type(cls: type[Any]) -> MessageType:
    """Return a class's declaration.

    Raises:
        DefinitionError: The class itself has no `@event` or `@command`.

    """
    declared = cls.__dict__.get(_ATTRIBUTE)
    if not isinstance(declared, MessageType):
        raise DefinitionError(f"{cls.__qualname__} is not an event: decorate it with @event(...) or @command(...)")
    return declared


def upcaster(function: Callable[[Any], T]) -> Callable[[Any], T]:
    """Register a pure function from one version's class to the next one's, as given by its type hints.

    Handlers of the newer version then receive older events as well, through any number of steps.

    Raises:
        DefinitionError: The two classes are not versions of one event type.

    """
    hints = typing.get_type_hints(function)
    returns = hints.pop("return", None)
    if returns is None or len(hints) != 1:
        raise DefinitionError(
            f"{function.__qualname__}: annotate the parameter with the old class and the return value with the new one"
        )
    source, target = message_type(next(iter(hints.values()))), message_type(returns)
    if source.name != target.name or source.version >= target.version:
        raise DefinitionError(f"{function.__qualname__}: {source.label} cannot be upcast to {target.label}")
    target.upcasts[source.version] = (source.model, function)
    return function


def decode(kind: MessageType, version: int, data: bytes | msgspec.Raw) -> Any:
    """Decode an event's data, published as `version`, into the class of `kind`, through upcasters if needed.

    Raises:
        MalformedEvent: The data does not match the class; the message names the field.
        KeyError: No upcaster leads from `version` to this class.

    """
    if version == kind.version:
        content = bytes(data)
        if not content:
            raise MalformedEvent(f"{kind.label}: the event has no data in JSON")
        try:
            message = _parse(kind.model, content)
        except _UNFIT as error:
            message = _parse_unusual_times(kind, content, error)
        if b"\\" in content or (b"-" in content and _SUSPICIOUS.search(content)):
            _check_moments(kind, message)
        return message
    for source, function in kind.upcasts.values():
        older = message_type(source)
        if version in older.versions():
            return function(decode(older, version, data))
    raise KeyError(version)


# Raised by msgspec, pydantic, and a class's own validation for values that do not fit.
_UNFIT = (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RecursionError)
# The end of a time without a zone or of a date, and the first and the last day. The values of the message are checked
# only if this matches.
_SUSPICIOUS = re.compile(rb'-[0-9][0-9](?:[Tt_ ][0-9:.,]*)?"|"(?:0001-01-01|9999-12-31)')
_PLAIN = frozenset[type]({str, int, float, bool})
# RFC 3339 times that msgspec or pydantic does not read: leap seconds, and fractions that are rounded beyond year 9999.
_UNUSUAL_TIME = re.compile(
    rb'"([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:(?:60(?:\.[0-9]+)?|59\.[0-9]{7,})'
    rb'(?:[Zz]|[+-][0-9]{2}:[0-9]{2}))"'
)


_decoder = cache(msgspec.json.Decoder)


def _parse(model: Any, content: bytes) -> Any:
    parse = getattr(model, "model_validate_json", None)  # a pydantic model
    return parse(content) if parse is not None else _decoder(model).decode(content)


def _parse_unusual_times(kind: MessageType, content: bytes, error: Exception) -> Any:
    """Decode data that does not fit as it is, with its leap seconds normalised as in the envelope."""
    normalised = _UNUSUAL_TIME.sub(_normalised, content)
    if normalised != content:
        try:
            return _parse(kind.model, normalised)
        except _UNFIT as still:
            error = still
    raise MalformedEvent(f"{kind.label}: {error}") from error


def _normalised(match: re.Match[bytes]) -> bytes:
    try:
        return b'"%b"' % normalise_time(match[1].decode()).encode()
    except MalformedEvent:
        return match[0]


def _check_moments(kind: MessageType, message: object) -> None:
    """Raise `MalformedEvent` if a message holds a `datetime` without a zone, or one that UTC cannot express.

    Such a value cannot be compared or converted, which would fail long after the event was accepted.
    """
    for path, value in _moments(message, "$"):
        if value.utcoffset() is None:
            raise MalformedEvent(
                f"{kind.label}: {path} has no time zone: write it as RFC 3339, such as {value.isoformat()}Z"
            )
        try:
            value.astimezone(UTC)
        except OverflowError as error:
            raise MalformedEvent(f"{kind.label}: {path} is outside of the years 1 to 9999 in UTC") from error


def _moments(value: object, path: str) -> Iterator[tuple[str, datetime]]:
    if isinstance(value, datetime):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if type(key) is not str:
                yield from _moments(key, f"{path} (key)")
            if item and type(item) not in _PLAIN:
                yield from _moments(item, f"{path}.{key}")
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            if item and type(item) not in _PLAIN:  # millions of numbers may be in one event
                yield from _moments(item, f"{path}[{index}]")
    else:
        kind: Any = type(value)
        for name in _field_names(kind):
            yield from _moments(getattr(value, name), f"{path}.{name}")


@lru_cache(maxsize=1024)
def _field_names(kind: type[Any]) -> tuple[str, ...]:
    """Return the fields of a class that event data is decoded into; other classes, such as enums, have none."""
    if issubclass(kind, msgspec.Struct):
        return kind.__struct_fields__
    if dataclasses.is_dataclass(kind):
        return tuple(attribute.name for attribute in dataclasses.fields(kind))
    if attributes := getattr(kind, "__attrs_attrs__", ()):
        return tuple(attribute.name for attribute in attributes)
    return tuple(getattr(kind, "model_fields", ()))  # of a pydantic model


def encode(message: object) -> bytes:
    """Encode an event's data as JSON."""
    dump = getattr(message, "model_dump_json", None)
    return dump(by_alias=True).encode() if dump is not None else msgspec.json.encode(message)


def json_schema(cls: type[Any]) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of an event's data, as exported to `contracts/schemas`."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": message_type(cls).label,
        **{key: value for key, value in class_schema(cls).items() if key != "title"},
    }


def class_schema(cls: type[Any]) -> dict[str, Any]:
    """Return the JSON Schema of any class: a pydantic model, or what msgspec supports."""
    build = getattr(cls, "model_json_schema", None)
    if build is not None:
        built: dict[str, Any] = build(by_alias=True)
        return built
    schema = msgspec.json.schema(cls)
    # Replace msgspec's reference to the root model with the model itself; the others stay in `$defs`.
    definitions = dict(schema.get("$defs", {}))
    root = definitions.pop(schema.get("$ref", "").removeprefix("#/$defs/"), schema)
    return {**root, **({"$defs": definitions} if definitions else {})}
