"""A line for each connection at its end, from real servers; beside metrics, which watch the same process."""

import json
import logging
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from fastapi_channels import (
    Channel,
    ConfigurationError,
    Socket,
    action,
    add_channel,
    log_connections,
)
from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.observer import Observer, Stay
from fastapi_channels.operations.connection_log import LOGGER, ConnectionLog
from tests.support.events import listening
from tests.support.live import serving, wait_until


class Room(Channel):
    @action()
    async def echo(self, text: str) -> str:
        return text


def application(style: Any = "json", **settings: Any) -> FastAPI:
    app = FastAPI()
    add_channel(app, **settings)
    log_connections(app, style)

    def ada() -> str:
        return "ada\n"

    Room().mount(app, "/rooms/{channel}", sse=True, http=True, user=ada)
    Socket(Room()).mount(app, "/socket")
    return app


async def test_a_line_says_what_a_connection_was(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    registry = CollectorRegistry()
    async with serving(application(metrics=registry)) as site:
        async with site.connect("/rooms/tea") as client:
            for text in ("one", "zwölf"):
                assert (await client.call("echo", text=text))["data"] == text
            await client.close(4321)
        await wait_until(lambda: caplog.messages)
        async with site.connect("/socket") as client:
            for room in ("a", "b"):
                await client.send({"type": "join", "channel": room})
                assert (await client.receive())["type"] == "joined"
            await client.send({"type": "leave", "channel": "a"})
            assert (await client.receive())["type"] == "left"
            await client.close(1001)
        await wait_until(lambda: len(caplog.messages) == 2)
        async with listening(site, "/rooms/tea/events"):
            await wait_until(lambda: site.node.hub.count("tea"))
            assert (await site.refusal("/nowhere")).status == 403
        await wait_until(lambda: len(caplog.messages) == 3)
        lines = [json.loads(message) for message in caplog.messages]
        assert all(line.pop("seconds") >= 0 and line.pop("address") == "127.0.0.1" for line in lines)
        assert [line.pop("connection") for line in lines] == [
            vars(record)["connection"] for record in caplog.records
        ]
        sizes = [line.pop("received_bytes") for line in lines]
        assert sizes[0] == sum(len(json.dumps({"action": "echo", "text": text})) for text in ("one", "zwölf"))
        assert lines == [
            {"user": "ada\n", "rooms": ["tea"], "received": 2, "code": 4321, "closed_by": "client"},
            {"user": None, "rooms": ["a", "b"], "received": 3, "code": 1001, "closed_by": "client"},
            {"user": "ada\n", "rooms": ["tea"], "received": 0, "code": 1006, "closed_by": "nobody"},
        ]
        assert registry.get_sample_value("fastapi_channels_received_messages_total", {"process": "0"}) == 5


async def test_for_people_it_is_one_line_too(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    async with serving(application("text")) as site:
        async with site.connect("/rooms/tea"):
            await site.node.drain(0)
        await wait_until(lambda: caplog.messages)
    (line,) = caplog.messages
    assert 'address="127.0.0.1" user="ada\\n" rooms=["tea"] seconds=0.' in line
    assert line.endswith(' received=0 received_bytes=0 code=1012 closed_by="server"')
    assert "\n" not in line


@pytest.mark.parametrize("style", ["text", "json"])
async def test_no_character_ends_the_line_or_cannot_be_written(
    style: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, LOGGER)
    user, rooms = "a\u2028b\x85c\x9b\ud800\U000e0001ö", ["é\u2029"]
    ConnectionLog("json" if style == "json" else "text").closed(
        Stay("id", "::1", user, rooms, 1.0, 2, 3, 1000, by_us=False)
    )
    (line,) = caplog.messages
    assert line.isprintable()
    assert '"a\\u2028b\\u0085c\\u009b\\ud800\\udb40\\udc01ö"' in line
    assert style == "text" or (json.loads(line)["user"], json.loads(line)["rooms"]) == (user, rooms)


async def test_an_observer_that_fails_is_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Observer):
        def closed(self, stay: Stay) -> None:
            raise ZeroDivisionError

    app = FastAPI()
    add_channel(app)
    node = Node.attached(app)
    assert node is not None
    node.observe(Failing())
    log_connections(app)
    Room().mount(app, "/rooms/{channel}")
    caplog.set_level(logging.INFO, LOGGER)
    async with serving(app) as site:
        async with site.connect("/rooms/tea"):
            pass
        await wait_until(lambda: len(caplog.messages) > 1)
    assert [record.name for record in caplog.records] == ["fastapi_channels", LOGGER]
    assert "Failing could not be told" in caplog.messages[0]


async def test_nothing_is_written_that_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, LOGGER)
    async with serving(application()) as site:
        async with site.connect("/rooms/tea"):
            pass
        await wait_until(lambda: not site.node.sessions)
    assert not caplog.messages


def test_what_cannot_be_logged() -> None:
    with pytest.raises(ConfigurationError, match=r"that add_channel\(\) was called on"):
        log_connections(FastAPI())
    app = FastAPI()
    add_channel(app)
    with pytest.raises(ConfigurationError, match="got the style 'yaml'"):
        log_connections(app, "yaml")  # type: ignore[arg-type]
