"""The gate of a room with history: its publications pass in the order of their offsets, each once.

They come from several processes, over a broker that may drop, double, delay and swap them. The store has
their order. What comes too early is held until what is missing has come, or was read from the store.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from fastapi_channels.stores import Page, Record
from fastapi_channels.wire.positions import Position

MAX_HELD: Final = 1000
"""Publications that may wait for one that is missing; what comes beyond them is read from the store."""


class Passed(NamedTuple):
    """What leaves the gate.

    Attributes:
        after: the position before it.
        records: in order; each follows the one before.
        is_lost: whether publications before it are missing, and nobody has them any more.
    """

    after: Position
    records: list[Record]
    is_lost: bool = False


class Gate:
    """
    Attributes:
        position: of the last that has passed; None until the store has said where the room stands.
    """

    __slots__ = ("_ahead", "_doubted", "_held", "position")

    def __init__(self) -> None:
        self.position: Position | None = None
        self._held: dict[str, dict[int, Record]] = {}
        """By epoch and offset."""
        self._ahead: Position | None = None
        """Known to be in the store, and not held."""
        self._doubted: frozenset[str] = frozenset()
        """Epochs that were not the store's when it was read."""

    @property
    def is_behind(self) -> bool:
        """Whether there is more than has passed."""
        return bool(self._held) or self._ahead is not None

    def has_passed(self, wanted: Position) -> bool:
        """Whether the store need not be asked about `wanted`; so also where it will be asked anyway."""
        position = self.position
        return position is None or (position.epoch == wanted.epoch and position.offset >= wanted.offset)

    def take(self, epoch: str, record: Record) -> Passed | None:
        """What may pass now that `record` has come; None for nothing."""
        position = self.position
        if position is None or epoch != position.epoch:
            self._hold(epoch, record)
            return None
        if record.offset == position.offset + 1:
            return Passed(position, self._pass([record]))
        if record.offset > position.offset:
            self._hold(epoch, record)
        return None

    def compare(self, top: Position) -> None:
        """Take note of the newest that the store has."""
        position = self.position
        if position is None or top.epoch != position.epoch or top.offset > position.offset:
            self._ahead = top

    def fill(self, page: Page) -> Passed:
        """What may pass after the store was read behind `position`, or at all where there is none yet."""
        position, top = self.position, Position(page.epoch, page.top)
        self._settle_epoch(page.epoch)
        if position is None or position.epoch != page.epoch:
            # Whoever knows the other epoch has to reload, and so gets what is older.
            self.position = top
            return Passed(top, self._pass([]), is_lost=position is not None)
        missing = page.first - 1 - position.offset
        if missing > 0:
            position = self.position = Position(page.epoch, page.first - 1)
        records = self._pass([record for record in page.records if record.offset > position.offset])
        assert self.position is not None
        if self.position.offset < page.top:
            self._ahead = top
        return Passed(position, records, is_lost=missing > 0)

    def give_up(self) -> Passed | None:
        """What may pass although the store cannot be asked; None where nothing is held."""
        if not self._held:
            return None
        own = self.position.epoch if self.position is not None else ""
        epoch = own if own in self._held else list(self._held)[-1]
        held = self._held.pop(epoch)
        records = [held[offset] for offset in sorted(held)]
        after = Position(epoch, records[0].offset - 1)
        self.position = Position(epoch, records[-1].offset)
        self._held.clear()
        self._ahead = None
        return Passed(after, records, is_lost=True)

    def _hold(self, epoch: str, record: Record) -> None:
        if sum(map(len, self._held.values())) < MAX_HELD:
            self._held.setdefault(epoch, {})[record.offset] = record
        else:
            self._ahead = Position(epoch, record.offset)

    def _settle_epoch(self, epoch: str) -> None:
        """The store's is `epoch`. What is held of another may be older than it, or newer than the answer. It
        is older if the next answer still says the same."""
        self._ahead = None
        self._held = {
            other: held for other, held in self._held.items() if other == epoch or other not in self._doubted
        }
        self._doubted = frozenset(self._held) - {epoch}

    def _pass(self, records: list[Record]) -> list[Record]:
        """`records`, which come next, and what is held and follows them."""
        assert self.position is not None
        epoch = self.position.epoch
        offset = records[-1].offset if records else self.position.offset
        held = self._held.get(epoch)
        if held:
            # What the store has had as well is held for nothing.
            for old in [each for each in held if each <= offset]:
                del held[old]
            while (found := held.pop(offset + 1, None)) is not None:
                records.append(found)
                offset += 1
            if not held:
                del self._held[epoch]
        self.position = Position(epoch, offset)
        return records
