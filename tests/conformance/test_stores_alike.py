"""Whatever is done to it, a store answers as the one in memory does."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_channels.channels.people import people_of
from fastapi_channels.encryption.cipher import Cipher
from fastapi_channels.encryption.store import SealedStore
from fastapi_channels.stores import Addition, MemoryStore, Part, Record, Retention, Store
from fastapi_channels.stores.store import Limits, Occupant

from .test_stores import SHARED, sealed

T = TypeVar("T")

NODES = ("one", "two")
IDS = [f"{node}.{number}" for node in NODES for number in range(3)]

Step: TypeAlias = tuple[Any, ...]
"""The name of a method of `Player`, and what it takes."""


@st.composite
def occupants(draw: st.DrawFn) -> list[Occupant]:
    node = draw(st.sampled_from(NODES))
    ids = draw(st.lists(st.sampled_from([id for id in IDS if id.startswith(node)]), min_size=1, unique=True))
    user, seat = st.sampled_from(["ann", None, "bob", ""]), st.sampled_from(["", "", "red", "blue"])
    return [Occupant(id, draw(user), draw(seat) or id, draw(st.sampled_from(["", "{}"]))) for id in ids]


def some(values: st.SearchStrategy[T]) -> st.SearchStrategy[T | None]:
    return st.none() | values


LIMITS = st.builds(
    Limits, some(st.integers(1, 2)), some(st.integers(1, 2)), st.sampled_from(["close_oldest", "refuse"])
)
KEEP = st.builds(Retention, st.integers(1, 4), st.integers(1, 40), st.just(60.0))
PART = st.tuples(st.integers(0, 6), some(st.integers(1, 8)), st.integers(0, 4), st.booleans())
KEYS = st.sampled_from(["k", "l"])
OWNERS = st.sampled_from(["me", "you"])
STEP: st.SearchStrategy[Step] = st.one_of(
    *[st.tuples(st.just("enter"), occupants(), LIMITS)] * 2,
    st.tuples(st.just("leave"), st.lists(st.sampled_from(IDS), max_size=3)),
    st.tuples(st.just("resign"), st.sampled_from(NODES)),
    st.tuples(st.just("append"), st.integers(0, 20), KEEP, some(KEYS)),
    st.tuples(st.just("read"), KEEP, PART),
    st.tuples(st.just("claim"), KEYS, OWNERS),
    st.tuples(st.just("settle"), KEYS, OWNERS, some(st.just("done"))),
)


class Player:
    """Does things to one room of a store; answers what must not depend on the store."""

    def __init__(self, store: Store, room: str) -> None:
        self._store = store
        self._room = room
        self._epoch = ""
        self.versions = [0, 0]
        """Of the room's occupants: as it was, and as it is."""

    async def enter(self, who: list[Occupant], limits: Limits) -> Any:
        lease = await self._store.renew(self._node(who[0].id.partition(".")[0]), 0, 60)
        here = [one._replace(id=self._id(one.id)) for one in who]
        found = await self._store.enter(self._room, here, lease, limits)
        entered, displaced = map(self._plain, (found.occupants, found.displaced))
        refused = [[*map(self._short, ids)] for ids in (found.full, found.over)]
        self._took(found.version)
        return entered, displaced, refused, found.changed

    async def leave(self, ids: list[str]) -> Any:
        left = await self._store.leave(self._room, [*map(self._id, ids)])
        self._took(left.version)
        return sorted(self._plain(left.occupants))

    async def resign(self, node: str) -> Any:
        lease = await self._store.renew(self._node(node), 0, 60)
        lefts = await self._store.resign(lease)
        for left in lefts:
            self._took(left.version)
        return [sorted(self._plain(left.occupants)) for left in lefts]

    async def append(self, length: int, keep: Retention, key: str | None) -> Any:
        appended = await self._store.append(
            self._room, Addition(Record(0, "x" * length), keep, key=key, key_seconds=60)
        )
        return appended.position.offset, appended.is_new, self._same(appended.position.epoch)

    async def read(self, keep: Retention, part: tuple[int, int | None, int, bool]) -> Any:
        page = await self._store.read(self._room, keep, Part(*part))
        records = [(record.offset, record.body) for record in page.records]
        return page.top, page.first, records, self._same(page.epoch)

    async def claim(self, key: str, owner: str) -> Any:
        return await self._store.claim(f"{self._room} {key}", owner, 60)

    async def settle(self, key: str, owner: str, outcome: str | None) -> Any:
        await self._store.settle(f"{self._room} {key}", owner, outcome, 60)

    async def state(self) -> Any:
        found, part, count, people = await asyncio.gather(
            self._store.occupancy(self._room),
            self._store.occupancy(self._room, 1, 2),
            self._store.count(self._room),
            self._store.count_people(self._room),
        )
        assert count == len(found.occupants)
        assert people == len(people_of(found.occupants))
        sinces = [one.since for one in found.occupants]
        assert sinces == sorted(sinces)
        assert (part.occupants, part.total) == (found.occupants[1:3], len(found.occupants))
        return self._plain(found.occupants)

    def _node(self, name: str) -> str:
        """Of this player alone: a lease is not of a room."""
        return f"{name}-{self._room}"

    def _id(self, id: str) -> str:
        node, _, number = id.partition(".")
        return f"{self._node(node)}.{number}"

    def _short(self, id: str) -> str:
        return id.replace(f"-{self._room}", "")

    def _plain(self, found: list[Occupant]) -> list[tuple[str, str, str, str]]:
        return [(self._short(one.id), repr(one.user), self._short(one.seat), one.data) for one in found]

    def _took(self, version: int) -> None:
        self.versions = [self.versions[1], version]

    def _same(self, epoch: str) -> bool:
        before, self._epoch = self._epoch, epoch
        return before in ("", epoch)


