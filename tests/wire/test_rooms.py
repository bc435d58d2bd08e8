"""Rooms whose names have parameters, and who may enter one."""

import json
import uuid
from typing import Any

import pytest
from fastapi import HTTPException
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels import Channel, ConfigurationError, Connection, PermissionDenied, action
from fastapi_channels.wire.rooms import MAX_ROOM, InvalidRoom, RoomPattern, check_room, rooms_of
from tests.support.wire import dial, dialing, serving

ID = uuid.UUID("8d0f0b6e-9d3c-4c0d-8f6e-2b1a3c4d5e6f")


@pytest.mark.parametrize(
    ("pattern", "room", "params"),
    [
        ("lobby", "lobby", {}),
        ("room:{id:int}", "room:5", {"id": 5}),
        ("room:{id:int}", "room:0", {"id": 0}),
        ("{team}:{topic}", "red:chess", {"team": "red", "topic": "chess"}),
        ("{team}:chat", "red:chat", {"team": "red"}),
        ("{a}:{b:float}", "x:1.5", {"a": "x", "b": 1.5}),
        ("u/{id:uuid}", f"u/{ID}", {"id": ID}),
        ("files/{path:path}", "files/a/b", {"path": "a/b"}),
        ("Räume {name}", "Räume groß", {"name": "groß"}),
        ("a+b({x})", "a+b(1)", {"x": "1"}),
    ],
)
def test_what_fits_a_pattern(pattern: str, room: str, params: dict[str, Any]):
    assert RoomPattern(pattern).match(room) == params


@pytest.mark.parametrize(
    ("pattern", "room"),
    [
        ("lobby", "lobby2"),
        ("lobby", "/lobby"),
        ("lobby", "Lobby"),
        ("room:{id:int}", "room:x"),
        ("room:{id:int}", "room:-1"),
        ("room:{id:int}", "room:5\n"),
        ("room:{id:int}", "room:5:x"),
        ("room:{id:int}", "room:" + "9" * 5000),
        ("room:{id}", "room:"),
        ("room:{id}", "room:a/b"),
        ("room:{id}:chat", "room:5"),
        ("room:{id}:chat", "room:5:talk"),
    ],
)
def test_what_does_not(pattern: str, room: str):
    assert RoomPattern(pattern).match(room) is None


@pytest.mark.parametrize(
    ("pattern", "room"),
    [
        ("room:{id:int}", "room:05"),
        ("{id:uuid}", str(ID).upper()),
        ("{id:uuid}", ID.hex),
        ("{at:float}", "1.50"),
        ("{at:float}", "1.0"),
        ("{at:float}", "0.10000000000000000555"),
        ("{at:float}", "9" * 400),
    ],
)
def test_a_room_has_one_name(pattern: str, room: str):
    """Who is let into `room:05` would be let in as for `room:5`, and be somewhere else."""
    assert RoomPattern(pattern).match(room) is None


@given(st.floats(min_value=1e-9, max_value=1e30) | st.just(0.0))
def test_a_number_with_a_point_is_found_by_the_name_that_is_made_of_it(at: float):
    pattern = RoomPattern("at:{at:float}")
    assert pattern.match(pattern.name({"at": at})) == {"at": at}
    assert pattern.name({"at": 1}) == "at:1"


