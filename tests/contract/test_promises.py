"""One channel that promises everything: each thing that it promises stands in the document, at its place."""

from collections.abc import AsyncIterator, Callable
from datetime import date
from typing import Annotated, Any, TypeAlias

import pytest
from fastapi import Cookie, Depends, FastAPI, Header, Query, WebSocket
from fastapi.security import APIKeyCookie
from pydantic import BaseModel, Field, computed_field

from fastapi_channels import (
    Call,
    Channel,
    Connection,
    Envelope,
    Event,
    IsAuthenticated,
    action,
    add_channel,
    limiter,
)
from tests.support.asyncapi import described, message

Document: TypeAlias = dict[str, Any]


class Line(BaseModel):
    text: Annotated[str, Field(max_length=9, examples=["Hello"])]


class Square(BaseModel):
    """What is written is not what is read: the area is only in one of them."""

    side: int

    @computed_field
    def area(self) -> int:
        return self.side**2


class Said(Event):
    """Somebody said something."""

    line: Line


class Confirm(Call[bool]):
    """Whether one is sure."""

    line: Line


class Room(Channel):
    """Where one talks."""

    room_pattern = "room:{number:int}"
    history = 50
    presence = True
    permission_classes = IsAuthenticated
    event_types = (Said,)
    call_types = (Confirm,)

    async def presence_data(self, connection: Connection) -> Line:
        return Line(text="here")

    @limiter(times=5, seconds=10)
    @action(tags=["talk"], summary="Speak", permission=~IsAuthenticated)
    async def say(self, line: Line) -> Line:
        """Say it to everybody."""
        return line

    @action()
    async def square(self, square: Square) -> Square:
        return square

    @action()
    async def count(self, to: int, step: int = 2) -> AsyncIterator[int]:
        yield to

    @action(deprecated=True)
    async def old(self) -> None: ...

    @action(sunset=date(2099, 1, 31))
    async def older(self) -> None: ...

    @action()
    async def upstream(self, websocket: WebSocket, data: dict, **kwargs: Any): ...


class Renamed(Room):
    envelope = Envelope(action="method", request_id="id", payload="params", errors="error", type="kind")


@pytest.fixture(scope="module")
def document() -> Document:
    app = FastAPI(title="Talk", servers=[{"url": "https://talk.example"}])
    add_channel(app)
    room = Room()

    @app.websocket("/rooms/{channel}")
    async def enter(
        websocket: WebSocket,
        channel: str,
        day: Annotated[date, Query()],
        x_client: Annotated[str, Header()],
        key: Annotated[str, Depends(APIKeyCookie(name="session"))],
        theme: Annotated[str, Cookie()] = "dark",
    ) -> None:
        await room.connect(websocket, channel)

    Renamed().mount(app, "/renamed/{channel}")
    return described(app)


def operation(document: Document, name: str) -> Document:
    return document["operations"][f"Room.{name}"]


def handshake(document: Document) -> Document:
    return document["channels"]["Room"]["bindings"]


def answers(document: Document, name: str) -> list[str]:
    listed = operation(document, name)["reply"]["messages"]
    return [each["$ref"].rpartition("/")[2] for each in listed]


def data(document: Document, name: str) -> Document:
    return message(document, "Room", name)["properties"]["data"]


