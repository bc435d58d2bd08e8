"""The support desk of the examples: what its people can do, and what is left behind when they do it."""

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from example.support_desk.assistant import ANSWERS, Assistant, get_assistant
from example.support_desk.database import Room, Ticket, User
from example.support_desk.events import Said, TicketClosed, TicketOpened
from example.support_desk.login import Person, Tokens
from example.support_desk.main import create_app
from fastapi_channels.contract.typescript.file import typescript
from fastapi_channels.testing import Client, Site, refused, running
from tests.support.asyncapi import described
from tests.support.wire import nothing_is_held

SECRET = b"a secret of the desk, of 32 bytes"
WITHIN = 10.0
"""Seconds that anything may take: a database is asked."""


@dataclass
class Visitor:
    """Somebody who is logged in."""

    site: Site
    http: httpx.AsyncClient

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.http.cookies['desk_user']}"}

    @asynccontextmanager
    async def connect(self, *rooms: str) -> AsyncIterator[Client]:
        """A WebSocket that is in the rooms already."""
        async with self.site.connect("/desk", headers=self.headers) as client:
            for room in rooms:
                await client.join(room)
            yield client

    async def open_ticket(self, room: str = "billing", subject: str = "My invoice") -> str:
        """The name of the new ticket's room."""
        response = await self.http.post("/tickets", json={"room": room, "subject": subject})
        assert response.status_code == 201
        return f"ticket:{response.json()['id']}"


@dataclass
class Desk:
    """The application while it runs, and whoever logs in."""

    site: Site
    app: FastAPI
    stack: AsyncExitStack

    async def enter(self) -> httpx.AsyncClient:
        """Somebody who is not logged in."""
        transport = httpx.ASGITransport(self.app)
        client = httpx.AsyncClient(transport=transport, base_url="http://testserver")
        return await self.stack.enter_async_context(client)

    async def log_in(self, name: str) -> Visitor:
        http = await self.enter()
        assert (await http.post("/login", json={"name": name})).status_code == 200
        return Visitor(self.site, http)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """Nothing that is done with it leaves anything behind."""
    app = create_app()
    async with running(app, within=WITHIN) as site, AsyncExitStack() as stack:
        yield Desk(site, app, stack)
        nothing_is_held(app)
        assert app.state.engine.pool.checkedout() == 0


def texts_of(page: Any) -> list[str]:
    return [line["text"] for line in page["items"]]


# Who gets in


async def test_only_who_is_logged_in_gets_a_socket():
    ada = Person(1, "ada", None)
    forged = Tokens(b"another secret, which has 32 bytes").sign(ada)
    expired = Tokens(SECRET).sign(ada, seconds=-1)
    async with running(create_app(secret=SECRET), within=WITHIN) as site:
        for brought, code in (
            ("", "unauthenticated"),
            (forged, "unauthenticated"),
            (expired, "token_expired"),
        ):
            assert (await site.refusal("/desk", headers={"Authorization": f"Bearer {brought}"})).code == code


async def test_a_login_wants_a_name_that_is_known(desk: Desk):
    http = await desk.enter()
    assert (await http.post("/login", json={"name": "eve"})).status_code == 404
    assert (await http.post("/tickets", json={"room": "billing", "subject": "x"})).status_code == 401
    for forged in (b"1.", b"1.0", b".", b"one.\xff"):
        response = await http.get("/tickets/1", headers={b"Cookie": b"desk_user=" + forged})
        assert response.status_code == 401


async def test_a_room_takes_only_those_whom_it_concerns(desk: Desk):
    ada, bob, dan = [await desk.log_in(name) for name in ("ada", "bob", "dan")]
    room = await ada.open_ticket("billing")
    async with bob.connect() as stranger, dan.connect() as other_team:
        for client in (stranger, other_team):
            for name in (room, "team:billing", "ticket:999"):
                assert (await refused(client.join(name))).code == "permission_denied"
            assert (await refused(client.join("ticket:one"))).code == "not_found"
            assert (await refused(client.call("ticket.history", room=room))).code == "not_joined"
        await other_team.join("team:technical")
    assert (await bob.http.get(f"/tickets/{room.partition(':')[2]}")).status_code == 404


