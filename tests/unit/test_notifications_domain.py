"""Lifecycle of an e-mail, valid addresses, and recognition of repeated sending."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.domain import AlreadySettled, Email, deliverable, message_id

NOW = datetime(2026, 3, 14, 18, tzinfo=UTC)
DOT_ATOM = re.compile(r"<[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@pizza\.example>")


def email() -> Email:
    return Email(
        email_id="e-1", customer_id="c-1", to="ada@example.org", template="orderConfirmed", order_id="o-1", asked_at=NOW
    )


def test_an_email_waits_until_it_is_sent_or_refused():
    waiting, sent, refused = email(), email(), email()
    sent.sent(NOW)
    refused.refuse("no such mailbox", NOW)
    assert [item.status for item in (waiting, sent, refused)] == ["waiting", "sent", "refused"]
    assert [item.waiting for item in (waiting, sent, refused)] == [True, False, False]
    assert [item.settled_at for item in (waiting, sent, refused)] == [None, NOW, NOW]
    assert refused.reason == "no such mailbox"


@pytest.mark.parametrize("first", ["sent", "refused"])
@pytest.mark.parametrize("second", ["sent", "refused"])
def test_what_has_become_of_an_email_stays(first: str, second: str):
    result = email()
    settle = {"sent": lambda: result.sent(NOW), "refused": lambda: result.refuse("no", NOW)}
    settle[first]()
    with pytest.raises(AlreadySettled, match=f"e-1 is {first} already, not {second}"):
        settle[second]()
    assert (result.status, result.reason) == (first, "no" if first == "refused" else None)


@pytest.mark.parametrize(("waited", "overdue"), [(0, False), (3599, False), (3600, True), (90_000, True)])
def test_an_email_is_overdue_after_its_grace_period(waited: int, overdue: bool):
    assert email().overdue(NOW + timedelta(seconds=waited), timedelta(hours=1)) is overdue


@pytest.mark.parametrize(
    ("address", "fine"),
    [
        ("ada@example.org", True),
        ("ada+pizza@mail.example.org", True),
        ("müller@exämple.org", True),
        ("", False),
        ("ada", False),
        ("@example.org", False),
        ("ada@", False),
        ("ada@example.org, eve@example.org", False),
        ("ada@example.org\r\nBcc: eve@example.org", False),
        ("Ada <ada@example.org>", False),
        ("ada@example.org\x00", False),
    ],
)
def test_one_address_and_nothing_besides(address: str, fine: bool):
    assert deliverable(address) is fine


@given(st.text(min_size=1), st.text(min_size=1))
def test_every_email_id_has_a_message_id_of_its_own_that_mail_servers_take(one: str, two: str):
    try:
        ids = [message_id(item, "pizza.example") for item in (one, two)]
    except UnicodeEncodeError:  # half a surrogate pair: no JSON carries it
        return
    assert all(DOT_ATOM.fullmatch(item) and len(f"Message-ID: {item}") <= 78 for item in ids)
    assert (ids[0] == ids[1]) == (one == two)
