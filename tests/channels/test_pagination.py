"""Pages, and cursors: whose they are, what is refused, and what two processes make of them."""

import os
import secrets
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from fastapi import Depends, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from fastapi_channels import (
    Channel,
    ConfigurationError,
    Cursor,
    InvalidPayload,
    Page,
    Paginated,
    Paginator,
    action,
    add_channel,
    current_paginator,
)
from fastapi_channels.channels.pagination import MAX_CURSOR, MAX_LIMIT, MAX_OFFSET
from fastapi_channels.contract.typescript.file import typescript
from tests.support.asyncapi import Official, described, message
from tests.support.live import Client, Site, application, process, serving
from tests.support.typescript import Compiler

SECRET = secrets.token_bytes()
PAGES = Annotated[Paginator, Depends(current_paginator)]


class Note(BaseModel):
    id: int


NOTES = [Note(id=number) for number in range(1, 51)]


class Find(Cursor):
    """Fields of its own beside those of a cursor."""

    of: Literal["even", "odd"]


class Notes(Channel):
    @action()
    async def newest(self, page: Cursor, pages: PAGES) -> Paginated[Note]:
        return self._before(NOTES, page, pages)

    @action()
    async def find(self, wanted: Find, pages: PAGES) -> Paginated[Note]:
        found = [note for note in NOTES if note.id % 2 == (wanted.of == "odd")]
        return self._before(found, wanted, pages)

    @action()
    async def numbered(self, page: Page) -> Paginated[Note]:
        return Paginated(items=NOTES[page.offset : page.offset + page.limit], total=len(NOTES))

    @action()
    async def beside(self, page: Cursor, word: str, pages: PAGES) -> str:
        return f"{word} {pages.place_of(page, int)}"

    @action()
    async def whose(self, pages: PAGES) -> list[str]:
        return [type(pages).__name__, pages.channel, pages.room, pages.action]

    @staticmethod
    def _before(notes: list[Note], page: Cursor, pages: Paginator) -> Paginated[Note]:
        place = pages.place_of(page, int)
        left = [note for note in reversed(notes) if place is None or note.id < place]
        items = left[: page.limit]
        return Paginated(items=items, next=pages.cursor_of(items[-1].id) if left[page.limit :] else None)


def create_app() -> FastAPI:
    """What another process serves; the environment names its secret."""
    return application(Notes(), secret=os.environ["SECRET"])


def paginator(**other: Any) -> Paginator:
    own: dict[str, Any] = {"secret": SECRET, "channel": "Notes", "room": "a", "action": "newest"}
    return Paginator(**own | other)


def is_refused(made: str, kind: Any = int, **other: Any) -> bool:
    """Whether a cursor is refused."""
    try:
        paginator(**other).place_of(Cursor.model_construct(cursor=made, limit=1), kind)
    except InvalidPayload:
        return True
    return False


# A cursor


PLACES: list[tuple[Any, Any]] = [
    (int, 0),
    (int, 2**70),
    (str, "日本\x00"),
    (tuple[int, str], (1, "")),
    (tuple[datetime, int], (datetime(2026, 1, 2, 3, 4, 5, 6, UTC), 7)),
    (tuple[date, Decimal], (date(2026, 1, 2), Decimal("1.10"))),
    (Note, Note(id=3)),
    (dict[str, int], {"a": 1}),
]


@pytest.mark.parametrize(("kind", "place"), PLACES)
def test_a_place_comes_back_as_it_was(kind: Any, place: Any):
    page = Cursor(cursor=paginator().cursor_of(place))
    assert paginator().place_of(page, kind) == place


def test_the_first_page_has_no_place():
    assert paginator().place_of(Cursor(), int) is None


@given(st.data())
def test_a_cursor_that_was_changed_is_refused(data: st.DataObject):
    """Wherever, by a character: also the last of base64, half of whose bits say nothing."""
    made = paginator().cursor_of(data.draw(st.integers()))
    assert not is_refused(made)
    at = data.draw(st.integers(0, len(made) - 1))
    other = data.draw(st.characters(exclude_categories=["Cs"]).filter(lambda each: each != made[at]))
    for changed in (
        made[:at] + other + made[at + 1 :],
        made[:at] + made[at + 1 :],
        made[:at] + other + made[at:],
    ):
        assert changed == made or is_refused(changed)


@given(st.text(max_size=60))
def test_what_was_never_a_cursor_is_refused(text: str):
    assert is_refused(text)


@pytest.mark.parametrize(
    "other",
    [{"channel": "News"}, {"room": "b"}, {"action": "find"}, {"secret": secrets.token_bytes()}],
    ids=lambda other: next(iter(other)),
)
def test_a_cursor_is_good_only_where_it_was_made(other: dict[str, Any]):
    made = paginator().cursor_of(7)
    assert not is_refused(made)
    assert is_refused(made, **other)


