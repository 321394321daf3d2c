"""Expressions that the check accepts compile in daprd's own code (pkg/expr with cel-go), with the same results.

Two implementations of CEL are compared: Google's in C++, which the check and the probe use, and the one in daprd.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidings_cli.programs.places import cache_folder
from tidings_plan import cel, filters
from tidings_plan.resources.subscription import Filter

pytestmark = pytest.mark.real
SOURCE = Path(__file__).parent / "celgo"
EVENTS: list[dict[str, Any]] = [
    {
        "id": "7",
        "type": "orders.orderConfirmed",
        "time": "2026-01-01T00:00:00Z",
        "subject": "42",
        "data": {
            "n": 3,
            "x": 2.5,
            "s": "abc",
            "b": True,
            "z": None,
            "l": [1, 2, 3],
            "t": ["a", "b"],
            "m": {"a": 1, "s": "x"},
            "o": [{"n": 1, "t": ["a"]}, {"n": 2, "t": []}],
        },
    },
    {"id": "", "type": "a", "data": {"n": "3", "s": 5, "l": "abc", "m": [1], "t": {"a": 1}, "o": []}},
    {"id": "8", "data": {"n": 9007199254740993, "x": -0.0, "s": "é", "l": [], "b": False}},
    {"id": "9", "data": None},
    {
        "id": "1\0",
        "subject": "a",
        "data": {
            "n": 1e308,
            "s": "a\0b",
            "t": [" 1", "+1", "1_0", "a\0"],
            "l": [0, "\0"],
            "m": {"a\0": 1, "s": "\0"},
            "o": [{"n": 0, "t": ["\0"]}],
        },
    },
    {"id": "10"},
]


class Daprd:
    """daprd's code for conditions, in a process of its own: what ends it would end a sidecar."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen(  # the program that was just built
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def ask(self, expression: str, variables: list[dict[str, Any]]) -> dict[str, Any]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"expression": expression, "variables": variables}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"daprd would have ended, or compiled for ever: {expression}"
        content: dict[str, Any] = json.loads(line)
        return content

    def close(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=120)
        self.process.stdout.close()


def built() -> Path:
    """Return the program, built once for each state of its source."""
    if shutil.which("go") is None:
        pytest.skip("NOT TESTED, Go is not installed: daprd's CEL cannot be built")
    files = sorted(path for path in SOURCE.iterdir() if path.is_file())
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    program = cache_folder() / "bin" / f"celgo-{digest}"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=program.parent) as folder:
            made = Path(folder) / "celgo"
            command = [
                "env",
                "CGO_ENABLED=0",
                "GOWORK=off",
                "GOFLAGS=-mod=readonly",
                "go",
                "build",
                "-o",
                str(made),
                ".",
            ]
            subprocess.run(command, cwd=SOURCE, check=True)
            made.replace(program)
    return program


@pytest.fixture(scope="module")
def daprd_cel() -> Iterator[Daprd]:
    process = Daprd(built())
    yield process
    process.close()


def oneof(words: str) -> st.SearchStrategy[str]:
    return st.sampled_from(words.split())


names = oneof("n x s b z l t m o missing in type size")
numbers = oneof("0 1 3 -1 2u 1.0 2.5 -2.5e3 1e308 1e309 1e-400 0x1F 9223372036854775807 .5")
odd_text = st.text("ab\\\"'\n\u00e9\U0001f355\u0000{}[]|$^.*", max_size=4)
texts = st.one_of(
    oneof(r"""'a' "abc" r'\d' '\x41' '\u00e9' '\U0001F355' '''b''' b'a' '\0' '\101' '' """),
    odd_text.map(lambda text: json.dumps(text, ensure_ascii=False)),
    oneof(r"""'a\x00b' '\u0000' '\000' """),
)
constants = st.one_of(numbers, texts, oneof("true false null"))


