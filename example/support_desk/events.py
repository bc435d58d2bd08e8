"""What the server tells its clients unasked."""

from __future__ import annotations

from fastapi_channels import Event


class Said(Event):
    id: int
    by: str
    text: str


class TicketOpened(Event):
    id: int
    subject: str
    customer: str


class TicketClosed(Event):
    id: int
    by: str
