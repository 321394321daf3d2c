"""Orders' copy of the menu comes out the same in whatever order its facts arrive."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.domain import Line, Menu, MenuMissing, SoldOut, UnknownSku

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
Fact = Callable[[Menu], None]


def at(minute: int) -> datetime:
    return NOW + timedelta(minutes=minute)


def published(name: str, cents: int, minute: int, *, available: bool = True) -> Fact:
    return lambda menu: menu.publish("m", name, cents, available=available, at=at(minute))


def price(cents: int, minute: int) -> Fact:
    return lambda menu: menu.change_price("m", cents, at(minute))


def available(minute: int, *, yes: bool) -> Fact:
    return lambda menu: menu.set_available("m", available=yes, at=at(minute))


def menu_of(*facts: Fact) -> Menu:
    menu = Menu()
    for fact in facts:
        fact(menu)
    return menu


@pytest.mark.parametrize(
    ("facts", "cents"),
    [
        ([published("M", 950, 0)], 950),
        ([published("M", 950, 0), price(990, 1)], 990),
        ([price(990, 1), published("M", 950, 0)], 990),
        ([published("M", 950, 0), price(990, 1), price(970, 2)], 970),
        ([published("M", 950, 0), price(970, 2), price(990, 1)], 970),
        ([published("M", 950, 0), available(1, yes=False), available(2, yes=True)], 950),
        ([available(2, yes=True), available(1, yes=False), published("M", 950, 0)], 950),
        ([available(1, yes=False), published("M", 1000, 2)], 1000),
    ],
)
def test_the_latest_fact_holds(facts: list[Fact], cents: int):
    assert menu_of(*facts).lines({"m": 2}) == [Line("m", "M", 2, cents)]


@pytest.mark.parametrize(
    ("facts", "error", "message"),
    [
        ([], MenuMissing, "has not arrived"),
        ([price(990, 1), available(1, yes=True)], MenuMissing, "has not arrived"),  # a price alone is no recipe
        ([published("M", 950, 0), available(1, yes=False)], SoldOut, "sold out: M"),
        ([published("M", 950, 0, available=False)], SoldOut, "sold out: M"),
    ],
)
def test_what_cannot_be_ordered(facts: list[Fact], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        menu_of(*facts).lines({"m": 1})


def test_unknown_skus_are_all_named():
    menu = menu_of(published("M", 950, 0))
    menu.change_price("announced", 100, at(0))
    with pytest.raises(UnknownSku, match="not on the menu: announced, pineapple"):
        menu.lines({"pineapple": 1, "m": 1, "announced": 1})


minutes = st.integers(0, 3)  # few, so that facts of the same time are common
facts = st.one_of(
    st.builds(published, st.sampled_from("MN"), st.integers(1, 3), minutes, available=st.booleans()),
    st.builds(price, st.integers(1, 3), minutes),
    st.builds(available, minutes, yes=st.booleans()),
)


@given(st.lists(facts, min_size=1, max_size=8), st.data())
def test_every_order_of_arrival_gives_the_same_menu(arrivals: list[Fact], data: st.DataObject):
    rest = data.draw(st.permutations(arrivals))
    count = data.draw(st.lists(st.sampled_from(arrivals)))
    assert menu_of(*arrivals) == menu_of(*rest, *count)
