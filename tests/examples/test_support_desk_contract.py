"""The support desk's document, page and types, held against what it does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from jsonschema import Draft7Validator

from example.support_desk.main import create_app
from fastapi_channels.contract.typescript.file import typescript
from tests.support.asyncapi import Official, described, message
from tests.support.live import Client, serving
from tests.support.typescript import Compiler, wrong_lines

RIGHT = """
import type { Channels, DeskReceived, DeskSent, TeamRoom, TicketRoom } from "./channels";

const room: TicketRoom["room"] = "ticket:7";
const sent: DeskSent[] = [
  { type: "join", channel: room },
  { action: "ticket.say", channel: room, text: "Hello?", request_id: 1 },
  { action: "assistant.ask", channel: room, question: "Where is my invoice?" },
  { action: "ticket.history", channel: room, limit: 20 },
  { action: "queue", channel: "team:billing", limit: 50 },
  { action: "closed", channel: "team:billing" },
];
function heard(frame: DeskReceived): string {
  if (frame.type === "event") return frame.event === "said" ? frame.data.text : String(frame.data.id);
  if (frame.type !== "response" || "code" in frame) return "";
  if (frame.action === "queue") return frame.data.items.map((each) => each.subject).join();
  return frame.action === "ticket.say" ? String(frame.data.id) : "";
}
const next: TeamRoom["actions"]["queue"]["reply"]["next"] = null;
const address: Channels["Desk"]["address"] = "/desk";
"""

WRONG = """
import type { DeskReceived, DeskSent, TicketRoom } from "./channels";

const room: TicketRoom["room"] = "ticket:seven"; // wrong
const sent: DeskSent[] = [
  { action: "ticket.say", channel: "ticket:7" }, // wrong
  { action: "ticket.say", channel: "team:billing", text: "Hello?" }, // wrong
  { action: "assistant.ask", channel: "ticket:7", question: 1 }, // wrong
  { action: "ticket.open", channel: "ticket:7" }, // wrong
];
function heard(frame: DeskReceived) {
  if (frame.type === "event" && frame.event === "ticket_opened") return frame.data.text; // wrong
}
"""


class Talk:
    """One who is logged in, in rooms of the desk; each frame that comes is held against the document."""

    def __init__(self, client: Client, document: dict[str, Any]) -> None:
        self._client = client
        self._document = document

    async def ask(self, name: str, role: str, room: str, **frame: Any) -> Any:
        """The answer to a frame; events that come before it are checked too."""
        await self._client.send({"channel": room, "request_id": name, **frame})
        while (answer := await self._client.receive()).get("request_id") != name:
            self.check(f"{answer['event']}.event", answer)
        self.check(f"{name}.{role}", answer)
        return answer

    def check(self, name: str, frame: Any) -> None:
        Draft7Validator(message(self._document, "Desk", name)).validate(frame)


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Talk, str]]:
    """A customer of a served desk, in the room of a ticket."""
    async with serving(create_app()) as site, site.client() as http:
        document = (await http.get("/asyncapi.json")).json()
        await http.post("/login", json={"name": "ada"})
        ticket = (await http.post("/tickets", json={"room": "billing", "subject": "Paid twice"})).json()
        headers = {"Authorization": f"Bearer {http.cookies['desk_user']}"}
        async with site.connect("/desk", additional_headers=headers) as client:
            talk, room = Talk(client, document), f"ticket:{ticket['id']}"
            await client.send({"type": "join", "channel": room, "request_id": 0})
            talk.check("joined.control", await client.receive())
            yield talk, room


async def test_it_does_what_its_document_says():
    async with talking() as (talk, room):
        await talk.ask("ticket.say", "reply", room, action="ticket.say", text="Hello?")
        page = await talk.ask("ticket.history", "reply", room, action="ticket.history", limit=1)
        assert page["data"]["items"][0]["text"] == "Hello?"
        refused = await talk.ask("ticket.say", "error", room, action="ticket.say", text="")
        assert refused["code"] == "invalid_payload"
        refused = await talk.ask("ticket.close", "error", room, action="ticket.close")
        assert refused["code"] == "permission_denied"
        await talk.ask("assistant.ask", "item", room, action="assistant.ask", question="An invoice?")


async def test_its_document_is_valid_and_names_what_it_has(official: Official):
    document = described(create_app())
    official.check(document)
    names = {key.partition(".")[2] for key in document["operations"]}
    assert {"ticket.say", "assistant.ask", "queue", "said", "ticket_opened", "join", "left"} <= names
    say = document["operations"]["Desk.ticket.say"]
    assert (say["x-rate-limits"], say["x-channel"]) == ([{"times": 20, "seconds": 10.0}], "TicketRoom")
    assert document["operations"]["Desk.ticket.close"]["x-permissions"] == ["IsAgent"]
    assert document["channels"]["Desk"]["x-room-patterns"] == ["ticket:{ticket_id:int}", "team:{name}"]


async def test_its_page_is_served_in_both_languages():
    async with serving(create_app()) as site, site.client() as http:
        for language, said in (("en", "Say something to everybody"), ("zh", "试一试")):
            page = await http.get("/asyncapi", params={"lang": language})
            assert page.headers["content-language"] == language
            assert said in page.text


def test_its_types_hold_a_front_end_to_it(compiler: Compiler):
    channels = typescript(described(create_app()))
    assert compiler.faults(channels=channels, right=RIGHT) == {}
    assert compiler.faults(channels=channels, wrong=WRONG).keys() == wrong_lines("wrong", WRONG)