async def test_a_pass_opens_one_socket(desk: Desk):
    ada = await desk.log_in("ada")
    ticket = (await ada.http.post("/pass")).json()
    client = await desk.site.client("/desk", protocols=[f"bearer.{ticket}"])
    await client.join(await ada.open_ticket())
    assert (await desk.site.refusal("/desk", protocols=[f"bearer.{ticket}"])).code == "unauthenticated"
    await client.close()
    assert (await (await desk.enter()).post("/pass")).status_code == 401


async def test_an_agent_who_changes_the_team_brings_a_new_token(desk: Desk):
    cleo, dan = await desk.log_in("cleo"), await desk.log_in("dan")
    async with cleo.connect("team:billing") as agent:
        await agent.refresh((await cleo.http.post("/token")).json())
        async with AsyncSession(desk.app.state.engine) as session:
            user = (await session.scalars(select(User).where(User.name == "cleo"))).one()
            user.room_id = await session.scalar(select(Room.id).where(Room.name == "technical"))
            await session.commit()
        await agent.refresh((await cleo.http.post("/token")).json())
        await agent.expect_frame(lambda frame: frame.get("code") == "permission_denied")
        await agent.expect_frame(lambda frame: frame["type"] == "left")
        await agent.join("team:technical")
        other = (await dan.http.post("/token")).json()
        assert (await refused(agent.refresh(other))).code == "unauthenticated"


async def test_an_agent_is_signed_out_while_at_work(desk: Desk):
    ada, cleo, dan = [await desk.log_in(name) for name in ("ada", "cleo", "dan")]
    room = await ada.open_ticket()
    assert (await ada.http.delete("/people/cleo/sessions")).status_code == 404, "it is no customer's business"
    async with cleo.connect(room, "team:billing") as agent, ada.connect(room) as customer:
        await anext(agent.stream("assistant.ask", room=room, question="?"))
        assert (await dan.http.delete("/people/cleo/sessions")).status_code == 204
        assert (await agent.expect_close(4501)).reason == "revoked"
        await customer.call("ticket.history", room=room)
    assert (await desk.site.refusal("/desk", headers=cleo.headers)).code == "unauthenticated"
    again = await desk.log_in("cleo")
    async with again.connect("team:billing"):
        pass


# Talking


async def test_a_customer_and_an_agent_talk(desk: Desk):
    ada, cleo = await desk.log_in("ada"), await desk.log_in("cleo")
    async with cleo.connect("team:billing") as agent:
        room = await ada.open_ticket(subject="Paid twice")
        number = int(room.partition(":")[2])
        opened = TicketOpened(id=number, subject="Paid twice", customer="ada")
        assert await agent.expect(TicketOpened) == opened
        queue = await agent.call("queue", room="team:billing")
        assert queue["items"] == [{"id": number, "subject": "Paid twice"}]
        async with ada.connect(room) as customer:
            await agent.join(room)
            posted = await customer.call("ticket.say", room=room, text="Hello?")
            assert await agent.expect(Said) == Said(id=posted["id"], by="ada", text="Hello?")
            await agent.call("ticket.say", room=room, text="I am looking into it.")
            await customer.expect(Said, by="cleo")
            history = await customer.call("ticket.history", room=room)
            assert texts_of(history) == ["I am looking into it.", "Hello?"]


async def test_one_socket_is_in_two_tickets(desk: Desk):
    ada = await desk.log_in("ada")
    one, two = await ada.open_ticket(), await ada.open_ticket("technical")
    async with ada.connect(one, two) as client:
        for room in (one, two):
            await client.call("ticket.say", room=room, text=f"in {room}")
        for room in (one, two):
            assert texts_of(await client.call("ticket.history", room=room)) == [f"in {room}"]
        await client.leave(one)
        assert (await refused(client.call("ticket.history", room=one))).code == "not_joined"
        await client.call("ticket.history", room=two)


