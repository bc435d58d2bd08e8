"""The routes that show what there is."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from heapq import nlargest
from itertools import islice
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, HTTPException, Path, Query
from fastapi.responses import StreamingResponse

from fastapi_channels.channels import BaseChannel
from fastapi_channels.channels.reading import MAX_PAGE, HistoryPage
from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.orders import MAX_NAME
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import BrokerUnavailable
from fastapi_channels.operations.jobs.keeper import QUESTION as JOBS
from fastapi_channels.wire.rooms import MAX_ROOM, SCOPE_END, SPACE_END, name_of

from .audit import acting, answered
from .channels import Channels
from .reports import (
    BanReport,
    ChannelReport,
    ConnectionReport,
    MemberPage,
    MemberReport,
    RoomPage,
    RoomReport,
)
from .tail import MOST, Tail, TailResponse

CONNECTIONS: Final = "connections"
"""The question for a user's connections."""
CONNECTION: Final = "connection"
"""The question for one connection, by its id."""
SLOW: Final = "slow"
"""The question for those that something waits for."""
MAX_SLOW: Final = 100
"""Of one process that are listed."""
MAX_CONNECTIONS: Final = 1000
"""Of one user in one process that are listed."""

Name = Annotated[str, Path(max_length=MAX_NAME)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Scope = Annotated[str, Query(max_length=MAX_ROOM)]
Offset = Annotated[int, Query(ge=0, le=1_000_000_000)]


class Views:
    """What is known in all processes of one application."""

    def __init__(self, node: Node, channels: Channels) -> None:
        self._node = node
        self._channels = channels
        node.questions.answers[CONNECTIONS] = self._connections_of
        node.questions.answers[CONNECTION] = self._connection
        node.questions.answers[SLOW] = self._slow

    def add(self, router: APIRouter, who: Callable[..., Any]) -> None:
        """
        Args:
            who: a dependency that says who looks.
        """
        ask, channels, tails = self._node.questions.ask, self._channels, set[Tail]()
        looker = Depends(who)

        @router.get("/nodes")
        async def nodes() -> dict[str, dict[str, Any]]:
            """The processes that answer, by their ids: how each is, and what it has counted so far. While the
            broker is away, that is this one alone."""
            try:
                return await ask("health")
            except BrokerUnavailable:
                return {self._node.id: self._node.questions.answers["health"]()}

        @router.get("/channels")
        def list_channels() -> list[ChannelReport]:
            """The channels that are served, their actions and events."""
            return channels.reports()

        @router.get("/rooms")
        async def rooms(
            search: Annotated[str, Query(max_length=MAX_ROOM)] = "",
            limit: Limit = MAX_PAGE,
            offset: Offset = 0,
        ) -> RoomPage:
            """The rooms with members, those with the most first; `search` is part of a name."""
            answers = await ask("rooms", search)
            return page_of(answers.values(), slice(offset, offset + limit))

        @router.get("/rooms/{room:path}/members")
        async def members(
            room: str,
            channel: str | None = None,
            scope: Scope = "",
            topics: bool = False,
            limit: Limit = MAX_PAGE,
            offset: Offset = 0,
        ) -> MemberPage:
            """Who is in a room, in the order in which they came."""
            with answered():
                return await self._members(channels.key(room, channel, scope, topics), offset, limit)

        @router.get("/rooms/{room:path}/history")
        async def history(
            room: str, channel: str, since: str | None = None, limit: Limit = MAX_PAGE
        ) -> HistoryPage:
            """A page of what was published in a room, the newest first."""
            with answered():
                voice = channels.named(channel)
                return await BaseChannel.read_history(voice, room, limit=limit, since=since)

        @router.get("/rooms/{room:path}/tail", response_class=StreamingResponse)
        async def tail(
            room: str,
            by: Any = looker,
            channel: str | None = None,
            scope: Scope = "",
            topics: bool = False,
        ) -> TailResponse:
            """What passes in a room from now on, as Server-Sent Events: 20 messages in a second, for ten
            minutes. `passed` counts all of them."""
            if len(tails) >= MOST:
                raise HTTPException(503, f"{MOST} rooms are listened to in this process already")
            with acting(by, f"listens to {room!r}"):
                found = Tail(self._node, channels.key(room, channel, scope, topics), tails)
                await found.open()
            return TailResponse(found)

        @router.get("/users/{user:path}/connections")
        async def connections(user: Name) -> list[ConnectionReport]:
            """The connections of a user, by its key."""
            found = await ask(CONNECTIONS, user)
            return [
                ConnectionReport(id=id, process=process, **report)
                for process, answer in found.items()
                for id, report in answer.items()
            ]

        @router.get("/slow")
        async def slow() -> list[ConnectionReport]:
            """The connections that do not read what they are sent, those that most waits for first: of each
            process a hundred."""
            found = [
                ConnectionReport(id=id, process=process, **report)
                for process, answer in (await ask(SLOW)).items()
                for id, report in answer.items()
            ]
            return sorted(found, key=lambda each: each.waiting, reverse=True)

        @router.get("/connections/{id}")
        async def connection(id: Name) -> ConnectionReport:
            """One connection, by its id."""
            for process, report in (await ask(CONNECTION, id)).items():
                if report is not None:
                    return ConnectionReport(id=id, process=process, **report)
            raise HTTPException(404)

        @router.get("/bans")
        async def bans() -> list[BanReport]:
            """Who is banned, the newest first."""
            with answered():
                return list(map(BanReport.of, await self._node.banned()))

        @router.get("/jobs")
        async def jobs() -> dict[str, dict[str, Any]]:
            """What each process knows of the jobs: when each is due, and when it ran last there."""
            return await ask(JOBS) if JOBS in self._node.questions.answers else {}

    async def _members(self, key: str, offset: int, limit: int) -> MemberPage:
        # Reports of a part alone: those of a room of ten thousand would keep deliveries waiting.
        node = self._node
        if node.broker.local:  # then the store is not told of everybody
            here = node.hub.members(key)
            items = [
                MemberReport(
                    id=each.id, user=node.key_of(each.user), data=json.loads(each.presence or "null")
                )
                for each in here[offset : offset + limit]
            ]
            return MemberPage(items=items, total=len(here))
        there = await node.rooms.occupancy(key, offset, limit)
        items = [
            MemberReport(id=each.id, user=each.user, since=each.since, data=json.loads(each.data or "null"))
            for each in there.occupants
        ]
        return MemberPage(items=items, total=there.total)

    def _connections_of(self, user: str = "") -> dict[str, dict[str, Any]]:
        """The connections of a user in this process."""
        node = self._node
        if not node.users.recipients(user):
            return {}
        found = (each for each in node.rooms.connections.values() if node.key_of(each.user) == user)
        return {each.id: self._described(each) for each in islice(found, MAX_CONNECTIONS)}

    def _connection(self, id: str = "") -> dict[str, Any] | None:
        found = self._node.rooms.connections.get(id)
        return None if found is None else self._described(found)

    def _slow(self) -> dict[str, dict[str, Any]]:
        waiting = (each for each in self._node.rooms.connections.values() if each.waiting)
        slowest = nlargest(MAX_SLOW, waiting, key=lambda each: each.waiting)
        return {each.id: self._described(each) for each in slowest}

    def _described(self, connection: Connection) -> dict[str, Any]:
        node = self._node
        return {
            "user": node.key_of(connection.user),
            "address": connection.address,
            "rooms": sorted(connection.rooms),
            "waiting": connection.waiting,
        }


def page_of(answers: Iterable[tuple[int, dict[str, int]]], part: slice) -> RoomPage:
    """A part of the rooms of all processes, of which each says how many it has, and its largest."""
    members: Counter[str] = Counter()
    total, complete = 0, True
    for number, largest in answers:
        members.update(largest)
        total, complete = max(total, number), complete and number == len(largest)
    items = [_report(key, number) for key, number in members.most_common()[part]]
    return RoomPage(items=items, total=max(total, len(members)), complete=complete)


def _report(key: str, members: int) -> RoomReport:
    topics = SPACE_END in key
    scope = key.partition(SPACE_END)[0] if topics else key.rpartition(SCOPE_END)[0]
    return RoomReport(name=name_of(key), scope=scope, topics=topics, members=members)
