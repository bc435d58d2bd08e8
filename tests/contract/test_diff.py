"""Two documents of an application that has changed, and the command that compares them."""

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from fastapi import FastAPI, WebSocket
from pydantic import BaseModel, Field

from fastapi_channels import Call, Channel, Event, IsAuthenticated, Socket, action, add_channel, limiter
from fastapi_channels.__main__ import main
from fastapi_channels.contract.diff import diff
from tests.support.asyncapi import described

ROOT = Path(__file__).parents[2]


class Line(BaseModel):
    text: str


class Said(Event):
    text: str


class Room(Channel):
    event_types = (Said,)

    @action()
    async def say(self, line: Line) -> Line: ...

    @action()
    async def gone(self) -> None: ...


def served(channel: Any = Room, path: str = "/{channel}") -> dict[str, Any]:
    app = FastAPI()
    add_channel(app)
    (Socket(channel()) if path == "/socket" else channel()).mount(app, path)
    return described(app)


def said(new: type[Channel], path: str = "/{channel}", old: type[Channel] = Room) -> list[str]:
    new.__name__ = "Room"
    return [f"{kind} {where}: {what}" for kind, where, what in diff(served(old, path), served(new, path))]


def test_nothing_has_changed():
    assert diff(served(), served()) == []


def test_an_action_that_is_new_and_one_that_is_gone():
    class New(Channel):
        event_types = (Said,)

        @action()
        async def say(self, line: Line) -> Line: ...

        @action()
        async def come(self) -> None: ...

    assert said(New) == [
        "breaking /{channel} gone: is gone",
        "compatible /{channel} come: is new",
    ]


def test_what_is_sent_and_what_is_received():
    class Longer(BaseModel):
        text: Annotated[str, Field(max_length=5)]
        colour: Literal["red"]

    class New(Room):
        @action()
        async def say(self, line: Longer) -> Longer: ...

    assert said(New) == [
        "breaking /{channel} say, request.text: maxLength none → 5",
        "breaking /{channel} say, request.colour: is new, and required",
        "compatible /{channel} say, reply.data.text: maxLength none → 5",
        "compatible /{channel} say, reply.data.colour: is new",
    ]


def test_a_reply_that_becomes_a_stream():
    class New(Room):
        @action()
        async def say(self, line: Line) -> AsyncIterator[Line]:
            yield line

    found = said(New)
    assert "breaking /{channel} say, reply: is gone" in found
    assert "breaking /{channel} say, item: is new" in found


def test_the_calls_of_the_server():
    class Confirm(Call[bool]):
        text: str

    class Where(Call[Line]):
        pass

    class Old(Room):
        call_types = (Confirm, Where)

    class Strict(Call[Literal[True]], name="confirm"):
        text: Annotated[str, Field(max_length=5)]

    class Which(Call[str]):
        pass

    class New(Room):
        call_types = (Strict, Which)

    Old.__name__ = "Room"
    assert said(New, old=Old) == [
        "breaking /{channel} confirm, answer.data: may be no boolean any more",
        "breaking /{channel} which: is new",
        "compatible /{channel} confirm, call.data.text: maxLength none → 5",
        "compatible /{channel} where: is gone",
    ]


def test_a_reply_where_there_was_none_hurts_nobody():
    class New(Room):
        @action()
        async def gone(self) -> int: ...

    assert said(New) == ["compatible /{channel} gone, reply: is new"]


def test_who_may_and_how_often():
    class New(Room):
        @limiter(times=5, seconds=10)
        @action(permission=IsAuthenticated)
        async def gone(self) -> None: ...

    assert [each for each in said(New) if "error" not in each] == [
        "breaking /{channel} gone: asks for IsAuthenticated now",
        "breaking /{channel} gone: the rate 5 in 10 s is new",
    ]
    back = [each for each in said(Room, old=New) if "error" not in each]
    assert {each.split()[0] for each in back} == {"compatible"}

    class Slower(Room):
        @limiter(times=4, seconds=10)
        @action(permission=IsAuthenticated)
        async def gone(self) -> None: ...

    assert "breaking /{channel} gone: the rate 4 in 10 s is new" in said(Slower, old=New)
    assert "compatible /{channel} gone: the rate 5 in 10 s is new" in said(New, old=Slower)


