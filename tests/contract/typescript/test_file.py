"""The file of types: it compiles, it is formatted, and it holds programs to what the server takes."""

import importlib
import sys
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from fastapi import Cookie, Depends, FastAPI, Query, WebSocket
from fastapi.security import APIKeyHeader
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from fastapi_channels import (
    BaseChannel,
    Call,
    Channel,
    Connection,
    Envelope,
    Event,
    Socket,
    action,
    add_channel,
)
from fastapi_channels.__main__ import main
from fastapi_channels.contract.typescript.file import typescript
from tests.support import forks
from tests.support.asyncapi import described
from tests.support.typescript import Compiler, wrong_lines

ROOT = Path(__file__).parents[3]


class Tree(BaseModel):
    """Refers to itself: */ and does not end this comment."""

    name: str
    children: "list[Tree]" = []
    kind: Literal["leaf", "branch"] = "leaf"


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


class Other:
    class Cat(BaseModel):
        """Another of the same name."""

        height: float


class Lobby(BaseModel):
    """A model that is named like a channel."""

    name: str


class Channels(BaseModel):
    """A model that is named like what is written for all."""

    count: int


class Grown(Event):
    tree: Tree


class Felled(Event, name="tree.felled"):
    by: str | None


class Confirm(Call[bool]):
    """Whether one is sure."""

    text: str


class PickTree(Call[Tree | None], name="tree.pick"):
    among: list[Tree]


class LobbyRoom(Channel):
    """Where one waits."""

    event_types = (Grown, Felled)
    call_types = (Confirm, PickTree)
    presence = True

    def presence_data(self, connection: Connection) -> Cat:
        return Cat(kind="cat")

    @action()
    async def plant(self, tree: Tree, height: Other.Cat | None = None) -> Lobby: ...

    @action("count/all things")
    async def count(self, to: int) -> AsyncIterator[int]:
        yield to

    @action(sunset=date(2099, 1, 1))
    async def adopt(self, pet: Annotated[Cat | Dog, Field(discriminator="kind")]) -> Channels: ...

    @action("presence")
    async def appear(self) -> None: ...

    @action("*")
    async def other(self, websocket: WebSocket, data: dict, **kwargs: Any) -> None: ...


LobbyRoom.__name__ = "Lobby"


class Ticket(Channel):
    room_pattern = "ticket:{number:int}"
    presence = True
    event_types = (Felled,)

    @action()
    async def say(self, text: str) -> str: ...


class Team(Channel):
    room_pattern = "team:{name}"
    event_types = (Grown,)

    @action()
    async def say(self, tree: Tree) -> int: ...


class Open(Channel):
    """It does not say which events it has."""


class Numbered(Channel):
    room_pattern = "ticket:{number:int}"


class Renamed(LobbyRoom):
    envelope = Envelope(action="method", request_id="id", payload="params", errors="error", type="kind")


def application() -> FastAPI:
    app = FastAPI()
    add_channel(app)
    lobby = LobbyRoom()
    lobby.mount(app, "/lobby/{channel}")
    lobby.mount(app, "/again/{channel}")
    Renamed().mount(app, "/renamed")
    Socket(Ticket(), Team()).mount(app, "/socket")
    BaseChannel().mount(app, "/relay")
    Open().mount(app, "/open")
    Numbered().mount(app, "/numbered/{channel}")

    @app.websocket("/own/{tenant:int}/{colour}")
    async def own(
        websocket: WebSocket,
        colour: Literal["red", "blue"],
        since: Annotated[date, Query()],
        key: Annotated[str, Depends(APIKeyHeader(name="x-key"))],
        theme: Annotated[Literal["dark", "light"], Cookie()] = "dark",
    ) -> None:
        await lobby.connect(websocket, "a")

    return app


