"""PostgreSQL's logical replication messages, written as its documentation says and read again."""

from __future__ import annotations

import struct

import pytest

from tidings.outbox.cdc_pgoutput import decode, position

COLUMNS = ["id", "subject", "event"]


def relation(oid: int, name: str, columns: list[str]) -> bytes:
    head = b"R" + struct.pack(">I", oid) + b"public\0" + name.encode() + b"\0d" + struct.pack(">h", len(columns))
    return head + b"".join(b"\1" + column.encode() + b"\0" + struct.pack(">Ii", 25, -1) for column in columns)


def insert(oid: int, *values: str | None) -> bytes:
    head = b"I" + struct.pack(">I", oid) + b"N" + struct.pack(">h", len(values))
    return head + b"".join(_value(value) for value in values)


def _value(value: str | None) -> bytes:
    if value is None:
        return b"n"
    return b"t" + struct.pack(">i", len(value.encode())) + value.encode()


def begin() -> bytes:
    return b"B" + struct.pack(">QqI", 1, 0, 7)


def commit(end: int) -> bytes:
    return b"C" + struct.pack(">bQQq", 0, end - 1, end, 0)


def test_rows_come_in_the_order_of_the_commits_with_the_position_behind_the_last() -> None:
    messages = [begin(), relation(9, "outbox", COLUMNS), insert(9, "1", "pâte", "{}"), commit(0x10)]
    messages += [begin(), insert(9, "2", None, '{"a": 1}'), commit(0x1_0000_00FF)]
    decoded = decode(messages, "outbox")
    assert decoded.rows == [
        {"id": "1", "subject": "pâte", "event": "{}"},
        {"id": "2", "subject": None, "event": '{"a": 1}'},
    ]
    assert decoded.end == "1/FF"


def test_other_tables_and_other_changes_are_passed_over() -> None:
    messages = [begin(), relation(8, "payments", ["x"]), insert(8, "1"), b"D" + bytes(20), b"T" + bytes(9), commit(5)]
    decoded = decode(messages, "outbox")
    assert (decoded.rows, decoded.end) == ([], "0/5")


def test_a_table_whose_columns_change_is_read_with_its_new_ones() -> None:
    messages = [
        relation(9, "outbox", ["id"]),
        insert(9, "1"),
        relation(9, "outbox", ["id", "lane"]),
        insert(9, "2", "3"),
    ]
    assert decode(messages, "outbox").rows == [{"id": "1"}, {"id": "2", "lane": "3"}]


def test_a_row_that_does_not_fit_its_table_is_an_error() -> None:
    with pytest.raises(ValueError, match="a row of 2 columns in a table of 1"):
        decode([relation(9, "outbox", ["id"]), insert(9, "1", "2")], "outbox")


@pytest.mark.parametrize(("number", "text"), [(0, "0/0"), (0x16B3748, "0/16B3748"), (0x1A_0000_0001, "1A/1")])
def test_positions_are_written_as_postgresql_does(number: int, text: str) -> None:
    assert position(number) == text
