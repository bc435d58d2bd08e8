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
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from example.support_desk.assistant import ANSWERS, Assistant, get_assistant
from example.support_desk.database import Room, Ticket, User
from example.support_desk.login import Signer
from example.support_desk.main import create_app
from fastapi_channels.contract.typescript.file import typescript
from tests.support.asyncapi import described
from tests.support.live import Client, Site, serving, wait_until


@dataclass
class Visitor:
    """Somebody who is logged in."""

    site: Site
    http: httpx.AsyncClient

    @asynccontextmanager
    async def connect(self, *rooms: str) -> AsyncIterator[Client]:
        """A WebSocket that is in the rooms already."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.http.cookies.items())
        async with self.site.connect("/desk", additional_headers={"Cookie": cookies}) as client:
            for room in rooms:
                joined = await ask(client, room, type="join")
                assert joined["type"] == "joined", joined
            yield client

    async def open_ticket(self, room: str = "billing", subject: str = "My invoice") -> str:
        """The name of the new ticket's room."""
        response = await self.http.post("/tickets", json={"room": room, "subject": subject})
        assert response.status_code == 201
        return f"ticket:{response.json()['id']}"


@dataclass
class Desk:
    """The served application, and whoever logs in."""

    site: Site
    app: FastAPI
    stack: AsyncExitStack

    async def log_in(self, name: str) -> Visitor:
        http = await self.stack.enter_async_context(httpx.AsyncClient(base_url=self.site.http))
        assert (await http.post("/login", json={"name": name})).status_code == 200
        return Visitor(self.site, http)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    """Nothing that is done with it leaves anything behind."""
    app = create_app()
    async with serving(app) as site, site.unharmed(), AsyncExitStack() as stack:
        yield Desk(site, app, stack)
        await wait_until(lambda: app.state.engine.pool.checkedout() == 0)


async def ask(client: Client, room: str, **fields: Any) -> Any:
    """The answer to one frame; events that come before it are skipped."""
    await client.send({"request_id": "q", "channel": room, **fields})
    return await client.receive_until(lambda frame: frame.get("request_id") == "q")


def texts_of(history: Any) -> list[str]:
    return [line["text"] for line in history["data"]["items"]]


def event(name: str) -> Any:
    return lambda frame: frame.get("event") == name


# Who gets in


async def test_only_who_is_logged_in_gets_a_socket():
    forged = Signer(b"another secret").sign(1)
    # uvicorn calls it an error when an endpoint answers in place of accepting.
    async with serving(create_app(), may_complain=True) as site:
        for headers in ({}, {"Cookie": f"desk_user={forged}"}):
            refusal = await site.refusal("/desk", additional_headers=headers)
            assert refusal == (401, {"detail": "log in first"})


async def test_a_login_wants_a_name_that_is_known(desk: Desk):
    async with httpx.AsyncClient(base_url=desk.site.http) as http:
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
            assert (await ask(client, room, type="join"))["code"] == "permission_denied"
            assert (await ask(client, "team:billing", type="join"))["code"] == "permission_denied"
            assert (await ask(client, "ticket:999", type="join"))["code"] == "permission_denied"
            assert (await ask(client, "ticket:one", type="join"))["code"] == "not_found"
            assert (await ask(client, room, action="ticket.history"))["code"] == "not_joined"
        assert (await ask(other_team, "team:technical", type="join"))["type"] == "joined"
    assert (await bob.http.get(f"/tickets/{room.partition(':')[2]}")).status_code == 404


# Talking


async def test_a_customer_and_an_agent_talk(desk: Desk):
    ada, cleo = await desk.log_in("ada"), await desk.log_in("cleo")
    async with cleo.connect("team:billing") as agent:
        room = await ada.open_ticket(subject="Paid twice")
        opened = await agent.receive()
        number = int(room.partition(":")[2])
        assert opened["data"] == {"id": number, "subject": "Paid twice", "customer": "ada"}
        queue = await ask(agent, "team:billing", action="queue")
        assert queue["data"]["items"] == [{"id": number, "subject": "Paid twice"}]
        async with ada.connect(room) as customer:
            await ask(agent, room, type="join")
            posted = await ask(customer, room, action="ticket.say", text="Hello?")
            said = await agent.receive_until(event("said"))
            assert said["channel"] == room
            assert said["data"] == {"id": posted["data"]["id"], "by": "ada", "text": "Hello?"}
            await ask(agent, room, action="ticket.say", text="I am looking into it.")
            assert (await customer.receive_until(event("said")))["data"]["by"] == "cleo"
            history = await ask(customer, room, action="ticket.history")
            assert texts_of(history) == ["I am looking into it.", "Hello?"]