RIGHT = """
import type { Channels, Lobby, LobbyReceived, LobbySent, Renamed } from "./channels";
import type { LobbyReceivedOther, LobbySentOther } from "./channels";
import type { Open, SocketReceived, SocketSent, Team, Ticket, TreeInput } from "./channels";

const socket = new WebSocket("ws://localhost/lobby/a");
const send = (frame: LobbySent) => socket.send(JSON.stringify(frame));
send({ action: "plant", request_id: 1, tree: { name: "oak", children: [{ name: "twig" }] } });
send({ action: "count/all things", to: 3 });
send({ action: "adopt", kind: "cat", lives: 7 });
const other: LobbySentOther = { action: "plant.anything", with: ["whatever"] };
declare const answer: LobbyReceived | LobbyReceivedOther;
send({ type: "cancel", request_id: 1 });

socket.onmessage = (message) => {
  const frame: LobbyReceived = JSON.parse(message.data);
  if (frame.type === "event") {
    if (frame.event === "grown") frame.data.tree.children?.map((child) => child.name);
    else if (frame.data.by !== null) frame.data.by.toUpperCase();
  } else if (frame.type === "response") {
    if ("code" in frame) {
      if (frame.code === "invalid_payload") console.error(frame.errors);
      if (frame.code === "of_the_application") console.error(frame.errors);
    } else if (frame.action === "plant") frame.data.name.toUpperCase();
    else if (frame.action === "count/all things" && frame.more) frame.data.toFixed();
  } else if (frame.type === "call") {
    const call_id = frame.call_id;
    if (frame.call === "confirm") send({ type: "answer", call_id, data: frame.data.text === "y" });
    else send({ type: "answer", call_id, data: frame.data.among[0] ?? null });
    send({ type: "answer", call_id, errors: "not now" });
  } else if (frame.type === "presence") {
    frame.present.map(({ data }) => data.lives?.toFixed());
  } else if (frame.type === "presence_diff") {
    [...frame.joined, ...frame.changed].map(({ id, user }) => (user ?? id).toUpperCase());
    if (frame.left.length === 0) send({ type: "presence" });
  }
};

// As a client library has it: everything follows from the one interface.
type Name = keyof Channels;
type Actions<C extends Name> = Channels[C] extends { actions: infer A } ? A : never;
declare class Joined<C extends Name> {
  call<A extends keyof Actions<C>>(
    action: A,
    payload: Actions<C>[A] extends { payload: infer P } ? P : never,
  ): Promise<Actions<C>[A] extends { reply: infer R } ? R : never>;
}
declare function createClient<All>(): {
  join<C extends Name>(channel: C, parameters: Channels[C]["parameters"]): Joined<C>;
};
const joined = createClient<Channels>().join("Lobby", { channel: "a" });
joined.call("plant", { tree: { name: "oak" } }).then((lobby) => lobby.name.toUpperCase());
const code: Lobby["actions"]["plant"]["error"] = "invalid_payload";
const asked: Lobby["calls"]["confirm"]["data"] = { text: "sure?" };
const sure: Lobby["calls"]["confirm"]["answer"] = asked.text !== "";
const anything: Team["calls"][string]["data"] = 1;
const undeclared: Open["events"][string] = { any: "thing" };
const place: Channels["Lobby_3"]["parameters"] = { tenant: 7, colour: "red" };
const cookies: Channels["Lobby_3"]["cookies"] = { theme: "dark" };
declare const scheme: Channels["Lobby_3"]["security"]["APIKeyHeader"];
const credential = scheme.in === "header" ? { [scheme.name]: "secret" } : {};
const silent: Lobby["actions"]["*"]["reply"] = null;
const room: Ticket["room"] = "ticket:7";
const named: Channels["Numbered"]["parameters"] = { channel: "ticket:7" };
const cat: Lobby["presence"] = { kind: "cat" };
const nothing: Ticket["presence"] = null;
const renamed: Renamed["sent"] = { method: "plant", id: 1, params: { tree: { name: "a" } } };
const many: SocketSent[] = [
  { action: "say", channel: "ticket:1", text: "hi" },
  { action: "say", channel: "team:red", name: "a" },
  { type: "join", channel: "team:red" },
];
const tree: TreeInput = { name: "a", kind: "branch" };
const own: Channels["Lobby_3"]["query"] = { since: "2030-01-01" };
function heard(frame: SocketReceived): string | undefined {
  return frame.type === "left" ? frame.reason : undefined;
}
"""

