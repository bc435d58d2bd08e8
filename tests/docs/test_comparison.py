"""One room, written three times, does one thing; and the page that compares them says what is so."""

import importlib.metadata
import importlib.util
import io
import re
import tokenize
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

import pytest

from tests.support.live import Client, Site, serving

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "docs" / "comparison"
PAGES: Final = (ROOT / "docs" / "comparison.md", ROOT / "docs" / "zh" / "comparison.md")


class Said(NamedTuple):
    number: int
    by: str
    text: str


class Left(NamedTuple):
    by: str


class Answer(NamedTuple):
    """Whatever ends a request: its id, and the number of what was said or the kind of error."""

    request_id: Any
    result: Any


class Dialect(NamedTuple):
    """How one implementation puts what all of them say."""

    request: Callable[[Any, str, dict[str, Any]], Any]
    read: Callable[[Any], Said | Left | Answer]


def plain_request(request_id: Any, action: str, payload: dict[str, Any]) -> Any:
    return {"action": action, "request_id": request_id, **payload}


def read_plain(frame: Any) -> Said | Left | Answer:
    if frame["type"] == "event":
        return {"said": Said, "left": Left}[frame["event"]](**frame["data"])
    if frame["status"] == "ok":
        return Answer(frame["request_id"], frame["data"])
    assert frame["code"] != "rate_limited" or 0 < frame["retry_after"] <= 10
    return Answer(frame["request_id"], frame["code"])


def chanx_request(request_id: Any, action: str, payload: dict[str, Any]) -> Any:
    return {"action": action, "ref": request_id, "payload": payload}


def read_chanx(frame: Any) -> Said | Left | Answer:
    payload, request_id = frame["payload"], frame.get("ref")
    if frame["action"] in ("said", "left"):
        return {"said": Said, "left": Left}[frame["action"]](**payload)
    if frame["action"] == "accepted":
        return Answer(request_id, payload)
    if isinstance(payload, dict):
        assert payload["code"] != "rate_limited" or 0 < payload["retry_after"] <= 10
        return Answer(request_id, payload["code"])
    return Answer(request_id, CHANX_CODES[payload[0]["type"]])


CHANX_CODES: Final = {
    "json_invalid": "parse_error",
    "union_tag_invalid": "unknown_action",
    "string_too_short": "invalid_payload",
}
PLAIN: Final = Dialect(plain_request, read_plain)
ROOMS: Final = {
    "plain_fastapi": PLAIN,
    "with_chanx": Dialect(chanx_request, read_chanx),
    "with_fastapi_channels": PLAIN,
}


class Visitor:
    """Somebody with a WebSocket. Answers and events are told apart: their order is nobody's promise."""

    def __init__(self, client: Client, dialect: Dialect) -> None:
        self.client = client
        self._dialect = dialect
        self._answers: deque[Answer] = deque()
        self._events: deque[Said | Left] = deque()

    async def ask(self, request_id: Any, action: str, **payload: Any) -> Answer:
        await self.client.send(self._dialect.request(request_id, action, payload))
        return await self.answer()

    async def answer(self) -> Answer:
        while not self._answers:
            await self._receive()
        return self._answers.popleft()

    async def event(self) -> Said | Left:
        while not self._events:
            await self._receive()
        return self._events.popleft()

    async def _receive(self) -> None:
        found = self._dialect.read(await self.client.receive())
        if isinstance(found, Answer):
            self._answers.append(found)
        else:
            self._events.append(found)


async def play(site: Site, dialect: Dialect) -> None:
    """What the three rooms must do alike."""
    async with AsyncExitStack() as stack:

        async def enter(user: str) -> Visitor:
            connecting = site.connect(f"/rooms/lobby?user={user}")
            return Visitor(await stack.enter_async_context(connecting), dialect)

        ada, bob, eve = [await enter(user) for user in ("ada", "bob", "eve")]

        # What a member says is numbered, and told to everybody in the room.
        assert await ada.ask("a1", "say", text="Hello!") == ("a1", 1)
        for visitor in (ada, bob, eve):
            assert await visitor.event() == Said(1, "ada", "Hello!")

        # Whatever cannot be done is told with the request's id, and the connection stays.
        assert await bob.ask("b1", "say", text="") == ("b1", "invalid_payload")
        assert await eve.ask("e1", "say", text="Me too!") == ("e1", "permission_denied")
        assert await bob.ask("b2", "dance") == ("b2", "unknown_action")
        await bob.client.send("neither JSON nor")
        assert await bob.answer() == (None, "parse_error")

        # The rate is that of a user, over all connections.
        also_ada = await enter("ada")
        assert await ada.ask("a2", "say", text="Anybody?") == ("a2", 2)
        assert await also_ada.ask("a3", "say", text="It is me.") == ("a3", 3)
        for visitor in (ada, also_ada):
            assert await visitor.ask("a4", "say", text="Hello?") == ("a4", "rate_limited")
        assert await bob.ask("b3", "say", text="Hello, ada.") == ("b3", 4)

        # Others are told who leaves.
        await bob.client.close()
        heard = [await eve.event() for _ in range(4)]
        assert [each.by for each in heard] == ["ada", "ada", "bob", "bob"]
        assert heard[-1] == Left("bob")


@pytest.mark.parametrize("name", ROOMS)
async def test_the_three_rooms_do_one_thing(name: str):
    async with serving(load(name).app) as site:
        await play(site, ROOMS[name])


@pytest.mark.parametrize("name", ROOMS)
async def test_who_lets_a_foreign_page_in(name: str):
    async with serving(load(name).app, may_complain=True) as site:
        path, options = "/rooms/lobby?user=ada", {"origin": "https://evil.example"}
        if name == "with_fastapi_channels":
            assert (await site.refusal(path, **options)).status == 403
        else:
            async with site.connect(path, **options):
                pass


@pytest.mark.parametrize(("name", "closed"), [("plain_fastapi", 1006), ("with_fastapi_channels", 1003)])
async def test_who_closes_on_a_binary_frame(name: str, closed: int):
    async with (
        serving(load(name).app, may_complain=True) as site,
        site.connect("/rooms/lobby?user=ada") as client,
    ):
        await client.send(b"\xff")
        assert (await client.closed()).code == closed


async def test_chanx_answers_a_binary_frame():
    async with (
        serving(load("with_chanx").app) as site,
        site.connect("/rooms/lobby?user=ada") as client,
    ):
        await client.send(b"\xff")
        assert read_chanx(await client.receive()) == (None, "parse_error")


def load(name: str) -> ModuleType:
    """The module, made anew: it counts."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# What the page says


def lines_of_code(source: str) -> int:
    """Lines that are not empty, a comment or a docstring."""
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    previous = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        is_docstring = token.type == tokenize.STRING and previous in nothing
        if token.type not in nothing | {tokenize.ENDMARKER} and not is_docstring:
            lines.update(range(token.start[0], token.end[0] + 1))
        previous = token.type
    return len(lines)


def test_how_lines_are_counted():
    source = '''"""A docstring
of two lines."""

# a comment
A = """a
text"""  # two lines
def f():
    """No line."""
    g(
        1,
    )
'''
    assert lines_of_code(source) == 6


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_page_shows_and_counts_what_runs(page: Path):
    text = page.read_text()
    for name in ROOMS:
        source = (FOLDER / f"{name}.py").read_text()
        assert f"```python\n{source}```" in text, f"{page.name} shows something else than {name}.py"
        assert re.search(rf"\| .*comparison/{name}\.py\) \| {lines_of_code(source)} \|", text), name
    assert f"Chanx {importlib.metadata.version('chanx')}" in text