@dataclass(frozen=True)
class Server:
    name: str
    store: Store
    in_memory: Callable[[], Store]

    async def play(self, steps: list[Step]) -> None:
        """In a room of its own."""
        room = secrets.token_hex(6)
        players = Player(self.in_memory(), room), Player(self.store, room)
        for name, *arguments in steps:
            expected, found = [await getattr(player, name)(*arguments) for player in players]
            assert found == expected, self.name
            expected, found = [await player.state() for player in players]
            assert found == expected, self.name
            (before, after), (known, version) = (player.versions for player in players)
            assert version > known if after > before else version == known or not expected, self.name


def sealed_memory() -> Store:
    """What is sealed is longer, so fewer bytes of a history stay in any store."""
    return SealedStore(MemoryStore(), Cipher([Fernet.generate_key().decode()]))


async def play(servers: list[Server], steps: list[Step]) -> None:
    """On all at the same time."""
    for outcome in await asyncio.gather(*(server.play(steps) for server in servers), return_exceptions=True):
        if outcome is not None:
            raise outcome


def test_every_store_answers_alike(request: pytest.FixtureRequest) -> None:
    """Those whose servers are installed; where one is not, the test is skipped in the end, and says so."""
    servers, missing = [], []
    for kind in SHARED:
        try:
            store = kind(request)()
        except pytest.skip.Exception as skipped:
            missing.append(str(skipped))
        else:
            servers.append(Server(kind.__name__, store, sealed_memory if kind is sealed else MemoryStore))
    with asyncio.Runner() as runner:

        @settings(max_examples=100)
        @given(steps=st.lists(STEP, max_size=25))
        def alike(steps: list[Step]) -> None:
            runner.get_loop().run_until_complete(play(servers, steps))

        try:
            for server in servers:
                runner.run(server.store.open())
            alike()
        finally:
            for server in servers:
                runner.run(server.store.close())
    if missing:
        pytest.skip("; ".join(missing))