async def test_one_socket_is_in_two_tickets(desk: Desk):
    ada = await desk.log_in("ada")
    one, two = await ada.open_ticket(), await ada.open_ticket("technical")
    async with ada.connect(one, two) as client:
        await ask(client, one, action="ticket.say", text="in one")
        await ask(client, two, action="ticket.say", text="in two")
        texts = {room: texts_of(await ask(client, room, action="ticket.history")) for room in (one, two)}
        assert texts == {one: ["in one"], two: ["in two"]}
        assert (await ask(client, one, type="leave"))["type"] == "left"
        assert (await ask(client, one, action="ticket.history"))["code"] == "not_joined"
        assert (await ask(client, two, action="ticket.history"))["status"] == "ok"


async def test_what_does_not_fit_is_said_with_its_place(desk: Desk):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    async with ada.connect(room) as client:
        empty = await ask(client, room, action="ticket.say", text="")
        assert (empty["code"], empty["data"][0]["loc"]) == ("invalid_payload", ["text"])
        many = await ask(client, room, action="ticket.history", limit=101)
        assert (many["code"], many["data"][0]["loc"]) == ("invalid_payload", ["limit"])


async def test_nobody_talks_too_fast(desk: Desk):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    async with ada.connect(room) as client:
        for _ in range(20):
            assert (await ask(client, room, action="ticket.say", text="and"))["status"] == "ok"
        refused = await ask(client, room, action="ticket.say", text="one more")
        assert refused["code"] == "rate_limited"
        assert 0 < refused["retry_after"] <= 10


# Closing


async def test_only_an_agent_closes_by_an_action(desk: Desk):
    ada, cleo = await desk.log_in("ada"), await desk.log_in("cleo")
    room = await ada.open_ticket()
    async with ada.connect(room) as customer, cleo.connect(room) as agent:
        refused = await ask(customer, room, action="ticket.close")
        assert (refused["code"], refused["request_id"]) == ("permission_denied", "q")
        await agent.send({"channel": room, "action": "ticket.close"})
        closed = await customer.receive_until(event("ticket_closed"))
        assert closed["data"]["by"] == "cleo"
        late = await ask(customer, room, action="ticket.say", text="wait")
        assert (late["status"], late["errors"]) == (409, {"detail": "the ticket is closed"})


async def test_http_and_actions_give_one_answer(desk: Desk):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    path = f"/tickets/{room.partition(':')[2]}"
    async with ada.connect(room) as client:
        assert (await ada.http.post(f"{path}/close")).status_code == 204
        assert (await client.receive_until(event("ticket_closed")))["data"]["by"] == "ada"
        again = await ada.http.post(f"{path}/close")
        assert (again.status_code, again.json()) == (409, {"detail": "the ticket is closed"})
        assert (await ada.http.get(path)).json()["is_open"] is False


# Pages


