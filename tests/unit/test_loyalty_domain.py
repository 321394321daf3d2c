"""Value of an order in points, lifecycle of an award, and balance of a member."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loyalty.domain import AlreadySettled, Award, Member, Receipt, points_for

NOW = datetime(2026, 3, 14, 18, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def award(order_id: str = "o-1", points: int = 12) -> Award:
    return Award(order_id=order_id, customer_id="ada", points=points, asked_at=NOW)


def awarded(entry: int, balance: int, order_id: str = "o-1") -> Award:
    result = award(order_id)
    result.give(Receipt(balance=balance, entry=entry), LATER)
    return result


@pytest.mark.parametrize(("cents", "points"), [(0, 0), (99, 0), (100, 1), (199, 1), (2350, 23), (1_000_000, 10_000)])
def test_a_point_for_every_full_euro(cents: int, points: int):
    assert points_for(cents) == points


def test_points_wait_until_they_are_booked_or_rejected():
    waiting, booked, rejected = award(), awarded(7, 151), award()
    rejected.reject("accountClosed", LATER)
    assert (waiting.waiting, waiting.status, waiting.settled_at) == (True, "waiting", None)
    assert (booked.waiting, booked.status, booked.receipt) == (False, "given", Receipt(151, 7))
    assert (rejected.waiting, rejected.status, rejected.reason) == (False, "rejected", "accountClosed")
    assert booked.settled_at == rejected.settled_at == LATER


@pytest.mark.parametrize("first", ["give", "reject"])
@pytest.mark.parametrize("second", ["give", "reject"])
def test_what_points_have_become_stays(first: str, second: str):
    settled = award()
    settle = {
        "give": lambda: settled.give(Receipt(1, 1), NOW),
        "reject": lambda: settled.reject("refused", NOW),
    }
    settle[first]()
    before = settled.status, settled.receipt, settled.reason
    with pytest.raises(AlreadySettled, match=f"order o-1 are {settled.status} already"):
        settle[second]()
    assert (settled.status, settled.receipt, settled.reason) == before


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_member_has_the_balance_of_the_latest_entry_in_any_order(order: tuple[int, ...]):
    gifts = [awarded(5, 50, "o-5"), awarded(6, 42, "o-6"), award("o-7", 3)]  # 42: some points were spent
    member = Member(customer_id="ada", changed_at=NOW)
    for number in order:
        member.apply(gifts[number], LATER)
    assert (member.balance, member.entry, member.points_waiting) == (42, 6, 3)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["waiting", "given", "rejected"])), max_size=30))
def test_a_member_is_right_after_any_number_of_looks(looks: list[tuple[int, str]]):
    """Gifts only progress; a member updated once more with each gift's current state agrees with all of them."""
    gifts = {number: award(f"o-{number}", number + 1) for number in range(6)}
    member = Member(customer_id="ada", changed_at=NOW)
    entries = 0
    for number, status in looks:
        seen = gifts[number]
        if seen.waiting and status == "given":
            entries += 1
            seen.give(Receipt(balance=entries * 10, entry=entries), NOW)
        elif seen.waiting and status == "rejected":
            seen.reject("refused", NOW)
        member.apply(seen, LATER)
    for item in reversed(gifts.values()):
        member.apply(item, LATER)
    assert member.points_waiting == sum(gift.points for gift in gifts.values() if gift.waiting)
    assert (member.balance, member.entry) == (entries * 10, entries)
