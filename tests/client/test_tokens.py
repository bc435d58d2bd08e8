"""The Python client and the authentication of the server: tokens that end, and tokens that do not hold."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, Connection, action, add_channel
from fastapi_channels.auth import Authenticator, Identity
from fastapi_channels.client import Client, Refused
from fastapi_channels.testing import in_process, running
from tests.support.live import wait_until


def served(seen: list[str]) -> FastAPI:
    def verify(token: str, connection: object) -> Identity | None:
        seen.append(token)
        return Identity("ann", expires_at=time.time() + 3.2) if token.startswith("good") else None

    class Room(Channel):
        authenticator = Authenticator(verify, warning=3.0)

        @action()
        async def me(self, connection: Connection) -> str:
            return str(connection.user)

    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/rooms/{channel}")
    return app


async def test_a_token_is_renewed_on_the_open_connection():
    seen: list[str] = []
    tokens: Iterator[str] = (f"good-{number}" for number in range(1000))
    async with running(served(seen)) as site:
        dial = in_process(site.app)
        async with Client("http://testserver", dial=dial, token=lambda: next(tokens)) as client:
            room = await client.room("/rooms/{channel}", channel="lobby").ready()
            states: list[str] = []
            room.on_state(states.append)
            assert await room.call("me") == "ann"
            await wait_until(lambda: len(seen) >= 3)
            assert await room.call("me") == "ann"
            assert states == []
            assert seen[:3] == ["good-0", "good-1", "good-2"]


async def test_a_token_that_does_not_hold_is_not_tried_for_ever():
    seen: list[str] = []
    async with running(served(seen)) as site:
        dial = in_process(site.app)
        async with Client("http://testserver", dial=dial, token=lambda: "bad") as client:
            with pytest.raises(Refused) as refused:
                await client.room("/rooms/{channel}", channel="lobby").ready()
    assert refused.value.code == "unauthenticated"
    assert seen == ["bad"]