def bracketed(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(inner, max_size=3).map(lambda item: f"[{', '.join(item)}]")


lists = bracketed(constants | bracketed(constants))
fields = st.recursive(
    oneof("event.data event.data event.data event.data event event.id event.time .event events v v v"),
    lambda inner: st.one_of(
        st.builds("{}.{}".format, inner, names),
        st.builds("{}[{}]".format, inner, st.one_of(constants, names.map(lambda name: f"'{name}'"), inner)),
    ),
    max_leaves=3,
)
patterns = oneof(
    r"""'^a' r'\d+' '(a|b)*$' '(' 'a{1,9}' '(?i)A' '(?=a)' '\\pL' event.data.s '[[:alpha:]]' '\\C' '\\Qa'
    '\\x00' '[\\x00-\\x1f]' '\\0' '^[^\\x{0}]*$'"""
)
comparisons = oneof("== != < <= > >= in")
operators = oneof("+ - * / %")
macros = oneof("all exists exists_one filter map")
variables = oneof("v v v v v w x size _v event __result__ int")
types = oneof("string int double list map bool null_type type")
functions = oneof("size int uint double string timestamp duration bool bytes dyn type lower")
methods = oneof("contains startsWith endsWith matches _in_ charAt")
GO_READS_MORE = tuple(
    f"2026-01-01{rest}"
    for rest in ("T00:00:00-00:60", "T00:00:00+24:00", "T00:00:00+24:60", "T00:00:00,5Z", "T0:00:00Z")
)
"""Times that daprd converts though they are not RFC 3339. The probe is stricter: see `cel.evaluate`."""
CONVERTED: dict[str, tuple[str, ...]] = {
    "int": (" 1", "+1", "1", "1_0", "1\0", "9223372036854775808", ""),
    "uint": ("+1", "1", "-1", "18446744073709551616"),
    "double": (" 1", "nan", "NaN", "-inf", "1e400", "0x1p4", "1.", ".5e1", "1\0"),
    "timestamp": (
        *(f"2026-01-01{rest}" for rest in ("t00:00:00Z", "T00:00:00z", "T00:00:60Z", "T00:00:59.5Z", "T24:00:00Z")),
        *(f"2026-01-01T23:59:59{offset}" for offset in ("+02:00", "-00:00", "+25:00", "+99:00", "-00:61", "+2:00")),
        *("2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00", *GO_READS_MORE),
    ),
    "duration": (
        *("9223372036s", "9223372037s", "-9223372037s", "2562047h47m16.9s", "1h.5m", "inf", "1.s", "+1ms", "", "0"),
        *("1d", " 1s", "2562047h47m16s"),
    ),
}
computed = st.sampled_from(
    [
        *("0.0 / 0.0", "(event.data.n - event.data.n) / (event.data.n - event.data.n)", "int(event.data.s)"),
        *("event.data.n * 1e308 - event.data.n * 1e308", "event.data.n * 1e308 * 0.0", "1e308 * 10.0"),
    ]
)
conversions = st.sampled_from([(function, text) for function, texts in CONVERTED.items() for text in texts])
asked = oneof("size getHours getFullYear lowerAscii")


def grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("{} {} {}".format, inner, comparisons, inner),
        st.builds("{} {} {}".format, fields, comparisons, constants | lists),
        st.builds("({}) {} ({})".format, inner, oneof("&& || + - * / %"), inner),
        st.builds("({} {} {}) {} {}".format, fields, operators, constants, comparisons, constants),
        st.builds("!({})".format, inner),
        st.builds("-{}".format, inner),
        st.builds("{}({})".format, functions, inner),
        st.builds("{}({}) {} {}".format, functions, fields, comparisons, constants),
        st.builds("{}.{}(v, {}(v) {} {})".format, fields, macros, functions, comparisons, constants),
        st.builds("{}.{}(v, v {} v {} {})".format, fields, macros, operators, comparisons, constants),
        st.builds("{}.{}({})".format, inner, methods, texts | fields),
        st.builds("{}.{}({})".format, fields, methods, texts),
        st.builds("{}.matches({})".format, fields, patterns),
        st.builds("{}.{}()".format, inner, asked),
        st.builds("type({}) == {}".format, inner, types),
        st.builds("has({}.{})".format, fields, names),
        st.builds("has({}.{})".format, fields, names),
        st.builds("{}.{}({}, {})".format, fields | lists, macros, variables, inner),
        st.builds("{}.filter({}, {}).{}({}, {})".format, fields, variables, inner, macros, variables, inner),
        st.builds("{}.filter({}, {}).size() > {}".format, fields, variables, inner, numbers),
        st.builds("({} ? {} : {})".format, inner, inner, inner),
        st.builds("{{'a': {}}}".format, inner),
        st.builds("{} // {}".format, inner, st.just("a comment")),
    )


parts = st.recursive(fields | constants | lists, grown, max_leaves=5)
whole = grown(grown(fields | constants)) | grown(parts)
expressions = whole | st.builds("{} {} {}".format, grown(fields | constants), oneof("&& ||"), grown(fields | lists))


STRICTER = ("has(", " in ", "int(", "double(", "timestamp(", "duration(", "/")
"""Where the probe may fail and daprd goes on: has() of a field of what is no object, a key that is no text, and a
value that cannot be converted or ordered, had another part not decided before."""


def assert_same(
    daprd: Daprd, expression: str, events: list[dict[str, Any]], stricter: tuple[str, ...] = STRICTER
) -> None:
    theirs = daprd.ask(expression, [{"event": item} for item in events])
    assert theirs["error"] == "", expression
    for event, result in zip(events, theirs["results"], strict=True):
        own = cel.evaluate(expression, event)
        is_stricter = isinstance(own, str) and any(item in expression for item in stricter)
        if not (is_stricter and isinstance(result, bool)):
            assert outcome(own) == outcome(result), f"{expression} on {event}: {own} by the probe, {result} by daprd"


def outcome(result: bool | str) -> bool | str:
    return result if isinstance(result, bool) else "fails"


@given(expressions)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_passes_the_check_means_the_same_to_daprd(daprd_cel: Daprd, expression: str):
    if cel.check(expression) is None:
        assert_same(daprd_cel, expression, EVENTS)


