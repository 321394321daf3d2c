"""Filters into CEL, and which hand-written CEL is let through. tests/integration holds both against a real daprd."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidings_plan import cel, filters
from tidings_plan.naming import WORDS, is_past, is_technical
from tidings_plan.resources.subscription import Filter


def rendered(*conditions: dict[str, Any]) -> str:
    compiled = filters.terms(msgspec.convert(conditions, tuple[Filter, ...]))
    return filters.conjunction(compiled)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"exact": {"subject": "42"}}, 'has(event.subject) && event.subject == "42"'),
        (
            {"exact": {"data.order.total": 9.5}},
            "has(event.data) && has(event.data.order) && has(event.data.order.total) && event.data.order.total == 9.5",
        ),
        ({"exact": {"data.in": True}}, 'has(event.data) && "in" in event.data && event.data["in"] == true'),
        (
            {"prefix": {"subject": 'a"b'}},
            'has(event.subject) && type(event.subject) == string && event.subject.startsWith("a\\"b")',
        ),
        (
            {"suffix": {"subject": "é"}},
            'has(event.subject) && type(event.subject) == string && event.subject.endsWith("é")',
        ),
        ({"not": {"cel": "event.id == '1'"}}, "!(event.id == '1')"),
        ({"any": [{"cel": "true"}, {"cel": "false // no"}]}, "(true) || (false // no\n)"),
        ({"all": [{"cel": "true"}, {"cel": "false"}]}, "(true) && (false)"),
    ],
)
def test_filters_become_guarded_cel(condition: dict[str, Any], expected: str):
    assert rendered(condition) == expected
    assert cel.check(expected) is None


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"data": {"total": 25, "channel": "web"}}, True),
        ({"data": {"total": 25.0, "channel": "phone"}}, True),
        ({"data": {"total": 20, "channel": "web"}}, False),
        ({"data": {"total": 25, "channel": "shop"}}, False),
        ({"data": {"total": 25}}, False),
        ({"data": {}}, False),
        ({}, False),
    ],
)
def test_filters_match_as_documented(event: dict[str, Any], expected: bool):
    ways = [{"exact": {"data.channel": item}} for item in ("web", "phone")]
    match = rendered({"any": ways}, {"not": {"exact": {"data.total": 20}}})
    assert cel.evaluate(match, event) is expected


texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))  # YAML has no NUL either
scalars = texts | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)


@given(scalars)
@settings(deadline=None)
def test_every_value_is_compared_with_itself(value: Any):
    assert cel.evaluate(rendered({"exact": {"data.value": value}}), {"data": {"value": value}}) is True


@given(texts.filter(lambda key: key and "." not in key), st.dictionaries(texts, scalars))
@settings(deadline=None)
def test_no_key_and_no_event_makes_a_filter_fail(key: str, data: dict[str, Any]):
    for condition in ({"exact": {f"data.{key}": 1}}, {"prefix": {f"data.{key}": "a"}}, {"suffix": {key: "a"}}):
        assert isinstance(cel.evaluate(rendered(condition), {"data": data}), bool)


@pytest.mark.parametrize(
    "expression",
    [
        "event.type == 'a'",
        "has(event.data.items) && event.data.items.exists(item, item.count > 1)",
        "event.data.items.all(item, type(item) == string)",
        "event.data.country in ['DE', \"AT\", r'\\d']",
        "event['data'].total in [1, -2, 3.5, 1e3, 0x1F, 7u, true, null, [4]]",
        "event.data.prices[event.data.index[0]] > 3.0",
        "timestamp(event.time) > timestamp('2026-01-01T00:00:00Z') // new ones",
        "event.subject.matches('^[0-9]+$') || size(event.id) == 26",
    ],
)
def test_good_cel_is_let_through(expression: str):
    assert cel.check(expression) is None


@pytest.mark.parametrize(
    ("expression", "message", "place"),
    [
        ("", "empty", (1, 1)),
        ("event.type ==", "Syntax error", (1, 14)),
        ("event.a\n  && (", "Syntax error", (2, 7)),
        ("event.type", "type dyn, not bool", (1, 1)),
        ("1 + 1", "type int, not bool", (1, 1)),
        ("type == 'x'", "no matching overload", (1, 6)),
        ("lower(event.type) == 'x'", "undeclared reference to 'lower'", (1, 6)),
        ("events.type == 'x'", "undeclared reference to 'events", (1, 7)),
        ("event.type.lowerAscii() == 'x'", "undeclared reference to 'lowerAscii'", (1, 22)),
        ("event.data.`a-b` == 1", "`quoted`", (1, 12)),
        ("event.type ==\n'a' && event.`b` == 1", "`quoted`", (2, 14)),
        ("_in_(event.a, event.b)", "makes it hang", (1, 5)),
        ("event.all(key, key == 'a')", "cannot be the range of a comprehension", (1, 1)),
        ("!(event.data.x ? 2.5 : event)", "type for ?:", (1, 16)),
        ("[event.a, 'x'].exists(x, x == 1u)", "constants only", (1, 1)),
        ("event.a in [event.l[0], 1]", "constants only", (1, 12)),
        ("{'k': event.a}.k == 1", "type for maps", (1, 1)),
        ("[].exists(x, x == int)", "may only be compared with type(...)", (1, 19)),
        ("event.l.map(x, type(x)).exists(y, y == int)", "may only iterate", (1, 31)),
        ("google.protobuf.Duration == event.a", "protobuf", (1, 1)),
        ("(" * 40 + "true" + ")" * 40, "recursion limit", (1, 1)),
        ("true || " * 600 + "true", "longer than", (1, 1)),
    ],
)
def test_bad_cel_is_refused_with_its_place(expression: str, message: str, place: tuple[int, int]):
    problem = cel.check(expression)
    assert problem is not None
    assert message in problem.message
    assert (problem.line, problem.column) == place
    assert problem.fix


DIGITS = "[0,1,2,3,4,5,6,7,8,9]"


def nested(levels: int) -> str:
    """Return macros within macros: ten times as many steps with each level."""
    return "".join(f"{DIGITS}.all(a{number}, " for number in range(levels)) + "event.data.n > 1.0" + ")" * levels


@pytest.mark.parametrize(
    ("expression", "message", "place"),
    [
        (".event.type == 'a'", "leading dot", (1, 2)),
        ("event.id == '1' && .event.data.n == 1.0", "leading dot", (1, 21)),
        ("event.data.x == 1e309", "range of a double", (1, 17)),
        ("event.data.x in [1.0, -1e999]", "range of a double", (1, 23)),
        ("event.data[null] == 1", "crashes daprd", (1, 12)),
        ("event.data[1.5] == 1", "crashes daprd", (1, 12)),
        ("event.data[true] == 1", "crashes daprd", (1, 12)),
        ("event.data[1u] == 1", "crashes daprd", (1, 12)),
        ("event.data[b'a'] == 1", "crashes daprd", (1, 12)),
        ('-event.data[""] > -1', "negated field", (1, 1)),
        ("event in event", "event as a whole", (1, 7)),
        ("event.data.boxes + 1 == 4", "always fails", (1, 18)),
        ("2u * event.data.boxes == 4u", "always fails", (1, 4)),
        ("(event.data.a + event.data.b) - size(event.id) == 4", "always fails", (1, 31)),
        ("event.data.l.exists(x, x + 1 == 4)", "always fails", (1, 26)),
        ("event.data.boxes % 2 == 0", "no remainder", (1, 18)),
        ("dyn(event.data.x) == 1", "makes it hang", (1, 4)),
        ("event.data.s.matches('(')", "cannot compile the pattern", (1, 22)),
        ("event.data.s.matches('(?=a)')", "cannot compile the pattern", (1, 22)),
        (r"event.data.s.matches('\\C')", "cannot compile the pattern", (1, 22)),
        ("event.data.s.matches(event.data.p)", "must be a constant", (1, 32)),
        ("event.data.l.map(x, x).size() > 1", "map is not supported", (1, 17)),
        ("event.data.l.all(size, size > 1.0)", "the variable size", (1, 17)),
        ("event.data.l.all(_x, _x > 1.0)", "the variable _x", (1, 17)),
        (nested(11), "steps per event", (1, 1)),
        (nested(8), "steps per event", (1, 1)),
        ("event.data.l.all(x, event.data.l.all(y, x != y))", "steps per event", (1, 1)),
        ("event.data.l.all(x, x.a.all(y, x.a.all(z, z != y)))", "steps per event", (1, 1)),
        ("event.data.l.filter(x, event.data.m.exists(y, x == y)).size() > 1", "steps per event", (1, 1)),
        ("event.data.l.all(x, event.data.s.contains(x))", "steps per event", (1, 1)),
        ("event.data.l.all(x, x in event.data.m)", "steps per event", (1, 1)),
        ("event.data.l.exists(x, (x + event.data.s).size() > 5)", "steps per event", (1, 1)),
        ("event.data.s.matches('((a{1,30}){1,30}b)*c')", "steps per event", (1, 1)),
        ("event.data.l.all(x, x.matches('a') && event.data.s.matches(':'))", "steps per event", (1, 1)),
        (" || ".join([f"event.data.l.exists(x, x.matches('{'ab' * 20}'))"] * 40), "steps per event", (1, 1)),
        ("1" + "+1" * 500 + " == 501", "recursion", (1, 1)),
    ],
)
def test_what_would_stop_or_occupy_a_sidecar_is_refused(expression: str, message: str, place: tuple[int, int]):
    problem = cel.check(expression)
    assert problem is not None
    assert message in problem.message
    assert (problem.line, problem.column) == place
    assert problem.fix


@pytest.mark.parametrize(
    "expression",
    [
        nested(3),
        "event.data.l.all(x, x.a.exists(y, y == 'a'))",
        "event.data.l.exists(x, x.sku == event.subject && x.count > 2.0)",
        "event.data.l.filter(x, x > 1.0).size() > 2",
        "event.data.l.filter(x, x.a > 1.0).exists(y, y.b == 'a')",
        "event.data.s.matches('^[a-z]+(-[a-z0-9]+)*$') && event.data.t.contains('x')",
        "int(event.data.boxes) + 1 == 4 && event.data.total * 1.5 > 1.0 && int(event.data.n) % 2 == 0",
        "[1, 2].exists(x, x + 1 == 2)",
        "event.data.a - event.data.b > -1.5",
        "type(event.data.l) == list && type(event.data.n) != string",
    ],
)
def test_what_costs_little_is_let_through(expression: str):
    assert cel.check(expression) is None


@given(st.text(max_size=60) | st.text("event.data[]()'\"1e9&|!=<>?:{}`\\ all,xin", max_size=60))
@settings(deadline=None)
def test_any_text_gets_a_verdict(expression: str):
    problem = cel.check(expression)
    assert problem is None or (problem.message and problem.line >= 1 and problem.column >= 1)


@pytest.mark.parametrize(
    ("expression", "data", "expected"),
    [
        ("event.data.boxes + 1.0 == 4.0", {"boxes": 3}, True),
        ("event.data.total * 1.5 > 1.0", {"total": 2}, True),
        ("event.data.total == 20 && type(event.data.total) == double", {"total": 20}, True),
        ("event.data.total == event.data.other", {"total": 2**53 + 1, "other": 2**53}, True),
        ("event.data.total > 1e300", {"total": 10**400}, True),
        ("event.data.lines[0].count == 2", {"lines": [{"count": 2}]}, True),
        ("event.data.paid == true", {"paid": True}, True),
        ("int(event.data.count) == 3", {"count": 3}, True),
    ],
)
def test_every_number_of_an_event_is_a_double_as_it_is_to_daprd(expression: str, data: dict[str, Any], expected: bool):
    assert cel.evaluate(expression, {"data": data}) is expected


def test_a_boolean_is_no_number_to_daprd():
    assert cel.evaluate("int(event.data.paid) == 1", {"data": {"paid": True}}) == "no such overload: int(bool)"


@pytest.mark.parametrize(
    ("expression", "fails"),
    [
        ("event.data.channel == 'web' && event.data.total > 5.0", "Key not found"),
        ("event.data.channel == 'phone' || event.data.total > 5.0", "Key not found"),
        ("(event.id == '1' && event.data.total > 5.0) || event.data.channel == 'phone'", "Key not found"),
        ("has(event.data.total) && event.data.total > 5.0", None),
        ("!has(event.data.total) || event.data.total > 5.0", None),
        ("'total' in event.data && event.data['total'] > 5.0", None),
        ("type(event.data.channel) == double && event.data.channel > 5.0", None),
        ("has(event.data.other) && event.data.total > 5.0", "Key not found"),
        ("event.data.channel == 'phone'", None),
    ],
)
def test_a_part_that_fails_is_detected_though_another_decides(expression: str, fails: str | None):
    result = cel.failure(expression, {"id": "0", "data": {"channel": "phone"}})
    assert (result is None) is (fails is None)
    assert (fails or "") in (result or "")


@pytest.mark.parametrize(
    "expression", ["'[event.a, 1]' == event.a", 'event.a == "`{" // [event.a]', "event.a == '''[\n{?'''"]
)
def test_texts_and_comments_are_no_code(expression: str):
    assert cel.check(expression) is None


@pytest.mark.parametrize(
    ("trip", "good"),
    [
        ("consecutiveFailures > 5", True),
        ("requests > 10 && totalFailures * 2 > requests", True),
        ("consecutiveFailures >", False),
        ("failures > 5", False),
        ("requests", False),
    ],
)
def test_trips_look_at_daprds_counts_only(trip: str, good: bool):
    assert (cel.check_trip(trip) is None) is good


@pytest.mark.parametrize(
    ("name", "past"),
    [
        *(("orderConfirmed", True), ("memberClockedIn", True), ("orderPickedUp", True), ("itemSoldOut", True)),
        *(("paymentTaken", True), ("pizzaQualityChecked", True), ("orderSent", True), ("driverCameOnDuty", True)),
        *(("takePayment", False), ("orderConfirmation", False), ("needSpeed", False), ("order", False)),
    ],
)
def test_past_tense(name: str, past: bool):
    assert is_past(words(name)) is past


@pytest.mark.parametrize(
    ("name", "technical"),
    [
        *(("buttonClicked", True), ("rowUpdated", True), ("orderCreated", True), ("customerDeleted", True)),
        *(("cacheCleared", True), ("orderConfirmed", False), ("tableReserved", False), ("priceChanged", False)),
    ],
)
def test_technical_names(name: str, technical: bool):
    assert bool(is_technical(words(name))) is technical


def words(name: str) -> list[str]:
    return [word.lower() for word in WORDS.findall(name)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("timestamp('2026-01-01t00:00:00Z') < timestamp('2027-01-01T00:00:00Z')", "timestamp()"),
        ("timestamp('2026-01-01T00:00:00z') < timestamp('2027-01-01T00:00:00Z')", "timestamp()"),
        ("timestamp('2026-01-01T00:00:60Z') < timestamp('2027-01-01T00:00:00Z')", "timestamp()"),
        ("timestamp(event.data.at) < timestamp('2027-01-01T00:00:00Z')", "timestamp()"),
        ("duration('9223372037s') > duration('1s')", "duration()"),
        ("duration('2562047h47m16.9s') > duration('1s')", "duration()"),
        ("int(' 1') == 1", "int()"),
        ("int(event.data.spaced) == 1", "int()"),
        ("uint('+1') == 1u", "uint()"),
        ("double('1e400') > 1.0", "double()"),
        ("double('NaN') < 1.0", "NaN"),
        ("event.data.zero / event.data.zero > 1.0", "NaN"),
        ("duration('9223372036s') > duration('1s')", True),
        ("int('+1') == 1 && double('inf') > 1.0 && double('0x1p4') == 16.0", True),
        ("event.data.list.exists(item, int(item) == 1)", True),
        ("has(event.data.missing) && int(event.data.missing) == 1", False),
    ],
)
def test_what_go_refuses_to_convert_or_to_order_fails(expression: str, expected: bool | str):
    """cel-cpp accepts these values, and daprd would dead-letter the events."""
    data = {"at": "2026-01-01t00:00:00Z", "spaced": " 1", "zero": 0, "list": ["1"]}
    actual = cel.evaluate(expression, {"data": data})
    assert actual is expected if isinstance(expected, bool) else expected in str(actual)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("event.data.s == 'a'", False),
        ("event.data.s != 'a' && event.data.s > 'a' && size(event.data.s) == 3", True),
        ("event.data.s.contains('b') && event.data.s.matches('^a[\\\\x00-\\\\x1f]b$')", True),
        ("event.data.keys.exists(key, key == 'a')", False),
        ("event.data.large * 1e308 - event.data.large * 1e308 > 0.0", "NaN"),
        ("timestamp(event.data.offset) > timestamp('2020-01-01T00:00:00Z')", "timestamp()"),
    ],
)
def test_nul_is_a_character_and_no_end_and_what_overflows_is_not_ordered(expression: str, expected: bool | str):
    """The validator's strings ended at NUL: an event with a\\0b matched the condition for a."""
    data = {"s": "a\0b", "keys": {"a\0b": 1}, "large": 1e308, "offset": "2026-01-01T00:00:00-00:60"}
    assert cel.check(expression) is None
    actual = cel.evaluate(expression, {"data": data})
    assert actual is expected if isinstance(expected, bool) else expected in str(actual)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        *((f"event.data.s == '{text}'", "NUL") for text in ("a\0b", r"\x00", r"\u0000", r"\000")),
        (r"event.data.s.matches('\\x00')", "NUL"),
        (r"event.data.s.matches('^[^\\x{0}]$')", "NUL"),
        ("event.data.l.exists(item, int(item) == 1)", "int() on the items of a macro"),
        (
            "event.data.l.all(item, has(item.at) && timestamp(item.at) > timestamp('2020-01-01T00:00:00Z'))",
            "timestamp()",
        ),
        ("event.data.l.filter(item, double(item.n) > 1.0).size() > 0", "double()"),
        ("event.data.l.all(a, event.data.l.all(b, a / b > 1.0))", "0.0 / 0.0"),
        ("timestamp('2026-01-01T00:00:00-00:60') > timestamp('2020-01-01T00:00:00Z')", "timestamp()"),
        ("timestamp('2026-01-01T00:00:00+24:60') > timestamp('2020-01-01T00:00:00Z')", "timestamp()"),
        ("int(' 1') == 1", "int()"),
    ],
)
def test_what_daprd_may_evaluate_otherwise_is_refused_with_a_reason(expression: str, message: str):
    problem = cel.check(expression)
    assert problem is not None
    assert message in problem.message
    assert problem.fix


@pytest.mark.parametrize(
    "expression",
    [
        "event.data.l.all(item, item.n / 2.0 > 1.0 && item.n * item.m > 3.0)",
        "double(event.data.s) > 1.0 && event.data.l.exists(item, item.n > 1.0)",
        r"event.data.s.matches('[\\x00-\\x1f]')",
        "int('1') == 1 && double('1e3') > 1.0",
    ],
)
def test_what_means_the_same_to_daprd_is_let_through(expression: str):
    assert cel.check(expression) is None
