"""The kitchen's domain: steps of tickets, staff and stock."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kitchen.domain import (
    FOLLOWS,
    Arrival,
    BoardIndex,
    Cookbook,
    Line,
    NotClockedIn,
    Pantry,
    Roster,
    Status,
    Step,
    Ticket,
    WrongStep,
    shard_key,
    shard_keys,
)
from kitchen.settings import KitchenSettings

NOW = datetime(2026, 3, 14, 18, tzinfo=UTC)
FINAL: tuple[Status, ...] = ("boxed", "stopped", "rejected")
STEPS: tuple[Step, ...] = get_args(Step)


def ticket(status: Status = "waiting", checks: int = 0) -> Ticket:
    lines = [Line("margherita", 2), Line("funghi", 1)]
    return Ticket(order_id="o-1", status=status, changed_at=NOW, lines=lines, checks=checks)


def received(*, staffed: bool = True, sold_out: tuple[str, ...] = ()) -> Ticket:
    return Ticket.receive(
        "o-1", [Line("funghi", 1)], "pickup", confirmed_at=NOW, now=NOW, staffed=staffed, sold_out=sold_out
    )


@pytest.mark.parametrize("status", get_args(Status))
@pytest.mark.parametrize("step", STEPS)
def test_a_ticket_takes_the_step_that_comes_next_and_no_other(status: Status, step: Step) -> None:
    expected = {
        ("waiting", "started"): "preparing",
        ("preparing", "prepared"): "prepared",
        ("prepared", "baked"): "baked",
        ("baked", "checked"): "checked",
        ("checked", "boxed"): "boxed",
    }.get((status, step))
    result = ticket(status)
    later = NOW + timedelta(minutes=1)
    if expected is None:
        with pytest.raises(WrongStep, match=f"o-1 is {status}: .*, not '{step}'"):
            result.do(step, later)
        assert result == ticket(status)
    else:
        result.do(step, later)
        assert (result.status, result.moves, result.changed_at) == (expected, 1, later)


@pytest.mark.parametrize(
    ("failures", "way"),
    [
        (0, "started prepared baked checked boxed"),
        (1, "started prepared baked checked baked checked boxed"),
        (2, "started prepared baked checked baked checked prepared baked checked boxed"),
        (3, "started prepared baked checked baked checked prepared baked checked baked checked boxed"),
    ],
)
def test_a_failed_check_is_baked_again_and_every_second_one_remade(failures: int, way: str) -> None:
    result, done = ticket(), []
    while (step := result.next_step) is not None:
        result.do(step, NOW, passed=result.passes({"funghi": failures, "diavola": 9}))
        done.append(step)
    assert (" ".join(done), result.status, result.checks) == (way, "boxed", failures + 1)


@pytest.mark.parametrize("status", get_args(Status))
def test_a_cancelled_order_is_stopped_where_it_is(status: Status) -> None:
    result = ticket(status)
    stage = result.stop(NOW)
    assert stage == (None if status in FINAL else status)
    assert result.status == (status if status in FINAL else "stopped")
    assert result.stop(NOW) is None


@given(st.lists(st.sampled_from([*STEPS, "failed", "stop"])))
def test_a_ticket_only_moves_forward_and_stays_at_its_end(asked: list[str]) -> None:
    result = ticket()
    for item in asked:
        before = msgspec.structs.replace(result)
        if item == "stop":
            result.stop(NOW)
        else:
            step: Step = "checked" if item == "failed" else item  # type: ignore[assignment]
            try:
                result.do(step, NOW, passed=item != "failed")
            except WrongStep:
                assert result == before
                continue
            assert FOLLOWS[before.status] == step
        assert result.moves == before.moves + before.in_work
        assert before.in_work or result == before
    assert result.in_work == (result.status not in FINAL)


@pytest.mark.parametrize(
    ("staffed", "sold_out", "status", "refusal"),
    [
        (True, (), "waiting", None),
        (False, (), "rejected", "kitchenClosed"),
        (True, ("funghi",), "rejected", "itemSoldOut"),
        (False, ("funghi",), "rejected", "kitchenClosed"),
    ],
)
def test_an_order_is_taken_or_rejected_immediately(
    *, staffed: bool, sold_out: tuple[str, ...], status: str, refusal: str | None
) -> None:
    result = received(staffed=staffed, sold_out=sold_out)
    assert (result.status, result.refusal) == (status, refusal)
    assert result.sold_out == (["funghi"] if refusal == "itemSoldOut" else [])


def test_a_ticket_counts_its_boxes_and_survives_storage() -> None:
    assert ticket().pizzas == 3
    assert msgspec.json.decode(msgspec.json.encode(received()), type=Ticket) == received()
    assert not Ticket.cancelled_unseen("o-2", NOW).in_work


def test_the_roster_lists_present_staff() -> None:
    ana, ben = Arrival("ana", "Ana", "cook"), Arrival("ben", "Ben", "manager")
    roster = Roster.of([ana], NOW)
    assert not roster.clock_in(ana, NOW)
    assert roster.clock_in(ben, NOW)
    roster.clock_out("ana")
    with pytest.raises(NotClockedIn, match="ana"):
        roster.clock_out("ana")
    assert roster.staffed
    roster.clock_out("ben")
    assert not roster.staffed


@given(st.lists(st.tuples(st.booleans(), st.integers(-5, 5))))
def test_an_ingredients_changes_are_published_a_single_time_and_dated_in_their_order(
    changes: list[tuple[bool, int]],
) -> None:
    pantry, published = Pantry(), []
    for available, offset in changes:
        now = NOW + timedelta(seconds=offset)  # clocks may go back
        since = pantry.delivered("basil", now) if available else pantry.ran_out("basil", now)
        if since is not None:
            published.append((since, available))
    assert published == sorted(published)
    assert [available for _, available in published] == [bool(number % 2) for number in range(len(published))]
    assert pantry.missing == ({"basil"} if published and not published[-1][1] else set())


def test_the_cookbook_keeps_the_newest_recipe() -> None:
    book = Cookbook()
    assert book.add("funghi", ["thyme", "oat-cream"], NOW)
    assert not book.add("funghi", ["basil"], NOW - timedelta(days=1))
    assert book.needing(["oat-cream", "basil"]) == ["funghi"]
    assert book.add("funghi", ["basil"], NOW + timedelta(days=1))
    assert book.needing(["oat-cream"]) == []


def test_orders_spread_evenly_over_the_shards_of_the_board_index() -> None:
    orders = [f"01981f2e-7c1a-7d55-9a53-{number:012x}" for number in range(200)]
    load = dict.fromkeys(shard_keys(), 0)
    for order in orders:
        load[shard_key(order)] += 1
    assert max(load.values()) <= 30, load
    assert shard_key("o-1") == shard_key("o-1") in shard_keys()
    index = BoardIndex()
    index.add("o-1", NOW)
    index.remove("o-1")
    index.remove("o-1")
    assert index == BoardIndex()


def test_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KITCHEN_PACE", "0.25")
    monkeypatch.setenv("KITCHEN_OPENING_CREW", "ana:Ana:cook, ben:Ben B.:manager,")
    monkeypatch.setenv("KITCHEN_FAILING_CHECKS", "funghi:1,diavola:2")
    kitchen_settings = KitchenSettings()
    assert kitchen_settings.opening_crew == (Arrival("ana", "Ana", "cook"), Arrival("ben", "Ben B.", "manager"))
    assert kitchen_settings.failing_checks == {"funghi": 1, "diavola": 2}
    assert kitchen_settings.step == timedelta(milliseconds=250)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("OPENING_CREW", "ana:Ana", "write id:Name:cook"),
        ("OPENING_CREW", "ana:Ana:waiter", "Invalid enum value 'waiter'"),
        ("FAILING_CHECKS", "funghi", "write sku:times"),
        ("FAILING_CHECKS", "funghi:-1", "write sku:times"),
        ("PACE", "-1", "greater than or equal to 0"),
    ],
)
def test_invalid_settings_are_rejected(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(f"KITCHEN_{name}", value)
    with pytest.raises(ValueError, match=message):
        KitchenSettings()
