"""Merging of an order's state: every order of arrival, duplicates, two copies, two generations."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracking.domain import (
    DRIVER,
    Content,
    Driver,
    Entry,
    Fact,
    Latest,
    Line,
    ReadModel,
    Stage,
    TrackedOrder,
    because,
    euros,
    texts,
)

NOON = datetime(2026, 3, 14, 12, tzinfo=UTC)
CONTENT = Content(fulfilment="delivery", total_cents=950, lines=(Line("margherita", "Margherita", 1, 950),))

facts = st.builds(
    Fact,
    stage=st.none() | st.sampled_from(Stage),
    content=st.none() | st.just(CONTENT),
    pickup_code=st.none() | st.just("7K2QM"),
)
histories = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 90), facts), min_size=1, unique_by=lambda item: item[0]
)


def entry(number: int, minute: int = 0) -> Entry:
    time = NOON + timedelta(minutes=minute)
    return Entry(id=f"e-{number:02}", type="a.b", version=1, time=time, source="a", words="It happened.")


def order_with(history: list[tuple[int, int, Fact]]) -> TrackedOrder:
    order = TrackedOrder(order_id="o-1")
    for number, minute, fact in history:
        order.add(entry(number, minute), fact)
    return order


@given(histories, st.randoms(use_true_random=False))
def test_any_order_of_arrival_and_any_duplicates_come_to_the_same(history: list[Any], chance: Any) -> None:
    other = [*history, *chance.choices(history, k=3)]
    chance.shuffle(other)
    one, two = order_with(history), order_with(other)
    assert one.entries == two.entries
    assert (one.stage, one.content, one.changes) == (two.stage, two.content, two.changes)
    assert one.pickup_code == two.pickup_code
    assert one.entries == sorted(one.entries, key=lambda item: (item.time, item.id))
    assert one.updated_at == one.entries[-1].time


@given(histories, st.data())
def test_two_copies_with_partial_knowledge_complement_one_another(history: list[Any], data: Any) -> None:
    own = data.draw(st.lists(st.sampled_from(history)))
    theirs = [item for item in history if item not in own] + data.draw(st.lists(st.sampled_from(history)))
    one, two = order_with(own), order_with(theirs)
    before = copy.deepcopy(two)
    one.merge(two)
    assert two == before
    assert (one.entries, one.stage, one.content) == ((whole := order_with(history)).entries, whole.stage, whole.content)


def test_the_number_of_a_change_grows_with_every_new_fact_only() -> None:
    order = TrackedOrder(order_id="o-1")
    assert [order.add(entry(number), Fact()) for number in (1, 2, 1)] == [True, True, False]
    assert order.changes == 2


def test_late_events_do_not_change_a_cancelled_order() -> None:
    order = order_with([(1, 0, Fact(stage=Stage.PLACED)), (2, 1, Fact(stage=Stage.CANCELLED, reason="kitchenClosed"))])
    order.add(entry(3, 2), Fact(stage=Stage.BOXED))
    assert (order.stage, order.reason, order.stage.finished) == (Stage.CANCELLED, "kitchenClosed", True)


@pytest.mark.parametrize("stage", list(Stage))
@pytest.mark.parametrize("content", [None, CONTENT])
def test_every_stage_is_described_in_words_with_the_next_step(stage: Stage, content: Content | None) -> None:
    message, following = texts(TrackedOrder(order_id="o-1", stage=stage, content=content))
    assert message.endswith((".", "!"))
    arrived = (Stage.COLLECTED, Stage.DELIVERED, Stage.COMPLETED)
    assert (following is None) == (stage in arrived)


@pytest.mark.parametrize(
    ("fulfilment", "following"),
    [("pickup", "We put it on the shelf for you."), ("delivery", "We are finding a driver for it.")],
)
def test_a_boxed_order_goes_to_the_shelf_or_to_a_driver(fulfilment: str, following: str) -> None:
    content = Content(fulfilment=fulfilment, total_cents=1, lines=())
    assert texts(TrackedOrder(order_id="o", stage=Stage.BOXED, content=content))[1] == following


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("kitchenClosed", "the kitchen is closed"),
        ("notCollected", "nobody came"),
        ("meteor", "Your order was cancelled."),
    ],
)
def test_a_cancelled_order_has_a_reason(reason: str, message: str) -> None:
    order = TrackedOrder(order_id="o", stage=Stage.CANCELLED, reason=reason)
    assert message in texts(order)[0]
    assert because(reason)


def test_a_rebuild_is_read_together_with_the_former_until_its_own_replay_is_over() -> None:
    model = ReadModel()
    assert (model.written, model.readable) == (1, [1])
    model.rebuild("r-1", NOON)
    assert (model.written, model.readable) == (2, [2, 1])
    model.rebuild("r-2", NOON)  # somebody was impatient
    assert (model.written, model.readable) == (3, [3, 2, 1])
    assert not model.complete("r-1", 7, NOON)
    assert model.complete("r-2", 7, NOON)
    assert (model.written, model.readable, model.replayed) == (3, [3], 7)
    assert not model.complete("r-2", 7, NOON)


def test_a_rebuild_whose_replay_fails_ends_and_hides_nothing() -> None:
    model = ReadModel()
    model.rebuild("r-1", NOON)
    assert not model.fail("r-0", "no", NOON)
    assert model.fail("r-1", "no such type", NOON)
    assert (model.written, model.readable, model.building, model.failed) == (2, [2, 1], None, "no such type")
    assert not model.fail("r-1", "no such type", NOON)
    model.rebuild("r-2", NOON)
    assert (model.written, model.readable, model.failed) == (3, [3, 2, 1], "")
    assert model.complete("r-2", 7, NOON)
    assert (model.written, model.readable) == (3, [3])


def test_the_latest_orders_are_kept_and_the_oldest_forgotten() -> None:
    latest = Latest()
    assert latest.note({"a": 1, "b": 1, "c": 1}, most=3)
    assert not latest.note({"a": 1}, most=3)
    assert latest.note({"a": 2, "d": 1}, most=3)
    assert latest.orders == {"c": 1, "a": 2, "d": 1}


@pytest.mark.parametrize(("cents", "written"), [(0, "€0.00"), (5, "€0.05"), (123456, "€1234.56")])
def test_money(cents: int, written: str) -> None:
    assert euros(cents) == written


def test_a_description_shows_the_drivers_name_which_is_stored_apart() -> None:
    entry = Entry(
        id="1",
        type="a.b",
        version=1,
        time=NOON,
        source="a",
        words=f"{DRIVER} comes.",
        driver=Driver(driver_id="d", name="Kim"),
    )
    assert (entry.description, entry.words) == ("Kim comes.", "{driver} comes.")
