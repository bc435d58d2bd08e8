"""What a channel says of its rooms."""

from __future__ import annotations

from typing import Protocol

from fastapi_channels.stores import Limits

from .presence import Showing
from .recovery import Keeping


class Terms(Protocol):
    """Those of the rooms that a client joins.

    Attributes:
        limits: how many a room takes, over all processes; None for any number.
        history: what is kept of what is published there; None for nothing.
        name: of the class of the channel.
        rooms_per_user: how many rooms of that class a user may be in, over all processes; None for any.
        showing: how its members see each other; None where they do not.
    """

    limits: Limits | None
    history: Keeping | None
    name: str
    rooms_per_user: int | None
    showing: Showing | None
