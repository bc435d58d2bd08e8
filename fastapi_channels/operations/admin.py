"""Operating an application by HTTP: what there is in all of its processes, and what is to be done with it."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.params import Depends as Dependency
from pydantic import BaseModel, Field, ValidationError

from fastapi_channels.channels import BaseChannel
from fastapi_channels.channels.base import words_of
from fastapi_channels.channels.publisher import Publisher
from fastapi_channels.channels.reading import MAX_PAGE, HistoryPage
from fastapi_channels.channels.socket import Socket
from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.orders import MAX_NAME, Drain
from fastapi_channels.contract.served import endpoints
from fastapi_channels.contract.serving import check_path, checked_dependencies
from fastapi_channels.exceptions import CloseCode, ConfigurationError
from fastapi_channels.sessions.origin import origin_allowed
from fastapi_channels.signatures.dependencies import told
from fastapi_channels.throttling import client_address
from fastapi_channels.wire.rooms import MAX_ROOM, SCOPE_END, name_of

from .jobs.keeper import QUESTION as JOBS

logger = logging.getLogger("fastapi_channels.admin")

CONNECTIONS: Final = "connections"
"""The question for a user's connections."""
MAX_CONNECTIONS: Final = 1000
"""Of one user in one process that are listed."""


class ChannelReport(BaseModel):
    name: str
    address: str
    actions: list[str]


class RoomReport(BaseModel):
    """A room with members. `scope` is that of its channel, empty where it is the whole application's."""

    name: str
    scope: str
    members: int


class RoomPage(BaseModel):
    """`total`: how many there are at least; `complete` says that there are no more, and that none is left out
    of the order."""

    items: list[RoomReport]
    total: int
    complete: bool


class MemberReport(BaseModel):
    """A connection in a room, its user's key, and what it says of itself. `since`: seconds since 1970, where
    several processes share a broker."""

    id: str
    user: str | None
    since: float | None = None
    data: Any = None


class ConnectionReport(BaseModel):
    id: str
    process: str
    rooms: list[str]


class Said(BaseModel):
    event: str
    data: Any = None
    key: str | None = None


class Closing(BaseModel):
    code: int = int(CloseCode.NORMAL)
    reason: str = ""


class Whom(BaseModel):
    user: str


class Revocation(BaseModel):
    seconds: Annotated[float, Field(gt=0)] = 86_400.0


