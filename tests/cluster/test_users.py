"""Who is behind the WebSockets, and who is sent what is for a user."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI, WebSocket
from hypothesis import given
from hypothesis import strategies as st
from starlette.authentication import UnauthenticatedUser

from fastapi_channels import Channel, ConfigurationError, Connection, Socket, add_channel
from fastapi_channels.cluster.users import UserKeys, Users
from fastapi_channels.testing.asgi import living
from fastapi_channels.testing.clock import timeless
from fastapi_channels.wire.messages import Frame
from tests.support.wire import Wire, dial, node_of, serving


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


class Account:
    email = "ann@example.com"


@pytest.mark.parametrize(
    ("given", "user", "key"),
    [
        (None, {"sub": "ann"}, "ann"),
        (None, Account(), None),
        ("email", Account(), "ann@example.com"),
        ("email", {"email": "a", "id": 7}, "a"),
        (lambda user: user["no"], {"no": 7}, "7"),
        (lambda user: None, {"id": 7}, None),
        ("email", "ann", "ann"),
        (None, None, None),
        (None, True, None),
        (None, 1.5, None),
        (None, UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (None, {"sub": ["ann"]}, None),
        (None, {"id": 5.5, "sub": "ann"}, "ann"),
    ],
)
def test_what_names_a_user(given: Any, user: Any, key: str | None):
    assert UserKeys(given)(user) == key


def test_a_user_without_a_key_is_told_of_once_for_its_type(caplog: pytest.LogCaptureFixture):
    keys = UserKeys()
    for user in (Account(), Account(), UnauthenticatedUser()):
        assert keys(user) is None
    [record] = caplog.records
    assert "Account has no key" in record.getMessage()
    assert "id or identity or username or sub" in record.getMessage()
    assert "user_key=" in record.getMessage()


def test_what_cannot_name_a_user():
    async def key(user: Account) -> str:
        return user.email

    for wrong in (7, "", key):
        with pytest.raises(ConfigurationError, match="user_key= takes a plain function"):
            add_channel(FastAPI(), user_key=wrong)  # type: ignore[arg-type]  # that is the test


async def test_the_key_holds_wherever_a_user_is_named():
    app, room = FastAPI(), Channel()
    add_channel(app, user_key="email")
    room.mount(app, "/{channel}", user=lambda: Account())
    room.bind(app)
    async with living(app), dial(app, "/lobby") as wire:
        [member] = await room.members("lobby")
        assert member["user"] == "ann@example.com"
        await room.send_to_user(Account(), "said", 1)
        assert (await wire.receive())["data"] == 1


@pytest.mark.parametrize("nobody", [None, "", {"name": "ann"}])
async def test_to_send_to_nobody_is_an_error_that_says_what_a_user_is(nobody: Any):
    room = Channel()
    async with serving(room):
        with pytest.raises(ConfigurationError, match="a user is its key, a text, or an object"):
            await room.send_to_user(nobody, "said")
