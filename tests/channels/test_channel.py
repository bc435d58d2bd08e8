"""What a channel does for its clients: rooms, broadcasts, frames and their fields."""

import asyncio
import warnings
import zlib
from typing import Any

import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Path, WebSocket
from websockets.frames import Opcode

from fastapi_channels import (
    BaseChannel,
    Channel,
    ConfigurationError,
    Connection,
    Envelope,
    GroupChannel,
    PersonChannel,
    action,
    add_channel,
    rate,
)
from fastapi_channels.wire.messages import encode_json
from tests.support.live import (
    Client,
    RawClient,
    application,
    each_implementation,
    each_that_compresses,
    serving,
)


class Room(Channel):
    @action()
    async def me(self, connection: Connection) -> str:
        return connection.id

    @action()
    async def join(self, room: str, connection: Connection) -> list[str]:
        await connection.join(room)
        return sorted(connection.rooms)

    @action()
    async def leave(self, room: str, connection: Connection) -> list[str]:
        await connection.leave(room)
        return sorted(connection.rooms)

    @action()
    async def tell(self, rooms: list[str], text: str, connection: Connection, me_too: bool = True) -> None:
        await self.broadcast(rooms, "told", text, exclude=None if me_too else connection)

    @action()
    async def whisper(self, to: str, text: str) -> None:
        await self.send_to_connection(to, "whispered", text)

    @action()
    async def write(self, user: str, text: str) -> None:
        await self.send_to_user(user, "wrote", text)

    @action()
    async def count(self, room: str) -> int:
        return await self.get_connection_count(room)

    @action()
    async def who(self, room: str) -> Any:
        return await self.members(room)


async def call(client: Client, name: str, **fields: Any) -> Any:
    """The data of a reply; events that come before it are not expected."""
    return (await client.call(name, request_id=1, **fields))["data"]


async def settled(client: Client) -> None:
    """Nothing came for `client`: the reply to this is the next frame."""
    assert (await client.call("me", request_id="settled"))["request_id"] == "settled"


# Relaying


@each_implementation
async def test_a_base_channel_relays_what_comes_as_it_came(ws: str):
    frames: list[str | bytes] = ["hello", "", '{"a":  1}', '"text"', "字 💬", b"", b"\x00\xff", b'{"a":1}']
    async with (
        serving(application(BaseChannel()), ws=ws) as site,
        site.unharmed(),
        site.clients("/r", "/r", "/s") as (one, other, elsewhere),
    ):
        for frame in frames:
            await one.send(frame)
            assert await one.read() == frame
            assert await other.read() == frame
        await elsewhere.send("mine")
        assert await elsewhere.read() == "mine"


async def test_a_base_channel_has_a_size_limit_and_rates():
    class Small(BaseChannel):
        max_message_size = 10
        throttle_classes = rate(times=3, hours=1)

    async with serving(application(Small())) as site, site.unharmed(), site.connect("/r") as client:
        for frame in ("x" * 10, b"y" * 10, "3"):
            await client.send(frame)
            assert await client.read() == frame
        await client.send("4")
        assert (await client.receive())["code"] == "rate_limited"
        await client.send("x" * 11)
        assert (await client.closed()).code == 1009


async def test_fragments_are_one_message():
    async with serving(application(BaseChannel())) as site, RawClient.open(site, "/r") as client:
        await client.send(Opcode.TEXT, b"hel", fin=False)
        await client.send(Opcode.CONT, b"lo")
        assert await client.receive() == (Opcode.TEXT, b"hello")


# Routes


async def test_mounting():
    def only_even(channel: str = Path()) -> None:
        if len(channel) % 2:
            raise HTTPException(403)

    app = FastAPI()
    add_channel(app)
    room = Room(channel="lobby")
    room.mount(app, "/lobby")
    room.mount(app, "/lobby/too", name="too")
    router = APIRouter(prefix="/api")
    room.mount(router, "/rooms/{channel}", dependencies=[Depends(only_even)])
    app.include_router(router, prefix="/v1")
    assert app.url_path_for("Room") == "/lobby"
    assert app.url_path_for("too") == "/lobby/too"
    async with serving(app, may_complain=True) as site, site.unharmed():
        async with site.connect("/lobby") as client:
            assert await call(client, "join", room="x") == ["lobby", "x"]
        async with site.connect("/v1/api/rooms/even") as client:
            assert await call(client, "join", room="x") == ["even", "x"]
        assert (await site.refusal("/v1/api/rooms/odd")).status == 403