async def test_what_does_not_fit_is_said_with_its_place(desk: Desk):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    async with ada.connect(room) as client:
        empty = await refused(client.call("ticket.say", room=room, text=""))
        assert (empty.code, empty.data[0]["loc"]) == ("invalid_payload", ["text"])
        many = await refused(client.call("ticket.history", room=room, limit=101))
        assert (many.code, many.data[0]["loc"]) == ("invalid_payload", ["limit"])


async def test_nobody_talks_too_fast(desk: Desk):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    async with ada.connect(room) as client:
        for _ in range(20):
            await client.call("ticket.say", room=room, text="and")
        error = await refused(client.call("ticket.say", room=room, text="one more"))
        assert error.code == "rate_limited"
        assert 0 < (error.retry_after or 0) <= 10


# Closing


async def test_only_an_agent_closes_by_an_action(desk: Desk):
    ada, cleo = await desk.log_in("ada"), await desk.log_in("cleo")
    room = await ada.open_ticket()
    async with ada.connect(room) as customer, cleo.connect(room) as agent:
        assert (await refused(customer.call("ticket.close", room=room))).code == "permission_denied"
        await agent.call("ticket.close", room=room)
        await customer.expect(TicketClosed, by="cleo")
        late = await refused(customer.call("ticket.say", room=room, text="wait"))
        assert (late.status, late.errors) == (409, {"detail": "the ticket is closed"})


async def test_http_and_actions_give_one_answer(desk: Desk):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    path = f"/tickets/{room.partition(':')[2]}"
    async with ada.connect(room) as client:
        assert (await ada.http.post(f"{path}/close")).status_code == 204
        await client.expect(TicketClosed, by="ada")
        again = await ada.http.post(f"{path}/close")
        assert (again.status_code, again.json()) == (409, {"detail": "the ticket is closed"})
        assert (await ada.http.get(path)).json()["is_open"] is False


# Pages


async def walk(
    client: Client, room: str, action: str, towards: str = "next", **fields: Any
) -> list[list[int]]:
    """The ids on each page, from the first, or from that of a cursor, on."""
    pages: list[list[int]] = []
    while True:
        page = await client.call(action, room=room, **fields)
        pages.append([item["id"] for item in page["items"]])
        fields["cursor"] = page[towards]
        if fields["cursor"] is None:
            return pages


