"""Events that match no filter are ignored and not dead-lettered."""

import pytest

from tidings import Service
from tidings.conventions import IGNORED_PATH
from tidings.testing import MemorySidecar, post

EVENT = b'{"id":"1","source":"s","type":"shop.opened","specversion":"1.0"}'


@pytest.mark.parametrize(("body", "topics"), [(EVENT, []), (b"no event", ["deadletter.shop"])])
async def test_an_unwanted_event_leaves_no_dead_letter_unless_a_filter_cannot_have_read_it(
    body: bytes, topics: list[str]
):
    sidecar = MemorySidecar("shop")
    service = Service("shop", sidecar=sidecar)
    assert await post(service.ingress, IGNORED_PATH, body) == (200, b'{"status":"SUCCESS"}')
    assert sidecar.broker.topics == topics