async def test_an_action_may_have_the_name_of_any_method():
    class Shadowing(Channel):
        @action()
        async def boom(self) -> None:
            raise RuntimeError("on purpose")

    names = ["close", "connect", "disconnect", "broadcast", "members", "send_error", "get_connection_count"]
    names += ["broadcast_to_channel", "broadcast_to_personal", "mount", "on_event", "action", "bind"]
    names += ["send_to_user", "send_to_connection", "add_event_handler", "exception_handler"]

    async def answer(self: Any, action: str) -> str:
        return action

    shadows = {name: action(name)(_copy(answer)) for name in names}
    shadowing = type("Shadowed", (Shadowing,), shadows)()
    app = FastAPI()
    add_channel(app)
    BaseChannel.mount(shadowing, app, "/r")
    async with serving(app) as site, site.unharmed(), site.connect("/r") as client:
        for name in names:
            assert await call(client, name) == name
        assert (await client.call("boom"))["code"] == "internal_error"


def _copy(function: Any) -> Any:
    """An action's marks are on its function: each action needs its own."""

    async def copy(self: Any, action: str) -> str:
        return await function(self, action)

    return copy


# Rooms


async def test_rooms_while_connected():
    async with (
        serving(application(Room())) as site,
        site.unharmed(),
        site.clients("/a", "/b") as (one, other),
    ):
        assert await call(one, "join", room="c") == ["a", "c"]
        assert await call(other, "join", room="c") == ["b", "c"]
        assert await call(other, "join", room="c") == ["b", "c"]
        await one.send({"action": "tell", "rooms": ["c"], "text": "both"})
        for client in (one, other):
            event = await client.receive()
            assert event == {"type": "event", "event": "told", "channel": "c", "data": "both"}
        assert await call(other, "leave", room="c") == ["b"]
        assert await call(other, "leave", room="nowhere") == ["b"]
        await one.send({"action": "tell", "rooms": ["c"], "text": "one"})
        assert (await one.receive())["data"] == "one"
        await settled(other)
        assert await call(one, "leave", room="a") == ["c"]
        await other.send({"action": "tell", "rooms": ["a", "c", "b"], "text": "all"})
        assert (await one.receive())["channel"] == "c"
        assert (await other.receive())["channel"] == "b"
        await settled(one)


async def test_a_broadcast_may_leave_somebody_out():
    async with (
        serving(application(Room())) as site,
        site.unharmed(),
        site.clients("/r", "/r") as (one, other),
    ):
        await one.send({"action": "tell", "rooms": ["r"], "text": "hi", "me_too": False})
        assert (await other.receive())["data"] == "hi"
        await settled(one)


async def test_exclude_takes_ids_and_many():
    room = Room()
    async with serving(application(room)) as site, site.clients("/r", "/r", "/r") as clients:
        ids = [await call(client, "me") for client in clients]
        await room.broadcast("r", "e", 1, exclude=ids[0])
        await room.broadcast_to_channel("r", "text", exclude=ids[:2])
        await room.broadcast("r", "last")
        seen = [[await client.read()] for client in clients]
        assert "last" in str(seen[0])
        assert [await clients[1].read(), await clients[2].read()] == [seen[0][0], "text"]


async def test_one_connection_is_reached_by_its_id():
    async with serving(application(Room())) as site, site.connect("/a") as one, site.connect("/b") as other:
        await other.send({"action": "whisper", "to": await call(one, "me"), "text": "psst"})
        event = await one.receive()
        assert (event["event"], event["data"]) == ("whispered", "psst")
        for nobody in ("nobody", "", "a.b.c", await call(one, "me") + "0"):
            await other.send({"action": "whisper", "to": nobody, "text": "psst"})
        await settled(one)


