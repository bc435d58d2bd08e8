"""Two documents of an application that has changed, and the command that compares them."""

import json
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from fastapi import Depends, FastAPI, WebSocket
from fastapi.security import APIKeyCookie, APIKeyHeader, HTTPBearer
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection

from fastapi_channels import (
    Call,
    Channel,
    Envelope,
    Event,
    IsAuthenticated,
    Socket,
    action,
    add_channel,
    limiter,
)
from fastapi_channels.__main__ import main
from fastapi_channels.auth import Authenticator
from fastapi_channels.contract.diff import diff
from tests.support.asyncapi import described
from tests.support.schemes import for_websockets


class Line(BaseModel):
    text: str


class Counted(BaseModel):
    step: int = 1


A, B = Line(text="a"), Line(text="b")


class Said(Event):
    text: str


class Room(Channel):
    event_types = (Said,)

    @action()
    async def say(self, line: Line) -> Line: ...

    @action()
    async def gone(self) -> None: ...


class Team(Channel):
    room_pattern = "team:{name}"


def verifier(token: str, connection: HTTPConnection) -> None: ...


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
        "breaking /{channel} confirm, answer.data: may be a boolean no more",
        "breaking /{channel} which: is new",
        "compatible /{channel} confirm, call.data.text: maxLength none → 5",
        "compatible /{channel} where: is gone",
    ]


def test_events_and_calls_that_are_declared_at_last():
    class Where(Call[Line]):
        pass

    class Undeclared(Room):
        event_types = None

    class Declared(Room):
        call_types = (Where,)

    Undeclared.__name__ = "Room"
    assert said(Declared, old=Undeclared) == [
        "compatible /{channel} event: is one of those that are declared now",
        "compatible /{channel} call: is gone",
        "compatible /{channel} said: is new",
        "compatible /{channel} where: is new",
    ]
    Declared.__name__ = "Room"
    assert {each.split()[0] for each in said(Undeclared, old=Declared) if "said" in each} == {"breaking"}
    assert "breaking /{channel} call: is new" in said(Undeclared, old=Declared)


def test_a_reply_where_there_was_none_is_another_for_some():
    """Clients that offer the subprotocol received null."""

    class New(Room):
        @action()
        async def gone(self) -> int: ...

    assert said(New) == [
        "breaking /{channel} gone, reply.data: may be an integer now",
        "compatible /{channel} gone, reply.data: may be null no more",
        "compatible /{channel} gone, reply: comes to everybody now",
    ]


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


def test_what_a_call_costs_and_on_whose_budget():
    def rated(times: int, cost: int = 1, budget: str = "") -> type[Channel]:
        class Rated(Room):
            @limiter(times=times, seconds=2592000, cost=cost, budget=budget)
            @action()
            async def gone(self) -> None: ...

        return Rated

    def rates(new: type[Channel], old: type[Channel]) -> list[str]:
        return [
            each.removesuffix(" is new") for each in said(new, old=old) if "is new" in each and "rate" in each
        ]

    where = "/{channel} gone: the rate"
    assert rates(rated(10, cost=5), rated(10)) == [f"breaking {where} 10 in 2592000 s, 5 for a call"]
    assert rates(rated(50, cost=5), rated(10)) == [f"compatible {where} 50 in 2592000 s, 5 for a call"]
    assert rates(rated(10, budget="all"), rated(10)) == [
        f"breaking {where} 10 in 2592000 s, of the budget all"
    ]
    assert rates(rated(10), rated(10, budget="all")) == [f"compatible {where} 10 in 2592000 s"]


def test_codes_of_errors_that_are_new_and_gone():
    class Asking(Room):
        @action(permission=IsAuthenticated)
        async def gone(self) -> None: ...

    where = "compatible /{channel} gone, error: the code permission_denied is"
    assert f"{where} new" in said(Asking)
    assert f"{where} gone" in said(Room, old=Asking)


def test_what_is_in_a_query_may_be_any_text_now():
    def query(kind: Any, default: Any) -> dict[str, Any]:
        app = FastAPI()
        add_channel(app)
        room = Room()

        async def enter(websocket: WebSocket, page: Any = default) -> None:
            await room.connect(websocket, "room")

        enter.__annotations__["page"] = kind
        app.websocket("/enter")(enter)
        return described(app)

    place = "/enter the query of the handshake.page"
    for new in (query(str, "1"), query(str | None, None)):
        assert diff(query(int, 1), new) == [("compatible", place, "may be any text now")]
    assert "breaking" in {kind for kind, _, _ in diff(query(int, 1), query(str, ...))}
    assert "breaking" in {kind for kind, _, _ in diff(query(str, "1"), query(int, 1))}


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
        "cosmetic /{channel}: another description",
        "cosmetic /{channel} say: another summary, tags",
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
    assert diff(optional, required)[-1] == ("cosmetic", "info", "another title")
    found = [change for change in diff(optional, required) if change.kind == "breaking"]
    assert [change.where for change in found] == ["/own the query of the handshake.since"]
    assert {change.kind for change in diff(required, optional)} == {"compatible", "cosmetic"}
    moved = {(kind, where) for kind, where, _ in diff(optional, served())}
    assert moved >= {("breaking", "/own"), ("compatible", "/{channel}")}


