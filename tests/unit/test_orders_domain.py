"""An order's way, step by step, and in whatever order its steps are reported."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orders.domain import (
    Address,
    Customer,
    Draft,
    Fulfilment,
    InvalidOrder,
    KeyReused,
    Line,
    NotConfirmed,
    Order,
    Reason,
    Status,
    TooLate,
)

NOW = datetime(2026, 11, 23, 18, 30, tzinfo=UTC)
LATER = NOW + timedelta(minutes=20)
ADA = Customer("ada", "Ada", "ada@example.org")
ROW = Address("12 Analytical Row", "Utrecht", "3511 AB")
LINES = [Line("margherita", "Margherita", 2, 950), Line("marinara", "Marinara", 1, 800)]

PLACED, CONFIRMED, PREPARING, BOXED = Status.PLACED, Status.CONFIRMED, Status.PREPARING, Status.BOXED
OUT, COMPLETED, CANCELLED = Status.OUT_FOR_DELIVERY, Status.COMPLETED, Status.CANCELLED
REPORTS: dict[str, Callable[[Order], bool]] = {
    "paid": lambda order: order.confirm(LATER),
    "started": lambda order: order.reach(PREPARING),
    "boxed": lambda order: order.reach(BOXED),
    "sent out": lambda order: order.reach(OUT),
    "handed over": lambda order: order.hand_over(LATER),
    "cancelled": lambda order: order.cancel(LATER),
    **{reason.value: lambda order, reason=reason: order.fail(reason, LATER) for reason in Reason},  # type: ignore[misc]
}


def an_order(status: Status = PLACED) -> Order:
    draft = Draft(ADA, Fulfilment.DELIVERY, {"margherita": 2, "marinara": 1}, ROW)
    order = Order.place("o-1", draft, LINES, NOW, "digest")
    way: dict[Status, tuple[str, ...]] = {
        PLACED: (),
        CONFIRMED: ("paid",),
        PREPARING: ("paid", "started"),
        BOXED: ("paid", "started", "boxed"),
        OUT: ("paid", "started", "boxed", "sent out"),
        COMPLETED: ("paid", "started", "boxed", "sent out", "handed over"),
        CANCELLED: ("paid", "cancelled"),
    }
    for step in way[status]:
        assert REPORTS[step](order)
    assert order.status is status
    return order


def test_a_placed_order():
    order = an_order()
    assert (order.status, order.placed_at, order.total_cents, order.currency) == (PLACED, NOW, 2700, "EUR")
    assert (order.confirmed_at, order.completed_at, order.cancellation) == (None, None, None)


X, LATE = NotConfirmed, TooLate  # refused
# One row for each report, one column for each status that it finds: where the order is afterwards.
COLUMNS = (PLACED, CONFIRMED, PREPARING, BOXED, OUT, COMPLETED, CANCELLED)
TABLE: dict[str, tuple[Status | type[Exception], ...]] = {
    "paid": (CONFIRMED, CONFIRMED, PREPARING, BOXED, OUT, COMPLETED, CANCELLED),
    "started": (X, PREPARING, PREPARING, BOXED, OUT, COMPLETED, CANCELLED),
    "boxed": (X, BOXED, BOXED, BOXED, OUT, COMPLETED, CANCELLED),
    "sent out": (X, OUT, OUT, OUT, OUT, COMPLETED, CANCELLED),
    "handed over": (X, COMPLETED, COMPLETED, COMPLETED, COMPLETED, COMPLETED, CANCELLED),
    "cancelled": (CANCELLED, CANCELLED, CANCELLED, CANCELLED, LATE, LATE, CANCELLED),
    "customerCancelled": (CANCELLED, CANCELLED, CANCELLED, CANCELLED, CANCELLED, COMPLETED, CANCELLED),
    "paymentRefused": (CANCELLED, CONFIRMED, PREPARING, BOXED, OUT, COMPLETED, CANCELLED),
    "paymentTimeout": (CANCELLED, CONFIRMED, PREPARING, BOXED, OUT, COMPLETED, CANCELLED),
    "kitchenClosed": (CANCELLED, CANCELLED, CANCELLED, CANCELLED, CANCELLED, COMPLETED, CANCELLED),
    "itemSoldOut": (CANCELLED, CANCELLED, CANCELLED, CANCELLED, CANCELLED, COMPLETED, CANCELLED),
    "noDriverAvailable": (X, CANCELLED, CANCELLED, CANCELLED, CANCELLED, COMPLETED, CANCELLED),
    "notCollected": (X, CANCELLED, CANCELLED, CANCELLED, CANCELLED, COMPLETED, CANCELLED),
    "deliveryFailed": (X, CANCELLED, CANCELLED, CANCELLED, CANCELLED, COMPLETED, CANCELLED),
    "serviceUnavailable": (CANCELLED, CANCELLED, CANCELLED, CANCELLED, CANCELLED, COMPLETED, CANCELLED),
}


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("status", COLUMNS)
def test_every_report_at_every_status(status: Status, report: str):
    order, expected = an_order(status), TABLE[report][COLUMNS.index(status)]
    if isinstance(expected, Status):
        changed = REPORTS[report](order)
        assert order.status is expected
        handed_over = report == "handed over" and status is CANCELLED
        assert changed == (expected is not status or handed_over)
        assert not REPORTS[report](order), "the second time nothing changes"
    else:
        with pytest.raises(expected):
            REPORTS[report](order)
        assert order.status is status


@pytest.mark.parametrize(
    ("reason", "actual", "stage"),
    [
        (Reason.KITCHEN_CLOSED, CONFIRMED, CONFIRMED),
        (Reason.ITEM_SOLD_OUT, PREPARING, PREPARING),
        (Reason.PAYMENT_REFUSED, PLACED, PLACED),
        (Reason.NOT_COLLECTED, BOXED, BOXED),
        (Reason.NOT_COLLECTED, CONFIRMED, BOXED),  # the report of the boxing has been overtaken
        (Reason.NO_DRIVER_AVAILABLE, PREPARING, BOXED),
        (Reason.DELIVERY_FAILED, OUT, OUT),
        (Reason.DELIVERY_FAILED, BOXED, OUT),
    ],
)
def test_a_cancellation_states_the_reached_stage(reason: Reason, actual: Status, stage: Status):
    order = an_order(actual)
    assert order.fail(reason, LATER)
    assert order.cancellation is not None
    assert (order.cancellation.reason, order.cancellation.stage, order.cancellation.at) == (reason, stage, LATER)


@pytest.mark.parametrize("status", [OUT, COMPLETED])
def test_a_late_change_is_rejected_with_a_reason(status: Status):
    with pytest.raises(TooLate, match=r"can no longer be cancelled: (the driver|it has been)"):
        an_order(status).cancel(NOW)


def test_an_order_handed_over_after_its_cancellation_is_not_refunded():
    order = an_order(CANCELLED)
    assert order.hand_over(LATER)
    assert (order.status, order.completed_at, order.given_away_at) == (CANCELLED, None, LATER)


def test_a_repeated_request_is_known_by_its_digest():
    order = an_order()
    order.check_repeated("digest")
    with pytest.raises(KeyReused, match="different order"):
        order.check_repeated("another")


GOOD = ["started", "boxed", "sent out", "handed over"]


@given(st.permutations(GOOD), st.lists(st.sampled_from(["paid", *GOOD])))
def test_all_orders_of_arrival_end_alike(arrivals: list[str], duplicates: list[str]):
    order = an_order(CONFIRMED)
    for report in [*arrivals, *duplicates]:
        REPORTS[report](order)
    assert (order.status, order.confirmed_at, order.completed_at) == (COMPLETED, LATER, LATER)


@given(st.lists(st.sampled_from(sorted(REPORTS)), max_size=12))
def test_an_order_never_goes_back_and_ends_a_single_time(reports: list[str]):
    order, way = an_order(), list(Status)
    for report in reports:
        before, cancellation = order.status, order.cancellation
        try:
            changed = REPORTS[report](order)
        except (NotConfirmed, TooLate):
            assert order.status is before
            continue
        assert way.index(order.status) >= way.index(before)
        if before in (COMPLETED, CANCELLED):
            assert (order.status, order.cancellation) == (before, cancellation)
        assert changed or order.status is before
        assert (order.status is CANCELLED) == (order.cancellation is not None)


@pytest.mark.parametrize(
    ("quantities", "fulfilment", "address", "message"),
    [
        ({}, Fulfilment.PICKUP, None, "has 0"),
        ({"a": 0}, Fulfilment.PICKUP, None, "has 0"),
        ({"a": -1, "b": 5}, Fulfilment.PICKUP, None, "at least 1 of each"),
        ({"a": 60, "b": 41}, Fulfilment.PICKUP, None, "has 101"),
        ({"a": 10_000}, Fulfilment.PICKUP, None, "has 10000"),
        ({"a": 1}, Fulfilment.DELIVERY, None, "needs an address"),
    ],
)
def test_impossible_settings(quantities: dict[str, int], fulfilment: Fulfilment, address: Address | None, message: str):
    with pytest.raises(InvalidOrder, match=message):
        Draft(ADA, fulfilment, quantities, address)


@pytest.mark.parametrize("quantities", [{"a": 1}, {"a": 100}, {"a": 50, "b": 50}])
def test_from_one_to_a_hundred_pizzas(quantities: dict[str, int]):
    assert Draft(ADA, Fulfilment.PICKUP, quantities).quantities == quantities