async def test_all_connections_of_a_user_are_reached():
    app = FastAPI()
    add_channel(app)
    room = Room()

    @app.websocket("/{channel}")
    async def enter(websocket: WebSocket, channel: str, user: str | None = None) -> None:
        await room.connect(websocket, channel, user=user)

    async with (
        serving(app) as site,
        site.unharmed(),
        site.connect("/a?user=ann") as first,
        site.connect("/b?user=ann") as second,
        site.connect("/a?user=bob") as bob,
        site.connect("/a") as nobody,
    ):
        await call(first, "join", room="b")
        await bob.send({"action": "write", "user": "ann", "text": "dear ann"})
        for client in (first, second):
            event = await client.receive()
            assert (event["event"], event["data"]) == ("wrote", "dear ann")
            await settled(client)
        await settled(nobody)
        members = await call(bob, "who", room="a")
        assert sorted(str(member["user"]) for member in members) == ["None", "ann", "bob"]
        assert {member["id"] for member in members} >= {await call(bob, "me")}
        assert [await call(bob, "count", room=name) for name in ("a", "b", "c")] == [3, 2, 0]


async def test_broadcasts_to_a_channel_and_to_one_person():
    class Plain(Channel):
        @action()
        async def everybody(self, data: Any, channel: str) -> None:
            for message in ("text", b"bytes", {"an": "object"}, [1], None):
                await self.broadcast_to_channel(channel, message)

        @action()
        async def me(self, websocket: WebSocket) -> None:
            for message in ("text", b"bytes", {"an": "object"}, [1], None):
                await self.broadcast_to_personal(websocket, message)

    wanted: list[str | bytes] = ["text", b"bytes", '{"an":"object"}', "[1]", "null"]
    async with (
        serving(application(Plain())) as site,
        site.unharmed(),
        site.clients("/r", "/r") as (one, other),
    ):
        await one.send({"action": "everybody"})
        assert [await one.read() for _ in wanted] == wanted
        assert [await other.read() for _ in wanted] == wanted
        await one.send({"action": "me"})
        assert [await one.read() for _ in wanted] == wanted


async def test_sending_in_ways_of_starlette_keeps_the_order():
    class Mixed(Channel):
        @action()
        async def mix(self, websocket: WebSocket, connection: Connection) -> str:
            await websocket.send_text("1")
            await connection.send("2")
            await self.broadcast_to_channel(connection.room, "3")
            await websocket.send_json({"n": 4})
            await self.broadcast_to_personal(websocket, "5")
            await websocket.send_bytes(b"6")
            return "7"

    async with serving(application(Mixed())) as site, site.connect("/r") as client:
        await client.send({"action": "mix"})
        frames = [await client.read() for _ in range(6)]
        assert frames == ["1", "2", "3", '{"n":4}', "5", b"6"]
        assert (await client.receive())["data"] == "7"


@each_that_compresses
async def test_clients_that_compress_read_the_same(ws: str):
    """Frames that are written at once are not compressed, those that go through the server are."""

    class Mixed(Channel):
        @action()
        async def mix(self, size: int, websocket: WebSocket, connection: Connection) -> str:
            await websocket.send_text("a" * size)
            await self.broadcast_to_channel(connection.room, "b" * size)
            await websocket.send_bytes(b"c" * size)
            await self.broadcast_to_channel(connection.room, b"d" * size)
            return "e" * size

    app = application(Mixed())
    async with serving(app, ws=ws) as site, site.connect("/r", compression="deflate") as client:
        assert client.socket.protocol.extensions
        for size in (0, 1, 125, 126, 1000, 65_535, 65_536, 200_000):
            await client.send({"action": "mix", "size": size})
            frames = [await client.read() for _ in range(4)]
            assert frames == ["a" * size, "b" * size, b"c" * size, b"d" * size]
            assert (await client.receive())["data"] == "e" * size


