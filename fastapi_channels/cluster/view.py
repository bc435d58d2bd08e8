"""Who is in a room, as its members here are shown it. Pure.

The store has the truth, and each change of it has a version. Who makes a change tells it to all processes. A
view applies changes in the order of their versions. Where one is missing it is behind, until the room has
been read from the store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

from fastapi_channels.stores import Occupant

MAX_HELD: Final = 1000
"""Changes that wait for one before them; beyond these the room is read."""


class Change(NamedTuple):
    """What one step of the store has changed in a room.

    Attributes:
        version: of the room after it.
        came: who is in now, with what is said of them; None where who tells it does not know.
        left: ids of those who are not in any more, and may come back in a moment.
        gone: ids of those who do not.
    """

    version: int
    came: Sequence[Occupant] | None = ()
    left: Collection[str] = ()
    gone: Collection[str] = ()


class Difference(NamedTuple):
    """What is different since the last look: who came, who has other data, and the ids of who left."""

    joined: list[Occupant]
    changed: list[Occupant]
    left: list[str]


class View:
    """
    Args:
        grace: seconds that a user's connection is shown after it has left, unless another one comes.

    Attributes:
        shown: who is shown, by id; of the occupants of the room those that have data.
    """

    __slots__ = (
        "_before",
        "_grace",
        "_held",
        "_leaving",
        "_listed",
        "_newest",
        "_reading",
        "_version",
        "shown",
    )

    def __init__(self, grace: float) -> None:
        self.shown: dict[str, Occupant] = {}
        self._grace = grace
        self._version: int | None = None
        self._newest = 0
        """The highest version that was heard of."""
        self._held: dict[int, Change] = {}
        self._reading = False
        self._before: dict[str, Occupant | None] = {}
        """How those were shown at the last look that have changed since."""
        self._listed: set[str] = set()
        """Of those who have come since then, whom others were shown already."""
        self._leaving: dict[str, float] = {}
        """Those that have left, and until when they are shown."""

    @property
    def is_loaded(self) -> bool:
        return self._version is not None

    @property
    def is_behind(self) -> bool:
        """Whether the room has to be read, if nothing comes."""
        return self._version is None or self._newest > self._version

    @property
    def expires(self) -> float | None:
        """When somebody who has left is not shown any more."""
        return next(iter(self._leaving.values()), None)

    @property
    def seen(self) -> dict[str, Occupant]:
        """Who was shown at the last look, by id."""
        return {id: one for id, one in (self.shown | self._before).items() if one is not None}

    def listed(self, ids: Collection[str]) -> dict[str, Occupant]:
        """Who was shown at the last look, and of `ids` who has come since, for these: they see each other, so
        the next look tells which of them has gone again."""
        come = {id: self.shown[id] for id in ids if id in self.shown}
        if len(ids) > 1:
            self._listed.update(come)
        return self.seen | come

    def take(self, change: Change, now: float) -> None:
        """A change was told, in whatever order."""
        self._newest = max(self._newest, change.version)
        if change.came is not None:
            self._held[change.version] = change
        if len(self._held) > MAX_HELD:
            self._held.clear()
            self._version = None
        elif not self._reading:
            self._advance(now)

    def read(self) -> None:
        """The room is being read. All that was told before is in what is read, or has been lost."""
        self._reading = True
        self._newest = 0
        self._held.clear()

    def fill(self, version: int, occupants: Iterable[Occupant], now: float) -> None:
        """The room was read."""
        self._reading = False
        self._version = version
        present = {occupant.id: occupant for occupant in occupants}
        self._leave([id for id in self.shown if id not in present], now)
        self._come(present.values())
        self._advance(now)

    def abandon(self) -> None:
        """The room could not be read."""
        self._reading = False
        self._version = None

    def look(self, now: float) -> Difference | None:
        """What is shown otherwise than at the last look; None for nothing."""
        for id in [id for id, until in self._leaving.items() if until <= now]:
            del self._leaving[id]
            self._hide(id)
        before, self._before = self._before, {}
        listed, self._listed = self._listed, set()
        joined, changed, left = [], [], []
        for id, was in before.items():
            occupant = self.shown.get(id)
            if occupant is None:
                if was is not None or id in listed:
                    left.append(id)
            elif was is None:
                joined.append(occupant)
            elif (was.user, was.data) != (occupant.user, occupant.data):
                changed.append(occupant)
        return Difference(joined, changed, left) if joined or changed or left else None

    def _advance(self, now: float) -> None:
        if self._version is None:
            return
        for version in [version for version in self._held if version <= self._version]:
            del self._held[version]
        while (change := self._held.pop(self._version + 1, None)) is not None:
            self._version = change.version
            self._come(change.came or ())
            self._leave(change.left, now)
            for id in change.gone:
                self._leaving.pop(id, None)
                self._hide(id)

    def _come(self, occupants: Iterable[Occupant]) -> None:
        for occupant in occupants:
            self._leaving.pop(occupant.id, None)
            if not occupant.data:
                self._hide(occupant.id)
                continue
            known = self.shown.get(occupant.id)
            if known != occupant:
                self._before.setdefault(occupant.id, known)
                self.shown[occupant.id] = occupant
            if known is None and occupant.user is not None and self._leaving:
                self._replace(occupant.user)

    def _replace(self, user: str) -> None:
        """One that comes takes the place of one that has left: nobody sees the user go."""
        for id in self._leaving:
            if self.shown[id].user == user:
                del self._leaving[id]
                self._hide(id)
                return

    def _leave(self, ids: Iterable[str], now: float) -> None:
        for id in ids:
            occupant = self.shown.get(id)
            if occupant is None or id in self._leaving:
                continue
            if self._grace and occupant.user is not None:
                self._leaving[id] = now + self._grace
            else:
                self._hide(id)

    def _hide(self, id: str) -> None:
        occupant = self.shown.pop(id, None)
        if occupant is not None:
            self._before.setdefault(id, occupant)