@pytest.mark.parametrize(
    ("expression", "error"),
    [
        ("event.data.x == 1e309", "invalid double literal"),
        ("event.data[null] == 1", "invalid qualifier type"),
        ('-event.data[""] > -1', "found no matching overload"),
        ("event.data.`a-b` == 1", "Syntax error"),
    ],
)
def test_daprd_dies_of_what_the_check_refuses(daprd_cel: Daprd, expression: str, error: str):
    assert error in daprd_cel.ask(expression, [])["error"]
    assert cel.check(expression) is not None


@pytest.mark.parametrize("function", ["int", "uint", "double", "string"])
@pytest.mark.parametrize(
    "argument",
    [
        "event.data.n",
        "event.data.l[0]",
        "event.data.m.a",
        "event.data['m'].a",
        "event.data.o[0].n",
        "event.id",
        "event.data['n']",
        "event['data']['n']",
        "event.data.o[0]['n']",
        "event.data['l'][0]",
        "event.data[event.data.t[0]]",
        "event['id']",
        "(event.data['x'])",
        '(event.data["b"])',
    ],
)
def test_conversions_mean_the_same_to_daprd_or_are_refused(daprd_cel: Daprd, function: str, argument: str):
    """After an index that is a name, cel-go compiles the first overload of a conversion only."""
    for expression in (
        f"{function}({argument}) == {function}({argument})",
        f"!({function}({argument}) != {function}({argument}))",
        f"event.data.l.exists(v, v == 1.0) && {function}({argument}) == {function}({argument})",
    ):
        if cel.check(expression) is None:
            assert_same(daprd_cel, expression, EVENTS)
        else:
            assert "['" in expression or '["' in expression, f"refused without need: {expression}"


@pytest.mark.parametrize(
    "condition",
    [
        {"exact": {"data.n": 3}},
        {"exact": {"data.m.a": 1.0, "data.b": True}},
        {"prefix": {"data.s": "a"}},
        {"suffix": {"data.s": "c", "subject": "2"}},
        {"exact": {"data.in": "x"}},
        {"not": {"any": [{"exact": {"data.n": 3}}, {"prefix": {"id": "8"}}]}},
        {"all": [{"cel": "has(event.data.x) // a comment"}, {"exact": {"type": "a"}}]},
    ],
)
def test_filters_mean_the_same_to_daprd(daprd_cel: Daprd, condition: dict[str, Any]):
    rendered = filters.conjunction(filters.terms([msgspec.convert(condition, Filter)]))
    assert cel.check(rendered) is None
    assert_same(daprd_cel, rendered, EVENTS)


@given(conversions, comparisons, conversions, st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_strings_are_converted_to_is_the_same_to_daprd(
    daprd_cel: Daprd, left: tuple[str, str], operator: str, right: tuple[str, str], is_written: bool
):
    """Go reads numbers, times and durations by rules of its own, whether an event or the expression holds them."""
    texts = [json.dumps(left[1]), json.dumps(right[1])] if is_written else ["event.data.a", "event.data.b"]
    expression = f"{left[0]}({texts[0]}) {operator} {right[0]}({texts[1]})"
    if cel.check(expression) is None:
        more = ("timestamp(",) if {left[1], right[1]} & {*GO_READS_MORE} else ()
        assert_same(daprd_cel, expression, [{"data": {"a": left[1], "b": right[1]}}], stricter=more)


@given(computed, comparisons, computed)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_order_of_what_is_no_number_is_the_same_to_daprd(daprd_cel: Daprd, left: str, operator: str, right: str):
    """cel-go orders no NaN, whatever it comes from."""
    expression = f"{left} {operator} {right}"
    if cel.check(expression) is None:
        assert_same(daprd_cel, expression, EVENTS, stricter=())


LARGE = 150_000


@pytest.mark.parametrize(
    "expression",
    [
        "event.data.l.all(x, x > 0.0 && x < 1e9 && x != 0.5)",
        "event.data.l.filter(x, x > 1.0).filter(x, x < 1e9).exists_one(x, x == 7.0)",
        "event.data.o.all(x, x.exists(y, y == 1.0))",
        "event.data.s.matches('^(a|a|aa)*(a{1,9}b?)+$')",
        "event.data.s.contains('ab') || event.data.s.endsWith('ba') || size(event.data.s) == 3",
        "[0,1,2,3].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, event.data.s.contains('ab') == false))",
        "event.data.l.exists(x, x == event.data.s || x == event.data.l)",
    ],
)
def test_a_large_event_keeps_no_sidecar_busy(daprd_cel: Daprd, expression: str):
    """The program gives up after a minute; what the check refuses takes hours."""
    data = {"l": [1, 7, 8] * (LARGE // 3), "o": [[1]] * LARGE, "s": "a" * (1 << 20)}
    assert cel.check(expression) is None
    assert isinstance(daprd_cel.ask(expression, [{"event": {"data": data}}])["results"][0], bool)


@pytest.mark.parametrize("trip", ["consecutiveFailures > 5", "requests > 10 && totalFailures * 2 > requests"])
def test_trips_mean_the_same_to_daprd(daprd_cel: Daprd, trip: str):
    assert cel.check_trip(trip) is None
    counts = [dict.fromkeys(cel.COUNTS, value) for value in (0, 7, 20)]
    assert daprd_cel.ask(trip, counts)["error"] == ""
