"""The Python client of a channel that names its fields otherwise, and zips its frames."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, Connection, Envelope, action, add_channel
from fastapi_channels.client import ActionError, Client
from fastapi_channels.testing import in_process, running


class Zipped(Envelope):
    def encode(self, frame: Any) -> bytes:
        text = super().encode(frame)
        assert isinstance(text, str)
        return zlib.compress(text.encode())

    def decode(self, body: bytes) -> Any:
        return super().decode(zlib.decompressobj().decompress(body, 64 * 1024))


NAMES = Envelope(action="method", request_id="id", payload="params", errors="error", code="why", status="was")


@pytest.mark.parametrize("given", [NAMES, Zipped(action="method", request_id="id", binary=True)])
async def test_calls_streams_events_and_positions_have_other_names(given: Envelope):
    class Room(Channel):
        envelope = given
        history = 10

        @action()
        async def say(self, text: str, connection: Connection) -> int:
            await self.broadcast(connection.room, "said", text)
            return len(text)

        @action()
        async def count(self, upto: int) -> AsyncIterator[int]:
            for number in range(upto):
                yield number

    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/rooms/{channel}")
    async with running(app) as site:
        dial = in_process(site.app)
        async with Client("http://testserver", dial=dial, envelope=given) as client:
            room = await client.room("/rooms/{channel}", channel="lobby").ready()
            said = room.events("said")
            assert await room.call("say", {"text": "hello"}) == 5
            assert await anext(said) == "hello"
            assert room.position.endswith(":1")
            async with room.stream("count", {"upto": 3}) as numbers:
                assert [number async for number in numbers] == [0, 1, 2]
            with pytest.raises(ActionError, match="invalid_payload: The payload") as refused:
                await room.call("say")
            assert (refused.value.action, refused.value.status) == ("say", "bad")
