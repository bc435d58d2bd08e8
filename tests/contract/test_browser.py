"""What the page's own program computes, in Node: no browser is needed for it."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from fastapi_channels.contract.assets import FOLDER
from tests.support.npm import NodeServer

IMPORTS = """
import * as cookies from "./cookies.js";
import * as exact from "./exact.js";
import * as schema from "./schema.js";
import * as snippets from "./snippets.js";
import * as socket from "./socket.js";

globalThis.WebSocket = class extends EventTarget {
  static OPEN = 1;
  static last = null;
  protocol = "";
  sent = [];
  constructor(url) {
    super();
    if (url === "ws://insecure/") throw new Error("insecure");
    WebSocket.last = this;
  }
  send(text) { this.sent.push(text); }
  /* What a server says: that it accepts, the code of its close, or a frame. */
  hear(said) {
    if (said === "open") this.readyState = WebSocket.OPEN;
    const name = { string: "open", number: "close", object: "message" }[typeof said];
    const data = JSON.stringify(said);
    this.dispatchEvent(Object.assign(new Event(name), { code: said, reason: "", data }));
  }
};
const names = ["type", "action", "request_id", "channel", "status", "data", "code"];
const envelope = Object.fromEntries(names.map((name) => [name, name]));
const play = {
  /* What is known of a connection that sends some frames, and hears others. */
  connection(protocols, sent, heard) {
    const channel = { envelope, json: true, operations: [] };
    const made = new socket.Socket(channel, { url: "ws://host/", protocols, token: "" }, {});
    const told = [];
    for (const name of ["fault", "warned"]) made.addEventListener(name, () => told.push(name));
    made.open();
    WebSocket.last.hear("open");
    const requests = sent.map((frame) => made.request({ name: frame.action }, JSON.stringify(frame)));
    for (const each of heard) WebSocket.last.hear(each);
    const states = requests.map(({ state }) => state);
    const cancellable = requests.some((each) => each.canBeCancelled);
    const sunsets = requests.map(({ sunset }) => sunset);
    return { refused: made.isRefused, states, told, cancellable, sunsets };
  },
  /* What the log shows of frames, and of an answer to `call`, over a channel; and what was sent. */
  shown(channel, schemas, frames, call, given) {
    const made = new socket.Socket(channel, { url: "ws://host/", protocols: [], token: "" }, schemas);
    const shown = [];
    made.addEventListener("frame", ({ detail }) => shown.push(detail.body));
    made.open();
    WebSocket.last.hear("open");
    for (const frame of frames) made.send(JSON.stringify(frame));
    made.answer(call, given);
    return { shown, sent: WebSocket.last.sent };
  },
};
play.cookies = (protocol, ...rounds) => {
  globalThis.location = { protocol };
  const written = [];
  const set = (text) => written.push(text);
  globalThis.document = Object.defineProperty({}, "cookie", { set, get: () => "a=1; session=x" });
  rounds.forEach(cookies.bake);
  return { written, there: ["session", "sess"].map(cookies.isThere) };
};
play.answered = (protocol, answers) => new socket.Request(1, { answers }, "", protocol).isAnswered;
play.bounds = (text) => schema.boundsOf(exact.parse(text));
play.refused = () => {
  const target = { url: "ws://insecure/", protocols: [] };
  const made = new socket.Socket({ envelope, operations: [] }, target, {});
  const states = [];
  made.addEventListener("state", () => states.push(made.state));
  made.open();
  return { states, reason: made.reason, refused: made.isRefused };
};
const modules = { exact, schema, snippets, socket, play };
"""
ANSWER = "const answer = JSON.stringify(modules[asked.module][asked.name](...asked.with)) ?? null;"

ENVELOPE = {
    "type": "type",
    "action": "action",
    "request_id": "request_id",
    "channel": "channel",
    "payload": None,
    "many_rooms": False,
}
TARGET = {
    "url": "ws://host/tea",
    "protocols": [],
    "cookie": "",
    "headers": {},
    "token": "",
    "names": ENVELOPE,
}


@pytest.fixture(scope="module")
def program() -> Iterator[NodeServer]:
    with NodeServer(FOLDER, IMPORTS, ANSWER) as program:
        yield program


def call(program: NodeServer, module: str, name: str, *given: Any) -> str:
    """What a function answers, as JSON."""
    answer = program.ask({"module": module, "name": name, "with": given})
    assert isinstance(answer, str)
    return answer


@pytest.mark.parametrize(
    "text",
    [
        '{"n":9007199254740993,"m":-123456789012345678901234567890}',
        "[0.12345678901234567890123,1e400]",
        '["9007199254740993",0.30000000000000004,1.5,-7,true,null]',
        "{}",
    ],
)
def test_no_number_is_rounded(program: NodeServer, text: str):
    assert call(program, "exact", "parse", text) == text


def test_a_frame_uses_up_no_id_before_it_is_sent(program: NodeServer):
    channel, operation = {"envelope": ENVELOPE}, {"name": "say"}
    frames = [call(program, "socket", "frameOf", channel, operation, {"text": "x"}, "") for _ in range(3)]
    assert len({*frames}) == 1
    # No other page, nor this one when it is loaded anew, begins with the same.
    now = 1000 * time.time()
    assert now - 600_000 < json.loads(frames[0])["request_id"] <= now + 1


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"anyOf": [{"type": "integer"}, {"$ref": "#/components/schemas/Tea"}]}, ["whole", "Tea"]),
        ({"type": ["string", "null"]}, ["text", "null"]),
        ({"type": "string", "format": "password"}, ["secret"]),
        ({"enum": ["small", "large"]}, ["text"]),
        ({"enum": ["small", 1, 2**60, None, True]}, ["text", "number", "null", "yesNo"]),
        ({"oneOf": [{"const": n} for n in range(9)]}, ["0", "1", "2", "3", "4", "5", "…"]),
        ({}, ["anything"]),
    ],
)
def test_a_type_is_said_in_words(program: NodeServer, schema: dict[str, Any], words: list[str]):
    found = json.loads(call(program, "schema", "wordsFor", schema, {}))
    assert [word.get("key") or word.get("name") for word in found] == words


def test_a_program_signs_in_as_the_form_does(program: NodeServer):
    target = {**TARGET, "headers": {"Authorization": "Bearer t"}, "token": "s", "protocols": ["app"]}
    python = json.loads(call(program, "snippets", "snippet", "python", target, '{"n":9007199254740993}'))
    assert '"Authorization": "Bearer t"' in python
    assert python.index('"token": "s"') < python.index('"n": 9007199254740993')
    compile(python, "snippet", "exec")
    wscat = json.loads(call(program, "snippets", "snippet", "wscat", TARGET, '{"n":9007199254740993}'))
    assert wscat == """wscat -c 'ws://host/tea' -w 10 -x '{"n":9007199254740993}'\n"""


def test_cookies_are_of_this_site_alone_and_end(program: NodeServer):
    found = json.loads(call(program, "play", "cookies", "https:", {"session": "a b"}, {}))
    asked = "path=/; SameSite=Strict"
    assert found["written"] == [f"session=a%20b; {asked}; Secure", f"session=; {asked}; max-age=0"]
    assert found["there"] == [True, False]
    found = json.loads(call(program, "play", "cookies", "http:", {"session": "a"}, {}))
    assert found["written"][0] == f"session=a; {asked}"


@pytest.mark.parametrize(
    ("schema", "bounds"),
    [
        ({"minItems": 3, "maxItems": 3}, {"exactItems": "3"}),
        ({"minItems": 1, "maxItems": 3}, {"minItems": "1", "maxItems": "3"}),
        ({"pattern": "^\\d{5}$"}, {"pattern": "^\\d{5}$"}),
    ],
)
def test_the_bounds_of_a_field(program: NodeServer, schema: dict[str, Any], bounds: dict[str, str]):
    found = json.loads(call(program, "schema", "boundsOf", schema))
    assert {each["key"]: each["value"] for each in found} == bounds


def test_a_bound_that_javascript_would_round_is_said_as_it_is(program: NodeServer):
    found = json.loads(call(program, "play", "bounds", '{"maximum":9223372036854775807}'))
    assert found == [{"key": "maximum", "value": "9223372036854775807"}]


def test_a_reply_may_come_only_over_a_protocol(program: NodeServer):
    answers = [{"role": "reply", "subprotocol": OURS[0]}]
    found = [
        call(program, "play", "answered", *each) for each in ((OURS[0], answers), ("", answers), ("", []))
    ]
    assert found == ["true", "false", "false"]


@pytest.mark.parametrize(
    ("value", "schema", "is_within"),
    [
        (3, {"minimum": 3, "maximum": 3}, True),
        (3, {"exclusiveMinimum": 3}, False),
        (3, {"exclusiveMaximum": 3}, False),
        ("🍵🍵", {"minLength": 2, "maxLength": 2}, True),
        ("tea", {"maxLength": 2}, False),
        ("123", {"pattern": r"^\d{5}$"}, False),
        ("123", {"pattern": "(?P<of_python>x)"}, True),
    ],
)
def test_what_keeps_to_its_bounds(program: NodeServer, value: Any, schema: dict[str, Any], is_within: bool):
    assert json.loads(call(program, "schema", "isWithin", value, schema)) is is_within


def test_a_socket_that_the_browser_does_not_open_is_closed(program: NodeServer):
    found = json.loads(call(program, "play", "refused"))
    assert found == {"states": ["connecting", "closed"], "reason": "insecure", "refused": True}


def test_a_text_of_its_own_is_sent_as_it_is(program: NodeServer):
    def made(language: str, text: str) -> str:
        program_text = json.loads(call(program, "snippets", "snippet", language, TARGET, text))
        assert isinstance(program_text, str)
        return program_text

    assert """-x '"hi"'\n""" in made("wscat", '"hi"')
    assert 'json.dumps("hi")' in made("python", '"hi"')
    assert 'JSON.stringify("hi")' in made("typescript", '"hi"')
    assert "-x 'hi'\n" in made("wscat", "hi")
    assert 'socket.send("hi")' in made("python", "hi")
    signed = json.loads(call(program, "snippets", "snippet", "wscat", {**TARGET, "token": "t"}, "a\nrm -r b"))
    assert signed.endswith("# a\n# rm -r b\n")


def test_what_a_reply_says_of_its_action(program: NodeServer):
    sent = [{"action": "a", "request_id": number} for number in (1, 2)]
    ok = {"type": "response", "status": "ok", "request_id": 1, "deprecated": True, "sunset": "2099-01-01"}
    cancelled = {"type": "response", "status": "bad", "request_id": 2, "code": "cancelled"}
    found = json.loads(call(program, "play", "connection", [], sent, [ok, cancelled]))
    assert found["states"] == ["ok", "cancelled"]
    assert found["sunsets"] == ["2099-01-01", None]


@pytest.mark.parametrize("language", ["typescript", "python", "wscat"])
def test_a_program_joins_the_room_that_it_speaks_in(program: NodeServer, language: str):
    target = {**TARGET, "token": "s", "names": {**ENVELOPE, "many_rooms": True}}
    for frame, joins in (({"action": "say", "channel": "tea"}, 1), ({"type": "ping"}, 0)):
        made = json.loads(call(program, "snippets", "snippet", language, target, json.dumps(frame)))
        assert made.count("join") == joins
        if joins:
            assert made.index("auth") < made.index("join") < made.index("say")


SECRET = {"type": "string", "format": "password"}
KEPT = {"anyOf": [{"$ref": "#/components/schemas/Login"}, {"type": "null"}]}
LOGIN = {
    "properties": {
        "name": {"type": "string"},
        "password": SECRET,
        "older": {"type": "array", "items": SECRET},
    }
}
OPERATIONS = [
    {"kind": "action", "sent": True, "name": "login", "payload": {"properties": {"who": KEPT}}},
    {"kind": "action", "sent": True, "name": "pin.*", "payload": {"properties": {"pin": SECRET}}},
    {"kind": "call", "sent": False, "name": "asked", "answers": [{"schema": KEPT}]},
]


@pytest.mark.parametrize("place", [None, "with"])
def test_nothing_secret_is_shown(program: NodeServer, place: str | None):
    channel = {"envelope": {**ENVELOPE, "data": "data", "payload": place}, "operations": OPERATIONS}
    schemas = {"Login": LOGIN}
    login = {"name": "Ada", "password": "s3cret", "older": ["s3cret"]}

    def frame(name: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"action": name, **(fields if place is None else {place: fields})}

    sent = [frame("login", {"who": login}), frame("pin.set", {"pin": "s3cret"})]
    sent.append({"type": "refresh", "token": "s3cret"})
    asked = {"call": "asked", "call_id": 1}
    found = json.loads(call(program, "play", "shown", channel, schemas, sent, asked, {"data": login}))
    assert str(found["sent"]).count("s3cret") == 6
    assert str(found["shown"]).count("•••") == 6
    assert "s3cret" not in str(found["shown"])
    assert str(found["shown"]).count("Ada") == 2


def test_a_program_in_typescript_rounds_no_number(program: NodeServer):
    made = json.loads(call(program, "snippets", "snippet", "typescript", TARGET, '{"n":9007199254740993}'))
    assert r'socket.send("{\"n\":9007199254740993}")' in made
    made = json.loads(call(program, "snippets", "snippet", "typescript", TARGET, '{"n":1}'))
    assert 'socket.send(JSON.stringify({\n    "n": 1\n  }));' in made


BAD = {"type": "response", "status": "bad", "request_id": None, "code": "unauthenticated"}
OURS = ["fastapi-channels.1"]


@pytest.mark.parametrize(
    ("protocols", "heard", "is_refused"),
    [
        (OURS, [BAD, 4501], True),
        (OURS, [1006], True),
        (OURS, [{"type": "authenticated", "expires_in": None}, BAD, 1008], True),
        (OURS, [{"type": "welcome", "connection": "1"}, 1000], False),
        (OURS, [{"type": "welcome", "connection": "1"}, BAD, 1008], False),
        ([], [BAD, 4501], True),
        ([], [1000], False),
        ([], [{"type": "event", "event": "said"}, BAD, 1008], False),
    ],
)
def test_who_is_refused_before_anything_came_of_it(
    program: NodeServer, protocols: list[str], heard: list[Any], is_refused: bool
):
    assert json.loads(call(program, "play", "connection", protocols, [], heard))["refused"] is is_refused


def test_nothing_that_ended_can_be_cancelled(program: NodeServer):
    ok = {"type": "response", "status": "ok", "action": "a", "data": 1}
    sent = [{"action": "a", "request_id": "same"}] * 2 + [{"action": "a"}, {"action": "a", "request_id": 7}]
    found = json.loads(call(program, "play", "connection", [], sent, [{**ok, "request_id": "same"}, 1006]))
    assert found["states"] == ["ok", "lost", "lost", "lost"]
    assert found["cancellable"] is False


def test_what_has_no_id_cannot_be_cancelled(program: NodeServer):
    found = json.loads(call(program, "play", "connection", [], [{"action": "a"}], []))
    assert (found["states"], found["cancellable"]) == (["sent"], False)


def test_what_ends_is_told(program: NodeServer):
    heard = [{"type": "expiring", "expires_in": 30}, {"type": "drain", "within": 1, "retry_after": 1}, BAD]
    assert json.loads(call(program, "play", "connection", [], [], heard))["told"] == ["warned"] * 2 + [
        "fault"
    ]