def test_names_cannot_be_shifted_into_each_other():
    made = paginator(room="a", action="b").cursor_of(7)
    for room, name in (("ab", ""), ("", "ab"), ('a","b', ""), ("b", "a")):
        assert is_refused(made, room=room, action=name)


def test_a_place_of_an_earlier_version_is_refused():
    made = paginator().cursor_of([1, "a"])
    assert not is_refused(made, tuple[int, str])
    assert is_refused(made, tuple[str, int])
    assert is_refused(made, tuple[int, str, int])


def test_a_cursor_is_not_longer_than_one_that_is_taken():
    longest = next(made for size in range(MAX_CURSOR, 0, -1) if (made := _cursor_of("a" * size)) is not None)
    assert MAX_CURSOR - 4 < len(longest) <= MAX_CURSOR
    assert paginator().place_of(Cursor(cursor=longest), str) is not None
    with pytest.raises(ValueError, match=r"'newest' would have \d+ characters, 2048 are"):
        paginator().cursor_of("a" * MAX_CURSOR)
    with pytest.raises(ValidationError, match="at most 2048 characters"):
        Cursor(cursor=longest + "a" * 4)


def _cursor_of(place: str) -> str | None:
    try:
        return paginator().cursor_of(place)
    except ValueError:
        return None


# What add_channel takes


@pytest.mark.parametrize("secret", ["", b"", "short", b"\xff" * 31, 7, ["x" * 40]])
def test_a_secret_that_is_none_is_refused_and_not_shown(secret: Any):
    with pytest.raises(ConfigurationError, match=r"32 bytes or more.*token_urlsafe") as caught:
        add_channel(FastAPI(), secret=secret)
    assert not secret or repr(secret) not in str(caught.value)


@pytest.mark.parametrize("given", [print, Page, "Paginator", Paginator(SECRET, "", "", "")])
def test_what_is_no_paginator_is_refused(given: Any):
    with pytest.raises(ConfigurationError, match="pagination_class takes Paginator"):
        add_channel(FastAPI(), pagination_class=given)


class Own(Paginator):
    pass


@pytest.mark.parametrize("given", [None, Paginator, Own])
async def test_the_paginator_is_of_the_applications_class(given: type[Paginator] | None):
    app = application(Notes(), pagination_class=given, secret="ä" * 16)
    async with serving(app) as site, site.connect("/a") as client:
        reply = await client.call("whose")
        assert reply["data"] == [(given or Paginator).__name__, "Notes", "a", "whose"]
    settings = site.node.settings
    assert settings.secret == ("ä" * 16).encode()
    assert "ä" not in repr(settings)
    assert "\\xa4" not in repr(settings)


# Over the wire


async def walk(client: Client, **fields: Any) -> list[int]:
    """The ids on all pages, in the order in which they come."""
    ids: list[int] = []
    cursor = None
    while True:
        data = (await client.call(**fields, cursor=cursor))["data"]
        assert data.keys() == {"items", "next", "previous", "total"}
        ids += [note["id"] for note in data["items"]]
        cursor = data["next"]
        if cursor is None:
            return ids


async def test_pages_make_up_the_list():
    async with serving(application(Notes())) as site, site.connect("/a") as client:
        for limit in (1, 7, 50, 100):
            assert await walk(client, action="newest", limit=limit) == [*range(50, 0, -1)]
        assert await walk(client, action="newest") == [*range(50, 0, -1)]
        assert await walk(client, action="find", of="odd", limit=4) == [*range(49, 0, -2)]
        page = (await client.call("numbered", limit=3, offset=48))["data"]
        assert page == {"items": [{"id": 49}, {"id": 50}], "next": None, "previous": None, "total": 50}
        assert (await client.call("numbered", offset=MAX_OFFSET))["data"]["items"] == []


async def test_a_cursor_is_one_field_beside_others():
    async with serving(application(Notes())) as site, site.connect("/a") as client:
        assert (await client.call("beside", page={}, word="at"))["data"] == "at None"
        other = (await client.call("newest", limit=1))["data"]["next"]
        assert (await client.call("beside", page={"cursor": other}, word="at"))["code"] == "invalid_payload"


@pytest.fixture
def nuisances() -> dict[str, dict[str, Any]]:
    """What ill-meaning clients send, and where the fault is then told to be."""
    return {
        "a billion": {"action": "newest", "limit": 10**9},
        "a billion by number": {"action": "numbered", "limit": 10**9},
        "beyond any integer": {"action": "numbered", "offset": 10**30},
        "far down": {"action": "numbered", "offset": MAX_OFFSET + 1},
        "before the first": {"action": "numbered", "offset": -1},
        "none": {"action": "newest", "limit": 0},
        "not a number": {"action": "numbered", "limit": "NaN"},
        "a part": {"action": "newest", "limit": 1.5},
        "invented": {"action": "newest", "cursor": "eyJhIjoxfQ"},
        "invented, with a dot": {"action": "newest", "cursor": "NQ.NQ"},
        "empty": {"action": "newest", "cursor": ""},
        "too long": {"action": "newest", "cursor": "a" * 50_000},
        "not a text": {"action": "newest", "cursor": {"id": 5}},
        "of another alphabet": {"action": "newest", "cursor": "Пять.ۓ\x00"},
    }


