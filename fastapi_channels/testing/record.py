"""What an application sends to its rooms, seen without a client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi_channels.cluster.node import Node
from fastapi_channels.wire.messages import decode_json
from fastapi_channels.wire.rooms import name_of


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What was sent to a room, or to a user, or to a connection.

    Attributes:
        to: the name of the room, the user, or the id of the connection.
        event: its name; empty for a body without one.
        data: of the event; or the whole body.
    """

    to: str
    event: str
    data: Any


@dataclass(slots=True)
class Record:
    """
    Attributes:
        broadcasts: to rooms.
        sends: to users, and to connections by their ids.
        joins, leaves: rooms, with the ids of the connections.
    """

    broadcasts: list[Broadcast] = field(default_factory=list)
    sends: list[Broadcast] = field(default_factory=list)
    joins: list[tuple[str, str]] = field(default_factory=list)
    leaves: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def record(app: Any) -> Iterator[Record]:
    """Write down what an application with `add_channel` sends, and who joins and leaves."""
    node = Node.attached(app)
    if node is None:
        raise AssertionError("add_channel() was not called on the application")
    found = Record()
    rooms = node.rooms

    def before(owner: Any, name: str, note: Any) -> None:
        call = getattr(owner, name)

        def noting(*args: Any, **kwargs: Any) -> Any:
            note(*args)
            return call(*args, **kwargs)

        # Beside the method, so that taking it away brings back what was there.
        setattr(owner, name, noting)

    noted = [
        (node, "publish", lambda room, body, *_: found.broadcasts.append(_read(name_of(room), body))),
        (
            node,
            "send_to_user",
            lambda user, body: found.sends.append(_read(str(node.key_of.named(user)), body)),
        ),
        (node, "send_to_connection", lambda id, body: found.sends.append(_read(id, body))),
        (rooms, "join", lambda key, connection, *_: found.joins.append((name_of(key), connection.id))),
        (rooms, "leave", lambda key, connection, *_: found.leaves.append((name_of(key), connection.id))),
    ]
    for owner, name, note in noted:
        before(owner, name, note)
    try:
        yield found
    finally:
        for owner, name, _ in noted:
            delattr(owner, name)


def _read(to: str, body: Any) -> Broadcast:
    try:
        frame = decode_json(body)
    except ValueError:
        frame = body
    if isinstance(frame, dict) and frame.get("type") == "event":
        return Broadcast(to, str(frame.get("event", "")), frame.get("data"))
    return Broadcast(to, "", frame)
