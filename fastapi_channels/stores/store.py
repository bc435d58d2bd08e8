"""What a store keeps: state that outlives a connection, and a process.

A store has five kinds of it, each under the name of its room (the topic, so that two applications with
namespaces can share a server): who is in the room, what was published there, which keys were used, values
that end, and the leases of the processes. Every change of a room is one atomic step of the store. All times
are the store's.

**Leases** (Gray and Cheriton, 1989). A process holds one for all that it has entered. The lease says until
when, by the store's clock, what the process enters is taken; an `enter` that comes later is refused, however
long it was under way. What a process has entered is taken out, once, by whichever process first looks after
its lease has ended. So a process that was paused or cut off cannot put anything back that others have been
given meanwhile: `until` and the token are its fence (Kleppmann, "How to do distributed locking", 2016).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from fastapi_channels.exceptions import ChannelsError
from fastapi_channels.wire.messages import Body
from fastapi_channels.wire.positions import Position


class StoreUnavailable(ChannelsError, ConnectionError):
    """The store did not answer in time; whether what was asked of it was done is not known.

    Attributes:
        is_told: whether the log is told of it, and of its end, by the store.
    """

    is_told = False


class LeaseLost(ChannelsError):
    """The lease ended: what this process had entered was given up, and has to be entered anew."""


class Lease(NamedTuple):
    """
    Attributes:
        node: the id of the process.
        token: rises each time that the process had lost its lease.
        until: seconds of the store's clock.
    """

    node: str
    token: int
    until: float


class Occupant(NamedTuple):
    """A connection in a room.

    Attributes:
        id: of the connection; begins with that of its process and a dot.
        user: the key of its user.
        seat: whose place it takes in a room of limited size.
        data: JSON of what the application says about it; empty for nothing.
        since: when it entered, seconds since 1970 by the store's clock; what `enter` is given is ignored.
    """

    id: str
    user: str | None = None
    seat: str = ""
    data: str = ""
    since: float = 0.0


WhenOver: TypeAlias = Literal["refuse", "close_oldest"]
"""What happens to a user's connection above the limit: it is refused, or the user's oldest makes room."""


class Limits(NamedTuple):
    """How many may be in a room.

    Attributes:
        seats: different seats; None for any number.
        per_user: connections of one user; None for any number. Those without a user are not counted.
        when_over: what happens above `per_user`.
    """

    seats: int | None = None
    per_user: int | None = None
    when_over: WhenOver = "refuse"


NO_LIMITS: Final = Limits()


class Entered(NamedTuple):
    """
    Attributes:
        version: of the room's occupants, which each change raises by one; as it was where nothing changed.
        changed: whether anything did.
        occupants: those that are in now, with their `since`; of those that were given.
        full: ids that found no seat.
        over: ids that were refused for `per_user`.
        displaced: the occupants that were taken out for them.
    """

    version: int
    changed: bool
    occupants: list[Occupant]
    full: list[str]
    over: list[str]
    displaced: list[Occupant]


class Left(NamedTuple):
    """
    Attributes:
        room: which they were in.
        version: of the room's occupants; as it was where nothing changed.
        occupants: those that were in, and are not any more.
    """

    room: str
    version: int
    occupants: list[Occupant]


class Occupancy(NamedTuple):
    """Who is in a room, or a part of them, and the version that this is of.

    Attributes:
        total: how many are in, whatever the part.
    """

    version: int
    occupants: list[Occupant]
    total: int


class Retention(NamedTuple):
    """How much of a room's history is kept: what is over any of these bounds is dropped, oldest first.

    Attributes:
        messages: publications.
        size: bytes of their bodies; the newest is kept whatever its size.
        seconds: their age.
    """

    messages: int
    size: int
    seconds: float


class Record(NamedTuple):
    """A publication as the history has it.

    Attributes:
        offset: in the epoch of its page.
        body: what was published.
        exclude: ids of the connections that did not get it.
        users: the keys of the users of those connections.
        at: when it was appended, seconds since 1970.
        for_each: names the function that says what each recipient gets; empty where all get `body`.
    """

    offset: int
    body: Body
    exclude: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    at: float = 0.0
    for_each: str = ""


class Page(NamedTuple):
    """A part of a room's history.

    Attributes:
        epoch: of all offsets.
        top: the offset of the newest publication ever; 0 before the first.
        first: the lowest offset that is kept; `top + 1` where nothing is.
        records: what was asked for, in the order that was asked for.
    """

    epoch: str
    top: int
    first: int
    records: list[Record]


class Announcement(NamedTuple):
    """What a store publishes with an append: `head`, the position, `tail`, to `topic`."""

    topic: str
    head: str
    tail: str


class Addition(NamedTuple):
    """What is appended to a history.

    Attributes:
        record: whose `offset` and `at` are given by the store.
        keep: bounds that hold after it.
        key: where it was used for this room within its `key_seconds`, nothing is appended.
        known: the highest position that the process has had from the store or the broker; never a client's
            word. Where the store is behind it, in its epoch, the store has lost publications, and a new epoch
            begins.
        announcement: only where the store `announces`: published to all, if it is new.
    """

    record: Record
    keep: Retention
    key: str | None = None
    key_seconds: float = 0.0
    known: Position | None = None
    announcement: Announcement | None = None


class Part(NamedTuple):
    """What is read of a history: at most `limit` publications with offsets above `after` and below `before`,
    oldest first; newest first where `reverse`."""

    after: int = 0
    before: int | None = None
    limit: int = 100
    reverse: bool = False


FIRST: Final = Part()


class Appended(NamedTuple):
    """
    Attributes:
        position: of the publication; of the first with this key, where there was one.
        is_new: whether this call appended it.
    """

    position: Position
    is_new: bool


MAX_KEY: Final = 256
"""Characters of a key that says that two things are one."""
MAX_OUTCOME: Final = 64 * 1024
"""Characters of an outcome that is remembered."""


class Claim(NamedTuple):
    """What `claim` found.

    Attributes:
        state: `new`, and the caller is the first; `running`, and somebody else is; `done`.
        outcome: of the one that is done.
    """

    state: Literal["new", "running", "done"]
    outcome: str = ""


class Store(Protocol):
    """State of all processes of an application. Implement it to keep that state somewhere else; the suite in
    `tests/conformance/test_stores.py` says what has to hold.

    Every method but `open` and `close` raises StoreUnavailable when it is not answered within the store's
    timeout. A store connects again by itself.
    """

    shared: bool
    """Whether other processes see it too. Where not, leases never end."""
    announces: bool
    """Whether `append` can publish what it appends, in the same step, where the application's broker
    listens."""

    @property
    def connects(self) -> int:
        """How often it has connected to its server. Before each time but the first, the server may have lost
        what was entered, although the lease holds: a replica that became the master had not heard of it."""
        ...

    async def open(self) -> None:
        """Connect, in the running event loop. Returns also where the store is not there yet: it is looked for
        again at each call.

        Raises:
            ConfigurationError: the server is there, and cannot be used; says why.
        """
        ...

    async def close(self) -> None: ...

    # Leases

    async def renew(self, node: str, token: int, seconds: float) -> Lease:
        """The lease of `node`, made to last `seconds` from now. A token other than the one that was given
        says that the lease had ended, or never was (`token` 0): nothing that was entered before is there any
        more, or will be.
        """
        ...

    async def resign(self, lease: Lease) -> list[Left]:
        """End the lease now, and take out all that was entered under it."""
        ...

    async def evict(self) -> list[Left]:
        """Take out what was entered under leases that have ended; each is returned to one caller, once."""
        ...

    # Who is in a room

    async def enter(
        self, room: str, occupants: Sequence[Occupant], lease: Lease, limits: Limits = NO_LIMITS
    ) -> Entered:
        """Put `occupants` into `room`, in this order. One that is in already keeps its `since`, whatever the
        limits, and has its `user`, `seat` and `data` replaced. An occupant whose seat is taken shares it.

        Raises:
            LeaseLost: the lease has ended; nothing was changed.
        """
        ...

    async def leave(self, room: str, ids: Collection[str]) -> Left:
        """Take the connections out; nothing happens to those that are not in."""
        ...

    async def count(self, room: str) -> int:
        """How many connections are in `room`."""
        ...

    async def count_people(self, room: str) -> int:
        """How many users, and connections without one, are in `room` with `data`."""
        ...

    async def occupancy(self, room: str, first: int = 0, limit: int | None = None) -> Occupancy:
        """Who is in `room`, by the time at which they entered: at most `limit`, without the `first` so many.
        To read a part costs as much as the part, in the process that asks."""
        ...

    # What was published

    async def append(self, room: str, addition: Addition) -> Appended:
        """Append a publication to the history of `room`."""
        ...

    async def read(self, room: str, keep: Retention, part: Part = FIRST) -> Page:
        """Read a part of the history of `room`. Where it has none yet, one begins: there is always a
        position."""
        ...

    async def tops(self, known: Mapping[str, Position | None]) -> dict[str, Position]:
        """The position of the newest publication of each room, all in one round trip if that can be; `known`
        as for `append`."""
        ...

    # Keys that were used

    async def claim(self, key: str, owner: str, seconds: float) -> Claim:
        """Be the first to use `key`, for `seconds`. Again by the same `owner`: it still is."""
        ...

    async def settle(self, key: str, owner: str, outcome: str | None, seconds: float) -> None:
        """Remember the outcome for `seconds`; None forgets the key. Nothing happens if `owner` does not hold
        it any more."""
        ...

    # Values that end

    async def put(self, key: str, value: str, seconds: float) -> None:
        """Keep `value` under `key` for `seconds`, in the place of what is there."""
        ...

    async def get(self, key: str) -> str | None:
        """What is kept under `key`; None for nothing."""
        ...

    async def take(self, key: str) -> str | None:
        """The same, for one caller, once: it is not kept any more."""
        ...