async def test_who_is_not_connected_cannot_be_sent_to():
    app = FastAPI()
    add_channel(app)
    failures: list[Exception] = []

    @app.websocket("/r")
    async def enter(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            await Room().broadcast_to_personal(websocket, "hello")
        except ConfigurationError as exc:
            failures.append(exc)

    async with serving(app) as site, site.connect("/r") as client:
        await client.closed()
    assert "call connect() first" in str(failures[0])


# From elsewhere in the application


async def test_broadcasts_from_requests_background_tasks_and_the_lifespan():
    app = FastAPI()
    add_channel(app)
    room = Room()
    room.mount(app, "/{channel}")

    @app.post("/say/{text}")
    async def say(text: str, background: BackgroundTasks) -> int:
        await room.broadcast_to_channel("r", text)
        background.add_task(room.broadcast_to_channel, "r", "later")
        return await room.get_connection_count("r")

    async with serving(app) as site, site.connect("/r") as client:
        async with site.client() as http:
            assert (await http.post("/say/now")).json() == 1
        assert [await client.read(), await client.read()] == ["now", "later"]


async def test_a_channel_that_nobody_told_of_an_application_says_how():
    app = FastAPI()
    room = Room()
    with pytest.raises(ConfigurationError, match="bind"):
        await room.broadcast_to_channel("r", "x")
    with pytest.raises(ConfigurationError, match="add_channel"):
        room.bind(app)
    add_channel(app)
    room.bind(app)
    room.mount(app, "/{channel}")
    async with serving(app) as site, site.connect("/r") as client:
        await asyncio.create_task(room.broadcast_to_channel("r", "x"))
        assert await client.read() == "x"


# Frames


NESTED = Envelope(
    action="method",
    request_id="id",
    payload="params",
    type="kind",
    status="outcome",
    data="result",
    errors="problem",
    code="problem_code",
    event="name",
    channel="room",
)


async def test_other_names_of_fields_and_a_nested_payload():
    class Other(Room):
        envelope = NESTED

        @action()
        async def add(self, a: int, b: int) -> int:
            return a + b

    async with serving(application(Other())) as site, site.connect("/r") as client:
        await client.send({"method": "add", "id": 1, "params": {"a": 1, "b": 2}})
        assert await client.receive() == {
            "kind": "response",
            "method": "add",
            "outcome": "ok",
            "id": 1,
            "result": 3,
        }
        await client.send({"method": "tell", "params": {"rooms": ["r"], "text": "hi"}})
        assert await client.receive() == {"kind": "event", "name": "told", "room": "r", "result": "hi"}
        await client.send({"action": "add", "id": 2})
        error = await client.receive()
        assert (error["problem_code"], error["id"]) == ("parse_error", 2)
        assert "'method'" in error["problem"]
        await client.send({"method": "add", "id": 3, "params": [1, 2]})
        error = await client.receive()
        assert (error["problem_code"], error["id"]) == ("parse_error", 3)


class Zipped(Envelope):
    """Another codec, in binary frames."""

    binary = True

    def encode(self, frame: Any) -> bytes:
        return zlib.compress(encode_json(frame).encode())

    def decode(self, body: str | bytes) -> Any:
        assert isinstance(body, bytes)
        try:
            return super().decode(zlib.decompress(body))
        except zlib.error as exc:
            raise ValueError(str(exc)) from exc


async def test_another_codec():
    class Binary(Room):
        envelope = Zipped(binary=True)

    async with serving(application(Binary())) as site, site.unharmed(), site.connect("/r") as client:

        async def ask(frame: str | bytes) -> Any:
            await client.send(frame)
            answer = await client.read()
            assert isinstance(answer, bytes)
            return Zipped().decode(answer)

        assert (await ask(Zipped().encode({"action": "count", "room": "r"})))["data"] == 1
        assert (await ask(b"not zipped"))["code"] == "parse_error"
        tell = {"action": "tell", "rooms": ["r"], "text": "hi"}
        assert (await ask(Zipped().encode(tell)))["event"] == "told"
        await client.send('{"action": "count", "room": "r"}')
        assert (await client.closed()).code == 1003


class Encoding(Channel):
    @action()
    async def everybody(self, data: Any, channel: str) -> None:
        await self.broadcast_to_channel(channel, data["x"])

    @action()
    async def me(self, data: Any, websocket: WebSocket) -> Any:
        await self.broadcast_to_personal(websocket, data["x"])
        return data["x"]


class PlainCodec(Encoding):
    def encode_json(self, data: Any) -> str:
        return f"<{data}>"

    def decode_json(self, message: str | bytes) -> Any:
        return {"action": "me", "x": message}


class AsyncCodec(Encoding):
    async def encode_json(self, data: Any) -> str:
        return f"<{data}>"

    async def decode_json(self, message: str | bytes) -> Any:
        return {"action": "me", "x": message}


class StaticCodec(Encoding):
    @staticmethod
    async def encode_json(data: Any) -> str:
        return f"<{data}>"

    @staticmethod
    def decode_json(message: str | bytes) -> Any:
        if message == "bad":
            raise ValueError("not like that")
        return {"action": "me", "x": [message]}


@pytest.mark.parametrize("codec", [PlainCodec, AsyncCodec, StaticCodec])
async def test_a_codec_may_be_plain_or_async_static_or_not(codec: type[Encoding]):
    """It is not asked for texts, nor for the frames of the framework itself."""
    async with serving(application(codec())) as site, site.unharmed(), site.connect("/r") as client:
        await client.send("anything")
        if codec is StaticCodec:
            assert await client.read() == "<['anything']>"
            assert (await client.receive())["data"] == ["anything"]
            await client.send("bad")
            error = await client.receive()
            assert error["code"] == "parse_error"
            assert "not like that" in error["errors"]
        else:
            assert await client.read() == "anything"
            assert (await client.receive())["data"] == "anything"


async def test_an_encoder_that_fails_is_our_fault():
    class Broken(Encoding):
        async def encode_json(self, data: Any) -> str:
            raise KeyError("a secret")

    async with serving(application(Broken())) as site, site.connect("/r") as client:
        error = await client.call("everybody", x={"a": 1}, request_id=1)
        assert (error["code"], error["request_id"]) == ("internal_error", 1)


# Making one

UPSTREAM: dict[str, Any] = {"history_key": "key", "max_history": 10, "limiter_depends": []}
"""Keywords that never did anything."""


@pytest.mark.parametrize("kind", [BaseChannel, Channel, PersonChannel, GroupChannel])
def test_upstreams_keywords(kind: type[BaseChannel]):
    live: dict[str, Any] = {"channel": "c", "max_connection": 5, "permission_classes": True}
    live |= {"throttle_classes": None, "on_join": [], "on_leave": []}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind(**live)
        kind(lifespan=None, **dict.fromkeys(UPSTREAM))
    for name, value in UPSTREAM.items():
        with pytest.warns(FutureWarning, match=f"'{name}'"):
            kind(**live, **{name: value})


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"max_conection": 5}, "'max_conection'"),
        ({"max_connection": 0}, "max_connection"),
        ({"max_connection": "5"}, "max_connection"),
        ({"permission_classes": 7}, "permission"),
        ({"throttle_classes": 7}, "throttle_classes"),
        ({"on_join": [print], "lifespan": print}, "not both"),
    ],
)
def test_what_cannot_work_is_told_at_once(settings: dict[str, Any], match: str):
    with pytest.raises(ConfigurationError, match=match):
        Channel(**settings)


