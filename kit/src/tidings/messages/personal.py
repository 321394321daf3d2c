"""Personal data in events and documents: the encryption of what `tidings.marks` marks.

    class Customer(Event):
        customer_id: Annotated[str, SUBJECT]
        name: Annotated[str, PERSONAL]

The marks become `x-data-subject` and `x-data-classification` in the JSON Schema of the event. In a pydantic model,
write them as `Field(json_schema_extra=PERSONAL.extra_json_schema)`.

Marked strings are encrypted when the event is encoded, with the key of the person that the event is about, and
decrypted when its data is read for a handler. Everything in between, such as outbox, broker, dead letters and archive,
holds ciphertext: once the key is destroyed, the values are unreadable everywhere, and handlers read `MASK` instead. The
envelope names the person in its attribute `datasubject`.

An encrypted value is a string, `encrypted:v1:` and base64url of nonce and ciphertext (AES-256-GCM). It is bound to its
event: in another one it cannot be decrypted.

Documents are encrypted in the same way when they are saved, and decrypted when they are loaded. A document may be about
several persons: a value belongs to the subject in the same object, else to the only one within the nearest object
around it. The value names its person: `encrypted:v1:`, base64url of the pseudonym, a dot, and base64url of the
ciphertext. It is bound to the document's key.
"""

import base64
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import msgspec
import structlog

from tidings.errors import DefinitionError, MalformedEvent
from tidings.marks import CLASSIFICATION, DATA_SUBJECT
from tidings.messages.envelope import Envelope
from tidings.messages.events import class_schema, message_type

log = structlog.get_logger(__name__)

MASK = "***"
"""What handlers read instead of a value whose key is destroyed or out of reach."""
PREFIX = "encrypted:v1:"

_NONCE = 12  # bytes
# A whole JSON string, and no name of a property. PREFIX and base64url need no escapes in JSON.
_ENCRYPTED = re.compile(rb'"encrypted:v1:([A-Za-z0-9_=-]*)"(?!\s*:)')
_STORED = re.compile(rb'"encrypted:v1:([A-Za-z0-9_=-]*)\.([A-Za-z0-9_=-]*)"(?!\s*:)')
SAME_VALUE = ("allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas")


class SubjectKeys(Protocol):
    """Keys of persons; `None` for a person who was forgotten."""

    def key(self, subject: str) -> bytes | None:
        """Return a person's key, or None if there is none or it was destroyed."""

    def create(self, subject: str) -> bytes | None:
        """Return a person's key, creating it if there is none yet; None if it was destroyed."""


_keys: SubjectKeys | None = None


def use(keys: SubjectKeys | None) -> None:
    """Encrypt and decrypt with these keys in this process; with None, publish in plain text and read masks."""
    global _keys  # noqa: PLW0603 - one store of keys per process, as for settings
    _keys = keys


def keys_in_use() -> SubjectKeys | None:
    """Return the keys of this process."""
    return _keys


def encrypt(model: Any, data: bytes, source: str, event_id: str) -> tuple[bytes, str]:
    """Encrypt the marked fields of an event's data; return the data and the person, which is empty without marks.

    Raises:
        DefinitionError: The event has personal fields, but names no person or several; or a field is no string.

    """
    marks = marks_of(model)
    keys = _keys
    if marks is None:
        return data, ""
    if keys is None:
        _warn(marks.label)
        return data, ""
    message = json.loads(data)
    subject = marks.subject(message, data)
    key = keys.create(subject)
    seal = None if key is None else _sealer(key, _bound_to(source, event_id))
    for container, step, value in marks.personal(message, data):
        container[step] = MASK if seal is None else PREFIX + seal(value)
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode(), subject


def decrypt(envelope: Envelope) -> bytes | msgspec.Raw:
    """Return an event's data with its personal fields in plain text, or as `MASK` without the person's key.

    Raises:
        MalformedEvent: A value was not encrypted for this event, or was changed.

    """
    if not envelope.datasubject:
        return envelope.data
    opened = _opener(envelope)
    return _ENCRYPTED.sub(lambda match: json.dumps(opened(match[1]), ensure_ascii=False).encode(), bytes(envelope.data))