async def test_what_is_wrong_is_refused_and_nothing_else_happens(nuisances: dict[str, dict[str, Any]]):
    async with serving(application(Notes())) as site, site.unharmed(), site.connect("/a") as client:
        good = (await client.call("newest", limit=2))["data"]["next"]
        body, _, signature = good.partition(".")
        nuisances |= {
            "tampered": {"action": "newest", "cursor": f"{body[:-1]}A.{signature}"},
            "of another action": {"action": "find", "of": "odd", "cursor": good},
            "with a tail": {"action": "newest", "cursor": good + "="},
        }
        for what, fields in nuisances.items():
            answer = await client.call(**fields)
            assert answer["code"] == "invalid_payload", what
            assert [fault["loc"][-1] for fault in answer["data"]] == [[*fields][-1]], what
            assert "internal" not in str(answer), what
        assert (await client.call("newest", limit=2, cursor=good))["data"]["items"][0] == {"id": 48}


async def test_a_cursor_stays_in_its_room():
    async with serving(application(Notes())) as site, site.clients("/a", "/b") as (here, there):
        cursor = (await here.call("newest", limit=2))["data"]["next"]
        assert (await there.call("newest", cursor=cursor))["code"] == "invalid_payload"
        assert (await here.call("newest", cursor=cursor))["status"] == "ok"


async def test_several_processes_need_one_secret():
    """The one is this process."""
    secret, factory = secrets.token_urlsafe(), "tests.channels.test_pagination:create_app"
    async with process(factory, "--factory", environment={"SECRET": secret}) as other:
        answer = await carried(application(Notes(), secret=secret), other.site)
    assert answer["data"]["items"] == [{"id": 48}]


async def test_without_a_secret_each_application_has_its_own():
    async with serving(application(Notes())) as other:
        answer = await carried(application(Notes()), other)
    assert answer["code"] == "invalid_payload"


async def carried(app: FastAPI, other: Site) -> Any:
    """What another server answers to a cursor of `app`."""
    async with serving(app) as site, site.connect("/a") as here, other.connect("/a") as there:
        cursor = (await here.call("newest", limit=2))["data"]["next"]
        return await there.call("newest", limit=1, cursor=cursor)


# In the document, and in the types


def test_the_document_has_the_bounds(official: Official):
    found = described(application(Notes()))
    official.check(found)
    wanted = message(found, "Notes", "newest.request")["properties"]
    limit = {"minimum": 1, "maximum": MAX_LIMIT, "default": 20, "description": "how many items, at most"}
    assert wanted["limit"].items() >= limit.items()
    assert {"maxLength": MAX_CURSOR, "type": "string"} in wanted["cursor"]["anyOf"]
    assert message(found, "Notes", "numbered.request")["properties"]["offset"]["maximum"] == MAX_OFFSET
    assert {"of", "limit", "cursor"} <= message(found, "Notes", "find.request")["properties"].keys()
    reply = found["components"]["schemas"]["Paginated_Note_"]
    assert reply["required"] == ["items", "next", "previous", "total"]
    assert reply["properties"]["items"]["items"] == {"$ref": "#/components/schemas/Note"}
    assert [*reply["properties"]["next"]["anyOf"]] == [{"type": "string"}, {"type": "null"}]


PROGRAM = """import type { Notes, NotesReceived, NotesSent } from "./channels";
declare function call<A extends keyof Notes["actions"]>(
  action: A, payload: Notes["actions"][A]["payload"]): Promise<Notes["actions"][A]["reply"]>;
export async function all(): Promise<number[]> {
  const ids: number[] = [];
  let cursor: string | null = null;
  do {
    const page: Notes["actions"]["newest"]["reply"] = await call("newest", { limit: 50, cursor });
    ids.push(...page.items.map((note) => note.id));
    cursor = page.next;
  } while (cursor !== null);
  const { total } = await call("numbered", { offset: 40 });
  return total === null ? ids : ids.slice(0, total);
}
"""
WRONG = """
export const a = call("newest", { cursor: 7 }); // wrong
export const b = call("find", { limit: 1 }); // wrong
export const c = async () => (await call("newest", {})).items[0].text; // wrong
"""


def test_types_lead_from_page_to_page(compiler: Compiler):
    text = typescript(described(application(Notes())))
    assert compiler.faults(channels=text, right=PROGRAM) == {}
    found = compiler.faults(channels=text, wrong=PROGRAM + WRONG)
    assert found.keys() == {("wrong", len(PROGRAM.splitlines()) + number) for number in (2, 3, 4)}
