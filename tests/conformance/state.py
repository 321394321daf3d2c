"""Conformance tests of a sidecar's state."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

import pytest
from tests.conformance.support import unique

from tidings.dapr import Delete, Sidecar, Upsert
from tidings.errors import SidecarError, SidecarUnavailable, StateConflict


class StateWorld(Protocol):
    """A sidecar and its state store, as the suite needs them."""

    sidecar: Sidecar
    atomic: bool
    """Whether a transaction that fails has written nothing; False is Redis."""

    def other(self) -> Sidecar:
        """Give the sidecar of another app on the same store."""

    def without_store(self) -> Sidecar:
        """Give a sidecar that has no state store component of the name it asks for."""

    def unreachable(self) -> Sidecar:
        """Return a sidecar that never answers."""

    async def wait(self, seconds: float) -> None:
        """Let time pass, as the store sees it."""


class StateConformance:
    """Reading and writing keys, alone and in transactions."""

    pytestmark = pytest.mark.asyncio

    async def test_what_was_written_is_read(self, world: StateWorld) -> None:
        key, value = unique("order"), b'{"total": 12.50, "note": "\\u00fcber <&>"}'
        assert await world.sidecar.get(key) is None
        await world.sidecar.transact([Upsert(key, value)])
        item = await world.sidecar.get(key)
        assert item is not None
        assert item.value == value
        assert item.etag

    async def test_values_are_bytes_of_any_kind(self, world: StateWorld) -> None:
        values = {unique("bytes"): value for value in (b"\x00\xff\xfe", b"plain text", b"{}", b"x" * 100_000)}
        await world.sidecar.transact(Upsert(key, value) for key, value in values.items())
        items = await world.sidecar.get_many(list(values))
        assert {key: item.value for key, item in items.items()} == values

    async def test_many_keys_are_read_in_one_call_and_missing_ones_omitted(self, world: StateWorld) -> None:
        existing = [unique("many") for _ in range(5)]
        await world.sidecar.transact(Upsert(key, key.encode()) for key in existing)
        items = await world.sidecar.get_many([unique("missing"), *existing, unique("missing")])
        assert {key: item.value for key, item in items.items()} == {key: key.encode() for key in existing}
        assert items[existing[0]] == await world.sidecar.get(existing[0])
        assert await world.sidecar.get_many([]) == {}

    async def test_a_write_without_conditions_always_holds(self, world: StateWorld) -> None:
        key = unique("plain")
        for value in (b"1", b"2", b"3"):
            await world.sidecar.transact([Upsert(key, value)])
        assert (await _existing(world.sidecar, key)).value == b"3"
        await world.sidecar.transact([Delete(key)])
        await world.sidecar.transact([Delete(key)])
        assert await world.sidecar.get(key) is None

    async def test_every_write_changes_the_etag_and_only_the_last_one_holds(self, world: StateWorld) -> None:
        key = unique("etag")
        await world.sidecar.transact([Upsert(key, b"1")])
        first = await _existing(world.sidecar, key)
        await world.sidecar.transact([Upsert(key, b"2", etag=first.etag)])
        second = await _existing(world.sidecar, key)
        assert second.value == b"2"
        assert second.etag != first.etag
        for stale in (Upsert(key, b"3", etag=first.etag), Delete(key, etag=first.etag)):
            with pytest.raises(StateConflict, match=key):
                await world.sidecar.transact([stale])
        assert await world.sidecar.get(key) == second
        await world.sidecar.transact([Delete(key, etag=second.etag)])
        assert await world.sidecar.get(key) is None

    async def test_an_etag_of_another_kind_of_store_is_a_conflict(self, world: StateWorld) -> None:
        key = unique("etag")
        await world.sidecar.transact([Upsert(key, b"1")])
        with pytest.raises(StateConflict):
            await world.sidecar.transact([Upsert(key, b"2", etag="no etag of anybody's")])
        assert (await _existing(world.sidecar, key)).value == b"1"

    async def test_an_update_does_not_restore_what_was_deleted_except_without_real_transactions(
        self, world: StateWorld
    ) -> None:
        key = unique("gone")
        await world.sidecar.transact([Upsert(key, b"1")])
        etag = (await _existing(world.sidecar, key)).etag
        await world.sidecar.transact([Delete(key)])
        if world.atomic:
            with pytest.raises(StateConflict):
                await world.sidecar.transact([Upsert(key, b"2", etag=etag)])
        else:
            await world.sidecar.transact([Upsert(key, b"2", etag=etag)])
        assert (await world.sidecar.get(key) is None) is world.atomic

    async def test_an_insert_holds_a_single_time(self, world: StateWorld) -> None:
        key = unique("insert")
        await world.sidecar.transact([Upsert(key, b"1", insert=True)])
        with pytest.raises(StateConflict, match=key):
            await world.sidecar.transact([Upsert(key, b"2", insert=True)])
        assert (await _existing(world.sidecar, key)).value == b"1"
        await world.sidecar.transact([Delete(key)])
        await world.sidecar.transact([Upsert(key, b"3", insert=True)])
        assert (await _existing(world.sidecar, key)).value == b"3"

    async def test_an_insert_does_not_hold_over_a_plain_write(self, world: StateWorld) -> None:
        key = unique("insert")
        await world.sidecar.transact([Upsert(key, b"1")])
        with pytest.raises(StateConflict):
            await world.sidecar.transact([Upsert(key, b"2", insert=True)])
        assert (await _existing(world.sidecar, key)).value == b"1"

    @pytest.mark.parametrize("how", ["insert", "etag"])
    async def test_of_many_concurrent_writers_one_wins(self, world: StateWorld, how: str) -> None:
        key, etag = unique("race"), None
        if how == "etag":
            await world.sidecar.transact([Upsert(key, b"0")])
            etag = (await _existing(world.sidecar, key)).etag
        writes = [Upsert(key, str(number).encode(), etag=etag, insert=etag is None) for number in range(12)]
        outcomes = await asyncio.gather(
            *(world.sidecar.transact([write, Upsert(unique("other"), b"1")]) for write in writes),
            return_exceptions=True,
        )
        winners = [write.value for write, outcome in zip(writes, outcomes, strict=True) if outcome is None]
        assert winners == [(await _existing(world.sidecar, key)).value], outcomes
        assert all(outcome is None or isinstance(outcome, SidecarError) for outcome in outcomes)

    async def test_a_transaction_writes_everything(self, world: StateWorld) -> None:
        old, new, removed = unique("old"), unique("new"), unique("gone")
        await world.sidecar.transact([Upsert(old, b"1"), Upsert(removed, b"1")])
        etag = (await _existing(world.sidecar, old)).etag
        await world.sidecar.transact([Upsert(old, b"2", etag=etag), Upsert(new, b"3", insert=True), Delete(removed)])
        items = await world.sidecar.get_many([old, new, removed])
        assert {key: item.value for key, item in items.items()} == {old: b"2", new: b"3"}
        await world.sidecar.transact([])

    @pytest.mark.parametrize("position", ["first", "last"])
    async def test_a_transaction_that_fails_writes_nothing_except_on_redis(
        self, world: StateWorld, position: str
    ) -> None:
        """The reason for one document in a unit of work: docs/decisions/0003."""
        taken, other = unique("taken"), unique("other")
        await world.sidecar.transact([Upsert(taken, b"1")])
        operations = [Upsert(taken, b"2", insert=True), Upsert(other, b"written")]
        with pytest.raises(StateConflict):
            await world.sidecar.transact(operations if position == "first" else operations[::-1])
        assert (await _existing(world.sidecar, taken)).value == b"1"
        assert (await world.sidecar.get(other) is None) is world.atomic

    async def test_keys_expire_after_their_time_to_live(self, world: StateWorld) -> None:
        short, long, renewed, plain = (unique(name) for name in ("short", "long", "renewed", "plain"))
        await world.sidecar.transact([Upsert(key, b"1", ttl=1) for key in (short, renewed)])
        await world.sidecar.transact([Upsert(long, b"1", ttl=600), Upsert(plain, b"1"), Upsert(renewed, b"2")])
        await world.wait(2.5)
        assert set(await world.sidecar.get_many([short, long, renewed, plain])) == {long, renewed, plain}
        assert await world.sidecar.get(short) is None
        await world.sidecar.transact([Upsert(short, b"again", insert=True)])
        assert (await _existing(world.sidecar, short)).value == b"again"

    async def test_an_app_sees_only_its_own_keys(self, world: StateWorld) -> None:
        key, other = unique("mine"), world.other()
        await world.sidecar.transact([Upsert(key, b"mine", insert=True)])
        assert await other.get(key) is None
        await other.transact([Upsert(key, b"theirs", insert=True)])
        assert (await _existing(world.sidecar, key)).value == b"mine"
        assert (await _existing(other, key)).value == b"theirs"

    async def test_a_key_with_daprs_separator_is_refused(self, world: StateWorld) -> None:
        key = f"{unique('a')}||b"
        for call in (
            world.sidecar.get(key),
            world.sidecar.get_many([key]),
            world.sidecar.transact([Upsert(key, b"1")]),
        ):
            with pytest.raises(SidecarError) as caught:
                await call
            assert not isinstance(caught.value, SidecarUnavailable)

    async def test_an_empty_value_is_refused(self, world: StateWorld) -> None:
        """PostgreSQL would answer that NULL violates a constraint, the other stores would take it."""
        with pytest.raises(SidecarError, match="empty") as caught:
            await world.sidecar.transact([Upsert(unique("empty"), b"")])
        assert not isinstance(caught.value, SidecarUnavailable | StateConflict)

    async def test_an_unknown_store_is_named_and_may_be_loaded_later(self, world: StateWorld) -> None:
        lost = world.without_store()
        for call in (lost.get("key"), lost.get_many(["key"]), lost.transact([Upsert("key", b"1")])):
            with pytest.raises(SidecarUnavailable, match="nowhere"):
                await call
        assert not await lost.ready()
        assert await lost.ready(state=False)

    async def test_a_sidecar_that_is_missing_is_unavailable(self, world: StateWorld) -> None:
        lost = world.unreachable()
        for call in (
            lost.get("key"),
            lost.get_many(["key"]),
            lost.transact([Upsert("key", b"1")]),
            lost.publish("topic", b"{}"),
        ):
            with pytest.raises(SidecarUnavailable):
                await call
        failures = await lost.publish_many("topic", [b"{}", b"{}"])
        assert [type(failure) for failure in failures] == [SidecarUnavailable] * 2
        assert not await lost.ready()
        assert await world.sidecar.ready()


async def _existing(sidecar: Sidecar, key: str) -> Any:
    item = await sidecar.get(key)
    assert item is not None, f"{key} is not there"
    return item