class Admin:
    """Adds routes to an application that show what happens in all of its processes and, where that is asked
    for, act on it.

    Args:
        app: on which `add_channel()` was called.
        dependencies: of each route: they let nobody else in.
        prefix: begins the paths.
        who: a dependency, whose value the log names as the one who acts; the address unless given.
        read_only: whether nothing can be done but look.
        allow_anybody: whether it is meant that there are no dependencies.

    Raises:
        ConfigurationError: everybody could use it, and nobody has said so; or an argument cannot work.
    """

    def __init__(
        self,
        app: FastAPI,
        *,
        dependencies: Sequence[Dependency] = (),
        prefix: str = "/admin",
        who: Callable[..., Any] | None = None,
        read_only: bool = True,
        allow_anybody: bool = False,
    ) -> None:
        node = Node.attached(app)
        if node is None:
            raise ConfigurationError("Admin() needs an application that add_channel() was called on")
        dependencies = checked_dependencies("dependencies", dependencies)
        check_path("prefix", prefix)
        if not dependencies and not allow_anybody:
            raise ConfigurationError(
                "Admin() is for whoever its dependencies let in: dependencies=[Depends(only_staff)]; "
                "allow_anybody=True says that everybody may use it"
            )
        self._app = app
        self._node = node
        node.questions.answers[CONNECTIONS] = self._connections_here
        guards = [Depends(_own_page), *dependencies]
        router = APIRouter(prefix=prefix.rstrip("/"), tags=["admin"], dependencies=guards)
        self._add_views(router)
        if not read_only:
            self._add_acts(router, who or self._address)
        app.include_router(router)

    # What there is

    def _add_views(self, router: APIRouter) -> None:
        ask = self._node.questions.ask

        @router.get("/nodes")
        async def nodes() -> dict[str, dict[str, Any]]:
            """The processes that answer, by their ids, and how each is."""
            return await ask("health")

        @router.get("/channels")
        async def channels() -> list[ChannelReport]:
            """The channels that are served, and their actions."""
            return [
                ChannelReport(
                    name=channel._plan.name, address=address, actions=[*(channel._plan.actions or ())]
                )
                for address, channel in self._channels()
            ]

        @router.get("/rooms")
        async def rooms(
            search: Annotated[str, Query(max_length=MAX_ROOM)] = "",
            limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
            offset: Annotated[int, Query(ge=0)] = 0,
        ) -> RoomPage:
            """The rooms with members, those with the most first; `search` is part of a name."""
            answers = await ask("rooms", search)
            return _page(answers.values(), slice(offset, offset + limit))

        @router.get("/rooms/{room:path}/members")
        async def members(room: str, channel: str | None = None) -> list[MemberReport]:
            """Who is in a room, in the order in which they came."""
            with _told():
                return await self._members(words_of(self._channel(channel) or BaseChannel).key(room))

        @router.get("/rooms/{room:path}/history")
        async def history(
            room: str,
            channel: str,
            since: str | None = None,
            limit: Annotated[int, Query(ge=1, le=MAX_PAGE)] = MAX_PAGE,
        ) -> HistoryPage:
            """A page of what was published in a room, the newest first."""
            with _told():
                return await BaseChannel.read_history(self._named(channel), room, limit=limit, since=since)

        @router.get("/users/{user:path}/connections")
        async def connections(user: Annotated[str, Path(max_length=MAX_NAME)]) -> list[ConnectionReport]:
            """The connections of a user, by its key."""
            found = await ask(CONNECTIONS, user)
            return [
                ConnectionReport(id=id, process=process, rooms=rooms)
                for process, answer in found.items()
                for id, rooms in answer.items()
            ]

        @router.get("/jobs")
        async def jobs() -> dict[str, dict[str, Any]]:
            """What each process knows of the jobs: when each is due, and when it ran last there."""
            return await ask(JOBS) if JOBS in self._node.questions.answers else {}

    async def _members(self, key: str) -> list[MemberReport]:
        node = self._node
        if node.broker.local:  # then the store is not told of everybody
            here = node.hub.members(key)
            return [
                MemberReport(
                    id=each.id, user=node.key_of(each.user), data=json.loads(each.presence or "null")
                )
                for each in here
            ]
        return [
            MemberReport(id=each.id, user=each.user, since=each.since, data=json.loads(each.data or "null"))
            for each in await node.rooms.occupants(key)
        ]

    def _connections_here(self, user: str = "") -> dict[str, list[str]]:
        """The connections of a user in this process, and the rooms of each."""
        node = self._node
        found = (each for each in node.rooms.connections.values() if node.key_of(each.user) == user)
        return {each.id: sorted(each.rooms) for each in islice(found, MAX_CONNECTIONS)}

    def _channels(self) -> Iterator[tuple[str, BaseChannel]]:
        for endpoint in endpoints(self._app):
            owner = endpoint.owner
            for channel in owner.channels if isinstance(owner, Socket) else (owner,):
                yield endpoint.address, channel

    def _channel(self, name: str | None) -> BaseChannel | None:
        return None if name is None else self._named(name)

    def _named(self, name: str) -> BaseChannel:
        """
        Raises:
            ConfigurationError: no channel has that name.
        """
        for _, channel in self._channels():
            if channel._plan.name == name:
                return channel
        raise ConfigurationError(f"no channel is named {name!r}")

    def _address(self, request: Request) -> str:
        return client_address(request, self._node.settings.trusted_proxies)

    # What is to be done

    def _add_acts(self, router: APIRouter, who: Callable[..., Any]) -> None:
        publisher, actor = Publisher._of(self._node), Depends(who)

        @router.post("/rooms/{room:path}/publish")
        async def publish(
            room: str, said: Said, by: Any = actor, channel: str | None = None
        ) -> dict[str, str]:
            """Send an event to everybody in a room; its position, where the room has a history."""
            with self._act(by, f"publishes {said.event!r} in {room!r}"):
                voice = self._channel(channel)
                sent = await publisher.broadcast(room, said.event, said.data, key=said.key, channel=voice)
            return dict(sent.positions)

        @router.post("/rooms/{room:path}/join", status_code=202)
        async def join(room: str, whom: Whom, by: Any = actor, channel: str | None = None) -> None:
            """Let the connections that a user has now join a room."""
            with self._act(by, f"lets {whom.user!r} join {room!r}"):
                await publisher.join_room(whom.user, room, channel=self._channel(channel))

        @router.post("/rooms/{room:path}/leave", status_code=202)
        async def leave(room: str, whom: Whom, by: Any = actor, channel: str | None = None) -> None:
            """Let the connections that a user has now leave a room."""
            with self._act(by, f"lets {whom.user!r} leave {room!r}"):
                await publisher.leave_room(whom.user, room, channel=self._channel(channel))

        @router.post("/users/{user:path}/disconnect", status_code=202)
        async def disconnect_user(user: str, close: Closing, by: Any = actor) -> None:
            """Close every WebSocket that a user has now."""
            with self._act(by, f"disconnects the user {user!r} with {close.code}"):
                await publisher.disconnect_user(user, close.code, close.reason)

        @router.post("/users/{user:path}/revoke", status_code=202)
        async def revoke_user(user: str, revocation: Revocation, by: Any = actor) -> None:
            """Close every WebSocket of a user, and refuse the tokens that it has got so far."""
            with self._act(by, f"revokes the tokens of {user!r}"):
                await publisher.revoke_user(user, seconds=revocation.seconds)

        @router.post("/nodes/{id}/drain", status_code=202)
        async def drain(id: str, by: Any = actor) -> None:
            """Let the connections of a process go, as before a deploy; it takes no new ones from then on."""
            with self._act(by, f"drains the process {id!r}"):
                await self._node.order(Drain(node=id))

        @router.post("/connections/{id}/disconnect", status_code=202)
        async def disconnect_connection(id: str, close: Closing, by: Any = actor) -> None:
            """Close one connection."""
            with self._act(by, f"disconnects the connection {id!r} with {close.code}"):
                await publisher.disconnect_connection(id, close.code, close.reason)

    @contextmanager
    def _act(self, by: Any, what: str) -> Iterator[None]:
        """What is done within is logged, also where it fails."""
        try:
            with _told():
                yield
        except Exception as exc:
            logger.warning("%s %s, and it fails: %s", by, what, getattr(exc, "detail", exc))
            raise
        except BaseException:  # the client has gone, or the process ends: some of it may have been done
            logger.warning("%s %s, and it is broken off", by, what)
            raise
        logger.warning("%s %s", by, what)  # so that it is there whatever logging was told


def _page(answers: Iterable[tuple[int, dict[str, int]]], part: slice) -> RoomPage:
    """A part of the rooms of all processes, of which each says how many it has, and its largest."""
    members: Counter[str] = Counter()
    total, complete = 0, True
    for number, largest in answers:
        members.update(largest)
        total, complete = max(total, number), complete and number == len(largest)
    items = [
        RoomReport(name=name_of(key), scope=key.rpartition(SCOPE_END)[0], members=number)
        for key, number in members.most_common()[part]
    ]
    return RoomPage(items=items, total=max(total, len(members)), complete=complete)


def _own_page(request: Request) -> None:
    """Let pages of this server alone ask, and what is no browser: a cookie is sent from any page."""
    if not origin_allowed(request, None):
        logger.warning("a page of %r may not administer", request.headers.get("origin", "")[:200])
        raise HTTPException(403, "a page of another origin may not administer")


@contextmanager
def _told() -> Iterator[None]:
    """What was asked for wrongly is answered so."""
    try:
        yield
    except ConfigurationError as exc:
        raise HTTPException(422, str(exc)) from exc
    except ValidationError as exc:  # its text has the values, which are no concern of the log
        raise HTTPException(422, told(exc.errors())) from exc
