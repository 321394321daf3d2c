"""The counter's domain: every status with every event, in any order."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pickup.domain import SHELVES, NotOnShelf, ShelfIndex, ShelvedOrder, Status, WrongCode, shelf_of

NOW = datetime(2026, 3, 14, 18, tzinfo=UTC)
LATER = NOW + timedelta(minutes=20)
CODE = "K7M2Q"
Happens = Callable[[ShelvedOrder], bool]


def confirm(order: ShelvedOrder) -> bool:
    return order.confirm("customer-1", "Ann", code=CODE, now=NOW)


def box(order: ShelvedOrder) -> bool:
    return order.box(2, code=CODE, now=NOW)


def collect(order: ShelvedOrder) -> bool:
    return order.collect(CODE, LATER)


def expire(order: ShelvedOrder) -> bool:
    return order.expire(LATER)


def cancel(order: ShelvedOrder) -> bool:
    return order.cancel(LATER)


WAYS = {
    Status.NEW: [],
    Status.CONFIRMED: [confirm],
    Status.BOXED: [box],
    Status.SHELVED: [confirm, box],
    Status.COLLECTED: [confirm, box, collect],
    Status.EXPIRED: [confirm, box, expire],
    Status.CANCELLED: [confirm, cancel],
}


def order_in(status: Status) -> ShelvedOrder:
    order = ShelvedOrder(order_id="17")
    for happens in WAYS[status]:
        happens(order)
    assert order.status is status
    return order


@pytest.mark.parametrize(
    ("before", "happens", "answer", "after"),
    [
        (Status.NEW, confirm, False, Status.CONFIRMED),
        (Status.NEW, box, False, Status.BOXED),
        (Status.NEW, cancel, False, Status.CANCELLED),
        (Status.NEW, expire, False, Status.NEW),
        (Status.CONFIRMED, confirm, False, Status.CONFIRMED),
        (Status.CONFIRMED, box, True, Status.SHELVED),
        (Status.CONFIRMED, cancel, False, Status.CANCELLED),
        (Status.CONFIRMED, expire, False, Status.CONFIRMED),
        (Status.BOXED, confirm, True, Status.SHELVED),
        (Status.BOXED, box, False, Status.BOXED),
        (Status.BOXED, cancel, False, Status.CANCELLED),
        (Status.BOXED, expire, False, Status.BOXED),
        (Status.SHELVED, confirm, False, Status.SHELVED),
        (Status.SHELVED, box, False, Status.SHELVED),
        (Status.SHELVED, cancel, True, Status.CANCELLED),
        (Status.SHELVED, collect, True, Status.COLLECTED),
        (Status.SHELVED, expire, True, Status.EXPIRED),
        (Status.COLLECTED, collect, False, Status.COLLECTED),
        *[
            (over, happens, False, over)
            for over in (Status.COLLECTED, Status.EXPIRED, Status.CANCELLED)
            for happens in (confirm, box, cancel, expire)
        ],
    ],
)
def test_what_happens_in_every_status(before: Status, happens: Happens, answer: bool, after: Status):
    order = order_in(before)
    assert happens(order) is answer
    assert order.status is after


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (Status.NEW, "it is unknown"),
        (Status.CONFIRMED, "is still working on it"),
        (Status.BOXED, "confirmation has not arrived yet"),
        (Status.EXPIRED, "not collected in time"),
        (Status.CANCELLED, "cancelled"),
    ],
)
def test_what_is_not_on_the_shelf_cannot_be_collected_and_why(status: Status, why: str):
    with pytest.raises(NotOnShelf, match=why):
        collect(order_in(status))


@pytest.mark.parametrize("status", [Status.SHELVED, Status.COLLECTED])
@pytest.mark.parametrize("code", ["", "K7M2", "K7M2QQ", "WRONG"])
def test_the_code_must_be_right_also_for_a_collected_order(status: Status, code: str):
    order = order_in(status)
    with pytest.raises(WrongCode, match="not the code of order 17"):
        order.collect(code, LATER)
    assert order.status is status


@pytest.mark.parametrize("message", ["k7m2q", " K7M2Q "])
def test_the_code_may_be_typed_carelessly(message: str):
    assert order_in(Status.SHELVED).collect(message, LATER)


def test_the_shelved_order_has_all_published_data():
    order = order_in(Status.SHELVED)
    assert (order.customer_name, order.boxes, order.code, order.shelf) == ("Ann", 2, CODE, shelf_of("17"))
    assert order.shelved_at == NOW
    assert order.until is None


@given(st.permutations([confirm, box, confirm, box]))
def test_facts_converge_in_any_order_and_put_the_order_on_its_shelf_a_single_time(facts: list[Happens]):
    order = ShelvedOrder(order_id="17")
    assert [fact(order) for fact in facts].count(True) == 1
    assert order == order_in(Status.SHELVED)


@given(st.permutations([confirm, box, cancel, confirm, box, cancel]))
def test_a_cancelled_order_ends_off_the_shelf_whenever_that_is_learnt(facts: list[Happens]):
    order = ShelvedOrder(order_id="17")
    for fact in facts:
        fact(order)
    assert order.status is Status.CANCELLED


@pytest.mark.parametrize("status", [item for item in Status if item is not Status.SHELVED])
def test_the_list_shows_an_order_exactly_while_it_is_on_the_shelf(status: Status):
    index = ShelfIndex()
    for _ in range(2):
        index.apply(order_in(Status.SHELVED))
        assert [(place.shelf, place.customer_name, place.boxes) for place in index.orders.values()] == [
            (shelf_of("17"), "Ann", 2)
        ]
    for _ in range(2):
        index.apply(order_in(status))
        assert index.orders == {}


def test_orders_spread_over_all_shelves():
    result = [shelf_of(f"order-{number}") for number in range(800)]
    assert set(result) == set(SHELVES)
    assert min(result.count(letter) for letter in SHELVES) > 50
    assert shelf_of("order-1") == result[1]
