"""How long an identity holds on an open WebSocket, and how it is renewed there."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from fastapi_channels import BaseChannel, Channel, Connection, Socket, Unauthenticated, action, add_channel
from fastapi_channels.auth import Authenticator, Identity
from fastapi_channels.sessions.sign_in import REFRESHES, REGAINED
from fastapi_channels.wire.wheel import COARSE, SPOKES
from tests.support.live import Client, Site, application, serving, unique, wait_until

SLACK = COARSE / SPOKES + 5.0
"""Seconds that anything of this may come late, and that this machine may need."""


class Desk:
    """What an issuer of tokens knows.

    Attributes:
        tokens: whose each is, with the role, and until when.
        asked: what was brought.
        gate: once it is set, tokens are looked at.
    """

    def __init__(self) -> None:
        self.tokens: dict[str, Identity] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked: list[Any] = []

    def token(self, user: str = "ada", seconds: float | None = None, role: str = "guest") -> str:
        ends = None if seconds is None else time.time() + seconds
        name = unique("token")
        self.tokens[name] = Identity({"id": user, "role": role}, ends)
        return name

    async def __call__(self, token: Any, connection: HTTPConnection) -> Identity:
        self.asked.append(token)
        await self.gate.wait()
        try:
            return self.tokens[token]
        except KeyError:
            raise Unauthenticated from None


class Room(Channel):
    room_pattern = "{name}"

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def authorize(self, connection: Connection, name: str) -> bool:
        return name != "staff" or connection.user["role"] == "admin"

    @action()
    async def role(self, connection: Connection) -> str:
        return connection.user["role"]

    @action()
    async def work(self, connection: Connection) -> str:
        self.begun.set()
        await self.go_on.wait()
        return connection.user["role"]


@asynccontextmanager
async def entered(base: type[BaseChannel] = Room, **settings: Any) -> AsyncIterator[tuple[Site, Desk, Any]]:
    desk = Desk()
    channel = type("Hall", (base,), {"authenticator": Authenticator(desk, **settings)})()
    async with serving(application(channel), may_complain=True) as site, site.unharmed():
        yield site, desk, channel


def bearer(token: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


async def refresh(client: Client, token: Any, **fields: Any) -> Any:
    await client.send({"type": "refresh", "token": token, "request_id": 1, **fields})
    return await client.receive()


async def test_who_does_not_come_with_a_new_token_is_warned_and_closed():
    async with entered(warning=1.9) as (site, desk, _):
        began = time.time()
        async with site.connect("/tea", **bearer(desk.token(seconds=2.0))) as ada:
            warning = await ada.receive()
            assert warning["type"] == "expiring"
            assert 0 < warning["expires_in"] <= 1.9
            assert await ada.closed() == (4001, "token expired; retry_after=0")
        assert 2.0 <= time.time() - began <= 2.0 + SLACK


async def test_of_a_token_that_ends_before_the_warning_it_is_told_at_half_its_time():
    """A client that brings such tokens would else be asked again and again."""
    hall = entered(warning=30.0)
    async with hall as (site, desk, _), site.connect("/tea", **bearer(desk.token(seconds=4.0))) as ada:
        warning = await ada.receive()
        assert warning["type"] == "expiring"
        assert 0 < warning["expires_in"] <= 2.0


async def test_who_does_stays():
    hall = entered(warning=2.9)
    async with hall as (site, desk, _), site.connect("/tea", **bearer(desk.token(seconds=3.0))) as ada:
        for _ in range(2):
            assert (await ada.receive())["type"] == "expiring"
            answer = await refresh(ada, desk.token(seconds=3.0))
            assert answer["type"] == "authenticated"
            assert answer["request_id"] == 1
            assert 1.0 < answer["expires_in"] <= 3.0
        answer = await refresh(ada, desk.token())
        assert answer == {"type": "authenticated", "request_id": 1, "expires_in": None}
        assert not any(site.node.wheel._spokes), "nothing is due any more"


async def test_the_token_of_somebody_else_is_refused_and_nothing_changes():
    async with entered() as (site, desk, _), site.connect("/tea", **bearer(desk.token("ada"))) as ada:
        for wrong in (desk.token("bob"), "unknown", desk.token("ada", seconds=-1), None, 7, [1], {}):
            answer = await refresh(ada, wrong)
            assert (answer["action"], answer["request_id"]) == ("refresh", 1)
            assert answer["code"] in ("unauthenticated", "token_expired")
        assert all(isinstance(each, str) for each in desk.asked), "a verifier is written for texts"
        assert (await refresh(ada, desk.token(), request_id={}))["code"] == "parse_error"
        assert (await ada.call("role"))["data"] == "guest"


async def test_a_refresh_does_not_wait_for_an_action_and_two_do_not_run_at_once():
    async with entered() as (site, desk, room), site.connect("/tea", **bearer(desk.token())) as ada:
        await ada.send({"action": "work"})
        await room.begun.wait()
        assert (await refresh(ada, desk.token(role="admin")))["type"] == "authenticated"
        desk.gate.clear()
        await ada.send({"type": "refresh", "token": desk.token(role="owner"), "request_id": 1})
        answer = await refresh(ada, desk.token(), request_id=2)
        assert (answer["code"], answer["request_id"]) == ("rate_limited", 2)
        desk.gate.set()
        assert (await ada.receive())["request_id"] == 1
        room.go_on.set()
        assert (await ada.receive())["data"] == "owner"


async def test_a_client_that_refreshes_again_and_again_is_told_to_wait():
    async with entered() as (site, desk, _), site.connect("/tea", **bearer(desk.token())) as ada:
        began, renewed, token = time.monotonic(), 0, desk.token()
        while (answer := await refresh(ada, token))["type"] == "authenticated":
            renewed += 1
            assert renewed <= REFRESHES + REGAINED * (time.monotonic() - began)
        assert renewed >= REFRESHES
        assert (answer["code"], answer["action"]) == ("rate_limited", "refresh")
        assert 0 < answer["retry_after"] <= 1 / REGAINED
        assert (await ada.call("role"))["data"] == "guest"


async def test_a_first_frame_of_one_who_is_known_is_named():
    async with entered(first_frame=5) as (site, desk, _), site.connect("/tea", **bearer(desk.token())) as ada:
        await ada.send({"type": "auth", "token": desk.token(), "request_id": 3})
        answer = await ada.receive()
        assert (answer["code"], answer["request_id"]) == ("parse_error", 3)
        assert "'refresh'" in answer["errors"]


async def test_permissions_are_asked_again_when_the_user_changes():
    async with (
        entered() as (site, desk, _),
        site.connect("/staff", **bearer(desk.token(role="admin"))) as ada,
    ):
        assert (await refresh(ada, desk.token(role="admin")))["type"] == "authenticated"
        assert (await refresh(ada, desk.token(role="guest")))["type"] == "authenticated"
        assert (await ada.receive())["code"] == "permission_denied"
        assert (await ada.closed()).code == 1008


async def test_on_a_socket_only_the_rooms_that_are_not_allowed_any_more_end():
    desk = Desk()

    class Reception(Socket):
        authenticator = Authenticator(desk)

        def __init__(self) -> None:
            super().__init__(Room(), permission_classes=lambda websocket: websocket.user["role"] != "banned")

    app = FastAPI()
    add_channel(app)
    Reception().mount(app, "/desk")
    async with serving(app, may_complain=True) as site, site.unharmed():
        assert (await site.refusal("/desk", **bearer(desk.token(role="banned")))).status == 403
        async with site.connect("/desk", **bearer(desk.token(role="admin"))) as ada:
            for room in ("staff", "tea"):
                await ada.send({"type": "join", "channel": room})
                assert (await ada.receive())["type"] == "joined"
            assert (await refresh(ada, desk.token(role="guest")))["type"] == "authenticated"
            refusal = await ada.receive()
            assert (refusal["code"], refusal["channel"]) == ("permission_denied", "staff")
            left = await ada.receive()
            assert (left["type"], left["channel"], left["close_code"]) == ("left", "staff", 1008)
            assert (await ada.call("role", channel="tea"))["data"] == "guest"
            assert (await refresh(ada, desk.token(role="banned")))["type"] == "authenticated"
            assert (await ada.receive())["code"] == "permission_denied"
            assert (await ada.closed()).code == 1008


async def test_a_room_that_relays_closes_without_a_word():
    relay = entered(BaseChannel, warning=1.9)
    async with relay as (site, desk, _), site.connect("/tea", **bearer(desk.token(seconds=2.0))) as ada:
        assert await ada.rest() == []
        assert ada.socket.close_code == 4001


async def test_one_that_leaves_while_its_token_is_looked_at_leaves_nothing_behind():
    async with entered() as (site, desk, _):
        async with site.connect("/tea", **bearer(desk.token())) as ada:
            desk.gate.clear()
            await ada.send({"type": "refresh", "token": desk.token()})
            assert (await ada.call("role"))["data"] == "guest"
        await wait_until(lambda: not site.node.sessions)
