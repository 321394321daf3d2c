"""Delivery's domain: every status with every event, and a roster that assigns each delivery once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.examples import examples

from delivery.domain import Address, Assignment, Delivery, NotOnDuty, Recipient, Roster, Status, WrongStep

NOW = datetime(2026, 3, 14, 18, tzinfo=UTC)
LATER = NOW + timedelta(minutes=20)
HOME = Address("1 Elm Street", "Leeds", "LS1 1AA")
Happens = Callable[[Delivery], bool]


def confirm(delivery: Delivery) -> bool:
    return delivery.confirm(Recipient("customer-1", "Ann", HOME), NOW)


def box(delivery: Delivery) -> bool:
    return delivery.box(2, NOW)


def assign(delivery: Delivery) -> bool:
    return delivery.assign("dan", "Dan", NOW)


def give_up(delivery: Delivery) -> bool:
    return delivery.give_up(LATER)


def collect(delivery: Delivery) -> bool:
    return delivery.collect(NOW)


def deliver(delivery: Delivery) -> bool:
    return delivery.deliver(NOW)


def fail(delivery: Delivery) -> bool:
    return delivery.fail("nobodyHome", NOW)


def cancel(delivery: Delivery) -> bool:
    return delivery.cancel(NOW)


WAYS = {
    Status.NEW: [],
    Status.CONFIRMED: [confirm],
    Status.BOXED: [box],
    Status.WAITING: [confirm, box],
    Status.ASSIGNED: [confirm, box, assign],
    Status.COLLECTED: [confirm, box, assign, collect],
    Status.DELIVERED: [confirm, box, assign, collect, deliver],
    Status.FAILED: [confirm, box, assign, collect, fail],
    Status.CANCELLED: [confirm, box, assign, cancel],
}
MOVES: dict[tuple[Status, Happens], tuple[bool, Status]] = {
    (Status.NEW, confirm): (False, Status.CONFIRMED),
    (Status.NEW, box): (False, Status.BOXED),
    (Status.NEW, cancel): (False, Status.CANCELLED),
    (Status.CONFIRMED, box): (True, Status.WAITING),
    (Status.CONFIRMED, cancel): (False, Status.CANCELLED),
    (Status.BOXED, confirm): (True, Status.WAITING),
    (Status.BOXED, cancel): (False, Status.CANCELLED),
    (Status.WAITING, assign): (True, Status.ASSIGNED),
    (Status.WAITING, give_up): (True, Status.FAILED),
    (Status.WAITING, cancel): (True, Status.CANCELLED),
    (Status.ASSIGNED, collect): (True, Status.COLLECTED),
    (Status.ASSIGNED, fail): (True, Status.FAILED),
    (Status.ASSIGNED, cancel): (True, Status.CANCELLED),
    (Status.COLLECTED, deliver): (True, Status.DELIVERED),
    (Status.COLLECTED, fail): (True, Status.FAILED),
    (Status.COLLECTED, cancel): (True, Status.CANCELLED),
}
AGAIN = {(Status.COLLECTED, collect), (Status.DELIVERED, deliver), (Status.FAILED, fail)}
REFUSABLE = (collect, deliver, fail)


def delivery_in(status: Status, order_id: str = "17") -> Delivery:
    delivery = Delivery(order_id=order_id)
    for happens in WAYS[status]:
        happens(delivery)
    assert delivery.status is status
    return delivery


@pytest.mark.parametrize("happens", [confirm, box, assign, give_up, collect, deliver, fail, cancel])
@pytest.mark.parametrize("status", list(Status))
def test_what_happens_in_every_status(status: Status, happens: Happens):
    delivery = delivery_in(status)
    if (status, happens) in MOVES:
        answer, after = MOVES[status, happens]
        assert happens(delivery) is answer
        assert delivery.status is after
    elif happens in REFUSABLE and (status, happens) not in AGAIN:
        with pytest.raises(WrongStep, match=f"order 17 is {status}"):
            happens(delivery)
        assert delivery == delivery_in(status)
    else:
        assert happens(delivery) is False
        assert delivery == delivery_in(status)


def test_an_absent_customer_differs_from_failures_reported_by_drivers():
    delivery = delivery_in(Status.WAITING)
    give_up(delivery)
    assert (delivery.failure, delivery.changed_at) == ("noDriverAvailable", LATER)
    with pytest.raises(WrongStep):
        fail(delivery)


@given(st.permutations([confirm, box, confirm, box]))
def test_facts_converge_in_any_order_and_ask_for_a_driver_a_single_time(facts: list[Happens]):
    delivery = Delivery(order_id="17")
    assert [fact(delivery) for fact in facts].count(True) == 1
    assert delivery == delivery_in(Status.WAITING)
    assert (delivery.address, delivery.boxes, delivery.customer_name) == (HOME, 2, "Ann")


@given(st.permutations([confirm, box, cancel, confirm, box, cancel]))
def test_a_cancelled_order_never_goes_out_whenever_that_is_learnt(facts: list[Happens]):
    delivery = Delivery(order_id="17")
    for fact in facts:
        fact(delivery)
    assert delivery.status is Status.CANCELLED


def roster_with(*drivers: str) -> Roster:
    roster = Roster()
    for driver in drivers:
        roster.come_on_duty(driver, driver.title(), NOW)
    return roster


def test_the_longest_waiting_order_gets_the_longest_free_driver():
    roster = roster_with("dan", "eve")
    for order_id in ("1", "2", "3"):
        roster.apply(delivery_in(Status.WAITING, order_id))
    assert roster.assign() == [Assignment("1", "dan", "Dan"), Assignment("2", "eve", "Eve")]
    roster.apply(delivery_in(Status.DELIVERED, "2"))
    roster.apply(delivery_in(Status.CANCELLED, "1"))
    assert list(roster.drivers) == ["eve", "dan"]
    assert roster.assign() == [Assignment("3", "eve", "Eve")]


def test_a_repeated_arrival_counts_a_single_time_and_cancels_leaving():
    roster = roster_with("dan")
    roster.apply(delivery_in(Status.WAITING))
    roster.assign()
    assert roster.go_off_duty("dan") is False
    assert roster.come_on_duty("dan", "Dan", LATER) is False
    assert roster.apply(delivery_in(Status.DELIVERED)) is None
    assert list(roster.drivers) == ["dan"]


def test_a_driver_with_an_order_goes_when_it_is_done_and_gets_no_other():
    roster = roster_with("dan")
    for order_id in ("1", "2"):
        roster.apply(delivery_in(Status.WAITING, order_id))
    roster.assign()
    assert roster.go_off_duty("dan") is False
    removed = roster.apply(delivery_in(Status.FAILED, "1"))
    assert removed is not None
    assert removed.driver_id == "dan"
    assert roster.assign() == []
    assert list(roster.waiting) == ["2"]


def test_a_free_driver_goes_immediately_and_only_a_single_time():
    roster = roster_with("dan")
    assert roster.go_off_duty("dan") is True
    with pytest.raises(NotOnDuty, match="dan is not on duty"):
        roster.go_off_duty("dan")


class RosterMachine(RuleBasedStateMachine):
    """Drivers and deliveries do what they want; the roster hears of it late, twice or out of order."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster()
        self.deliveries: dict[str, Delivery] = {}
        self.handing_over: list[Assignment] = []

    def reflect(self, delivery: Delivery) -> None:
        self.roster.apply(delivery)
        self.handing_over += self.roster.assign()

    @rule(driver=st.sampled_from("abc"))
    def come(self, driver: str) -> None:
        self.roster.come_on_duty(driver, driver, NOW)
        self.handing_over += self.roster.assign()

    @rule(driver=st.sampled_from("abc"))
    def go(self, driver: str) -> None:
        if driver in self.roster.drivers:
            self.roster.go_off_duty(driver)

    @rule()
    def order(self) -> None:
        order_id = str(len(self.deliveries))
        self.deliveries[order_id] = delivery_in(Status.WAITING, order_id)

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data())
    def receive(self, data: st.DataObject) -> None:
        self.reflect(self.deliveries[data.draw(st.sampled_from(sorted(self.deliveries)))])

    @precondition(lambda self: self.deliveries)
    @rule(data=st.data(), happens=st.sampled_from([collect, deliver, fail, cancel, give_up]))
    def proceed(self, data: st.DataObject, happens: Happens) -> None:
        delivery = self.deliveries[data.draw(st.sampled_from(sorted(self.deliveries)))]
        if (delivery.status, happens) in MOVES:
            happens(delivery)

    @precondition(lambda self: self.handing_over)
    @rule(data=st.data())
    def hand_over(self, data: st.DataObject) -> None:
        self.take(data.draw(st.integers(0, len(self.handing_over) - 1)))

    def take(self, index: int) -> None:
        assignment = self.handing_over.pop(index)
        delivery = self.deliveries[assignment.order_id]
        if not delivery.assign(assignment.driver_id, assignment.driver_name, NOW):
            self.reflect(delivery)

    @invariant()
    def nothing_is_duplicated(self) -> None:
        order_ids = [driver.order_id for driver in self.roster.drivers.values() if driver.order_id]
        assert len(order_ids) == len(set(order_ids))
        assert not set(order_ids) & set(self.roster.waiting)
        under_way = [delivery.driver_id for delivery in self.deliveries.values() if delivery.occupies_driver]
        assert len(under_way) == len(set(under_way))

    @invariant()
    def no_driver_is_idle_while_an_order_waits(self) -> None:
        free = [driver for driver in self.roster.drivers.values() if not driver.order_id]
        assert not (free and self.roster.waiting)
        assert not any(driver.leaving for driver in free)

    def teardown(self) -> None:
        """Check that after all events the driver of each order is known and nothing is left."""
        for delivery in self.deliveries.values():
            self.reflect(delivery)
        while self.handing_over:
            self.take(0)
        held = {driver.order_id: driver.driver_id for driver in self.roster.drivers.values() if driver.order_id}
        assert held == {item.order_id: item.driver_id for item in self.deliveries.values() if item.occupies_driver}
        assert set(self.roster.waiting) == {item.order_id for item in self.deliveries.values() if item.needs_driver}


TestRoster = RosterMachine.TestCase
TestRoster.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)