def test_upstreams_keywords_of_an_action():
    with pytest.warns(FutureWarning, match="'status_code'"):

        @action("a", status_code=200)  # type: ignore[call-arg]
        async def handler(self: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="'colour'"):
        action("a", colour="red")  # type: ignore[call-arg]


async def test_settings_of_an_instance_are_its_own():
    app = FastAPI()
    add_channel(app)
    small, large = Room(max_connection=1), Room(max_connection=2)
    small.mount(app, "/small/{channel}")
    large.mount(app, "/large/{channel}")
    async with serving(app) as site, site.connect("/large/a"), site.connect("/large/a"):
        assert (await site.refusal("/large/a")).status == 503
        async with site.connect("/small/b"):
            assert (await site.refusal("/small/b")).status == 503


async def test_an_action_may_have_the_name_of_a_hook():
    class Pay(Channel):
        @action()
        async def authorize(self, amount: int) -> int:
            return amount

        @action()
        async def encode_json(self, text: str) -> str:
            return f"encoded {text}"

        @action()
        async def decode_json(self, text: str) -> str:
            return f"decoded {text}"

        @action()
        async def lifespan(self, websocket: WebSocket, channel: str) -> str:
            return "long"

    async with serving(application(Pay())) as site, site.connect("/r") as client:
        assert (await client.call("authorize", amount=3))["data"] == 3
        assert (await client.call("encode_json", text="x"))["data"] == "encoded x"
        assert (await client.call("decode_json", text="x"))["data"] == "decoded x"
        assert (await client.call("lifespan"))["data"] == "long"


@pytest.mark.parametrize("method", ["broadcast", "send_to_user", "send_to_connection"])
async def test_what_is_called_on_the_class_says_so(method: str):
    send: Any = getattr(Channel, method)
    with pytest.raises(ConfigurationError, match=rf"{method}\(\) was called on the class"):
        await send("room", "said", 1)
