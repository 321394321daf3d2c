"""Personal data in events: marks on fields, and the encryption of what is marked.

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
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import msgspec
import structlog

from tidings.errors import DefinitionError, MalformedEvent
from tidings.messages.envelope import Envelope
from tidings.messages.events import json_schema, message_type

log = structlog.get_logger(__name__)

CLASSIFICATION = "x-data-classification"
DATA_SUBJECT = "x-data-subject"
MASK = "***"
"""What handlers read instead of a value whose key is destroyed or out of reach."""
PREFIX = "encrypted:v1:"

PERSONAL = msgspec.Meta(extra_json_schema={CLASSIFICATION: {"category": "PII"}})
"""Marks a string as personal data of the event's subject."""
SUBJECT = msgspec.Meta(extra_json_schema={DATA_SUBJECT: True})
"""Marks the one string that identifies the person, by a pseudonym that remains after the person is forgotten."""

_NONCE = 12  # bytes
# A whole JSON string, and no name of a property. PREFIX and base64url need no escapes in JSON.
_ENCRYPTED = re.compile(rb'"encrypted:v1:([A-Za-z0-9_=-]*)"(?!\s*:)')
SAME_VALUE = ("allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas")


class SubjectKeys(Protocol):
    """Keys of persons. `None` stands for a person who was forgotten."""

    def key(self, subject: str) -> bytes | None:
        """Return a person's key, or None if there is none or it was destroyed."""

    def create(self, subject: str) -> bytes | None:
        """Return a person's key, creating it if there is none yet; None if it was destroyed."""


_keys: SubjectKeys | None = None


def use(keys: SubjectKeys | None) -> None:
    """Encrypt and decrypt with these keys in this process; with None, publish in plain text and read masks."""
    global _keys  # noqa: PLW0603 - one store of keys per process, as for settings
    _keys = keys


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
    subject = marks.subject(message)
    key = keys.create(subject)
    seal = _mask if key is None else _sealer(key, _bound_to(source, event_id))
    for container, step, value in marks.personal(message):
        container[step] = seal(value)
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode(), subject


def decrypt(envelope: Envelope) -> bytes | msgspec.Raw:
    """Return an event's data with its personal fields in plain text, or as `MASK` without the person's key.

    Raises:
        MalformedEvent: A value was not encrypted for this event, or was changed.

    """
    if not envelope.datasubject:
        return envelope.data
    opened = _opener(envelope)
    return _ENCRYPTED.sub(lambda found: json.dumps(opened(found[1]), ensure_ascii=False).encode(), bytes(envelope.data))


def redact(envelope: Envelope, text: str) -> str:
    """Mask the personal values of an event in a text, such as the message of an exception."""
    if not envelope.datasubject:
        return text
    try:
        opened = _opener(envelope)
        values = {opened(found[1]) for found in _ENCRYPTED.finditer(bytes(envelope.data))}
    except MalformedEvent:
        return text  # nothing was decrypted, so the text holds no value
    for value in sorted(values - {"", MASK}, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", MASK, text)
    return text


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of an event class, by its JSON Schema."""

    label: str
    schema: Mapping[str, Any]
    _expanded: dict[int, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)

    def subject(self, message: Any) -> str:
        """Return the person that a message is about.

        Raises:
            DefinitionError: The message names no person, or several.

        """
        found = {value for _, _, value, schemas in self._strings(message) if _has(schemas, DATA_SUBJECT)}
        if len(found) != 1 or not (subject := found.pop()):
            raise DefinitionError(
                f"{self.label} has personal fields, but names {'no person' if not found else 'several persons'}: "
                "give the field that is marked with SUBJECT a value"
            )
        return str(subject)

    def personal(self, message: Any) -> Iterator[tuple[Any, Any, str]]:
        """Yield the place and the value of each personal string, and of strings that look like encrypted ones.

        Raises:
            DefinitionError: A marked value is no string.

        """
        for container, step, value, schemas in list(self._strings(message)):
            is_personal = _has(schemas, CLASSIFICATION)
            if is_personal and value is not None and not isinstance(value, str):
                raise DefinitionError(f"{self.label}: {step} is marked with PERSONAL, but is no string")
            # What a user has typed in must not be taken for an encrypted value: encrypted, it is read as it was.
            if isinstance(value, str) and (is_personal or value.startswith(PREFIX)):
                yield container, step, value

    def _strings(self, message: Any) -> Iterator[tuple[Any, Any, Any, tuple[Mapping[str, Any], ...]]]:
        """Yield each value inside with its container and the schemas that apply to it."""
        waiting = [(message, self._all(self.schema))]
        while waiting:
            container, schemas = waiting.pop()
            entries = container.items() if isinstance(container, dict) else enumerate(container)
            for step, value in entries:
                inner = tuple(
                    part for schema in schemas for child in _children(schema, step) for part in self._all(child)
                )
                yield container, step, value, inner
                if isinstance(value, dict | list):
                    waiting.append((value, inner))

    def _all(self, schema: Any) -> tuple[Mapping[str, Any], ...]:
        """Return a schema with all that apply to the same value, whatever the condition."""
        known = self._expanded.get(id(schema))
        if known is None:
            known = self._expanded[id(schema)] = tuple(self._expand(schema))
        return known

    def _expand(self, schema: Any) -> Iterator[Mapping[str, Any]]:
        waiting, seen = [schema], set()
        while waiting:
            part = waiting.pop()
            if not isinstance(part, Mapping) or id(part) in seen:
                continue
            seen.add(id(part))
            yield part
            if reference := part.get("$ref", ""):
                waiting.append(target(self.schema, steps(reference)))
            for keyword in SAME_VALUE:
                inner = part.get(keyword, ())
                waiting += inner.values() if keyword == "dependentSchemas" and inner else _listed(inner)


@lru_cache(maxsize=1024)
def marks_of(model: Any) -> Marks | None:
    """Return the marks of an event class, or None if it has none.

    Raises:
        DefinitionError: The class cannot be exported as JSON Schema, so that its marks are unknown.

    """
    label = message_type(model).label
    try:
        schema = json_schema(model)
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


def _mask(_: str) -> str:
    return MASK


def _sealer(key: bytes, bound_to: bytes) -> Callable[[str], str]:
    cipher = _cipher(key)

    def seal(value: str) -> str:
        nonce = os.urandom(_NONCE)
        sealed = nonce + cipher.encrypt(nonce, value.encode(), bound_to)
        return PREFIX + base64.urlsafe_b64encode(sealed).decode()

    return seal


def _opener(envelope: Envelope) -> Callable[[bytes], str]:
    """Return what decrypts the values of an event; a dead letter is decrypted as the event that failed."""
    key = None if _keys is None else _keys.key(envelope.datasubject)
    bound_to = _bound_to(envelope.source, envelope.originalid or envelope.id)

    def opened(value: bytes) -> str:
        if key is None:
            return MASK
        try:
            sealed = base64.b64decode(value, altchars=b"-_", validate=True)
            return str(_cipher(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], bound_to).decode())
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
