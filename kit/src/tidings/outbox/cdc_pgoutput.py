"""Decodes the subset of PostgreSQL's logical replication messages (pgoutput, protocol 1) that an outbox needs.

The format is described in PostgreSQL's documentation, "Logical Replication Message Formats". Pure: bytes in, rows out.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

Inserted = dict[str, str | None]


@dataclass(slots=True)
class Decoded:
    """Inserted rows of complete transactions, in commit order.

    Attributes:
        rows: Values as text by column name.
        end: Position after the last commit, such as `0/16B3748`; empty if there was none.

    """

    rows: list[Inserted] = field(default_factory=list)
    end: str = ""


class _Reader:
    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = 1  # after the message's kind

    def number(self, code: str) -> int:
        value: int
        (value,) = struct.unpack_from(f">{code}", self._message, self._at)
        self._at += struct.calcsize(f">{code}")
        return value

    def name(self) -> str:
        end = self._message.index(b"\0", self._at)
        name, self._at = self._message[self._at : end], end + 1
        return name.decode()

    def kind(self) -> bytes:
        self._at += 1
        return self._message[self._at - 1 : self._at]

    def text(self) -> str:
        length = self.number("i")
        self._at += length
        return self._message[self._at - length : self._at].decode()


def decode(messages: Iterable[bytes], table: str) -> Decoded:
    """Return the rows inserted into a table; ignore updates, deletes and other tables."""
    decoded, columns = Decoded(), dict[int, list[str]]()
    for message in messages:
        kind, reader = message[:1], _Reader(message)
        if kind == b"R":
            relation = reader.number("I")
            reader.name()
            columns.pop(relation, None)
            if reader.name() == table:
                columns[relation] = _columns(reader)
        elif kind == b"I":
            names = columns.get(reader.number("I"))
            if names is not None:
                decoded.rows.append(_tuple(reader, names))
        elif kind == b"C":
            reader.number("b")
            reader.number("Q")
            decoded.end = position(reader.number("Q"))
    return decoded


def position(number: int) -> str:
    """Format a position in the log as PostgreSQL does."""
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


def _columns(reader: _Reader) -> list[str]:
    reader.kind()  # the replica identity
    columns = []
    for _ in range(reader.number("h")):
        reader.number("b")
        columns.append(reader.name())
        reader.number("I")
        reader.number("i")
    return columns


def _tuple(reader: _Reader, names: list[str]) -> Inserted:
    reader.kind()  # N: a new tuple follows
    count = reader.number("h")
    if count != len(names):
        raise ValueError(f"a row of {count} columns in a table of {len(names)}")
    return {name: reader.text() if reader.kind() == b"t" else None for name in names}