def test_what_will_end_and_what_has_ended():
    class Soon(Room):
        @action(sunset=date(2099, 1, 1))
        async def gone(self) -> None: ...

    class Ended(Room):
        @action(deprecated=True)
        async def gone(self) -> None: ...

    assert "compatible /{channel} gone: its sunset: 2099-01-01" in said(Soon)
    assert not [each for each in said(Soon) if each.startswith("breaking")]
    assert "breaking /{channel} gone: is refused now: deprecated" in said(Ended)
    assert "compatible /{channel} gone: is served again" in said(Room, old=Ended)


def test_an_event_that_says_less():
    class Less(Event, name="said"):
        pass

    class New(Room):
        event_types = (Less,)

    assert said(New) == ["breaking /{channel} said, event.data.text: is gone"]


def test_rooms_that_are_gone():
    class New(Room):
        room_pattern = "ticket:{number:int}"

    class Other(Room):
        room_pattern = "team:{name}"

    assert "breaking /{channel}: rooms ticket:{number:int} now" in said(New)
    assert said(Room, old=New) == ["compatible /{channel}: rooms ticket:{number:int} no more"]
    assert "breaking /{channel}: rooms ticket:{number:int} no more" in said(Other, old=New)
    assert [each for each in said(New, "/socket") if "pattern" in each and each.startswith("breaking")]


def test_words_are_cosmetic():
    class New(Room):
        """A room."""

        @action(summary="Say", tags=["talk"])
        async def say(self, line: Line) -> Line: ...

    assert said(New) == [
        "cosmetic /{channel}: is said otherwise",
        "cosmetic /{channel} say: is said otherwise",
    ]


def test_an_address_and_its_handshake():
    room = Room()

    async def before(websocket: WebSocket, since: int = 0) -> None:
        await room.connect(websocket, "a")

    async def after(websocket: WebSocket, since: int) -> None:
        await room.connect(websocket, "a")

    def at(endpoint: Any) -> dict[str, Any]:
        app = FastAPI(title=endpoint.__name__)
        add_channel(app)
        app.websocket("/own")(endpoint)
        return described(app)

    optional, required = at(before), at(after)
    found = [change for change in diff(optional, required) if change.kind == "breaking"]
    assert [change.where for change in found] == ["/own the query of the handshake.since"]
    assert {change.kind for change in diff(required, optional)} == {"compatible", "cosmetic"}
    moved = {(kind, where) for kind, where, _ in diff(optional, served())}
    assert moved >= {("breaking", "/own"), ("compatible", "/{channel}")}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fastapi_channels", "asyncapi-diff", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)


def test_the_command_compares_a_file_with_an_application(tmp_path: Path):
    assert main(["asyncapi", "example.modern:app", "-o", str(tmp_path / "old.yaml")]) == 0
    same = run(str(tmp_path / "old.yaml"), "example.modern:app")
    assert (same.returncode, same.stdout, same.stderr) == (0, "", "")
    changed = run("example.main:app", str(tmp_path / "old.yaml"))
    assert changed.returncode == 1
    assert changed.stdout.startswith("breaking    ")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "cannot be read"),
        ("[]", "is no AsyncAPI"),
        (json.dumps({"asyncapi": "2.6.0"}), "is no AsyncAPI"),
    ],
)
def test_the_command_refuses_what_is_no_document(
    text: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "it.json").write_text(text)
    (tmp_path / "it.yaml").write_text(text)
    for name in ("it.json", "it.yaml"):
        assert main(["asyncapi-diff", str(tmp_path / name), "example.modern:app"]) == 2
        assert why in capsys.readouterr().err
    assert main(["asyncapi-diff", "missing.json", "example.modern:app"]) == 2
    assert "there is no file" in capsys.readouterr().err