@given(st.integers(min_value=0), st.text(st.characters(exclude_characters=":/"), min_size=1))
def test_what_is_formatted_is_found(number: int, name: str):
    assert RoomPattern("{name}:{number:int}").match(f"{name}:{number}") == {"name": name, "number": number}


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("room:{id:number}", "Unknown path convertor 'number'"),
        ("{a}:{a}", "Duplicated param name a"),
        ("room:{room-id}", "a brace"),
        ("room:{id", "a brace"),
        ("room:id}", "a brace"),
        ("{connection}", "'connection' stands for something else"),
        ("{channel:int}", "'channel' stands for something else"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_told_at_once(pattern: str, problem: str):
    with pytest.raises(ConfigurationError, match=rf"the pattern .* cannot be read: .*{problem}"):
        type("Room", (Channel,), {"room_pattern": pattern})


class Numbered(Channel):
    room_pattern = "room:{number:int}"

    @action()
    async def where(self, number: int, connection: Connection) -> Any:
        return [number, connection.room, connection.params]


async def test_only_rooms_of_the_pattern_exist():
    async with serving(Numbered()) as app:
        async with dial(app, "/room:5") as wire:
            wire.call("where")
            assert (await wire.receive())["data"] == [5, "room:5", {"number": 5}]
        async with dialing(app, "/hall:5", extensions=["websocket.http.response"]) as wire:
            await wire.ended()
            assert wire.sent[0]["status"] == 404


class Authorized(Numbered):
    """Let in whoever's number is even; `trouble` raises it."""

    def __init__(self, trouble: Exception | None = None, answer: Any = None) -> None:
        super().__init__()
        self.trouble = trouble
        self.answer = answer
        self.asked: list[Any] = []

    async def authorize(self, connection: Connection, number: int) -> bool:
        self.asked.append((connection.room, connection.user, number))
        if self.trouble is not None:
            raise self.trouble
        return number % 2 == 0 if self.answer is None else self.answer


async def refused(channel: Channel, path: str = "/room:4") -> tuple[int, Any]:
    """The status and the code of the refusal of a handshake."""

    async with serving(channel) as app:
        async with dialing(app, path, extensions=["websocket.http.response"]) as wire:
            await wire.ended()
        start, body = wire.sent
        return start["status"], json.loads(body["body"])


async def test_the_hook_is_asked_for_each_room():
    channel = Authorized()
    async with serving(channel) as app, dial(app, "/room:4?user=ada") as wire:
        wire.call("where")
        assert (await wire.receive())["data"][0] == 4
    status, frame = await refused(channel, "/room:5")
    assert (status, frame["code"]) == (403, "permission_denied")
    assert channel.asked == [("room:4", "ada", 4), ("room:5", None, 5)]


@pytest.mark.parametrize("answer", [1, "yes", [True]])
async def test_only_true_allows(answer: Any):
    assert (await refused(Authorized(answer=answer)))[0] == 403


async def test_a_hook_that_fails_refuses(caplog: pytest.LogCaptureFixture):
    status, frame = await refused(Authorized(RuntimeError("a secret")))
    assert (status, frame["code"]) == (403, "permission_denied")
    assert "secret" not in str(frame)
    assert "a secret" in caplog.text


@pytest.mark.parametrize(
    ("trouble", "status", "said"),
    [
        (PermissionDenied(reason="not on sundays", close=False), 403, "not on sundays"),
        (HTTPException(402, "pay first"), 402, "pay first"),
    ],
)
async def test_a_hook_may_say_why(trouble: Exception, status: int, said: str):
    found, frame = await refused(Authorized(trouble))
    assert (found, frame["errors"]) == (status, said)


async def test_the_hook_may_be_plain_and_of_no_pattern():
    class Plain(Channel):
        def authorize(self, connection: Connection) -> bool:
            return connection.room == "open"

    async with serving(Plain()) as app, dial(app, "/open"):
        pass
    assert (await refused(Plain(), "/closed"))[0] == 403


@pytest.mark.parametrize(
    "room",
    [
        "r",
        "r" * MAX_ROOM,
        "a room",
        "房间",
        "😀",
        "a/b",
        "../../etc",
        "**",
        "{r}",
        "a:b",
        "fastapi-channels",
        "0",
    ],
)
def test_names_of_rooms(room: str) -> None:
    assert check_room(room) == room


@pytest.mark.parametrize(
    "room",
    [
        *("", "r" * (MAX_ROOM + 1), "a\nb", "a\0", "\t", "\x7f", "\u200b", "\u202e", "\ud800"),
        *(
            "*",
            "a\x1fb",
            "fastapi-channels:nodes",
            "fastapi-channels:",
            "fastapi-channels:node:x",
            None,
            7,
            b"r",
            ["r"],
        ),
    ],
)
def test_what_is_no_name_of_a_room(room: Any) -> None:
    with pytest.raises(InvalidRoom, match="1 to 255 printable characters") as caught:
        check_room(room)
    assert not caught.value.close


def test_a_room_that_is_named_twice_is_one():
    assert rooms_of(["b", "a", "b", "c", "a"]) == ("b", "a", "c")
    assert rooms_of("aa") == ("aa",)
    assert rooms_of(name for name in "aba") == ("a", "b")
    assert rooms_of([["a"], "b"]) == (["a"], "b")  # type: ignore[list-item]  # told by who checks names


async def test_who_is_in_a_room_that_is_named_twice_hears_it_once():
    room = Channel()
    async with serving(room) as app, dial(app, "/a") as wire:
        published = await room.broadcast(["a", "a"], "said", 1)
        await room.broadcast("a", "said", 2)
        assert published
        assert [(await wire.receive())["data"] for _ in range(2)] == [1, 2]
