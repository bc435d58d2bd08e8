"""What is peculiar to a store that is given ciphertext. tests/conformance has what it shares with others."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from cryptography.fernet import Fernet

from fastapi_channels.encryption import encryption_by
from fastapi_channels.encryption.cipher import Cipher
from fastapi_channels.encryption.store import SealedStore
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.stores import Addition, MemoryStore, Part, Record, Retention, StoreUnavailable
from fastapi_channels.stores.store import MAX_OUTCOME
from tests.support.stores import KEEP, a_node, enter, someone

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


@pytest.fixture
def inner() -> MemoryStore:
    return MemoryStore()


def sealed(inner: MemoryStore, *keys: str) -> SealedStore:
    return SealedStore(inner, Cipher(keys))


async def read(store: SealedStore, **part: Any) -> tuple[int, int, list[object]]:
    page = await store.read("room", KEEP, Part(**part))
    return page.first, page.top, [record.body for record in page.records]


async def test_a_history_is_read_with_any_key_and_not_without(
    inner: MemoryStore, caplog: pytest.LogCaptureFixture
):
    before, after = sealed(inner, OLD, NEW), sealed(inner, NEW, OLD)
    for number, store in enumerate((before, after, before), 1):
        await store.append("room", Addition(Record(0, f"{number}", frozenset({"a"}), frozenset({"b"})), KEEP))
    for store in (before, after):
        assert await read(store) == (1, 3, ["1", "2", "3"])
    record = (await after.read("room", KEEP)).records[0]
    assert (record.exclude, record.users, record.offset) == ({"a"}, {"b"}, 1)
    assert record.at == (await before.read("room", KEEP, Part(reverse=True))).records[-1].at > 1e9

    # What cannot be read, and all before it, is as if it were not kept any more.
    behind = sealed(inner, OLD)
    assert await read(behind) == (3, 3, ["3"])
    assert await read(behind, limit=2) == (3, 3, [])
    assert await read(sealed(inner, NEW)) == (4, 3, [])
    page = await behind.read("room", KEEP, Part(reverse=True))
    assert (page.first, [each.body for each in page.records]) == (3, ["3"])
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(told) == 2, "each process says it once"
    assert "the history of 'room' cannot be read: it was encrypted with none of" in told[0].getMessage()


async def test_the_histories_of_processes_with_and_without_keys_are_apart(inner: MemoryStore):
    store = sealed(inner, NEW)
    await inner.append("room", Addition(Record(0, "plain"), KEEP))
    await store.append("room", Addition(Record(0, b"sealed"), KEEP))
    assert await read(store) == (1, 1, [b"sealed"])
    assert [record.body for record in (await inner.read("room", KEEP)).records] == ["plain"]
    assert (await store.tops({"room": None}))["room"].offset == 1


async def test_what_is_said_of_members(inner: MemoryStore):
    before, after, without = sealed(inner, OLD, NEW), sealed(inner, NEW, OLD), sealed(inner, NEW)
    node = a_node()
    occupants = (someone(node, 1, user="ada", data='{"mood":"fine"}'), someone(node, 2))
    entered = await enter(before, "room", *occupants)
    again = await enter(before, "room", *occupants)
    assert again.version == entered.version, "nothing has changed"
    assert [each.data for each in entered.occupants] == ['{"mood":"fine"}', ""]
    held = (await inner.occupancy("room")).occupants
    assert "fine" not in held[0].data
    assert (held[0].user, held[1].data) == ("ada", "")
    assert (await after.occupancy("room")).occupants[0].data == '{"mood":"fine"}'
    assert [each.data for each in (await without.occupancy("room")).occupants] == ["", ""]
    assert (await after.leave("room", [f"{node}.1"])).occupants[0].data == '{"mood":"fine"}'


async def test_who_asks_strictly_is_not_told_that_nothing_is_said_of_members(inner: MemoryStore):
    node = a_node()
    said, unsaid = someone(node, 1, user="ada", data='{"mood":"fine"}'), someone(node, 2)
    await enter(sealed(inner, OLD, NEW), "room", said, unsaid)
    await enter(inner, "plain", said)
    await enter(inner, "nothing", unsaid)
    for keys, room, lost in (([NEW], "room", "1 of 2"), ([OLD], "plain", "1 of 1")):
        with pytest.raises(ConfigurationError, match=f"^{lost} in the room cannot be read: "):
            await SealedStore(inner, Cipher(keys), strict=True).occupancy(room)
    strict = SealedStore(inner, Cipher([NEW, OLD]), strict=True)
    assert [each.data for each in (await strict.occupancy("room")).occupants] == ['{"mood":"fine"}', ""]
    assert [each.data for each in (await strict.occupancy("nothing")).occupants] == [""]


async def test_outcomes(inner: MemoryStore):
    store, without = sealed(inner, NEW, OLD), sealed(inner, OLD)
    for key, outcome in (("short", '{"paid":7}'), ("empty", ""), ("long", "x" * MAX_OUTCOME)):
        assert (await store.claim(key, "a", 60)).state == "new"
        await store.settle(key, "a", outcome, 60)
    assert (await store.claim("short", "b", 60)).outcome == '{"paid":7}'
    assert "paid" not in (await inner.claim("short", "b", 60)).outcome
    assert await without.claim("short", "b", 60) == ("done", "")
    assert await store.claim("empty", "b", 60) == ("done", "")
    assert await store.claim("long", "b", 60) == ("done", ""), "its ciphertext is too large to be kept"
    await store.claim("gone", "a", 60)
    await store.settle("gone", "a", None, 60)
    assert (await store.claim("gone", "b", 60)).state == "new"


async def test_values_that_cannot_be_read_are_not_taken_for_nothing(inner: MemoryStore):
    before, after, without = sealed(inner, OLD, NEW), sealed(inner, NEW, OLD), sealed(inner, NEW)
    await before.put("k", "ada lovelace", 60)  # whose letters are in no ciphertext by chance
    assert "ada lovelace" not in (await inner.get("k") or "")
    assert await after.get("k") == "ada lovelace"
    for ask in (without.get, without.take):
        with pytest.raises(StoreUnavailable, match="cannot be read"):
            await ask("k")
    assert await after.take("k") is None, "it was taken"
    assert await after.get("other") is None


async def test_what_is_kept_is_counted_as_it_is_kept(inner: MemoryStore):
    store = sealed(inner, NEW)
    for number in range(3):
        await store.append(
            "room", Addition(Record(0, f"{number}"), Retention(messages=10, size=300, seconds=60))
        )
    assert await read(store) == (2, 3, ["1", "2"])


def test_a_store_of_one_process_is_left_as_it_is(inner: MemoryStore):
    encryption = encryption_by(NEW)
    assert encryption.over(inner) is inner
    assert encryption.over(None) is None