def signing_in(old: Any, new: Any) -> list[str]:
    """What is said of the authenticator that is another now."""
    before, after = (type("Room", (Room,), {"authenticator": each}) for each in (old, new))
    return [each for each in said(after, old=before) if "is new" not in each]


def test_who_has_to_say_who_it_is():
    must = Authenticator(verifier, sources=[APIKeyCookie(name="session")])
    may = Authenticator(verifier, sources=[APIKeyCookie(name="session")], required=False)
    takes = "compatible /{channel}: takes session in the cookie now"
    assert signing_in(None, may) == [takes]
    assert signing_in(None, must) == ["breaking /{channel}: refuses who brings nothing now", takes]
    assert signing_in(may, must) == ["breaking /{channel}: refuses who brings nothing now"]
    assert signing_in(must, may) == ["compatible /{channel}: lets in who brings nothing now"]
    assert signing_in(must, must) == []


def test_by_what_it_says_it():
    """Of the sources of an authenticator one is enough."""
    cookie, other, bearer = APIKeyCookie(name="session"), APIKeyCookie(name="sid"), HTTPBearer()
    both, one, moved = (
        Authenticator(verifier, sources=each) for each in ([cookie, bearer], [cookie], [other])
    )
    assert signing_in(one, both) == ["compatible /{channel}: takes bearer in the header now"]
    assert signing_in(both, one) == ["breaking /{channel}: takes bearer in the header no more"]
    assert signing_in(one, moved) == [
        "breaking /{channel}: takes session in the cookie no more",
        "compatible /{channel}: takes sid in the cookie now",
    ]


def test_how_long_a_first_frame_is_waited_for():
    short, long, none = (Authenticator(verifier, first_frame=each) for each in (2, 5, None))
    assert signing_in(long, short) == ["breaking /{channel}: waits 2 s for a first frame, not 5 s"]
    assert signing_in(short, long) == ["compatible /{channel}: waits 5 s for a first frame, not 2 s"]
    assert signing_in(short, none) == ["breaking /{channel} auth: is gone"]


def test_what_an_endpoint_wants_of_those_who_sign_in():
    def at(*dependencies: Any) -> dict[str, Any]:
        app = FastAPI()
        add_channel(app)
        Room().mount(app, "/{channel}", dependencies=dependencies)
        return described(app)

    free, wanted = at(), at(Depends(for_websockets(APIKeyHeader(name="x-key"))))
    said = "/{channel} say: wants x-key in the header"
    assert f"breaking {said} now" in [f"{kind} {where}: {what}" for kind, where, what in diff(free, wanted)]
    assert {each.kind for each in diff(wanted, free)} == {"compatible"}


def test_what_stands_in_the_path():
    numbers, texts = served(path="/{channel:int}"), served()
    told = [each for each in diff(numbers, texts) if "the parameter channel" in each.where]
    assert [(each.kind, each.what) for each in told] == [("compatible", "may be any text now")]
    kinds = [each.kind for each in diff(texts, numbers) if "the parameter channel" in each.where]
    assert kinds == ["breaking", "compatible"]


@pytest.mark.parametrize(
    ("old", "new", "kinds"),
    [
        ("t:{n:int}", "t:{n}", ["compatible"]),
        ("t:{n}", "t:{m}", ["cosmetic"]),
        ("t:{n:uuid}", "t:{m:path}", ["compatible"]),
        ("t:{n}", "t:{n:int}", ["breaking", "compatible"]),
        ("t:{n:int}", "t:{n:float}", ["breaking", "compatible"]),
        ("t:{n:int}", "u:{n}", ["breaking", "compatible"]),
    ],
)
def test_rooms_that_were_fit_still(old: str, new: str, kinds: list[str]):
    before, after = (type("Room", (Room,), {"room_pattern": each}) for each in (old, new))
    found = diff(served(before), served(after))
    assert [each.kind for each in found if each.what.startswith("rooms")] == kinds
    breaks = {each.kind for each in diff(served(before, "/socket"), served(after, "/socket"))}
    assert ("breaking" in breaks) is ("breaking" in kinds)