WRONG = """
import type { Channels, Lobby, LobbyReceived, LobbySent, Renamed } from "./channels";
import type { SocketSent, Team, Ticket, TreeInput } from "./channels";

const frames: LobbySent[] = [
  { action: "plan", tree: { name: "oak" } }, // wrong
  { action: "plant" }, // wrong
  { action: "plant", tree: { name: 1 } }, // wrong
  { action: "plant", tree: { name: "a", children: [{}] } }, // wrong
  { action: "count/all things", to: "3" }, // wrong
  { action: "adopt", kind: "cow" }, // wrong
  { type: "cancel" }, // wrong
  { type: "answer", call_id: 1, data: "yes" }, // wrong
  { action: "plant", tree: { name: "a" }, colour: "red" }, // wrong
];
const tree: TreeInput = { name: "a", kind: "root" }; // wrong
const room: Ticket["room"] = "ticket:seven"; // wrong
const cat: Lobby["presence"] = { kind: "dog" }; // wrong
const unseen: Team["presence"] = null; // wrong
const many: SocketSent[] = [
  { action: "say", text: "hi" }, // wrong
  { action: "say", channel: "ticket:1", name: "a" }, // wrong
];
const code: Lobby["actions"]["plant"]["error"] = "rate_limited"; // wrong
const renamed: Renamed["sent"] = { method: "plant", id: 1, tree: { name: "a" } }; // wrong
const parameters: Channels["Lobby"]["parameters"] = { room: "a" }; // wrong
const query: Channels["Lobby_3"]["query"] = {}; // wrong
const tenant: Channels["Lobby_3"]["parameters"] = { tenant: "x", colour: "red" }; // wrong
const colour: Channels["Lobby_3"]["parameters"] = { tenant: 7, colour: "green" }; // wrong
const named: Channels["Numbered"]["parameters"] = { channel: "ticket:seven" }; // wrong
const cookies: Channels["Lobby_3"]["cookies"] = { theme: "red" }; // wrong
const sure: Lobby["calls"]["confirm"]["answer"] = "yes"; // wrong
declare const scheme: Channels["Lobby_3"]["security"]["APIKeyHeader"];
if (scheme.in === "query") console.log(scheme.name); // wrong
function heard(frame: LobbyReceived) {
  if (frame.type === "event" && frame.event === "felled") return; // wrong
  if (frame.type === "event" && frame.event === "tree.felled") frame.data.by.toUpperCase(); // wrong
  if (frame.type === "response" && !("code" in frame) && frame.action === "plant") frame.data.height; // wrong
  if (frame.type === "response") frame.data.name; // wrong
  if (frame.type === "response" && !("code" in frame) && frame.action === "other") return; // wrong
}
"""


def test_programs_that_are_right_compile(compiler: Compiler):
    assert compiler.faults(channels=typescript(described(application())), right=RIGHT) == {}


def test_programs_that_are_wrong_fail_where_they_are(compiler: Compiler):
    found = compiler.faults(channels=typescript(described(application())), wrong=WRONG)
    assert found.keys() == wrong_lines("wrong", WRONG)


@pytest.mark.parametrize("name", ["main", "modern", "support_desk.main"])
def test_the_examples(name: str, compiler: Compiler):
    text = typescript(described(importlib.import_module(f"example.{name}").app))
    assert compiler.faults(channels=text) == {}
    assert compiler.formatted(text) == text


def test_it_is_formatted_as_prettier_does(compiler: Compiler):
    text = typescript(described(application()))
    assert compiler.formatted(text) == text


def test_what_is_alike_in_name_is_two_types():
    text = typescript(described(application()))
    lines = [line for line in text.splitlines() if line.startswith("export interface")]
    names = [line.split()[2] for line in lines]
    assert len(names) == len(set(names))
    # The channels have their names, and the models others: one mounted at three addresses among them.
    assert {"Channels", "Lobby", "Lobby_2", "Lobby_3", "TreeInput"} <= set(names)
    assert sum(name.endswith("Cat") for name in names) == 2


def test_an_application_without_channels():
    app = FastAPI()
    add_channel(app)
    assert "export interface Channels { [key: string]: never }" in typescript(described(app))


def test_the_same_program_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    types, document = str(tmp_path / "channels.ts"), str(tmp_path / "asyncapi.json")
    command = [sys.executable, "-m", "fastapi_channels", "typescript", "example.main:app", "-o", types]
    assert forks.run(command, cwd=ROOT).returncode == 0
    assert main(["asyncapi", "example.main:app", "-o", document]) == 0
    assert main(["typescript", document]) == 0
    assert capsys.readouterr().out == Path(types).read_text()


TYPES = st.recursive(
    st.sampled_from([int, str, date, Tree, Other.Cat, Cat, None, Literal["a", 1], Any, Channels]),
    lambda each: st.one_of(
        each.map(lambda t: list[t]),
        each.map(lambda t: t | None if t not in (None, Any) else t),
        each.map(lambda t: dict[str, t]),
        st.tuples(each, each).map(lambda pair: tuple[pair]),
    ),
    max_leaves=5,
)


@settings(max_examples=1, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TYPES, TYPES), min_size=60, max_size=60))
def test_generated_channels_compile(compiler: Compiler, shapes: list[Any]):
    channel = Channel()
    for number, (takes, gives) in enumerate(shapes):

        async def handler(value: takes, other: int = 0) -> gives: ...  # type: ignore[valid-type]

        handler.__annotations__.update({"value": takes, "return": gives})
        channel.action(f"{number} */ \"'`${{x}}\\")(handler)
    app = FastAPI()
    add_channel(app)
    channel.mount(app, "/x")
    assert compiler.faults(channels=typescript(described(app))) == {}
