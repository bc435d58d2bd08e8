"""The routes that do something, each with a line in the log of who did it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from fastapi import APIRouter, Depends, HTTPException

from fastapi_channels.channels.publisher import Publisher
from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.orders import Drain
from fastapi_channels.stores import StoreUnavailable

from .audit import acting
from .channels import Channels
from .reports import Closing, NewBan, Revocation, Said, Whom

MAX_BY: Final = 200
"""Characters of who did it that stand beside a ban."""


def add_acts(router: APIRouter, node: Node, channels: Channels, who: Callable[..., Any]) -> None:
    """
    Args:
        who: a dependency that says who acts.
    """
    publisher, actor = Publisher._of(node), Depends(who)

    @router.post("/rooms/{room:path}/publish")
    async def publish(room: str, said: Said, by: Any = actor, channel: str | None = None) -> dict[str, str]:
        """Send an event to everybody in a room; its position, where the room has a history."""
        with acting(by, f"publishes {said.event!r} in {room!r}"):
            voice = channels.voice(channel)
            sent = await publisher.broadcast(room, said.event, said.data, key=said.key, channel=voice)
        return dict(sent.positions)

    @router.post("/rooms/{room:path}/join", status_code=202)
    async def join(room: str, whom: Whom, by: Any = actor, channel: str | None = None) -> None:
        """Let the connections that a user has now join a room."""
        with acting(by, f"lets {whom.user!r} join {room!r}"):
            await publisher.join_room(whom.user, room, channel=channels.voice(channel))

    @router.post("/rooms/{room:path}/leave", status_code=202)
    async def leave(room: str, whom: Whom, by: Any = actor, channel: str | None = None) -> None:
        """Let the connections that a user has now leave a room."""
        with acting(by, f"lets {whom.user!r} leave {room!r}"):
            await publisher.leave_room(whom.user, room, channel=channels.voice(channel))

    @router.post("/users/{user:path}/disconnect", status_code=202)
    async def disconnect_user(user: str, close: Closing, by: Any = actor) -> None:
        """Close every WebSocket that a user has now."""
        with acting(by, f"disconnects the user {user!r} with {close.code}"):
            await publisher.disconnect_user(user, close.code, close.reason)

    @router.post("/users/{user:path}/revoke", status_code=202)
    async def revoke_user(user: str, revocation: Revocation, by: Any = actor) -> None:
        """Close every WebSocket of a user, and refuse the tokens that it has got so far."""
        with acting(by, f"revokes the tokens of {user!r}"), _closing("they are refused from now on"):
            await publisher.revoke_user(user, seconds=revocation.seconds)

    @router.post("/bans", status_code=202)
    async def ban(new: NewBan, by: Any = actor) -> None:
        """Refuse a user, or an address, for a time, and close what is open."""
        what = f"bans {_whom(new.user, new.address)} for {new.seconds:g} s"
        with acting(by, what), _closing("it holds"):
            await publisher.ban(**new.model_dump(), by=str(by)[:MAX_BY])

    @router.delete("/bans", status_code=202)
    async def unban(user: str | None = None, address: str | None = None, by: Any = actor) -> None:
        """End a ban before its time."""
        with acting(by, f"ends the ban of {_whom(user, address)}"):
            await publisher.unban(user=user, address=address)

    @router.post("/nodes/{id}/drain", status_code=202)
    async def drain(id: str, by: Any = actor) -> None:
        """Let the connections of a process go, as before a deploy; it takes no new ones from then on."""
        with acting(by, f"drains the process {id!r}"):
            order = Drain(node=id)
            if id != node.id and id not in await node.questions.ask("health"):
                raise HTTPException(404, "no process of that id answers")
            await node.order(order)

    @router.post("/connections/{id}/disconnect", status_code=202)
    async def disconnect_connection(id: str, close: Closing, by: Any = actor) -> None:
        """Close one connection."""
        with acting(by, f"disconnects the connection {id!r} with {close.code}"):
            if not any((await node.questions.ask("has_connection", id)).values()):
                raise HTTPException(404, "no process that answers has a connection of that id")
            await publisher.disconnect_connection(id, close.code, close.reason)


@contextmanager
def _closing(what: str) -> Iterator[None]:
    """Tells, where the store does not answer, that what is open is closed all the same, and that it is not
    known whether `what`."""
    try:
        yield
    except StoreUnavailable as exc:
        told = f"the store did not answer, so it is not known whether {what}: ask again"
        closed = "what is open is closed all the same, in other processes when the broker has the order"
        raise HTTPException(503, f"{told}; {closed}", headers={"Retry-After": "1"}) from exc


def _whom(user: str | None, address: str | None) -> str:
    return f"the user {user!r}" if user is not None else f"the address {address!r}"