def test_a_default_that_is_another():
    class Old(Room):
        @action()
        async def count(self, to: int = 2, line: Line = A, by: int = 1) -> Counted: ...

    class More(BaseModel):
        step: int = 2

    class New(Room):
        @action()
        async def count(self, to: int = 3, line: Line = B, by: int = 1) -> More: ...

    Old.__name__ = "Room"
    assert said(New, old=Old) == [
        "compatible /{channel} count, request.to: default 2 → 3",
        'compatible /{channel} count, request.line: default {"text":"a"} → {"text":"b"}',
        "cosmetic /{channel} count, reply.data.step: default 1 → 2",
    ]


def test_how_much_is_kept_and_shown():
    class Old(Room):
        history = 50
        history_ttl = 2592000.0
        presence = True

    class New(Room):
        history = 20
        history_ttl = 2592001.0
        presence = True
        presence_grace = 0.5

    class Nothing(Room):
        presence = True

    Old.__name__ = "Room"
    assert said(New, old=Old) == [
        "compatible /{channel}: keeps 50 for 2592000 s → keeps 20 for 2592001 s",
        "compatible /{channel}: shows who is there every 1 s, who has left for 5 s → "
        "shows who is there every 1 s, who has left for 0.5 s",
    ]
    assert "breaking /{channel} the query of the handshake.since: is gone" in said(Nothing, old=Old)
    socket = diff(served_by(Socket(Team(), Old())), served_by(Socket(Team(), New())))
    assert [where for _, where, what in socket if what.startswith("keeps")] == ["/socket Room"]


def test_rooms_become_filters_of_topics():
    class Plain(Room):
        pass

    class Topics(Room):
        topics = True

    Plain.__name__ = Topics.__name__ = "Room"
    assert "compatible /{channel}: its rooms are filters of topics now" in said(Topics, old=Plain)
    assert "breaking /{channel}: its rooms are filters of topics no more" in said(Plain, old=Topics)
    assert not any("topics" in each for each in said(Topics, old=Topics))
    socket = diff(served_by(Socket(Team(), Topics())), served_by(Socket(Team(), Plain())))
    assert [where for _, where, what in socket if what.startswith("its rooms")] == ["/socket Room"]


def served_by(socket: Socket) -> dict[str, Any]:
    app = FastAPI()
    add_channel(app)
    socket.mount(app, "/socket")
    return described(app)


def test_frames_that_are_json_no_more():
    class Bytes(Envelope):
        def encode(self, value: Any) -> bytes: ...

    class New(Room):
        envelope = Bytes(binary=True)

    found = said(New)
    assert "breaking /{channel}: frames are binary now" in found
    assert "breaking /{channel} say, request: is application/octet-stream now, not JSON" in found


def test_a_reply_that_comes_to_some_alone():
    """Who has not offered the subprotocol is told nothing of an action that returns nothing."""

    class Acknowledged(Room):
        ack = True

    assert said(Acknowledged) == ["compatible /{channel} gone, reply: comes to everybody now"]
    Acknowledged.__name__ = "Room"
    assert "breaking /{channel} gone, reply: comes only to who has offered fastapi-channels.1 now" in said(
        Room, old=Acknowledged
    )


def test_the_command_compares_a_file_with_an_application(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    old = str(tmp_path / "old.yaml")
    assert main(["asyncapi", "example.modern:app", "-o", old]) == 0
    assert main(["asyncapi-diff", old, "example.modern:app"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main(["asyncapi-diff", "example.main:app", old]) == 1
    assert capsys.readouterr().out.startswith("breaking    ")


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
    damaged = {"asyncapi": "3.0.0", "channels": {"a": []}, "operations": {"x": 5}}
    (tmp_path / "it.json").write_text(json.dumps(damaged))
    for words in (["asyncapi-diff", "example.modern:app"], ["typescript"]):
        assert main([*words, str(tmp_path / "it.json")]) == 2
        assert "it.json is no document as fastapi-channels writes it" in capsys.readouterr().err
    assert main(["asyncapi-diff", "missing.json", "example.modern:app"]) == 2
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise RuntimeError('no database')", "RuntimeError: no database"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise SystemExit(1)", "'failing_here' ends the program when it is imported: 1"),
    ],
)
def test_an_application_that_fails_breaks_no_client(
    source: str,
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    (tmp_path / "failing_here.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert main(["asyncapi-diff", "failing_here:app", "failing_here:app"]) == 2
    assert why in capsys.readouterr().err
