"""The places in rooms of limited size that this process has given away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class _Seat:
    ticket: int
    """The Lamport clock when it was claimed."""
    taken: bool = False
    """Confirmed, not only claimed."""
    holders: set[str] = field(default_factory=set)
    """Ids of the connections that share it."""


class Seats:
    """Room → seat → claim. A claim holds its seat at once, so that simultaneous ones cannot exceed it."""

    __slots__ = ("_rooms",)

    def __init__(self) -> None:
        self._rooms: dict[str, dict[str, _Seat]] = {}

    def __len__(self) -> int:
        """How many seats are given away, in all rooms."""
        return sum(map(len, self._rooms.values()))

    def claim(self, room: str, seat: str, holder: str, limit: int, ticket: int) -> bool:
        """Claim `seat`, or share it if it is held here; False when `limit` are held here already."""
        seats = self._rooms.get(room, {})
        held = seats.get(seat)
        if held is None:
            if len(seats) >= limit:
                return False
            held = self._rooms.setdefault(room, {})[seat] = _Seat(ticket)
        held.holders.add(holder)
        return True

    def confirm(self, room: str, seat: str, limit: int, node: str, answers: Mapping[str, Any]) -> bool:
        """Whether a claim stands beside the claims of other nodes, given as `claims` gives them."""
        mine = self._rooms[room][seat]
        seats = self._rooms[room].items()
        before = {key for key, other in seats if other.taken or other.ticket < mine.ticket}
        for other_node, claims in answers.items():
            for key, ticket, taken in claims:
                if taken or (ticket, other_node) < (mine.ticket, node):
                    before.add(key)
        mine.taken = len(before - {seat}) < limit
        return mine.taken

    def release(self, room: str, seat: str, holder: str) -> None:
        """Give back one holder's part of a seat; nothing if it has none."""
        seats = self._rooms.get(room, {})
        held = seats.get(seat)
        if held is None:
            return
        held.holders.discard(holder)
        if not held.holders:
            del seats[seat]
            if not seats:
                del self._rooms[room]

    def claims(self, room: str) -> list[tuple[str, int, bool]]:
        """Seat, ticket and whether it is taken, of every claim for `room`."""
        return [(key, seat.ticket, seat.taken) for key, seat in self._rooms.get(room, {}).items()]
