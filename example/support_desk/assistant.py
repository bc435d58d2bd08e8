"""An assistant that answers word by word: the actions `assistant.*` in a ticket's room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Final

from fastapi import Depends
from pydantic import Field

from fastapi_channels import ActionRouter, Connection

from .database import Session
from .tickets import CurrentTicket, post

NAME: Final = "assistant"
ANSWERS: Final = {
    "invoice": "You find every invoice under Account, Billing. The newest one is on top.",
    "password": "Ask for a new password on the login page. The link in the mail is good for an hour.",
}
OTHERWISE: Final = "I do not know. A person from the team is going to answer."


class Assistant:
    """Stands for a language model: the answers are canned, the waiting is real."""

    async def answer(self, question: str) -> AsyncIterator[str]:
        """The answer in pieces, as they come."""
        found = next((text for word, text in ANSWERS.items() if word in question.lower()), OTHERWISE)
        for word in found.split(" "):
            await asyncio.sleep(0.03)
            yield word + " "


async def get_assistant() -> Assistant:
    return Assistant()


router = ActionRouter(NAME + ".", tags=["assistant"])


@router.action()
async def ask(
    question: Annotated[str, Field(min_length=1, max_length=500)],
    ticket: CurrentTicket,
    connection: Connection,
    session: Session,
    assistant: Annotated[Assistant, Depends(get_assistant)],
) -> AsyncIterator[str]:
    """Ask the assistant. Only who asks receives the pieces; the whole is said to everybody in the room.

    A client that cancels, or leaves, ends it where it is, and nothing is written down.
    """
    # The answer takes its time: the database's connection goes back to the pool meanwhile.
    await session.commit()
    pieces: list[str] = []
    async for piece in assistant.answer(question):
        pieces.append(piece)
        yield piece
    await session.refresh(ticket)
    said = await post(session, ticket, NAME, "".join(pieces).strip())
    await connection.channel.broadcast(connection.room, said)