def encrypt_document(value: Any, data: bytes, name: str) -> bytes:
    """Encrypt the marked fields of a document, each with the key of its person. Empty strings stay as they are.

    Args:
        value: The document.
        data: The document, encoded.
        name: Its key in the store.

    Raises:
        DefinitionError: It is not clear whose a personal value is, or a marked field is no string.

    """
    model: Any = type(value)
    marks = marks_of(model)
    keys = _keys
    if marks is None:
        return data
    if keys is None:
        _warn(marks.label)
        return data
    document = msgspec.json.decode(data)
    bound_to = _bound_to_document(name)
    personal = list(marks.personal_of_each(document, data))
    if not personal:
        return data
    for container, step, text, person in personal:
        key = keys.create(person)
        _note(text)
        owner = base64.urlsafe_b64encode(person.encode()).decode()
        container[step] = MASK if key is None else f"{PREFIX}{owner}.{_sealer(key, bound_to)(text)}"
    return msgspec.json.encode(document)


def decrypt_document(model: Any, data: bytes | msgspec.Raw, name: str) -> bytes | msgspec.Raw:
    """Return a document with its personal fields in plain text; those of forgotten persons are `MASK`.

    Raises:
        DefinitionError: A value was changed or belongs to another document, or there are no keys in this process: with
            masks in their place, the values would be lost when the document is saved.

    """
    if marks_of(model) is None:
        return data
    bound_to = _bound_to_document(name)

    def opened(match: re.Match[bytes]) -> bytes:
        if _keys is None:
            raise DefinitionError(f"{name} has encrypted personal data: set TIDINGS_KEYS as when it was saved")
        try:
            key = _keys.key(base64.urlsafe_b64decode(match[1]).decode())
            text = MASK if key is None else _unsealed(key, match[2], bound_to)
        except Exception as error:
            raise DefinitionError(
                f"{name} has a personal value that was changed, or belongs to another document"
            ) from error
        _note(text)
        return json.dumps(text, ensure_ascii=False).encode()

    return _STORED.sub(opened, bytes(data))