PROMISES: dict[str, tuple[Callable[[Document], Any], Any]] = {
    "channels with addresses": (
        lambda found: [each["address"] for each in found["channels"].values()],
        ["/rooms/{channel}", "/renamed/{channel}"],
    ),
    "room patterns": (lambda found: found["channels"]["Room"]["x-room-patterns"], ["room:{number:int}"]),
    "parameters": (
        lambda found: found["channels"]["Room"]["parameters"],
        {
            "channel": {
                "description": "The name of the room: room:{number:int}",
                "x-schema": {"type": "string"},  # the endpoint's: what it makes of it is its own
            }
        },
    ),
    "query parameters": (
        lambda found: handshake(found)["ws"]["query"]["properties"]["day"]["format"],
        "date",
    ),
    "header parameters": (lambda found: handshake(found)["ws"]["headers"]["required"], ["x-client"]),
    "cookie parameters": (
        lambda found: handshake(found)["x-cookies"]["properties"]["theme"]["default"],
        "dark",
    ),
    "operations with a request": (
        lambda found: message(found, "Room", "say.request")["properties"]["text"]["maxLength"],
        9,
    ),
    "operations with a reply": (
        lambda found: (answers(found, "say"), data(found, "say.reply")),
        (["say.reply", "say.error"], {"$ref": "#/components/schemas/Line"}),
    ),
    "streams: many replies, and an end": (
        lambda found: (
            answers(found, "count"),
            data(found, "count.item"),
            message(found, "Room", "count.end")["properties"]["more"],
        ),
        (["count.item", "count.end", "count.error"], {"type": "integer"}, {"const": False}),
    ),
    "events of the server": (
        lambda found: (
            operation(found, "said")["action"],
            operation(found, "said")["description"],
            data(found, "said.event"),
        ),
        ("send", "Somebody said something.", {"$ref": "#/components/schemas/Said"}),
    ),
    "calls of the server": (
        lambda found: (operation(found, "confirm")["action"], data(found, "confirm.call")),
        ("send", {"$ref": "#/components/schemas/Confirm"}),
    ),
    "their answers": (
        lambda found: (answers(found, "confirm"), data(found, "confirm.answer")),
        (["confirm.answer", "any.failure"], {"type": "boolean"}),
    ),
    "control frames": (
        lambda found: [name for name in ("cancel", "drain", "resync", "error") if operation(found, name)],
        ["cancel", "drain", "resync", "error"],
    ),
    "each schema once": (
        lambda found: [name for name in found["components"]["schemas"] if "Line" in name],
        ["Line"],
    ),
    "no schema that nobody named": (
        lambda found: [name for name in found["components"]["schemas"] if "payload" in name],
        [],
    ),
    "both modes where they differ": (
        lambda found: [name for name in found["components"]["schemas"] if "Square" in name],
        ["Square-Input", "Square-Output"],
    ),
    "every code of an error": (
        lambda found: message(found, "Room", "say.error")["properties"]["code"]["anyOf"][0]["enum"],
        [
            *("cancelled", "http_error", "internal_error", "invalid_payload", "permission_denied"),
            *("rate_limited", "unavailable"),
        ],
    ),
    "security schemes": (
        lambda found: (found["components"]["securitySchemes"], operation(found, "say")["security"]),
        (
            {"APIKeyCookie": {"type": "httpApiKey", "name": "session", "in": "cookie"}},
            [{"$ref": "#/components/securitySchemes/APIKeyCookie"}],
        ),
    ),
    "rate limits": (
        lambda found: operation(found, "say")["x-rate-limits"],
        [{"times": 5, "seconds": 10.0}],
    ),
    "permissions of the channel": (
        lambda found: found["channels"]["Room"]["x-permissions"],
        ["IsAuthenticated"],
    ),
    "permissions of an action": (
        lambda found: operation(found, "say")["x-permissions"],
        ["~IsAuthenticated"],
    ),
    "history": (
        lambda found: (
            found["channels"]["Room"]["x-history"],
            "position" in message(found, "Room", "said.event")["properties"],
        ),
        ([{"channel": "Room", "publications": 50, "seconds": 300.0}], True),
    ),
    "presence": (
        lambda found: (
            found["channels"]["Room"]["x-presence"],
            message(found, "Room", "presence.ask.control")["properties"],
            message(found, "Room", "presence.control")["properties"]["present"]["items"]["properties"],
            message(found, "Room", "presence_diff.control")["required"],
        ),
        (
            [{"channel": "Room", "interval": 1.0, "grace": 5.0}],
            {"type": {"const": "presence"}},
            {
                "id": {"type": "string"},
                "user": {"type": ["string", "null"]},
                "data": {"$ref": "#/components/schemas/Line"},
            },
            ["type", "channel", "version", "joined", "changed", "left"],
        ),
    ),
    "defaults": (
        lambda found: message(found, "Room", "count.request")["properties"]["step"]["default"],
        2,
    ),
    "deprecations": (
        lambda found: (
            operation(found, "old")["x-deprecated"],
            message(found, "Room", "old.request")["deprecated"],
            answers(found, "old"),
        ),
        (True, True, ["old.error"]),
    ),
    "sunsets": (lambda found: operation(found, "older")["x-sunset"], "2099-01-31"),
    "tags": (lambda found: operation(found, "say")["tags"], [{"name": "talk"}]),
    "summaries": (lambda found: operation(found, "say")["summary"], "Speak"),
    "descriptions": (
        lambda found: (operation(found, "say")["description"], found["channels"]["Room"]["description"]),
        ("Say it to everybody.", "Where one talks."),
    ),
    "examples": (
        lambda found: found["components"]["messages"]["Room.say.request"]["examples"],
        [{"payload": {"action": "say", "text": "Hello"}}],
    ),
    "servers": (
        lambda found: found["servers"],
        {"talk.example": {"host": "talk.example", "protocol": "wss"}},
    ),
    "envelopes with other names": (
        lambda found: list(message(found, "Renamed", "say.request")["properties"]),
        ["method", "id", "params"],
    ),
    "upstream's handlers as open objects": (
        lambda found: message(found, "Room", "upstream.request")["additionalProperties"],
        True,
    ),
}


@pytest.mark.parametrize("promise", PROMISES)
def test_it_is_in_the_document(document: Document, promise: str):
    read, said = PROMISES[promise]
    assert read(document) == said
