"""Filters evaluated by the plan match the same events as their CEL in a sidecar."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings_plan import cel, filters
from tidings_plan.resources.matching import has_cel, matches
from tidings_plan.resources.subscription import Filter

KEYS = st.sampled_from(["type", "subject", "data.a", "data.b", "data.in.a", "data.in.b", "data.x-y"])
SCALARS = st.one_of(st.sampled_from(["a", "ab", "b", "", "1", True, False, 0, 1, 2]))
TEXTS = st.sampled_from(["a", "ab", "b", "1"])
LEAVES = st.one_of(
    st.builds(lambda key, value: {"exact": {key: value}}, KEYS, SCALARS),
    st.builds(lambda key, value: {"prefix": {key: value}}, KEYS, TEXTS),
    st.builds(lambda key, value: {"suffix": {key: value}}, KEYS, TEXTS),
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda parts: {"all": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda parts: {"any": parts}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=6,
)
INSIDE = st.dictionaries(st.sampled_from(["a", "b"]), SCALARS)
MORE = st.dictionaries(st.sampled_from(["a", "b", "x-y"]), SCALARS)


@st.composite
def events(draw: st.DrawFn) -> dict[str, Any]:
    """Return an event with some of the fields."""
    more = {"subject": draw(TEXTS)} if draw(st.booleans()) else {}
    return {"type": "orders.orderPlaced", **more, "data": {**draw(MORE), "in": draw(INSIDE)}}


def read(written: Any) -> tuple[Filter, ...]:
    return msgspec.convert(written, tuple[Filter, ...])


@given(st.lists(CONDITIONS, min_size=1, max_size=3), events())
def test_as_in_a_sidecar(written: list[dict[str, Any]], event: dict[str, Any]) -> None:
    expected = read(written)
    expression = filters.conjunction(filters.terms(expected))
    assert cel.evaluate(expression, event) is matches(expected, event)


@pytest.mark.parametrize(
    "written",
    [
        [{"cel": "true"}],
        [{"all": [{"exact": {"a": 1}}, {"not": {"cel": "true"}}]}],
        [{"any": [{"any": [{"cel": "true"}]}]}],
    ],
)
def test_cel_is_detected_at_any_depth(written: list[dict[str, Any]]) -> None:
    assert has_cel(read(written))
    assert not has_cel(read([{"not": {"exact": {"a": 1}}}]))


def test_cel_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="exact"):
        matches(read([{"cel": "true"}]), {})