async def walk(client: Client, room: str, towards: str = "next", **fields: Any) -> list[list[int]]:
    """The ids on each page, from the first, or from that of a cursor, on."""
    pages: list[list[int]] = []
    while True:
        data = (await ask(client, room, **fields))["data"]
        pages.append([item["id"] for item in data["items"]])
        fields["cursor"] = data[towards]
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
            return (await ask(agent, "team:billing", action="queue", limit=10, cursor=cursor))["data"]

        oldest_first = sorted(numbers, key=lambda number: ((24 - (number - numbers[0])) // 2, number))
        for limit in (1, 4, 25, 100):
            there = await walk(agent, "team:billing", action="queue", limit=limit)
            assert [*chain(*there)] == oldest_first
            assert {len(page) for page in there[:-1]} <= {limit}
        first = await queue()
        second = await queue(first["next"])
        third = await queue(second["next"])
        assert first["previous"] is third["next"] is None
        assert await queue(second["previous"]) == first
        back = await walk(
            agent, "team:billing", "previous", action="queue", limit=7, cursor=third["previous"]
        )
        assert [*chain(*reversed(back))] == oldest_first[:20]


async def test_a_queue_that_moves_shows_no_ticket_twice(desk: Desk, numbers: list[int]):
    cleo, ada = await desk.log_in("cleo"), await desk.log_in("ada")
    async with cleo.connect("team:billing") as agent:
        first = (await ask(agent, "team:billing", action="queue", limit=10))["data"]
        seen = [item["id"] for item in first["items"]]
        # The last one of the page is closed, the very place that the cursor names; another is opened.
        await ada.http.post(f"/tickets/{seen[-1]}/close")
        await ada.open_ticket()
        rest = [*chain(*await walk(agent, "team:billing", action="queue", limit=10, cursor=first["next"]))]
        assert len(rest) == 16
        assert not {*seen} & {*rest}


async def test_a_search_and_the_closed_ones(desk: Desk, numbers: list[int]):
    cleo, ada = await desk.log_in("cleo"), await desk.log_in("ada")
    async with cleo.connect("team:billing") as agent:
        found = await walk(agent, "team:billing", action="search", word="INVOICE", limit=4)
        assert [*chain(*found)] == sorted(numbers, key=lambda number: ((number - numbers[0]) % 9, number))
        assert await walk(agent, "team:billing", action="search", word="e 3") == [numbers[3::9]]
        assert await walk(agent, "team:billing", action="search", word="%") == [[]]
        for number in numbers[:3]:
            await ada.http.post(f"/tickets/{number}/close")
        closed = (await ask(agent, "team:billing", action="closed", limit=2, offset=1))["data"]
        assert [item["id"] for item in closed["items"]] == numbers[1:3]
        assert closed["total"] == 3


async def test_a_cursor_is_good_for_one_list_of_one_room(desk: Desk, numbers: list[int]):
    cleo = await desk.log_in("cleo")
    one, two = (f"ticket:{number}" for number in numbers[:2])
    async with cleo.connect("team:billing", one, two) as agent:
        queue = (await ask(agent, "team:billing", action="queue", limit=2))["data"]["next"]
        for text in ("one", "two", "three"):
            await ask(agent, one, action="ticket.say", text=text)
        history = await ask(agent, one, action="ticket.history", limit=1)
        older = history["data"]["next"]
        assert texts_of(history) == ["three"]
        assert texts_of(await ask(agent, one, action="ticket.history", cursor=older)) == ["two", "one"]
        body, _, signature = older.partition(".")
        forged = urlsafe_b64encode(b'["after",[999]]').decode().rstrip("=")
        wrong: list[tuple[str, dict[str, Any]]] = [
            (two, {"action": "ticket.history", "cursor": older}),
            (one, {"action": "ticket.history", "cursor": f"{body}.{signature[:-1]}"}),
            (one, {"action": "ticket.history", "cursor": f"{forged}.{signature}"}),
            ("team:billing", {"action": "search", "word": "i", "cursor": queue}),
            ("team:billing", {"action": "closed", "offset": 10**19}),
            ("team:billing", {"action": "queue", "limit": 10**9}),
        ]
        for room, fields in wrong:
            refused = await ask(agent, room, **fields)
            assert refused["code"] == "invalid_payload", fields
            assert refused["data"][0]["loc"] == [[*fields][-1]]
        assert (await ask(agent, "team:billing", action="queue", limit=2, cursor=queue))["status"] == "ok"


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
        await customer.send(
            {"channel": room, "action": "assistant.ask", "question": "An invoice?", "request_id": 1}
        )
        pieces: list[str] = []
        frame = await customer.receive()
        while frame["more"]:
            assert (frame["request_id"], frame["channel"]) == (1, room)
            pieces.append(frame["data"])
            frame = await customer.receive_until(lambda frame: frame["type"] == "response")
        assert "".join(pieces).strip() == ANSWERS["invoice"]
        assert frame["data"] is None
        # The others get the whole.
        assert (await agent.receive())["data"]["text"] == ANSWERS["invoice"]


async def test_an_answer_is_cancelled_while_something_else_is_asked(desk: Desk, thinking: Thinking):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    async with ada.connect(room) as client:
        await client.send({"channel": room, "action": "assistant.ask", "question": "Why?", "request_id": 1})
        assert (await client.receive())["data"] == "Well… "
        # It thinks, and holds no connection of the database meanwhile.
        assert desk.app.state.engine.pool.checkedout() == 0
        assert texts_of(await ask(client, room, action="ticket.history")) == []
        await client.send({"type": "cancel", "request_id": 1})
        cancelled = await client.receive()
        assert (cancelled["code"], cancelled["request_id"]) == ("cancelled", 1)
        assert thinking.stopped.is_set()
        assert texts_of(await ask(client, room, action="ticket.history")) == []


async def test_an_answer_ends_when_its_client_leaves(desk: Desk, thinking: Thinking):
    ada = await desk.log_in("ada")
    room = await ada.open_ticket()
    async with ada.connect(room) as client:
        await client.send({"channel": room, "action": "assistant.ask", "question": "Why?"})
        assert (await client.receive())["more"] is True
        client.reset()
        async with asyncio.timeout(10):
            await thinking.stopped.wait()


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
            assert (await ask(client, room, action="ticket.history"))["status"] == "ok"
            said = await ask(client, room, action="ticket.say", text="Hm.")
            assert said["status"] == ("ok" if number < 10 else 409)
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
            await client.send(
                {"channel": room, "action": "assistant.ask", "question": "?", "request_id": number}
            )
            assert (await client.receive())["more"] is True
            assert ledger.opened == ledger.closed + 1
            await client.send({"type": "cancel", "request_id": number})
            assert (await client.receive())["code"] == "cancelled"
            assert ledger.opened == ledger.closed
