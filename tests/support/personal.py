"""An event with personal data, in the archive of `Newsroom`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from tests.support.newsroom import Newsroom

from tidings import PERSONAL, SUBJECT, Event, event
from tidings.messages import personal
from tidings.messages.envelope import new_id

USER_HEADER = "X-Auth-Request-User"


@event("orders.orderPlaced", subject="person_id")
class Placed(Event):
    person_id: Annotated[str, SUBJECT]
    name: Annotated[str, PERSONAL]


PLACED = Placed(person_id="p-1", name="Ada Lovelace")


async def receive_personal_event(newsroom: Newsroom) -> str:
    """Let `PLACED` arrive, encrypted with the keys of this process; return its id."""
    event_id = new_id()
    data, subject = personal.encrypt(Placed, msgspec.json.encode(PLACED), "orders", event_id)
    assert subject == PLACED.person_id
    await newsroom.receive(
        "orders.orderPlaced.v1", id=event_id, data=msgspec.json.decode(data), datasubject=subject, source="orders"
    )
    return event_id
