"""Who listens to which room in this process, and the fan-out to them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Protocol

from .messages import Frame


class Member(Protocol):
    """What the hub needs of a connection."""

    @property
    def id(self) -> str: ...

    def push(self, frame: Frame) -> None:
        """Take `frame` without waiting and without raising."""


class Hub:
    """Room → its local members, by id."""

    __slots__ = ("_rooms",)

    def __init__(self) -> None:
        self._rooms: dict[str, dict[str, Member]] = {}

    @property
    def rooms(self) -> Collection[str]:
        """The rooms that have a member here."""
        return self._rooms.keys()

    def add(self, room: str, member: Member) -> None:
        self._rooms.setdefault(room, {})[member.id] = member

    def discard(self, room: str, member: Member) -> bool:
        """Take `member` out of `room`; whether it was the last one in it."""
        members = self._rooms.get(room)
        if members is None or members.pop(member.id, None) is None:
            return False
        if members:
            return False
        del self._rooms[room]
        return True

    def count(self, room: str) -> int:
        return len(self._rooms.get(room, ()))

    def members(self, room: str) -> list[Member]:
        return list(self._rooms.get(room, {}).values())

    def everybody(self) -> Iterator[Member]:
        """Each member once, whatever the number of its rooms."""
        seen: set[str] = set()
        for members in list(self._rooms.values()):
            for member in list(members.values()):
                if member.id not in seen:
                    seen.add(member.id)
                    yield member

    def deliver(self, room: str, frame: Frame, exclude: Collection[str] = ()) -> None:
        """Hand `frame` to the members of `room`, except those with an id in `exclude`."""
        members = self._rooms.get(room)
        if members is None:
            return
        if exclude:
            for member in list(members.values()):
                if member.id not in exclude:
                    member.push(frame)
        else:
            for member in list(members.values()):
                member.push(frame)
