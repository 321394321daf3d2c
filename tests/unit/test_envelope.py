"""Reading an event from bytes: complete as CloudEvents 1.0 asks, bounded, and with one kind of error."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tidings.errors import MalformedEvent
from tidings.messages.envelope import MAX_ATTRIBUTE, MAX_DEPTH, MAX_EVENT, Envelope, decode, salvage
from tidings.messages.keys import escape

STANDARD = {"id": "e-1", "source": "test", "type": "shop.itemSold", "specversion": "1.0", "version": "2"}
DATA = b'{"item":"pie"}'


def body(**attributes: Any) -> bytes:
    return json.dumps({**STANDARD, "data": json.loads(DATA), **attributes}).encode()


def with_data(data: bytes) -> bytes:
    return json.dumps(STANDARD).encode()[:-1] + b', "data": ' + data + b"}"


def binary(data: bytes, **attributes: Any) -> bytes:
    return json.dumps({**STANDARD, "data_base64": base64.b64encode(data).decode(), **attributes}).encode()


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"version": 2}, {"version": "2"}),
        ({"version": None}, {"version": ""}),
        ({"subject": None}, {"subject": ""}),
        ({"subject": True}, {"subject": "true"}),
        ({"subject": False, "id": -7}, {"subject": "false", "id": "-7"}),
        ({"correlationid": 2**31 - 1}, {"correlationid": "2147483647"}),
        ({"id": " "}, {"id": " "}),
        ({"id": "x" * 9_000}, {"id": "x" * 9_000}),
        ({"id": "a||b/c\U0001f355"}, {"id": "a||b/c\U0001f355"}),
        ({"unknown": [1, {"a": None}], "": 1, "Ünknown": 1.5}, {"id": "e-1"}),
        ({"failurereason": "an escape \u001b[2J and a NUL \0"}, {"failurereason": "an escape \u001b[2J and a NUL \0"}),
    ],
)
def test_attributes_may_have_any_of_the_types_that_cloudevents_has(
    attributes: dict[str, Any], expected: dict[str, str]
) -> None:
    envelope = decode(body(**attributes))
    assert {name: getattr(envelope, name) for name in expected} == expected
    assert json.loads(bytes(envelope.data)) == {"item": "pie"}


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-11-28T10:00:00Z", "2026-11-28T10:00:00Z"),
        ("2026-11-28T10:00:00.5Z", "2026-11-28T10:00:00.5Z"),
        ("2026-11-28t10:00:00z", "2026-11-28T10:00:00Z"),
        ("2026-11-28 10:00:00Z", "2026-11-28T10:00:00Z"),
        ("2026-11-28T10:00:00-00:00", "2026-11-28T10:00:00Z"),
        ("2026-11-28T10:00:00+05:30", "2026-11-28T04:30:00Z"),
        ("2026-11-28T10:00:00.123456789+23:59", "2026-11-27T10:01:00.123456Z"),
        ("2026-11-28T10:00:00.1234567890123456789012345Z", "2026-11-28T10:00:00.123456Z"),
        ("2026-12-31T23:59:60Z", "2026-12-31T23:59:59.999999Z"),
        ("1990-12-31T15:59:60-08:00", "1990-12-31T23:59:59.999999Z"),
        ("2017-01-01T05:29:60+05:30", "2016-12-31T23:59:59.999999Z"),
        ("2016-12-31T23:59:60.999Z", "2016-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z"),
        ("", ""),
        (None, ""),
    ],
)
def test_every_rfc_3339_time_becomes_an_aware_datetime(time: str | None, expected: str) -> None:
    result = decode(body(time=time)).time
    assert result == expected
    assert not result or datetime.fromisoformat(result).astimezone(UTC).tzinfo is UTC


@pytest.mark.parametrize(
    "time",
    [
        "2026-11-28T10:00:00", "2026-11-28", "2026-11-28T10:00Z", "2026-W48-6T10:00:00Z", "20261128T100000Z",
        "2026-11-28T10:00:00+0100", "2026-11-28T10:00:00+24:00", "2026-11-28T24:00:00Z", "2026-02-30T10:00:00Z",
        "2026-11-28T10:00:00.Z", "2026-11-28T10:00:00,5Z", "2026-11-28T12:00:60Z", "2026-11-28T23:59:61Z",
        "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "9999-12-31T23:59:60Z",
        "yesterday", "Z", '"Z', "\\Z", "\u0662\u0660\u0662\u0666-11-28T10:00:00Z", " 2026-11-28T10:00:00Z", 5, True,
        "2026-11-28T10:00:00Z\n", "2026-11-28T10:00:0\\u0030Z", "2026-11-28T10:00:00\\/Z", "2026-11-28T10:00:00+12:60",
        "2026-11-28T10:00:60+14:00", "2026-11-28T10:00:00+00:00:30", "1900-02-29T00:00:00Z",
    ],
)  # fmt: skip
def test_a_time_that_no_datetime_can_hold_is_malformed(time: object) -> None:
    with pytest.raises(MalformedEvent, match="time"):
        decode(body(time=time))


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "application/vnd.shop+json; charset=utf-8", "TEXT/JSON"]
)
def test_binary_json_is_decoded(content_type: str) -> None:
    envelope = decode(binary(DATA, datacontenttype=content_type))
    assert (bytes(envelope.data), envelope.data_base64) == (DATA, "")
    assert decode(envelope.encode()) == envelope


def test_binary_data_of_another_type_stays_as_it_is() -> None:
    envelope = decode(binary(b"\xff\x00", datacontenttype="application/octet-stream"))
    assert (bytes(envelope.data), envelope.data_base64) == (b"", "/wA=")
    assert decode(envelope.encode()) == envelope


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b"null", "Expected `object`"),
        (b"\xff", "not UTF-8"),
        (b"\xef\xbb\xbf" + body(), "byte order mark"),
        (body().decode().encode("utf-16"), "not UTF-8"),
        (body().decode().encode("utf-16-le"), "malformed"),
        (body() + b"x", "trailing"),
        (b"\x1f\x8b\x08\x00gzip", "not UTF-8"),
        (with_data(b'"\xff"'), "not UTF-8"),
        (with_data(b'"\xed\xa0\x80"'), "not UTF-8"),
        (with_data(b'"\\ud800 alone"'), "malformed"),
        (body(id="\ud800"), "malformed"),
        (with_data(b"NaN"), "malformed"),
        (with_data(b"-Infinity"), "malformed"),
        (with_data(b"01"), "malformed"),
        (body(id=""), "id missing"),
        (body(id=None, type=""), "id, type missing"),
        (body(id="a\0b"), "U\\+0000"),
        (body(subject="a\nb"), "U\\+000A"),
        (body(source="a\x7fb"), "U\\+007F"),
        (body(correlationid="a\u0085b"), "U\\+0085"),
        (body(type="a\ufffeb"), "U\\+FFFE"),
        (body(subject="a\U0001fffeb"), "U\\+1FFFE"),
        (body(source="\U0010ffff"), "U\\+10FFFF"),
        (body(data="?").replace(b"?", b"\\ud83d"), "half of a surrogate pair"),
        (body(id="x" * (MAX_ATTRIBUTE + 1)), "id is longer than"),
        (body(traceparent="x" * (MAX_ATTRIBUTE + 1)), "traceparent is longer than"),
        (body(specversion="0.3"), "'0.3' is not supported"),
        (body(specversion="1.0.2"), "'1.0.2' is not supported"),
        (body(specversion=1.0), "specversion must be"),
        (body(version="9" * 5_000), "version must be 1 to 9999"),
        (body().replace(b'"2"', b"9" * 5_000), "version must be"),
        (body(version="0"), "version must be"),
        (body(version="02"), "version must be"),
        (body(version="-1"), "version must be"),
        (body(version="\u00b2"), "version must be"),
        (body(version="\u0662"), "version must be"),
        (body(version=10_000), "version must be"),
        (body(version=True), "version must be"),
        (body(version=2.5), "version must be"),
        (body(id=2**31), "id must be"),
        (body(source=["test"]), "source must be"),
        (body(subject={"a": 1}), "subject must be"),
        (body(data_base64="e30="), "mutually exclusive"),
        (body(data=None, data_base64="@@"), "not base64"),
        (body(data=None, data_base64="e30"), "not base64"),
        (body(data=None, data_base64="\u00e9"), "not base64"),
        (body(data=None, data_base64=["e30="]), "data_base64 must be"),
        (body(data=None, data_base64="e30=e30="), "not base64"),
        (body(data=None, data_base64="eyJhIjoiw7_DvyJ9"), "not base64"),
        (body(data=None, data_base64="e3\n0="), "U\\+000A"),
        (b"/* why */" + body(), "malformed"),
        (body() + b"\n" + body(), "trailing"),
        (body(ID="e-9", id=None), "id missing"),
        (body().replace(b'"2"', b"-0"), "version must be"),
        (binary(b"\xef\xbb\xbf{}"), "is not JSON"),
        (binary(b"{"), "is not JSON"),
        (binary(b'"\xff"'), "is not JSON"),
        (binary(DATA.decode().encode("utf-16")), "is not JSON"),
        (binary(b"[" * 500 + b"]" * 500), "nested deeper"),
        (with_data(b'"' + b"x" * MAX_EVENT + b'"'), "exceed the limit"),
    ],
)
def test_everything_else_is_malformed_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(MalformedEvent, match=reason) as raised:
        decode(content)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("openers", [b"[", b'{"a":', b'[{"b\\\\\\"[":'])
@pytest.mark.parametrize("deep", [MAX_DEPTH, 1_200, 100_000])
def test_nesting_is_bounded_also_where_the_brackets_are_not_closed(openers: bytes, deep: int) -> None:
    closers = openers.replace(b'{"a":', b"}").replace(b'[{"b\\\\\\"[":', b"}]").replace(b"[", b"]")
    for content in (openers * deep + b"1" + closers * deep, openers * deep):
        with pytest.raises(MalformedEvent, match=r"nested deeper|malformed|truncated|recursion"):
            decode(with_data(content))


@pytest.mark.parametrize("deep", [MAX_DEPTH - 1, MAX_DEPTH])
def test_binary_data_may_be_nested_as_deep_as_other_data(deep: int) -> None:
    content = binary(b"[" * deep + b"]" * deep)
    if deep < MAX_DEPTH:
        assert decode(decode(content).encode()) == decode(content)
    else:
        with pytest.raises(MalformedEvent, match="nested deeper"):
            decode(content)


def test_wide_is_not_deep_and_brackets_in_texts_are_no_nesting() -> None:
    wide = [{"text": '[[{{"\\', "list": [[]]}] * 2_000
    assert json.loads(bytes(decode(body(data=wide)).data)) == wide
    deep = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    assert bytes(decode(with_data(deep)).data) == deep
    deep_and_wide = b"[" + b",".join([deep[1:-1]] * 1_000) + b"]"
    assert bytes(decode(with_data(deep_and_wide)).data) == deep_and_wide
    with pytest.raises(MalformedEvent, match="nested deeper"):
        decode(with_data(b"[" + b",".join([deep[1:-1]] * 1_000 + [deep]) + b"]"))


def test_of_a_repeated_key_the_last_counts() -> None:
    repeated = body()[:-1] + b', "id": "e-2", "subject": null, "subject": "s"}'
    assert (decode(repeated).id, decode(repeated).subject) == ("e-2", "s")


def test_identity_is_source_and_id_and_never_the_same_for_two() -> None:
    pairs = [("a", "b/c"), ("a/b", "c"), ("a", "b||c"), ("a", "b%7C%7Cc"), ("a", "B"), ("a", "b"), ("a", "x" * 200)]
    pairs += [("a", f"sha256:{'0' * 64}"), ("a", "x" * 201), ("a b", "c"), ("", "a/b/c"), ("a", " "), ("a", "\0")]
    identities = {Envelope(source=source, id=identity).identity for source, identity in pairs}
    assert len(identities) == len(pairs)
    for item in identities:
        assert len(item) < 250
        assert not {"|", "\0", " "} & set(item)


def test_any_text_has_a_key_even_half_a_surrogate() -> None:
    assert escape("\ud800") == "%ED%A0%80"
    assert escape("\ud800" * 100).startswith("sha256:")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (body(version="x", time="never"), {"id": "e-1", "type": "shop.itemSold", "version": "", "time": ""}),
        (body(id="a\0b"), {"id": "a\ufffdb", "source": "test"}),
        (body(id=["e-1"], subject="s"), {"subject": "s"}),
        (body(failurereason="\x1b[2J", version="x"), {"failurereason": "\ufffd[2J"}),
        (body(id="x" * 20_000), {"id": "x" * MAX_ATTRIBUTE}),
        (with_data(b'"\xff"'), {"id": "e-1", "type": "shop.itemSold"}),
        (b"[" * 100_000, {"type": ""}),
        (b"", {"failurereason": "the reason"}),
    ],
)
def test_what_can_be_read_of_a_malformed_event_is_bounded_and_clean(content: bytes, expected: dict[str, str]) -> None:
    result = salvage(content, "the reason")
    assert {name: getattr(result, name) for name in expected} == expected
    assert result.id
    assert salvage(content, "the reason") == result