_seen: ContextVar[set[str] | None] = ContextVar("personal_values", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Remember the personal values of documents that are loaded or saved in this context, for `personal_values`."""
    token = _seen.set(set())
    try:
        yield
    finally:
        _seen.reset(token)


def _note(text: str) -> None:
    seen = _seen.get()
    if seen is not None:
        seen.add(text)


def personal_values(*envelopes: Envelope) -> set[str]:
    """Return the personal values of events, and of the documents loaded or saved for them in this context."""
    values = set(_seen.get() or ())
    for envelope in envelopes:
        if envelope.datasubject:
            with suppress(MalformedEvent):  # nothing was decrypted, so no text holds a value of the event
                opened = _opener(envelope)
                values |= {opened(match[1]) for match in _ENCRYPTED.finditer(bytes(envelope.data))}
    return values - {"", MASK}


def redact(text: str, values: Iterable[str]) -> str:
    """Mask personal values in a text, such as an error; a long value is masked before a short one that it contains."""
    for value in sorted(values, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", MASK, text)
    return text


class _Schemas:
    """The schemas that apply to one value."""

    __slots__ = ("are_marked", "inner", "is_personal", "is_subject", "parts", "properties")

    def __init__(self, parts: tuple[Mapping[str, Any], ...], are_marked: bool) -> None:
        self.parts = parts
        self.are_marked = are_marked
        self.is_subject = _has(parts, DATA_SUBJECT)
        self.is_personal = _has(parts, CLASSIFICATION)
        self.properties = {name for part in parts for name in part.get("properties", ())}
        self.inner: dict[Any, _Schemas] = {}


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of a class, by its JSON Schema."""

    label: str
    schema: Mapping[str, Any]
    _expanded: dict[int, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    _known: dict[tuple[int, ...], _Schemas] = field(default_factory=dict)

    def subject(self, message: Any, encoded: bytes) -> str:
        """Return the person that a message is about.

        Raises:
            DefinitionError: The message names no person, or several.

        """
        subjects = {value for _, _, value, schemas in self._strings(message, encoded) if schemas.is_subject}
        if len(subjects) != 1 or not (subject := subjects.pop()):
            raise DefinitionError(
                f"{self.label} has personal fields, but names {'no person' if not subjects else 'several persons'}: "
                "give the field that is marked with SUBJECT a value"
            )
        return str(subject)

    def personal(self, message: Any, encoded: bytes) -> Iterator[tuple[Any, Any, str]]:
        """Yield the place and the value of each personal string, and of strings that look like encrypted ones.

        Raises:
            DefinitionError: A marked value is no string.

        """
        for container, step, value, schemas in list(self._strings(message, encoded)):
            is_personal = schemas.is_personal
            if is_personal and value is not None and not isinstance(value, str):
                raise DefinitionError(f"{self.label}: {step} is marked with PERSONAL, but is no string")
            # What a user has typed in must not be taken for an encrypted value: encrypted, it is read as it was.
            if isinstance(value, str) and (is_personal or value.startswith(PREFIX)):
                yield container, step, value

    def personal_of_each(self, document: Any, encoded: bytes) -> Iterator[tuple[Any, Any, str, str]]:
        """Yield the place, the value and the person of each personal string that is not empty.

        Raises:
            DefinitionError: It is not clear whose a value is, or a marked value is no string.

        """
        around: dict[int, int] = {}
        own: dict[int, set[str]] = defaultdict(set)
        within: dict[int, set[str]] = defaultdict(set)
        for container, _, value, schemas in list(self._strings(document, encoded)):
            if isinstance(value, dict | list):
                around[id(value)] = id(container)
            elif value and schemas.is_subject:
                own[id(container)].add(value)
                place: int | None = id(container)
                while place is not None:
                    within[place].add(value)
                    place = around.get(place)
        for container, step, value in self.personal(document, encoded):
            place = id(container)
            while place is not None and not (persons := own.get(place) or within.get(place, set())):
                place = around.get(place)
            if value and len(persons) != 1:
                raise DefinitionError(
                    f"{self.label}: {step} is personal, but the document names "
                    f"{'several persons' if persons else 'no person'} it may belong to: give the object around it one "
                    "field that is marked with SUBJECT, and a value"
                )
            if value:
                yield container, step, value, next(iter(persons))

    def _strings(self, message: Any, encoded: bytes) -> Iterator[tuple[Any, Any, Any, _Schemas]]:
        """Yield each value that may matter, with its container and the schemas that apply to it.

        Most values of a document are in objects without any mark inside. These matter only if a string in them may look
        like an encrypted one, which the encoded message tells.
        """
        all_matter = PREFIX.encode() in encoded or b"\\u" in encoded
        waiting = [(message, self._schemas(self._all(self.schema)))]
        while waiting:
            container, schemas = waiting.pop()
            entries = container.items() if isinstance(container, dict) else enumerate(container)
            for step, value in entries:
                inner = self._inner(schemas, step)
                if not (inner.are_marked or all_matter):
                    continue
                yield container, step, value, inner
                if isinstance(value, dict | list):
                    waiting.append((value, inner))

    def _inner(self, schemas: _Schemas, step: Any) -> _Schemas:
        """Return the schemas that apply to a property or an item."""
        # All items have the same schemas, and so have all properties that no schema names: their number is unbounded.
        known = step if step in schemas.properties else type(step)
        inner = schemas.inner.get(known)
        if inner is None:
            parts = [part for schema in schemas.parts for child in _children(schema, step) for part in self._all(child)]
            inner = schemas.inner[known] = self._schemas(parts)
        return inner

    def _schemas(self, parts: Iterable[Mapping[str, Any]]) -> _Schemas:
        different = {id(part): part for part in parts}
        identity = tuple(different)
        known = self._known.get(identity)
        if known is None:
            schemas = tuple(different.values())
            known = self._known[identity] = _Schemas(schemas, self._is_marked(schemas))
        return known

    def _is_marked(self, schemas: Iterable[Mapping[str, Any]]) -> bool:
        """Return True if there is a mark in the schemas or in any part of them."""
        waiting: list[Any] = list(schemas)
        seen = set[int]()
        while waiting:
            part = waiting.pop()
            if id(part) in seen:
                continue
            seen.add(id(part))
            if isinstance(part, Mapping):
                if _has((part,), DATA_SUBJECT) or _has((part,), CLASSIFICATION):
                    return True
                if isinstance(reference := part.get("$ref"), str):
                    waiting.append(target(self.schema, steps(reference)))
                waiting += part.values()
            elif isinstance(part, list | tuple):
                waiting += part
        return False

    def _all(self, schema: Any) -> tuple[Mapping[str, Any], ...]:
        """Return a schema with all that apply to the same value, whatever the condition."""
        known = self._expanded.get(id(schema))
        if known is None:
            parts: dict[int, Mapping[str, Any]] = {}
            waiting = [schema]
            while waiting:
                part = waiting.pop()
                if not isinstance(part, Mapping) or id(part) in parts:
                    continue
                parts[id(part)] = part
                if reference := part.get("$ref", ""):
                    waiting.append(target(self.schema, steps(reference)))
                for keyword in SAME_VALUE:
                    inner = part.get(keyword, ())
                    waiting += inner.values() if keyword == "dependentSchemas" and inner else _listed(inner)
            known = self._expanded[id(schema)] = tuple(parts.values())
        return known


@lru_cache(maxsize=1024)
def marks_of(model: Any) -> Marks | None:
    """Return the marks of the class of an event or a document, or None if it has none.

    Raises:
        DefinitionError: The class cannot be exported as JSON Schema, so that its marks are unknown.

    """
    try:
        label = message_type(model).label
    except DefinitionError:
        label = model.__name__
    try:
        schema = class_schema(model)
    except Exception as error:
        raise DefinitionError(f"{label} has no JSON Schema, so its personal fields are unknown: {error}") from error
    text = json.dumps(schema, default=str)
    if f'"{CLASSIFICATION}"' not in text:
        return None
    return Marks(label, schema)


@lru_cache(maxsize=1024)
def _warn(label: str) -> None:
    log.warning("personal_data.not_encrypted", event_type=label, remedy="set TIDINGS_KEYS")


def is_set(mark: Any) -> bool:
    """Return True for the value of a mark that counts; null and false do not."""
    return mark is not None and mark is not False


def _has(schemas: tuple[Mapping[str, Any], ...], mark: str) -> bool:
    return any(is_set(schema.get(mark)) for schema in schemas)


def _children(schema: Mapping[str, Any], step: Any) -> Iterator[Any]:
    """Yield the schemas of a property or an item, whether or not they apply under a condition."""
    if isinstance(step, str):
        properties = schema.get("properties", {})
        if step in properties:
            yield properties[step]
        yield from schema.get("patternProperties", {}).values()
        if step not in properties:
            yield from (schema.get(keyword) for keyword in ("additionalProperties", "unevaluatedProperties"))
    else:
        for keyword in ("items", "prefixItems", "additionalItems", "unevaluatedItems", "contains"):
            yield from _listed(schema.get(keyword))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def steps(reference: str) -> tuple[str, ...]:
    """Return the steps of a local reference, a JSON pointer such as `#/$defs/Customer`."""
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in reference.removeprefix("#").split("/")[1:])


def target(root: Any, path: tuple[str, ...]) -> Any:
    """Return what the steps of a JSON pointer lead to in a document; None if there is nothing."""
    for step in path:
        if isinstance(root, list) and step.isdecimal() and int(step) < len(root):
            root = root[int(step)]
        else:
            root = root.get(step) if isinstance(root, Mapping) else None
    return root


def _bound_to(source: str, event_id: str) -> bytes:
    return Envelope(source=source, id=event_id).identity.encode()


def _bound_to_document(name: str) -> bytes:
    return f"document {name}".encode()


def _sealer(key: bytes, bound_to: bytes) -> Callable[[str], str]:
    cipher = _cipher(key)

    def seal(value: str) -> str:
        nonce = os.urandom(_NONCE)
        sealed = nonce + cipher.encrypt(nonce, value.encode(), bound_to)
        return base64.urlsafe_b64encode(sealed).decode()

    return seal


def _unsealed(key: bytes, value: bytes, bound_to: bytes) -> str:
    sealed = base64.b64decode(value, altchars=b"-_", validate=True)
    return str(_cipher(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], bound_to).decode())


def _opener(envelope: Envelope) -> Callable[[bytes], str]:
    """Return what decrypts the values of an event; a dead letter is decrypted as the event that failed."""
    key = None if _keys is None else _keys.key(envelope.datasubject)
    bound_to = _bound_to(envelope.source, envelope.originalid or envelope.id)

    def opened(value: bytes) -> str:
        if key is None:
            return MASK
        try:
            return _unsealed(key, value, bound_to)
        except Exception as error:  # of cryptography's, which is imported only where it is needed
            reason = f"a personal value of {envelope.datasubject} was changed, or belongs to another event"
            raise MalformedEvent(f"{envelope.label}: {reason}") from error

    return opened


@lru_cache(maxsize=4096)
def _cipher(key: bytes) -> Any:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise DefinitionError("personal data needs the package cryptography: install tidings[personal]") from error
    return AESGCM(key)
