"""Decisions of payments: the state machine as a table, and money in every order of arrival."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from payments.domain import (
    ACCOUNTS,
    DifferentTerms,
    Movement,
    Payment,
    Refusal,
    Status,
    Totals,
    decide,
    postings,
)

NOW = datetime(2026, 11, 23, 18, tzinfo=UTC)
LATER = datetime(2026, 11, 23, 19, tzinfo=UTC)
AUTHORISED, SETTLED, VOIDED, REFUNDED = Movement


def fresh() -> Payment:
    return Payment(payment_id="p-1", order_id="o-1", changed_at=NOW)


def apply_step(payment: Payment, what: str, amount: int = 3150) -> list[Movement]:
    """Apply a step: `t` takes and is authorised, `r` takes and is refused, `d` completes, `x` cancels."""
    match what:
        case "t":
            return payment.take("c-1", amount, None, LATER)
        case "r":
            return payment.take("c-1", amount, Refusal.CARD_DECLINED, LATER)
        case "d":
            return payment.complete(LATER)
    return payment.cancel(LATER)


@pytest.mark.parametrize(
    ("steps", "status", "moved"),
    [
        ("", Status.EXPECTED, []),
        ("t", Status.AUTHORISED, [AUTHORISED]),
        ("tt", Status.AUTHORISED, [AUTHORISED]),
        ("td", Status.SETTLED, [AUTHORISED, SETTLED]),
        ("tdd", Status.SETTLED, [AUTHORISED, SETTLED]),
        ("tdt", Status.SETTLED, [AUTHORISED, SETTLED]),
        ("tx", Status.VOIDED, [AUTHORISED, VOIDED]),
        ("txx", Status.VOIDED, [AUTHORISED, VOIDED]),
        ("txt", Status.VOIDED, [AUTHORISED, VOIDED]),
        ("txd", Status.VOIDED, [AUTHORISED, VOIDED]),
        ("tdx", Status.REFUNDED, [AUTHORISED, SETTLED, REFUNDED]),
        ("tdxxdt", Status.REFUNDED, [AUTHORISED, SETTLED, REFUNDED]),
        ("d", Status.EXPECTED, []),
        ("dt", Status.SETTLED, [AUTHORISED, SETTLED]),
        ("dr", Status.REFUSED, []),
        ("x", Status.FORESTALLED, []),
        ("xt", Status.FORESTALLED, []),
        ("xtt", Status.FORESTALLED, []),
        ("xr", Status.FORESTALLED, []),
        ("xdt", Status.FORESTALLED, []),
        ("dxt", Status.FORESTALLED, []),
        ("r", Status.REFUSED, []),
        ("rt", Status.REFUSED, []),
        ("rx", Status.REFUSED, []),
        ("rd", Status.REFUSED, []),
    ],
)
def test_what_becomes_of_a_payment(steps: str, status: Status, moved: list[Movement]) -> None:
    payment = fresh()
    result = [movement for what in steps for movement in apply_step(payment, what)]
    assert (payment.status, result) == (status, moved)
    assert payment.changed_at == (NOW if status is Status.EXPECTED else LATER)
    assert payment.refusal == (Refusal.CARD_DECLINED if status is Status.REFUSED else None)


@pytest.mark.parametrize("first", ["t", "r", "xt"])
def test_another_amount_for_the_same_order_is_an_error_and_changes_nothing(first: str) -> None:
    payment = fresh()
    for what in first:
        apply_step(payment, what)
    before = repr(payment)
    with pytest.raises(DifferentTerms, match="order o-1: 1 cents are requested, 3150 were before"):
        apply_step(payment, "t", 1)
    assert repr(payment) == before


@pytest.mark.parametrize(
    ("token", "cents", "verdict"),
    [
        ("tok_ok", 100, None),
        ("tok_ok_visa", 1000, None),
        ("tok_ok", 0, None),
        ("tok_ok", 1001, Refusal.LIMIT_EXCEEDED),
        ("tok_declined", 100, Refusal.CARD_DECLINED),
        ("tok_declined", 1001, Refusal.CARD_DECLINED),
        ("", 100, Refusal.INVALID_TOKEN),
        ("TOK_OK", 100, Refusal.INVALID_TOKEN),
        ("4111111111111111", 100, Refusal.INVALID_TOKEN),
    ],
)
def test_what_a_card_answers(token: str, cents: int, verdict: Refusal | None) -> None:
    assert decide(token, cents, limit_cents=1000) == verdict


@given(st.sampled_from(Movement), st.integers(min_value=0))
def test_every_movement_adds_up_to_nothing(movement: Movement, cents: int) -> None:
    assert sum(postings(movement, cents).values()) == 0
    assert set(postings(movement, cents)) <= set(ACCOUNTS)


def booked(payments: list[tuple[str, int]]) -> Totals:
    moved = [
        (movement, cents)
        for received, cents in payments
        for payment in [fresh()]
        for what in received
        for movement in apply_step(payment, what, cents)
    ]
    return Totals.of((movement, account, change) for movement, cents in moved for account, change in
                     postings(movement, cents).items())  # fmt: skip


@given(st.lists(st.tuples(st.text("trdx", max_size=8), st.integers(0, 10**9))))
def test_the_books_always_agree(payments: list[tuple[str, int]]) -> None:
    assert booked(payments).balanced


def test_what_does_not_agree_is_seen() -> None:
    rows = [(AUTHORISED, "cardHolds", 5), (AUTHORISED, "openAuthorisations", -4)]
    assert not Totals.of(rows).balanced  # type: ignore[arg-type] # mypy reads a str, not a Literal
    assert not Totals.of([(SETTLED, "bank", 5), (SETTLED, "sales", -5)]).balanced, "settled, never authorised"


@pytest.mark.parametrize("facts", ["td", "tx", "tdx", "rx", "rd"])
def test_the_money_is_the_same_in_any_order_of_arrival(facts: str) -> None:
    """Each fact twice, in every order: a cancelled order costs nothing, a completed one what it cost."""
    paid = {booked([("".join(order), 3150)]).revenue_cents for order in set(permutations(facts * 2))}
    assert paid == {3150 if facts == "td" else 0}
    assert {booked([("".join(order), 3150)]).open_cents for order in set(permutations(facts * 2))} == {0}
