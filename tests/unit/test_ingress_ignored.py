"""What no filter wants is let go, not dead-lettered."""

import pytest

from tidings import Service
from tidings.plan.conventions import IGNORED_PATH
from tidings.testing import MemorySidecar, post


@pytest.mark.parametrize("body", [b'{"id":"1","source":"s","type":"shop.opened","specversion":"1.0"}', b"no event"])
async def test_an_unwanted_event_is_done_and_leaves_no_dead_letter(body: bytes):
    sidecar = MemorySidecar("shop")
    service = Service("shop", sidecar=sidecar)
    assert await post(service.ingress, IGNORED_PATH, body) == (200, b'{"status":"SUCCESS"}')
    assert sidecar.broker.topics == []
