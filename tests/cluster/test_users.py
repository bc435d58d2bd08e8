"""Who is behind the WebSockets, and who is sent what is for a user."""

from __future__ import annotations

import asyncio

from fastapi import FastAPI, WebSocket
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels import Channel, Connection, Socket, add_channel
from fastapi_channels.cluster.users import Users
from fastapi_channels.wire.messages import Frame
from tests.support.clock import timeless
from tests.support.wire import Wire, dial, living, node_of, serving


class Recipient:
    direct: asyncio.WriteTransport | None = None

    def push(self, frame: Frame) -> None: ...


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["ada", "bob", None]), st.integers(0, 2))))
def test_a_recipient_is_there_as_long_as_it_was_added_more_often_than_discarded(
    steps: list[tuple[bool, str | None, int]],
):
    users: Users[Recipient] = Users()
    recipients = [Recipient() for _ in range(3)]
    counts: dict[tuple[str, int], int] = {}
    for adds, user, number in steps:
        (users.add if adds else users.discard)(user, recipients[number])
        if user is not None:
            count = counts.get((user, number), 0) + (1 if adds else -1)
            counts[user, number] = max(0, count)
    for user in ("ada", "bob"):
        expected = {recipients[number] for (who, number), count in counts.items() if who == user and count}
        assert set(users.recipients(user)) == expected
        assert len(list(users.recipients(user))) == len(expected)
    assert len(users) == len({user for (user, _), count in counts.items() if count})


def application() -> tuple[FastAPI, Channel]:
    app, room = FastAPI(), Channel()
    add_channel(app)
    socket = Socket(room)

    @app.websocket("/socket")
    async def endpoint(websocket: WebSocket) -> None:
        await socket.connect(websocket, user="ada")

    room.bind(app)
    return app, room


async def moves(wire: Wire, kind: str, room: str) -> None:
    wire.send({"type": kind, "channel": room})
    assert (await wire.receive())["type"] == {"join": "joined", "leave": "left"}[kind]


@timeless
async def test_the_user_of_a_socket_is_reached_in_no_room_and_once_in_many():
    app, room = application()
    async with living(app):
        async with dial(app, "/socket") as wire:
            await room.send_to_user("ada", "said", "in no room")
            assert (await wire.receive())["data"] == "in no room"
            await moves(wire, "join", "tea")
            await moves(wire, "join", "coffee")
            await room.send_to_user("ada", "said", "in two")
            await room.broadcast("tea", "said", "in tea")
            assert [(await wire.receive())["data"] for _ in range(2)] == ["in two", "in tea"]
            await moves(wire, "leave", "tea")
            await moves(wire, "leave", "coffee")
            await room.send_to_user("ada", "said", "in none again")
            assert (await wire.receive())["data"] == "in none again"
        assert not node_of(app).users


@timeless
async def test_who_is_somebody_else_from_now_on_is_reached_as_that_alone():
    connections: list[Connection] = []
    room = Channel(on_join=lambda connection: connections.append(connection))
    async with serving(room) as app, dial(app, "/lobby?user=guest") as wire:
        await wire.until(lambda: connections)
        connections[0].user = "ada"
        await room.send_to_user("guest", "said", 1)
        await room.send_to_user("ada", "said", 2)
        assert (await wire.receive())["data"] == 2
