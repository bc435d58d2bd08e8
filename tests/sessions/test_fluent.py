"""What a client gets that says by its subprotocol that it knows the whole protocol."""

import asyncio

from fastapi import FastAPI, WebSocket

from fastapi_channels import BaseChannel, Channel, Socket, action, add_channel
from fastapi_channels.wire.messages import MAX_WINDOW, SUBPROTOCOL
from tests.support.live import Close, application, each_implementation, serving

SPEAKS = {"subprotocols": [SUBPROTOCOL]}


class Room(Channel):
    history = 10
    permission_classes = [lambda websocket: "door" not in websocket.query_params]

    @action()
    async def nothing(self) -> None:
        pass

    @action()
    async def wait(self) -> None:
        await asyncio.sleep(3600)


async def test_it_is_welcome_and_everything_with_an_id_is_answered():
    async with serving(application(Room())) as site, site.connect("/lobby", **SPEAKS) as client:
        assert client.socket.subprotocol == SUBPROTOCOL
        joined, welcome = await client.receive(), await client.receive()
        assert joined["type"] == "joined"
        assert welcome == {
            "type": "welcome",
            "connection": joined["connection"],
            "max_message_size": Room.max_message_size,
            "max_window": MAX_WINDOW,
        }
        await client.send({"action": "nothing"})
        assert (await client.call("nothing", request_id=1))["data"] is None


async def test_others_see_no_difference():
    async with serving(application(Room())) as site, site.connect("/lobby") as client:
        assert (await client.receive())["type"] == "joined"
        await client.send({"action": "nothing", "request_id": 1})
        await client.send({"type": "ping"})
        assert await client.receive() == {"type": "pong"}


@each_implementation
async def test_it_reads_why_it_is_refused(ws: str):
    async with serving(application(Room()), ws=ws) as site:
        async with site.connect("/lobby?door=closed", **SPEAKS) as client:
            error = await client.receive()
            assert (error["code"], "joined" in error) == ("permission_denied", False)
            assert await client.closed() == Close(1008, "Permission Denied")
        assert (await site.refusal("/lobby?door=closed")).status == 403


async def test_the_endpoint_may_accept_another_subprotocol():
    app = FastAPI()
    add_channel(app)
    room = Room()

    @app.websocket("/app")
    async def enter(websocket: WebSocket) -> None:
        await room.connect(websocket, "lobby", subprotocol="app")

    async with serving(app) as site, site.connect("/app", subprotocols=[SUBPROTOCOL, "app"]) as client:
        assert client.socket.subprotocol == "app"
        assert (await client.receive_until(lambda frame: frame["type"] == "welcome"))["connection"]


async def test_a_socket_welcomes_too_and_a_relay_does_not():
    app = FastAPI()
    add_channel(app)
    Socket(Room()).mount(app, "/socket")
    BaseChannel().mount(app, "/relay/{channel}")
    async with serving(app) as site:
        async with site.connect("/socket", **SPEAKS) as client:
            assert (await client.receive())["type"] == "welcome"
            await client.send({"type": "join", "channel": "a", "request_id": 1})
            assert (await client.receive())["type"] == "joined"
            await client.send({"action": "nothing", "channel": "a", "request_id": 2})
            assert (await client.receive())["request_id"] == 2
        async with site.connect("/relay/a", **SPEAKS) as client:
            assert client.socket.subprotocol is None
            await client.send('{"type": "ping"}')
            assert await client.receive() == {"type": "ping"}


async def test_a_ping_is_answered_while_an_action_runs():
    async with serving(application(Room())) as site, site.connect("/lobby", **SPEAKS) as client:
        await client.receive_until(lambda frame: frame["type"] == "welcome")
        await client.send({"action": "wait", "request_id": 1})
        await client.send({"type": "ping"})
        assert await client.receive() == {"type": "pong"}
        await client.send({"type": "cancel", "request_id": 1})
        assert (await client.receive())["code"] == "cancelled"