@pytest.fixture
async def numbers(desk: Desk) -> list[int]:
    """The ids of 25 tickets of the billing team, opened two at a time, the last ones first; each subject has
    two or three."""
    async with desk.app.state.sessions() as session:
        customer, room = await session.get(User, 1), await session.get(Room, 1)
        tickets = [
            Ticket(
                subject=f"Invoice {number % 9}",
                customer=customer,
                room=room,
                opened_at=datetime(2026, 1, 1) + timedelta(hours=(24 - number) // 2),
            )
            for number in range(25)
        ]
        session.add_all(tickets)
        await session.commit()
        return [ticket.id for ticket in tickets]


async def test_every_ticket_is_on_one_page_of_the_queue(desk: Desk, numbers: list[int]):
    cleo = await desk.log_in("cleo")
    async with cleo.connect("team:billing") as agent:

        async def queue(cursor: str | None = None) -> Any:
            return await agent.call("queue", room="team:billing", limit=10, cursor=cursor)

        oldest_first = sorted(numbers, key=lambda number: ((24 - (number - numbers[0])) // 2, number))
        for limit in (1, 4, 25, 100):
            there = await walk(agent, "team:billing", "queue", limit=limit)
            assert [*chain(*there)] == oldest_first
            assert {len(page) for page in there[:-1]} <= {limit}
        first = await queue()
        second = await queue(first["next"])
        third = await queue(second["next"])
        assert first["previous"] is third["next"] is None
        assert await queue(second["previous"]) == first
        back = await walk(agent, "team:billing", "queue", "previous", limit=7, cursor=third["previous"])
        assert [*chain(*reversed(back))] == oldest_first[:20]


async def test_a_queue_that_moves_shows_no_ticket_twice(desk: Desk, numbers: list[int]):
    cleo, ada = await desk.log_in("cleo"), await desk.log_in("ada")
    async with cleo.connect("team:billing") as agent:
        first = await agent.call("queue", room="team:billing", limit=10)
        seen = [item["id"] for item in first["items"]]
        # The last one of the page is closed, the very place that the cursor names; another is opened.
        await ada.http.post(f"/tickets/{seen[-1]}/close")
        await ada.open_ticket()
        rest = [*chain(*await walk(agent, "team:billing", "queue", limit=10, cursor=first["next"]))]
        assert len(rest) == 16
        assert not {*seen} & {*rest}


async def test_a_search_and_the_closed_ones(desk: Desk, numbers: list[int]):
    cleo, ada = await desk.log_in("cleo"), await desk.log_in("ada")
    async with cleo.connect("team:billing") as agent:
        found = await walk(agent, "team:billing", "search", word="INVOICE", limit=4)
        assert [*chain(*found)] == sorted(numbers, key=lambda number: ((number - numbers[0]) % 9, number))
        assert await walk(agent, "team:billing", "search", word="e 3") == [numbers[3::9]]
        assert await walk(agent, "team:billing", "search", word="%") == [[]]
        for number in numbers[:3]:
            await ada.http.post(f"/tickets/{number}/close")
        closed = await agent.call("closed", room="team:billing", limit=2, offset=1)
        assert [item["id"] for item in closed["items"]] == numbers[1:3]
        assert closed["total"] == 3


async def test_a_cursor_is_good_for_one_list_of_one_room(desk: Desk, numbers: list[int]):
    cleo = await desk.log_in("cleo")
    one, two = (f"ticket:{number}" for number in numbers[:2])
    async with cleo.connect("team:billing", one, two) as agent:
        queue = (await agent.call("queue", room="team:billing", limit=2))["next"]
        for text in ("one", "two", "three"):
            await agent.call("ticket.say", room=one, text=text)
        history = await agent.call("ticket.history", room=one, limit=1)
        older = history["next"]
        assert texts_of(history) == ["three"]
        assert texts_of(await agent.call("ticket.history", room=one, cursor=older)) == ["two", "one"]
        body, _, signature = older.partition(".")
        forged = urlsafe_b64encode(b'["after",[999]]').decode().rstrip("=")
        wrong: list[tuple[str, str, dict[str, Any]]] = [
            ("ticket.history", two, {"cursor": older}),
            ("ticket.history", one, {"cursor": f"{body}.{signature[:-1]}"}),
            ("ticket.history", one, {"cursor": f"{forged}.{signature}"}),
            ("search", "team:billing", {"word": "i", "cursor": queue}),
            ("closed", "team:billing", {"offset": 10**19}),
            ("queue", "team:billing", {"limit": 10**9}),
        ]
        for action, room, fields in wrong:
            error = await refused(agent.call(action, room=room, **fields))
            assert (error.code, error.data[0]["loc"]) == ("invalid_payload", [[*fields][-1]])
        await agent.call("queue", room="team:billing", limit=2, cursor=queue)


def test_the_document_and_the_types_have_the_pages():
    found = described(create_app())
    asked = found["components"]["schemas"]["Cursor"]["properties"]
    assert (asked["limit"]["minimum"], asked["limit"]["maximum"], asked["limit"]["default"]) == (1, 100, 20)
    text = typescript(found)
    assert "reply: PaginatedSummary;" in text
    assert "reply: PaginatedLine;" in text
    page = text[text.index("export interface PaginatedSummary {") :].partition("\n}")[0]
    assert [line.strip() for line in page.splitlines() if line.endswith(";")] == [
        *("items: Summary[];", "next: string | null;", "previous: string | null;", "total: number | null;"),
    ]


# The assistant


@dataclass
class Thinking(Assistant):
    """Says one word, and thinks about the next until it is stopped."""

    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, question: str) -> AsyncIterator[str]:
        try:
            yield "Well… "
            await asyncio.Event().wait()
        finally:
            self.stopped.set()


@pytest.fixture
def thinking(desk: Desk) -> Thinking:
    assistant = Thinking()

    async def get_thinking() -> Assistant:
        return assistant

    desk.app.dependency_overrides[get_assistant] = get_thinking
    return assistant


async def test_the_assistant_answers_piece_by_piece(desk: Desk):
    ada, cleo = await desk.log_in("ada"), await desk.log_in("cleo")
    room = await ada.open_ticket()
    async with ada.connect(room) as customer, cleo.connect(room) as agent:
        answer = customer.stream("assistant.ask", room=room, question="An invoice?")
        assert "".join([piece async for piece in answer]).strip() == ANSWERS["invoice"]
        # The others get the whole.
        await agent.expect(Said, text=ANSWERS["invoice"])
        await agent.expect_nothing()


async def test_an_answer_is_cancelled_while_something_else_is_asked(desk: Desk, thinking: Thinking):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    async with ada.connect(room) as client:
        answer = client.stream("assistant.ask", room=room, request_id=1, question="Why?")
        assert await anext(answer) == "Well… "
        # It thinks, and holds no connection of the database meanwhile.
        assert desk.app.state.engine.pool.checkedout() == 0
        assert texts_of(await client.call("ticket.history", room=room)) == []
        await client.cancel(1)
        assert (await refused(anext(answer))).code == "cancelled"
        assert thinking.stopped.is_set()
        assert texts_of(await client.call("ticket.history", room=room)) == []


async def test_an_answer_ends_when_its_client_leaves(desk: Desk, thinking: Thinking):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    async with ada.connect(room) as client:
        await anext(client.stream("assistant.ask", room=room, question="Why?"))
    assert thinking.stopped.is_set()


# Sessions


@dataclass
class Ledger:
    """Which sessions were opened, and which of these were closed."""

    opened: int = 0
    closed: int = 0


@pytest.fixture
def ledger(desk: Desk) -> Ledger:
    ledger = Ledger()

    class Counted(AsyncSession):
        async def __aenter__(self) -> "Counted":
            ledger.opened += 1
            return await super().__aenter__()

        async def __aexit__(self, *exc: Any) -> None:
            await super().__aexit__(*exc)
            ledger.closed += 1

    desk.app.state.sessions = async_sessionmaker(
        desk.app.state.engine, class_=Counted, expire_on_commit=False
    )
    return ledger


async def test_a_message_has_a_session_of_its_own(desk: Desk, ledger: Ledger):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    async with ada.connect(room) as client:
        before = ledger.opened
        assert ledger.closed == before, "none lives as long as the socket"
        for number in range(20):
            await client.call("ticket.history", room=room)
            say = client.call("ticket.say", room=room, text="Hm.")
            assert await say if number < 10 else (await refused(say)).status == 409
            assert (ledger.opened, ledger.closed) == (before + 2, before + 2)
            before += 2
            if number == 9:
                # From now on what is said fails, with its session open.
                await ada.http.post(f"/tickets/{room.partition(':')[2]}/close")
                before = ledger.opened


async def test_a_cancelled_stream_closes_its_session(desk: Desk, thinking: Thinking, ledger: Ledger):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    async with ada.connect(room) as client:
        for number in range(20):
            answer = client.stream("assistant.ask", room=room, request_id=number, question="?")
            await anext(answer)
            assert ledger.opened == ledger.closed + 1
            await client.cancel(number)
            assert (await refused(anext(answer))).code == "cancelled"
            assert ledger.opened == ledger.closed
