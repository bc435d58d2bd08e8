"""The consumers, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException, WebSocket
from starlette.requests import HTTPConnection

from fastapi_channels import add_channel, rate
from fastapi_channels.auth import Authenticator
from fastapi_channels.exceptions import ConfigurationError, Unauthenticated
from fastapi_channels.layers import (
    AsyncJsonWebsocketConsumer,
    AsyncWebsocketConsumer,
    ChannelLayer,
    Consumer,
    JsonWebsocketConsumer,
    WebsocketConsumer,
    websocket_bytes_message,
    websocket_json_message,
)
from fastapi_channels.layers import consumer as module
from fastapi_channels.layers.session import ConsumerSession
from tests.support.live import Close, Site, serving, wait_until

layer = ChannelLayer()


class AsyncChat(AsyncJsonWebsocketConsumer):
    groups = ["everybody"]

    async def connect(self) -> None:
        self.group = f"room_{self.scope['url_route']['kwargs']['room']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept(next(iter(self.scope["subprotocols"]), None), [(b"x-room", self.group.encode())])
        await self.send_json({"event": "CONNECTED", "room": self.path_params["room"]})

    async def receive_json(self, content: Any) -> None:
        await self.group_send(self.group, {"type": "chat.message", "text": content["text"]})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_send(self.group, {"type": "chat.message", "text": f"bye {code}"})

    async def chat_message(self, event: dict[str, Any]) -> None:
        await self.send_json({"said": event["text"]})


class Chat(JsonWebsocketConsumer):
    groups = ["everybody"]

    def connect(self) -> None:
        self.group = f"room_{self.scope['url_route']['kwargs']['room']}"
        self.group_add(self.group)
        self.accept(next(iter(self.scope["subprotocols"]), None), [(b"x-room", self.group.encode())])
        self.send_json({"event": "CONNECTED", "room": self.path_params["room"]})

    def receive_json(self, content: Any) -> None:
        self.group_send(self.group, {"type": "chat.message", "text": content["text"]})

    def disconnect(self, code: int) -> None:
        self.group_send(self.group, {"type": "chat.message", "text": f"bye {code}"})

    def chat_message(self, event: dict[str, Any]) -> None:
        self.send_json({"said": event["text"]})


class AsyncEcho(AsyncWebsocketConsumer):
    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data, bytes_data, close=4001 if text_data == "last" else False)


class Echo(WebsocketConsumer):
    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data, bytes_data, close=4001 if text_data == "last" else False)


class Trouble(AsyncWebsocketConsumer):
    """Does what its path says."""

    max_message_size = 1000

    async def connect(self) -> None:
        match self.path_params["what"]:
            case "raise":
                raise RuntimeError("a fault of connect")
            case "refuse":
                await self.close(4003, "not you")
            case "http":
                raise HTTPException(401, "who are you?")
            case "nothing":
                pass
            case "group":
                await self.group_add("x" * 10_000)
            case "early":
                await self.send("before accept")
            case "twice":
                await self.accept()
                await self.accept()
            case "late":
                await self.accept()
                raise RuntimeError("a fault behind accept")
            case _:
                await self.accept()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        raise RuntimeError("a fault of receive")

    async def disconnect(self, code: int) -> None:
        left.append((self.path_params["what"], code))

    async def hurt(self, message: dict[str, Any]) -> None:
        raise RuntimeError("a fault of a handler")


class SyncTrouble(WebsocketConsumer):
    def connect(self) -> None:
        match self.path_params["what"]:
            case "raise":
                raise RuntimeError("a fault of connect")
            case "refuse":
                self.close(4003)
            case "group":
                self.group_add("a\0")
            case "late":
                self.accept()
                raise RuntimeError("a fault behind accept")
            case _:
                pass

    def disconnect(self, code: int) -> None:
        left.append((self.path_params["what"], code))


class AsyncOverriding(AsyncWebsocketConsumer):
    groups = ["overriding"]

    async def dispatch(self, message: dict[str, Any]) -> None:
        dispatched.append(message["type"])
        await super().dispatch(message)

    async def websocket_connect(self, message: dict[str, Any]) -> None:
        if self.websocket.query_params.get("key") != "right":
            await self.close()
        else:
            await super().websocket_connect(message)

    async def websocket_receive(self, message: dict[str, Any]) -> None:
        await self.send("seen")
        await super().websocket_receive(message)

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        left.append(("overriding", message["code"]))
        await super().websocket_disconnect(message)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data, bytes_data)

    async def disconnect(self, code: int) -> None:
        left.append(("disconnect", code))


class Overriding(WebsocketConsumer):
    groups = ["overriding"]

    async def dispatch(self, message: dict[str, Any]) -> None:
        dispatched.append(message["type"])
        await super().dispatch(message)

    def websocket_connect(self, message: dict[str, Any]) -> None:
        if self.websocket.query_params.get("key") != "right":
            self.close()
        else:
            super().websocket_connect(message)

    def websocket_receive(self, message: dict[str, Any]) -> None:
        self.send("seen")
        super().websocket_receive(message)

    def websocket_disconnect(self, message: dict[str, Any]) -> None:
        left.append(("overriding", message["code"]))
        super().websocket_disconnect(message)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        self.send(text_data, bytes_data)

    def disconnect(self, code: int) -> None:
        left.append(("disconnect", code))


dispatched: list[str] = []
left: list[tuple[str, int]] = []
ROUTES: dict[str, type[Consumer]] = {
    "/async/chat/{room}": AsyncChat,
    "/sync/chat/{room}": Chat,
    "/trouble/{what}": Trouble,
    "/sync/trouble/{what}": SyncTrouble,
    "/async/echo": AsyncEcho,
    "/sync/echo": Echo,
    "/async/overriding": AsyncOverriding,
    "/sync/overriding": Overriding,
}


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    monkeypatch.setattr(module, "get_channel_layer", lambda alias: layer)
    left.clear()
    dispatched.clear()
    app = FastAPI()
    add_channel(app)
    for path, consumer in ROUTES.items():
        app.add_api_websocket_route(path, consumer.as_route())
    await layer.new_channel()
    async with serving(app, may_complain=True) as site:
        yield site
    await layer.close()


EACH = pytest.mark.parametrize("kind", ["async", "sync"])


@EACH
async def test_a_chat(site: Site, kind: str):
    path = f"/{kind}/chat/lobby"
    async with site.unharmed(), site.connect(path, subprotocols=["chat"]) as ada:
        assert ada.socket.subprotocol == "chat"
        assert ada.socket.response is not None
        assert ada.socket.response.headers["x-room"] == "room_lobby"
        assert await ada.receive() == {"event": "CONNECTED", "room": "lobby"}
        async with site.connect(path) as bob:
            await bob.receive()
            await ada.send({"text": "hi"})
            assert [await ada.receive(), await bob.receive()] == [{"said": "hi"}, {"said": "hi"}]
            await layer.group_send("everybody", websocket_json_message({"to": "all"}))
            assert [await ada.receive(), await bob.receive()] == [{"to": "all"}, {"to": "all"}]
            await layer.group_send("everybody", websocket_bytes_message(b"\x00"))
            assert [await ada.read(), await bob.read()] == [b"\x00", b"\x00"]
            await bob.close(4321)
        assert await ada.receive() == {"said": "bye 4321"}
    await wait_until(lambda: not layer._groups.names)


@EACH
async def test_frames_come_as_they_are_and_a_send_may_close(site: Site, kind: str):
    async with site.connect(f"/{kind}/echo") as client:
        await client.send("text")
        await client.send(b"\x00")
        await client.send("last")
        assert await client.rest() == ["text", b"\x00", "last"]
        assert client.socket.close_code == 4001


@EACH
async def test_the_methods_that_the_server_calls_can_be_overridden(site: Site, kind: str):
    path = f"/{kind}/overriding"
    async with site.unharmed():
        assert (await site.refusal(path)).status == 403
        async with site.connect(f"{path}?key=right") as client:
            await client.send("text")
            await client.send(b"\x00")
            assert [await client.read() for _ in range(4)] == ["seen", "text", "seen", b"\x00"]
            await layer.group_send("overriding", {"type": "websocket.send", "text": "to all"})
            assert await client.read() == "to all"
            await client.close(4321)
        await wait_until(lambda: left[2:] == [("overriding", 4321), ("disconnect", 4321)])
    assert left[:2] == [("overriding", 1006), ("disconnect", 1006)]
    receives, rest = ["websocket.receive"] * 2, ["websocket.send", "websocket.disconnect"]
    assert dispatched[2:] == ["websocket.connect", *receives, *rest]


@EACH
async def test_what_the_server_alone_says_no_layer_does(
    site: Site, kind: str, caplog: pytest.LogCaptureFixture
):
    kinds = ["websocket.connect", "websocket.receive", "websocket.disconnect"]
    async with site.connect(f"/{kind}/overriding?key=right") as client:
        for each in kinds:
            await layer.group_send("overriding", {"type": each, "text": "not from a client", "code": 1000})
        await wait_until(lambda: caplog.text.count("is ignored: the server alone says that") == len(kinds))
        await client.send("still here")
        assert [await client.read(), await client.read()] == ["seen", "still here"]
    assert dispatched[:2] == ["websocket.connect", "websocket.receive"]


@EACH
async def test_what_a_message_may_say_to_send(site: Site, kind: str, caplog: pytest.LogCaptureFixture):
    path = f"/{kind}/overriding?key=right"
    said: list[dict[str, Any]] = [
        {"text": "a text"},
        {"bytes": b"\x00"},
        {"mode": "json", "body": None},
        {"mode": "bytes", "body": bytearray(b"\x01")},
    ]
    wrong: list[dict[str, Any]] = [
        {},
        {"mode": "json"},
        {"mode": "nope", "body": 1},
        {"mode": "bytes", "body": "text"},
        {"text": 5},
    ]
    async with site.connect(path) as client:
        for each in [*wrong, *said]:
            await layer.group_send("overriding", {"type": "websocket.send", **each})
        assert [await client.read() for _ in said] == ["a text", b"\x00", "null", b"\x01"]
    assert caplog.text.count("a message of type 'websocket.send' is ignored") == len(wrong)


@EACH
@pytest.mark.parametrize("frame", ["{", b"{}"])
async def test_what_is_no_json_is_answered(site: Site, kind: str, frame: str | bytes):
    async with site.connect(f"/{kind}/chat/lobby") as client:
        await client.receive()
        await client.send(frame)
        assert (await client.receive())["code"] == "parse_error"
        await client.send({"text": "still here"})
        assert await client.receive() == {"said": "still here"}


@pytest.mark.parametrize(
    ("what", "status"),
    [("raise", 500), ("refuse", 403), ("http", 401), ("nothing", 403), ("early", 500), ("group", 400)],
)
async def test_who_is_not_accepted(site: Site, what: str, status: int):
    async with site.unharmed():
        assert (await site.refusal(f"/trouble/{what}")).status == status
        await wait_until(lambda: left == [(what, 1006)])


@pytest.mark.parametrize(
    ("what", "status"), [("raise", 500), ("refuse", 403), ("nothing", 403), ("group", 400)]
)
async def test_who_is_not_accepted_by_a_plain_connect(site: Site, what: str, status: int):
    async with site.unharmed():
        assert (await site.refusal(f"/sync/trouble/{what}")).status == status
        await wait_until(lambda: left == [(what, 1006)])
        async with site.connect("/sync/trouble/late") as client:
            assert (await client.closed()).code == 1011
    await wait_until(lambda: not layer._groups.names)


@pytest.mark.parametrize("path", ["/trouble", "/sync/trouble"])
async def test_a_fault_of_connect_is_in_the_log(site: Site, path: str, caplog: pytest.LogCaptureFixture):
    await site.refusal(f"{path}/raise")
    await wait_until(lambda: "a fault of connect" in caplog.text)


async def test_what_is_sent_too_early_is_in_the_log(site: Site, caplog: pytest.LogCaptureFixture):
    refusal = await site.refusal("/trouble/early")
    assert refusal.body["errors"].replace("Internal error", "error") in caplog.text
    assert "nothing can be sent before accept()" in caplog.text


@pytest.mark.parametrize("what", ["late", "twice"])
async def test_a_fault_behind_accept_closes(site: Site, what: str):
    async with site.unharmed():
        async with site.connect(f"/trouble/{what}") as client:
            assert (await client.closed()).code == 1011
        await wait_until(lambda: left == [(what, 1011)])


async def test_a_fault_of_a_handler_closes_that_client_alone(site: Site):
    async with site.clients("/trouble/a", "/trouble/b", "/trouble/c") as (one, two, three):
        await one.send("x")
        assert (await one.closed()).code == 1011
        await layer.send(channel_of("b", site), {"type": "hurt"})
        assert (await two.closed()).code == 1011
        await three.send("x" * 2000)
        assert await three.closed() == Close(1009, "a message may have 1000 bytes")


def channel_of(what: str, site: Site) -> str:
    """That of the consumer at a path."""
    sessions = [session for session in site.node.sessions if isinstance(session, ConsumerSession)]
    [found] = [each for each in sessions if each.websocket.path_params["what"] == what]
    return found._consumer.channel_name


async def test_a_message_that_no_method_is_for_is_logged(site: Site, caplog: pytest.LogCaptureFixture):
    kinds = ["unknown", "_hears", "", None, 7, "channel.name"]
    async with site.connect("/async/chat/lobby") as client:
        await client.receive()
        for kind in kinds:
            await layer.group_send("everybody", {"type": kind})
        said = [f"AsyncChat has no method for a message of type {kind!r}" for kind in kinds]
        await wait_until(lambda: said == [record.getMessage() for record in caplog.records][-len(said) :])
        await client.send({"text": "still here"})
        assert await client.receive() == {"said": "still here"}


async def test_a_foreign_origin_a_permission_and_a_rate_hold():
    class Limited(AsyncEcho):
        permission_classes = [lambda websocket: websocket.query_params.get("key") == "right"]
        throttle_classes = [rate(times=1, seconds=60)]

    app = FastAPI()
    add_channel(app)
    own = ChannelLayer()
    app.add_api_websocket_route("/", Limited.as_route(layer=own))
    async with serving(app) as site:
        assert (await site.refusal("/?key=right", origin="https://evil.example")).status == 403
        assert (await site.refusal("/?key=wrong")).status == 403
        async with site.connect("/?key=right") as client:
            await client.send("1")
            await client.send("2")
            assert await client.read() == "1"
            assert (await client.receive())["code"] == "rate_limited"
            await site.node.drain(0)
            assert (await client.closed()).code == 1012
    await own.close()


@pytest.mark.parametrize("in_frame", [False, True])
async def test_who_a_client_is_its_authenticator_says(in_frame: bool):
    def verify(found: Any, connection: HTTPConnection) -> str:
        if found != "right":
            raise Unauthenticated()
        return "ada"

    class Known(AsyncWebsocketConsumer):
        authenticator = Authenticator(verify, first_frame=5.0)

        async def connect(self) -> None:
            await self.accept()
            await self.send(f"hello {self.user}")

    app = FastAPI()
    add_channel(app)
    own = ChannelLayer()
    app.add_api_websocket_route("/", Known.as_route(layer=own))
    right, wrong = ({"Authorization": f"Bearer {token}"} for token in ("right", "wrong"))
    async with serving(app, may_complain=True) as site:
        assert (await site.refusal("/", additional_headers=wrong)).status == 401
        async with site.connect("/", additional_headers={} if in_frame else right) as client:
            if in_frame:
                await client.send({"type": "auth", "token": "right"})
            while await client.read() != "hello ada":
                pass  # of a client that says who it is in a frame, that is answered first
    await own.close()


async def test_what_a_layer_refuses_its_client_is_told_and_stays():
    """But for what cannot be encoded, which is a fault of the program."""

    class Repeats(AsyncJsonWebsocketConsumer):
        async def receive_json(self, content: Any) -> None:
            message = {"type": "x", "value": object() if content["times"] == 0 else "x" * content["times"]}
            await self.group_send(content["to"], message)

    app = FastAPI()
    add_channel(app)
    own = ChannelLayer(max_message_size=1000)
    app.add_api_websocket_route("/", Repeats.as_route(layer=own))
    async with serving(app, may_complain=True) as site, site.connect("/") as client:
        for to, times, code in (
            ("g", 2000, "too_large"),
            ("x" * 10_000, 1, "invalid_room"),
            ("a\0", 1, "invalid_room"),
        ):
            await client.send({"to": to, "times": times})
            assert (await client.receive())["code"] == code
        await client.send({"to": "g", "times": 0})
        assert (await client.closed()).code == 1011
    await own.close()


async def test_a_consumer_still_hears_when_a_handler_has_told_its_client_something():
    class Picky(AsyncWebsocketConsumer):
        groups = ["picky"]

        async def pick(self, message: dict[str, Any]) -> None:
            if message["text"] == "bad":
                raise HTTPException(409, "not that")
            await self.send(message["text"])

    app = FastAPI()
    add_channel(app)
    own = ChannelLayer()
    app.add_api_websocket_route("/", Picky.as_route(layer=own))
    async with serving(app) as site, site.connect("/") as client:
        for text in ("bad", "good"):
            await own.group_send("picky", {"type": "pick", "text": text})
        assert (await client.receive())["errors"] == "not that"
        assert await client.read() == "good"
        await own.close()
        assert (await client.receive())["code"] == "unavailable"
        assert (await client.closed()).code == 1013


async def test_how_often_a_client_may_come_and_what_it_is_told_when_it_is_accepted():
    class Limited(AsyncWebsocketConsumer):
        connect_throttle_classes = [rate(times=1, seconds=60)]

        async def connect(self) -> None:
            await self.accept(headers={"X-Kind": "limited"})

    app = FastAPI()
    add_channel(app)
    own = ChannelLayer()
    app.add_api_websocket_route("/", Limited.as_route(layer=own))
    async with serving(app) as site:
        async with site.connect("/") as client:
            assert client.socket.response is not None
            assert client.socket.response.headers["x-kind"] == "limited"
        assert (await site.refusal("/")).status == 429
    await own.close()


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("outbox_limit", 1000, "Chat.outbox_limit does nothing on a consumer: send\\(\\) waits"),
        ("slow_policy", "drop_oldest", "slow_policy does nothing on a consumer: send\\(\\) waits"),
        ("max_connection", 1, "max_connection does nothing on a consumer: max_connections of add_channel"),
        ("allowed_origins", ["*"], "does nothing on a consumer: it is an argument of add_channel"),
        ("max_connections_per_user", 1, "does nothing on a consumer: it is an argument of add_channel"),
        ("permission_class", [], "Chat.permission_class"),
        ("groups", "all", "Chat.groups must be a list of names, .* got 'all'"),
        ("groups", [5], "Chat.groups must be a list of names, .* got \\[5\\]"),
        ("groups", ["x" * 256], "Chat.groups must be a list of names"),
        ("groups", 7, "Chat.groups must be a list of names, .* got 7"),
    ],
)
def test_what_would_do_nothing_is_refused_where_it_is_written(setting: str, value: Any, said: str):
    with pytest.raises(ConfigurationError, match=said):
        type("Chat", (AsyncWebsocketConsumer,), {setting: value})


@pytest.mark.parametrize(("setting", "value"), [("max_message_size", 0), ("permission_classes", [5])])
def test_a_setting_that_makes_no_sense_is_refused_with_the_route(setting: str, value: Any):
    chat = type("Chat", (AsyncWebsocketConsumer,), {setting: value})
    with pytest.raises(ConfigurationError) as caught:
        chat.as_route()
    assert "_Consumers" not in str(caught.value)


@EACH
@pytest.mark.parametrize("groups", ["all", ["a\0"]])
async def test_groups_that_one_consumer_says_are_checked_too(
    kind: str, groups: Any, caplog: pytest.LogCaptureFixture
):
    base: type[Consumer] = AsyncEcho if kind == "async" else Echo
    chat = type("Chat", (base,), {"groups": property(lambda self: groups)})
    app = FastAPI()
    add_channel(app)
    own = ChannelLayer()
    app.add_api_websocket_route("/", chat.as_route(layer=own))
    async with serving(app) as site:
        assert (await site.refusal("/")).status == 500
    assert "Chat.groups must be a list of names" in caplog.text
    await own.close()


async def test_a_consumer_without_the_init_of_its_base(caplog: pytest.LogCaptureFixture):
    class Forgetful(AsyncWebsocketConsumer):
        def __init__(self) -> None:
            self.value = 1

    app = FastAPI()
    add_channel(app)
    app.add_api_websocket_route("/", Forgetful.as_route())
    async with serving(app, may_complain=True) as site:
        assert (await site.refusal("/")).status == 500
    assert "Forgetful.__init__() has to call super().__init__()" in caplog.text


async def test_a_consumer_serves_one_client():
    app = FastAPI()
    add_channel(app)
    own = ChannelLayer()
    only = AsyncEcho(layer=own)

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await only(websocket)

    async with serving(app, may_complain=True) as site:
        async with site.connect("/") as client:
            await client.send("x")
            assert await client.read() == "x"
        assert (await site.refusal("/")).status == 500
    await own.close()
