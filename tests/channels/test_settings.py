"""Settings of a channel, or a socket, that would do nothing, or another thing than they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, WebSocket
from pydantic import BaseModel, Field

from fastapi_channels import (
    BaseChannel,
    Channel,
    ConfigurationError,
    Envelope,
    Publisher,
    Socket,
    action,
    add_channel,
)
from tests.support.wire import node_of


def made(base: type = Channel, **settings: Any) -> Any:
    return type("Room", (base,), settings)()


@pytest.mark.parametrize(
    ("name", "value", "needed"),
    [
        ("cache", True, "history"),
        ("history_ttl", 60.0, "history"),
        ("history_size", 10, "history"),
        ("recovery_limit", 10, "history"),
        ("presence_grace", 1.0, "presence"),
        ("presence_interval", 0.5, "presence"),
        ("per_user_policy", "close_oldest", "max_per_user"),
    ],
)
@pytest.mark.parametrize("base", [BaseChannel, Channel])
def test_a_setting_without_that_which_it_is_about(base: type, name: str, value: Any, needed: str):
    with pytest.raises(ConfigurationError, match=rf"Room\.{name} = .* does nothing without {needed}"):
        made(base, **{name: value})
    on: Any = 2 if needed != "presence" else True
    made(base, **{name: value, needed: on})
    # A class that others inherit from may say it for those that have it.
    house = type("House", (base,), {name: value})
    made(house)
    made(house, **{needed: on})


def test_one_that_an_instance_has_for_itself():
    class Room(Channel):
        def __init__(self) -> None:
            self.cache = True
            super().__init__()

    with pytest.raises(ConfigurationError, match=r"Room\.cache = True does nothing without history"):
        Room()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resync", "no"),
        ("ack", 1),
        ("cache", "yes"),
        ("history", True),
        ("max_connection", True),
        ("history_ttl", "x"),
        ("history_ttl", None),
        ("send_timeout", 0),
        ("send_timeout", "x"),
        ("slow_policy", "drop"),
        ("finish_timeout", "x"),
        ("leave_timeout", -1),
        ("max_rooms", 0),
        ("outbox_limit", None),
        ("scope", 5),
        ("room_pattern", 5),
    ],
)
def test_a_value_that_is_none(name: str, value: Any):
    with pytest.raises(ConfigurationError, match=rf"{name} must be .*, got {value!r}"):
        made(**{name: value})


def test_a_method_that_is_called_like_a_setting_is_told_so():
    async def resync(self: Any) -> None: ...

    with pytest.raises(ConfigurationError, match=r"give the method Room\.resync another name"):
        made(resync=action()(resync))


@pytest.mark.parametrize("name", ["history", "cache", "presence", "room_pattern", "authorize", "decode_json"])
def test_a_setting_or_hook_of_channels_on_a_socket(name: str):
    with pytest.raises(ConfigurationError, match=rf"Many\.{name} is a setting or hook of a channel"):
        type("Many", (Socket,), {name: 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_rooms", 0), ("max_message_size", "x"), ("slow_policy", "drop"), ("finish_timeout", -1)],
)
def test_a_value_of_a_socket_that_is_none(name: str, value: Any):
    with pytest.raises(ConfigurationError, match=rf"Many\.{name} must be .*, got {value!r}"):
        type("Many", (Socket,), {name: value})(Channel())


def test_types_of_events_that_are_no_list():
    with pytest.raises(ConfigurationError, match="event_types are classes of events, a list of them, not 5"):
        made(event_types=5)


def test_a_pattern_that_no_room_fits():
    with pytest.raises(ConfigurationError, match="room_pattern is empty"):
        made(room_pattern="")


class Move(BaseModel):
    action: str
    piece: int


@dataclass
class Step:
    request_id: int


class Hidden(BaseModel):
    kind: Annotated[str, Field(alias="action")]


@pytest.mark.parametrize("model", [Move, Step, Hidden, Move | Step])
def test_a_field_that_belongs_to_the_frame(model: Any):
    async def move(self: Any, m: Any) -> None: ...

    move.__annotations__ = {"m": model}
    marked = action()(move)
    with pytest.raises(ConfigurationError, match="the action 'move' would never get the field"):
        made(move=marked)
    made(move=marked, envelope=Envelope(payload="payload"))


class Invitation(BaseModel):
    channel: str


def test_a_field_that_names_the_room_of_a_socket():
    class Room(Channel):
        @action()
        async def invite(self, to: Invitation) -> None: ...

    with pytest.raises(ConfigurationError, match="the field 'channel'"):
        Socket(Room())


@pytest.mark.parametrize(
    ("first", "second"), [(None, "a:{n}"), ("a:{n}", "a:{m}"), ("a:{n:int}", "a:{n:int}")]
)
def test_a_channel_of_a_socket_that_no_room_reaches(first: str | None, second: str):
    one, other = made(room_pattern=first), made(room_pattern=second)
    with pytest.raises(ConfigurationError, match="Room would never have a room"):
        Socket(one, other)
    Socket(made(room_pattern="a:{n:int}"), made(room_pattern="a:{n}"), made())


def test_a_path_without_a_slash():
    app = FastAPI()
    add_channel(app)
    for channel in (made(), Socket(made())):
        with pytest.raises(ConfigurationError, match=r"mount\('/rooms'\), not 'rooms'"):
            channel.mount(app, "rooms")


async def nothing(*args: Any) -> Any:
    """No server."""


async def test_what_is_published_is_named_by_a_text_and_kept_from_connections():
    app = FastAPI()
    add_channel(app)
    room = made(presence=True)
    room.mount(app, "/{channel}")
    room.bind(app)
    async with app.router.lifespan_context(app):
        for key in ("", 5, b"x", ["a"]):
            with pytest.raises(ConfigurationError, match="key= names a publication by a text"):
                await room.broadcast("a", "said", 1, key=key)
        websocket = WebSocket({"type": "websocket"}, nothing, nothing)
        for exclude in (5, [5], [None], "ann", ["ann", "0123456789ab.1"], websocket, [websocket], {}):
            with pytest.raises(ConfigurationError, match="exclude= takes connections"):
                await room.broadcast("a", "said", 1, exclude=exclude)
        assert await room.people("a") == []
        other = made()
        other.bind(app)
        for asked in (other.people, other.count_people):
            with pytest.raises(ConfigurationError, match="Room has no presence"):
                await asked("a")
        with pytest.raises(ConfigurationError, match="channel= takes a channel, or its class, got 'Room'"):
            await Publisher._of(node_of(app)).broadcast("a", "said", 1, channel="Room")  # type: ignore[arg-type]  # what is refused
