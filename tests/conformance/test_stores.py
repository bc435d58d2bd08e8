"""What every store does."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from broadcaster import BroadcastBackend
from cryptography.fernet import Fernet

from fastapi_channels.brokers import create_backend
from fastapi_channels.encryption.cipher import Cipher
from fastapi_channels.encryption.store import SealedStore, _name
from fastapi_channels.stores import Addition, LeaseLost, MemoryStore, Occupant, Part, Store
from fastapi_channels.stores.memory import REMEMBERED, UNUSED
from fastapi_channels.stores.postgres import PostgresStore
from fastapi_channels.stores.redis import RedisStore
from fastapi_channels.stores.store import MAX_OUTCOME, Announcement, Claim, Left, Limits, Record, Retention
from fastapi_channels.wire.positions import Position
from tests.support.stores import KEEP, a_node, enter, evicted, ids, let_end, someone, store_at

Make = Callable[[], Store]


def memory(_: pytest.FixtureRequest) -> Make:
    return MemoryStore


@dataclass(frozen=True)
class At:
    """Makes stores of one server; what other tests do there is in another namespace."""

    url: str
    namespace: str = field(default_factory=lambda: secrets.token_hex(4))

    def __call__(self) -> Store:
        return store_at(self.url, self.namespace)


def redis(request: pytest.FixtureRequest) -> Make:
    return At(request.getfixturevalue("shared_redis").url)


def sentinel(request: pytest.FixtureRequest) -> Make:
    return At(request.getfixturevalue("shared_failover").url)


def cluster(request: pytest.FixtureRequest) -> Make:
    return At(request.getfixturevalue("shared_cluster").url)


def postgres(request: pytest.FixtureRequest) -> Make:
    return At(request.getfixturevalue("shared_postgres").url)


def sealed(request: pytest.FixtureRequest) -> Make:
    at, cipher = redis(request), Cipher([Fernet.generate_key().decode()])
    return lambda: SealedStore(at(), cipher)


ANNOUNCING = (redis, sentinel)
SHARED = (*ANNOUNCING, cluster, postgres, sealed)
"""Those that several processes see."""
STORES = (memory, *SHARED)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = metafunc.fixturenames
    if "make" in names:
        kinds = ANNOUNCING if "backend" in names else SHARED if "others" in names else STORES
        kinds = tuple(kind for kind in kinds if kind is not sealed or "exact" not in names)
        metafunc.parametrize("make", kinds, indirect=True, ids=lambda kind: kind.__name__)


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Make:
    """Makes stores of one server, each as a process of its own would have one."""
    made: Make = request.param(request)
    return made


@pytest_asyncio.fixture
async def store(make: Make) -> AsyncIterator[Store]:
    made = make()
    await made.open()
    yield made
    await made.close()


@pytest_asyncio.fixture
async def others(make: Make) -> AsyncIterator[list[Store]]:
    """Two more processes."""
    made = [make() for _ in range(2)]
    for each in made:
        await each.open()
    yield made
    for each in made:
        await each.close()


@pytest_asyncio.fixture
async def backend(make: At) -> AsyncIterator[BroadcastBackend]:
    """The broker of the same server."""
    made = create_backend(make.url)
    await made.connect()
    yield made
    await made.disconnect()


@pytest.fixture
def exact() -> None:
    """For what counts bytes: ciphertext has more."""


@pytest.fixture
def room() -> str:
    """A name that no other test has used on the server."""
    return f"room {secrets.token_hex(4)} {{1}} 房间 \x1f'\"*"


async def bodies(store: Store, room: str, **part: Any) -> list[object]:
    return [record.body for record in (await store.read(room, KEEP, Part(**part))).records]


# Who is in a room


async def test_who_enters_is_in_and_who_leaves_is_not(store: Store, room: str):
    node = a_node()
    first = await enter(store, room, someone(node, 1, user="ann", data='{"device": "phone"}'))
    second = await enter(store, room, someone(node, 2))
    assert second.version == first.version + 1
    found = await store.occupancy(room)
    assert found.version == second.version
    assert [(one.id, one.user, one.data) for one in found.occupants] == [
        (f"{node}.1", "ann", '{"device": "phone"}'),
        (f"{node}.2", None, ""),
    ]
    assert found.occupants[0].since > 1_700_000_000
    assert await store.count(room) == 2
    left = await store.leave(room, [f"{node}.1", f"{node}.3"])
    assert (left.room, left.version, ids(left)) == (room, second.version + 1, [f"{node}.1"])
    assert await store.count(room) == 1


async def test_who_is_in_is_read_in_parts_by_the_time_at_which_they_entered(store: Store, room: str):
    node, other = a_node(), a_node()
    for id in (f"{other}.9", f"{node}.10", f"{node}.2"):
        entered = await enter(store, room, Occupant(id, "ann", data=f'"{id}"'))
    await enter(store, room, someone(node, 3))
    await store.leave(room, [f"{node}.10"])
    whole = await store.occupancy(room)
    assert (ids(whole), whole.total) == ([f"{other}.9", f"{node}.2", f"{node}.3"], 3)
    for first, limit in ((0, 1), (1, 1), (1, None), (0, 3), (2, 5), (3, 5), (1_000_000_000, 1), (1, 0)):
        part = await store.occupancy(room, first, limit)
        expected = whole.occupants[first : None if limit is None else first + limit]
        assert (part.occupants, part.total, part.version) == (expected, 3, whole.version)
    assert entered.version < whole.version
    # What is said of somebody anew changes nothing in the order.
    await enter(store, room, Occupant(f"{other}.9", "bob", data="2"))
    (first_in,) = (await store.occupancy(room, 0, 1)).occupants
    assert (first_in.user, first_in.data, first_in.since) == ("bob", "2", whole.occupants[0].since)


async def test_people_are_users_and_connections_without_one_that_have_data(store: Store, room: str):
    node = a_node()
    tabs = [someone(node, number, user="ann", data="1") for number in (1, 2)]
    nobody = [someone(node, number, data="1") for number in (3, 4)]
    await enter(
        store, room, *tabs, *nobody, someone(node, 5, user="bob"), someone(node, 6, user="", data="1")
    )
    assert await store.count_people(room) == 4
    await enter(store, room, someone(node, 4), someone(node, 5, user="bob", data="1"))
    assert await store.count_people(room) == 4
    await store.leave(room, [f"{node}.1", f"{node}.3"])
    assert await store.count_people(room) == 3
    await store.leave(room, [f"{node}.2", f"{node}.4", f"{node}.5", f"{node}.6"])
    assert await store.count_people(room) == 0


async def test_nobody_is_in_a_room_that_nobody_has_entered(store: Store, room: str):
    assert await store.count(room) == await store.count_people(room) == 0
    assert (await store.occupancy(room)).occupants == (await store.occupancy(room, 1, 1)).occupants == []
    assert (await store.occupancy(room)).total == 0
    assert (await store.leave(room, ["1.1"])).occupants == []


async def test_versions_go_on_where_a_room_was_empty(store: Store, room: str):
    node = a_node()
    await enter(store, room, someone(node, 1))
    left = await store.leave(room, [f"{node}.1"])
    again = await enter(store, room, someone(node, 2))
    assert again.version > left.version


async def test_what_is_said_of_somebody_who_is_in_is_replaced(store: Store, room: str):
    node = a_node()
    first = await enter(store, room, someone(node, 1, data="1"))
    same = await enter(store, room, someone(node, 1, data="1"))
    other = await enter(store, room, someone(node, 1, data="2", user="ann"))
    assert (first.version, other.version) == (same.version, same.version + 1)
    (found,) = (await store.occupancy(room)).occupants
    assert (found.data, found.user, found.since) == ("2", "ann", first.occupants[0].since)


async def test_a_room_has_its_seats(store: Store, room: str):
    node = a_node()
    two = Limits(seats=2)
    entered = await enter(store, room, *(someone(node, number) for number in range(3)), limits=two)
    assert (ids(entered), entered.full) == ([f"{node}.0", f"{node}.1"], [f"{node}.2"])
    refused = await enter(store, room, someone(node, 3), limits=two)
    assert (refused.version, refused.occupants, refused.full) == (entered.version, [], [f"{node}.3"])
    assert (entered.changed, refused.changed) == (True, False)
    await store.leave(room, [f"{node}.0"])
    assert (await enter(store, room, someone(node, 3), limits=two)).full == []


async def test_a_seat_is_shared_until_the_last_of_it_leaves(store: Store, room: str):
    node = a_node()
    one = Limits(seats=1)
    shared = [someone(node, 1, seat="ann"), someone(node, 2, seat="ann")]
    assert (await enter(store, room, *shared, limits=one)).full == []
    await store.leave(room, [f"{node}.1"])
    assert (await enter(store, room, someone(node, 3), limits=one)).full == [f"{node}.3"]
    await store.leave(room, [f"{node}.2"])
    assert (await enter(store, room, someone(node, 3), limits=one)).full == []


async def test_who_is_in_stays_whatever_the_limits_are_now(store: Store, room: str):
    node = a_node()
    await enter(store, room, someone(node, 1), someone(node, 2))
    again = await enter(store, room, someone(node, 1, data="new"), limits=Limits(seats=1, per_user=1))
    assert (again.full, again.over, ids(again)) == ([], [], [f"{node}.1"])


async def test_a_user_has_so_many_connections(store: Store, room: str):
    node = a_node()
    limits = Limits(per_user=2)
    entered = await enter(
        store, room, *(someone(node, number, user="ann") for number in range(3)), limits=limits
    )
    assert (ids(entered), entered.over) == ([f"{node}.0", f"{node}.1"], [f"{node}.2"])
    # Others, and those without a user, are not concerned.
    more = await enter(store, room, someone(node, 4, user="bob"), someone(node, 5), limits=limits)
    assert (more.over, await store.count(room)) == ([], 4)


async def test_the_oldest_connection_of_a_user_makes_room(store: Store, room: str):
    node = a_node()
    limits = Limits(seats=3, per_user=2, when_over="close_oldest")
    for number in range(2):
        await enter(store, room, someone(node, number, user="ann"), limits=limits)
    entered = await enter(store, room, someone(node, 2, user="ann"), limits=limits)
    assert [one.id for one in entered.displaced] == [f"{node}.0"]
    assert ids(await store.occupancy(room)) == [f"{node}.1", f"{node}.2"]
    # Nobody is displaced for one who finds no seat.
    await enter(store, room, someone(node, 3, user="bob"))
    await enter(store, room, someone(node, 4, user="cleo"))
    tight = Limits(seats=3, per_user=2, when_over="close_oldest")
    refused = await enter(store, room, someone(node, 5, user="ann"), limits=tight)
    assert (refused.displaced, refused.full) == ([], [f"{node}.5"])


async def test_who_makes_room_leaves_the_seat(store: Store, room: str):
    node = a_node()
    tight = Limits(seats=1, per_user=1, when_over="close_oldest")
    await enter(store, room, someone(node, 1, user="ann"), limits=tight)
    entered = await enter(store, room, someone(node, 2, user="ann"), limits=tight)
    assert ([one.id for one in entered.displaced], ids(entered)) == ([f"{node}.1"], [f"{node}.2"])
    # A seat that is shared is left only by the last of it.
    await enter(store, room, someone(node, 3, user="bob", seat=f"{node}.2"))
    refused = await enter(store, room, someone(node, 4, user="ann"), limits=tight)
    assert (refused.displaced, refused.full) == ([], [f"{node}.4"])


async def test_two_rooms_have_nothing_in_common(store: Store, room: str):
    node = a_node()
    await enter(store, room, someone(node, 1))
    assert await store.count(room + "2") == 0
    await enter(store, room + "2", someone(node, 1))
    await store.leave(room, [f"{node}.1"])
    assert await store.count(room + "2") == 1


async def test_a_process_that_resigns_takes_all_that_it_has_entered_with_it(store: Store, room: str):
    node, other = a_node(), a_node()
    await enter(store, room, someone(other, 1))
    lease = await store.renew(node, 0, 60)
    for each in (room, room + "2"):
        await store.enter(each, [someone(node, 1), someone(node, 2)], lease)
    left = await store.resign(lease)
    assert {one.room: sorted(ids(one)) for one in left} == {
        room: [f"{node}.1", f"{node}.2"],
        room + "2": [f"{node}.1", f"{node}.2"],
    }
    assert ids(await store.occupancy(room)) == [f"{other}.1"]


# Leases


async def test_a_lease_is_renewed_under_its_token(store: Store):
    node = a_node()
    lease = await store.renew(node, 0, 60)
    again = await store.renew(node, lease.token, 60)
    assert (again.node, again.token) == (node, lease.token)
    assert again.until >= lease.until


async def test_a_lease_that_has_ended_takes_its_entries_with_it_once(
    store: Store, others: list[Store], room: str
):
    node, other = a_node(), a_node()
    lease = await others[0].renew(node, 0, 60)
    await others[0].enter(room, [someone(node, 1), someone(node, 2)], lease)
    await enter(store, room, someone(other, 1))
    before = await store.occupancy(room)
    await let_end(others[0], lease)
    found: list[Left] = []
    async with asyncio.timeout(30):
        while not found:
            for lefts in await asyncio.gather(store.evict(), others[1].evict()):
                found += lefts
            await asyncio.sleep(0.02)
    (left,) = [*found, *await store.evict(), *await others[1].evict()]
    assert (sorted(ids(left)), left.version) == ([f"{node}.1", f"{node}.2"], before.version + 1)
    assert ids(await store.occupancy(room)) == [f"{other}.1"]


async def test_nothing_is_entered_under_a_lease_that_has_ended(store: Store, others: list[Store], room: str):
    node = a_node()
    lease = await others[0].renew(node, 0, 60)
    await others[0].enter(room, [someone(node, 1)], lease)
    await let_end(others[0], lease)
    await evicted(store, room)
    with pytest.raises(LeaseLost):
        await others[0].enter(room, [someone(node, 2)], lease)
    assert await store.count(room) == 0


async def test_who_has_lost_a_lease_is_told_by_another_token(store: Store, others: list[Store], room: str):
    node = a_node()
    lost = await others[0].renew(node, 0, 60)
    await others[0].enter(room, [someone(node, 1)], lost)
    await let_end(others[0], lost)
    await evicted(store, room)
    lease = await others[0].renew(node, lost.token, 60)
    assert lease.token > lost.token
    await others[0].enter(room, [someone(node, 2)], lease)
    assert await store.evict() == [] or ids(await store.occupancy(room)) == [f"{node}.2"]
    with pytest.raises(LeaseLost):
        await others[0].enter(room, [someone(node, 3)], lost)
    assert ids(await store.occupancy(room)) == [f"{node}.2"]


async def test_a_new_lease_does_not_keep_what_was_entered_under_the_old(
    store: Store, others: list[Store], room: str
):
    """Nobody has looked after it meanwhile."""
    node = a_node()
    lost = await others[0].renew(node, 0, 60)
    await others[0].enter(room, [someone(node, 1)], lost)
    await let_end(others[0], lost)
    lease = lost
    async with asyncio.timeout(30):
        while lease.token == lost.token:
            await asyncio.sleep(0.1)  # longer than the lease, which renewing prolongs
            lease = await others[0].renew(node, lost.token, 0.05)
    lease = await others[0].renew(node, lease.token, 60)
    await others[0].enter(room, [someone(node, 2)], lease)
    while await store.evict():
        pass
    assert ids(await store.occupancy(room)) == [f"{node}.2"]


async def test_many_processes_at_once_never_fill_a_room_beyond_its_seats(
    store: Store, others: list[Store], room: str
):
    stores = [store, *others]
    nodes = [a_node() for _ in stores]
    leases = [await each.renew(node, 0, 60) for each, node in zip(stores, nodes, strict=True)]
    results = await asyncio.gather(
        *(
            each.enter(room, [someone(node, number)], lease, Limits(seats=20))
            for number in range(40)
            for each, node, lease in zip(stores, nodes, leases, strict=True)
        )
    )
    assert sum(len(entered.occupants) for entered in results) == 20
    assert await store.count(room) == 20


# What was published


async def test_a_room_has_a_position_before_anything_was_published(store: Store, room: str):
    page = await store.read(room, KEEP)
    assert (page.top, page.first, page.records) == (0, 1, [])
    assert await store.tops({room: None}) == {room: Position(page.epoch, 0)}
    appended = await store.append(room, Addition(Record(0, "a"), KEEP))
    assert appended == (Position(page.epoch, 1), True)


async def test_a_name_that_is_asked_about_is_remembered_for_minutes_and_a_publication_for_a_day(
    store: Store, room: str
):
    page = await store.read(room, KEEP)
    await store.tops({room: None, room + "2": None})
    for each in (room, room + "2"):
        assert UNUSED - 60 < await remaining(store, each) <= UNUSED
    await store.append(room, Addition(Record(0, "a"), KEEP))
    await store.append(room + "3", Addition(Record(0, "a"), KEEP))
    for each in (room, room + "3"):
        assert REMEMBERED < await remaining(store, each) <= REMEMBERED + KEEP.seconds
    assert (await store.tops({room: None}))[room] == Position(page.epoch, 1)
    # An epoch that a store which was set back begins is one that nobody has published in.
    begun = (await store.tops({room: Position(page.epoch, 2)}))[room]
    assert begun.epoch != page.epoch
    assert await remaining(store, room) <= UNUSED


async def remaining(store: Store, room: str) -> float:
    """Seconds until the history of `room` is forgotten if nobody asks for it."""
    if isinstance(store, SealedStore):
        return await remaining(store._store, _name(room))
    if isinstance(store, MemoryStore):
        return store._histories[room].ends - time.time()
    if isinstance(store, RedisStore):
        return int(await store._server.ask(b"PTTL", store._server.key("history", room))) / 1000
    assert isinstance(store, PostgresStore)
    session = await store._session.get()
    query = "SELECT (ends - now_us()) / 1000000.0 FROM histories WHERE namespace = $1 AND room = $2"
    found: Any = await session._connection.fetchval(query, store._namespace, room.encode())
    return float(found)


async def test_publications_are_read_as_they_were(store: Store, room: str):
    given = [
        Record(0, "text 房间 \x00 \"'\n"),
        Record(0, b"\xff\x00bytes"),
        Record(0, "", frozenset({"1.1", "2.2"}), frozenset({"ann"})),
        Record(0, "{}", for_each="guests_see_less"),
    ]
    for record in given:
        await store.append(room, Addition(record, KEEP))
    page = await store.read(room, KEEP)
    assert [record._replace(at=0.0, offset=0) for record in page.records] == given
    assert [record.offset for record in page.records] == [1, 2, 3, 4]
    assert all(record.at > 1_700_000_000 for record in page.records)
    assert (page.top, page.first) == (4, 1)


async def test_any_part_can_be_read(store: Store, room: str):
    for number in range(1, 11):
        await store.append(room, Addition(Record(0, str(number)), KEEP))
    assert await bodies(store, room, limit=3) == ["1", "2", "3"]
    assert await bodies(store, room, after=8) == ["9", "10"]
    assert await bodies(store, room, limit=3, reverse=True) == ["10", "9", "8"]
    assert await bodies(store, room, limit=2, before=8, reverse=True) == ["7", "6"]
    assert await bodies(store, room, after=3, before=6) == ["4", "5"]
    assert await bodies(store, room, after=10) == []
    assert await bodies(store, room, before=1, reverse=True) == []
    assert await bodies(store, room, limit=0) == []


@pytest.mark.parametrize(
    "keep", [KEEP._replace(messages=3), KEEP._replace(size=30)], ids=["messages", "size"]
)
async def test_the_oldest_are_dropped(store: Store, room: str, keep: Retention, exact: None):
    for number in range(1, 9):
        await store.append(room, Addition(Record(0, f"{number:010}"), keep))
    page = await store.read(room, keep)
    assert (page.top, page.first, [record.offset for record in page.records]) == (8, 6, [6, 7, 8])


async def test_the_newest_is_kept_whatever_its_size(store: Store, room: str):
    keep = KEEP._replace(size=10)
    await store.append(room, Addition(Record(0, "small"), keep))
    await store.append(room, Addition(Record(0, "x" * 100), keep))
    assert [record.offset for record in (await store.read(room, keep)).records] == [2]


async def test_what_is_too_old_is_not_read(store: Store, room: str):
    keep = KEEP._replace(seconds=0.2)
    await store.append(room, Addition(Record(0, "old"), keep))
    first = await store.read(room, KEEP)
    async with asyncio.timeout(30):
        while (page := await store.read(room, keep)).records:
            await asyncio.sleep(0.02)
    assert (page.epoch, page.top, page.first) == (first.epoch, 1, 2)
    assert (await store.append(room, Addition(Record(0, "new"), keep))).position == Position(first.epoch, 2)


async def test_a_key_is_used_once(store: Store, room: str):
    first = await store.append(room, Addition(Record(0, "a"), KEEP, key="k", key_seconds=60))
    again = await store.append(room, Addition(Record(0, "b"), KEEP, key="k", key_seconds=60))
    other = await store.append(room + "2", Addition(Record(0, "c"), KEEP, key="k", key_seconds=60))
    assert (first.is_new, again.is_new, other.is_new) == (True, False, True)
    assert again.position == first.position
    assert await bodies(store, room) == ["a"]


async def test_a_key_is_forgotten_in_time(store: Store, room: str):
    first = await store.append(room, Addition(Record(0, "a"), KEEP, key="k", key_seconds=0.1))
    async with asyncio.timeout(30):
        while not (
            again := await store.append(room, Addition(Record(0, "b"), KEEP, key="k", key_seconds=0.1))
        ).is_new:
            await asyncio.sleep(0.02)
    assert again.position.offset == first.position.offset + 1


async def test_a_store_that_is_behind_begins_a_new_epoch(store: Store, room: str):
    position = (await store.append(room, Addition(Record(0, "a"), KEEP))).position
    assert await store.tops({room: position}) == {room: position}
    ahead = position._replace(offset=7)
    found = (await store.tops({room: ahead}))[room]
    assert (found.epoch != position.epoch, found.offset) == (True, 0)
    # Of an epoch that is over nothing is known.
    appended = await store.append(room, Addition(Record(0, "b"), KEEP, known=ahead))
    assert appended.position == Position(found.epoch, 1)
    further = await store.append(room, Addition(Record(0, "c"), KEEP, known=Position(found.epoch, 9)))
    assert (further.position.epoch not in (found.epoch, position.epoch), further.position.offset) == (True, 1)
    assert await bodies(store, room) == ["c"]


async def test_the_tops_of_many_rooms(store: Store, room: str):
    rooms = [f"{room} {number}" for number in range(300)]
    for number, each in enumerate(rooms[:5]):
        for _ in range(number):
            await store.append(each, Addition(Record(0, "x"), KEEP))
    tops = await store.tops(dict.fromkeys(rooms))
    assert [tops[each].offset for each in rooms] == [0, 1, 2, 3, 4, *[0] * 295]
    assert await store.tops({}) == {}


async def test_many_processes_append_in_one_order(store: Store, others: list[Store], room: str):
    stores = [store, *others]
    await asyncio.gather(
        *(
            each.append(room, Addition(Record(0, f"{index} {n}"), KEEP))
            for n in range(30)
            for index, each in enumerate(stores)
        )
    )
    pages = [await each.read(room, KEEP) for each in stores]
    assert pages[0] == pages[1] == pages[2]
    assert [record.offset for record in pages[0].records] == list(range(1, 91))
    for index in range(3):
        own = [str(record.body) for record in pages[0].records if str(record.body).startswith(f"{index} ")]
        assert own == [f"{index} {n}" for n in range(30)]


async def test_what_is_appended_is_announced_in_the_order_of_the_positions(
    store: Store, backend: BroadcastBackend, room: str
):
    assert store.announces
    await backend.subscribe(room)
    announcement = Announcement(room, "{", "} 房间")
    appended = [
        await store.append(
            room, Addition(Record(0, "x"), KEEP, key=key, key_seconds=60, announcement=announcement)
        )
        for key in ("1", "1", "2", None)
    ]
    assert [one.is_new for one in appended] == [True, False, True, True]
    heard = [(await backend.next_published()).message for _ in range(3)]
    assert heard == [f"{{{one.position}}} 房间" for one in appended if one.is_new]


# Keys that were used


async def test_the_first_claim_is_new_and_its_outcome_is_remembered(store: Store):
    key = secrets.token_hex(8)
    assert await store.claim(key, "a", 60) == Claim("new")
    assert await store.claim(key, "b", 60) == Claim("running")
    assert await store.claim(key, "a", 60) == Claim("new")
    await store.settle(key, "b", "not mine", 60)
    await store.settle(key, "a", "done 房间", 60)
    assert await store.claim(key, "b", 60) == await store.claim(key, "a", 60) == Claim("done", "done 房间")


async def test_a_claim_that_is_given_back_is_new_again(store: Store):
    key = secrets.token_hex(8)
    await store.claim(key, "a", 60)
    await store.settle(key, "a", None, 60)
    assert await store.claim(key, "b", 60) == Claim("new")


async def test_a_claim_ends_in_time(store: Store):
    key = secrets.token_hex(8)
    await store.claim(key, "a", 0.1)
    async with asyncio.timeout(30):
        while (await store.claim(key, "b", 0.1)).state != "new":
            await asyncio.sleep(0.02)
    await store.settle(key, "a", "too late", 60)
    assert (await store.claim(key, "c", 60)).state != "done"


async def test_an_outcome_has_a_bound(store: Store, exact: None):
    key = secrets.token_hex(8)
    await store.claim(key, "a", 60)
    await store.settle(key, "a", "x" * (MAX_OUTCOME + 1), 60)
    assert len((await store.claim(key, "b", 60)).outcome) == MAX_OUTCOME


async def test_one_of_many_claims_is_the_first(store: Store, others: list[Store]):
    key = secrets.token_hex(8)
    found = await asyncio.gather(
        *(
            each.claim(key, f"{index} {n}", 60)
            for n in range(10)
            for index, each in enumerate([store, *others])
        )
    )
    assert [claim.state for claim in found].count("new") == 1


async def test_a_value_is_kept_and_taken_once(store: Store, others: list[Store]):
    key = secrets.token_hex(8)
    assert await store.get(key) is await store.take(key) is None
    await store.put(key, "old", 60)
    await store.put(key, "房间", 60)
    for each in (store, *others):
        assert await each.get(key) == "房间"
    taken = await asyncio.gather(*(each.take(key) for each in [store, *others] for _ in range(10)))
    assert sorted(filter(None, taken)) == ["房间"]
    assert await store.get(key) is None


async def test_a_value_ends_in_time(store: Store):
    key = secrets.token_hex(8)
    await store.put(key, "short", 0.05)
    async with asyncio.timeout(30):
        while await store.get(key) is not None:
            await asyncio.sleep(0.02)
    assert await store.take(key) is None
    await store.put(key, "again", 60)
    assert await store.take(key) == "again"
