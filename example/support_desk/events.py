"""What the server tells its clients unasked."""

from __future__ import annotations

from fastapi_channels import Event


class Said(Event):
    """Somebody said something about a ticket."""

    id: int
    by: str
    text: str


class TicketOpened(Event):
    """A ticket came into the team's queue."""

    id: int
    subject: str
    customer: str


class TicketClosed(Event):
    """Nothing more can be said about a ticket."""

    id: int
    by: str
