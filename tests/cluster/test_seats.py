from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastapi_channels.cluster.seats import Seats

# One process


@pytest.fixture
def seats() -> Seats:
    return Seats()


def test_a_claim_holds_its_seat_at_once(seats: Seats) -> None:
    assert seats.claim("room", "a", "1", limit=2, ticket=1)
    assert seats.claim("room", "b", "2", limit=2, ticket=2)
    assert not seats.claim("room", "c", "3", limit=2, ticket=3)
    assert seats.claim("other", "c", "3", limit=2, ticket=4)
    assert seats.claims("room") == [("a", 1, False), ("b", 2, False)]


def test_a_seat_may_be_shared(seats: Seats) -> None:
    for holder in "12":
        assert seats.claim("room", "ada", holder, limit=1, ticket=1)
    seats.release("room", "ada", "1")
    assert not seats.claim("room", "bob", "3", limit=1, ticket=2)
    seats.release("room", "ada", "2")
    assert seats.claim("room", "bob", "3", limit=1, ticket=3)


def test_only_who_holds_a_seat_gives_it_back(seats: Seats) -> None:
    """Another connection of the same user, which never claimed, may leave the room."""
    seats.claim("room", "ada", "1", limit=1, ticket=1)
    seats.release("room", "ada", "2")
    seats.release("room", "bob", "1")
    seats.release("other", "ada", "1")
    assert seats.claims("room") == [("ada", 1, False)]
    seats.release("room", "ada", "1")
    seats.release("room", "ada", "1")
    assert seats.claims("room") == []
    assert len(seats) == 0


def test_what_is_released_is_forgotten(seats: Seats) -> None:
    for seat in "ab":
        seats.claim("room", seat, seat, limit=2, ticket=1)
    seats.release("room", "a", "a")
    assert len(seats) == 1
    seats.release("room", "b", "b")
    assert len(seats) == 0


def test_a_refused_claim_leaves_nothing(seats: Seats) -> None:
    assert not seats.claim("room", "a", "1", limit=0, ticket=1)
    assert len(seats) == 0


# Beside the claims of others


@pytest.mark.parametrize(
    ("others", "stands"),
    [
        ([], True),
        ([("x", 4, False)], True),
        ([("x", 3, False), ("y", 4, False)], False),
        ([("x", 3, False), ("y", 9, False)], True),
        ([("x", 3, False), ("y", 9, True)], False),
        ([("x", 9, True), ("y", 9, True)], False),
        ([("x", 3, True), ("x", 4, False)], True),
        ([("mine", 3, True), ("x", 4, False)], True),
        # At the same time: the process with the smaller name goes first.
        ([("x", 5, False), ("y", 5, False)], False),
    ],
)
def test_a_claim_stands_if_there_is_room_behind_those_before_it(
    seats: Seats, others: list[tuple[str, int, bool]], stands: bool
) -> None:
    seats.claim("room", "mine", "1", limit=2, ticket=5)
    assert seats.confirm("room", "mine", 2, "node", {"another": others}) is stands
    assert seats.claims("room") == [("mine", 5, stands)]


def test_a_seat_that_is_taken_counts_whenever_it_was_claimed(seats: Seats) -> None:
    """A question that somebody did not answer in time can let a later claim stand first."""
    seats.claim("room", "mine", "1", limit=2, ticket=5)
    seats.claim("room", "later", "2", limit=2, ticket=6)
    assert seats.confirm("room", "later", 2, "node", {})
    assert not seats.confirm("room", "mine", 2, "node", {"another": [("x", 4, False)]})


def test_of_two_claims_at_the_same_time_one_stands() -> None:
    nodes = {name: Seats() for name in "ab"}
    for name, seats in nodes.items():
        seats.claim("room", name, "1", limit=1, ticket=1)
    claims = {name: seats.claims("room") for name, seats in nodes.items()}
    assert nodes["a"].confirm("room", "a", 1, "a", {"b": claims["b"]})
    assert not nodes["b"].confirm("room", "b", 1, "b", {"a": claims["a"]})


# Several processes


@dataclass
class Process:
    """A process as `cluster` and `node` make it: a Lamport clock, and questions to all others."""

    name: str
    clock: int = 0
    seats: Seats = field(default_factory=Seats)


@dataclass
class Claim:
    process: Process
    seat: str
    holder: str
    missing: set[str]
    answers: dict[str, Any] = field(default_factory=dict)
    stands: bool | None = None
    left: bool = False


class World:
    """Processes, and the messages between them, which arrive when the test says.

    Between two processes they keep their order, as those of one publisher do.
    """

    room = "room"

    def __init__(self, processes: int, limit: int) -> None:
        self.processes = [Process(name) for name in "abcd"[:processes]]
        self.limit = limit
        self.claims: list[Claim] = []
        self.ways: dict[tuple[str, str], deque[tuple[int, str, Claim, Any]]] = {
            (one.name, other.name): deque()
            for one in self.processes
            for other in self.processes
            if one is not other
        }

    def claim(self, index: int, seat: str) -> None:
        process = self.processes[index % len(self.processes)]
        process.clock += 1
        others = {other.name for other in self.processes} - {process.name}
        claim = Claim(process, seat, str(len(self.claims)), others)
        self.claims.append(claim)
        if not process.seats.claim(self.room, seat, claim.holder, self.limit, process.clock):
            claim.stands = False
        elif others:
            for other in others:
                self.ways[process.name, other].append((process.clock, "ask", claim, None))
        else:
            self._confirm(claim)

    def arrive(self, index: int) -> None:
        """Let one message of those that are under way arrive."""
        waiting = [way for way, messages in self.ways.items() if messages]
        if not waiting:
            return
        sender, receiver = waiting[index % len(waiting)]
        clock, kind, claim, answer = self.ways[sender, receiver].popleft()
        process = next(process for process in self.processes if process.name == receiver)
        process.clock = max(process.clock, clock)
        if kind == "ask":
            reply = (process.clock, "answer", claim, process.seats.claims(self.room))
            self.ways[receiver, sender].append(reply)
        else:
            claim.answers[sender] = answer
            claim.missing.discard(sender)
            if not claim.missing:
                self._confirm(claim)

    def leave(self, index: int) -> None:
        staying = [claim for claim in self.claims if claim.stands and not claim.left]
        if staying:
            claim = staying[index % len(staying)]
            claim.left = True
            claim.process.seats.release(self.room, claim.seat, claim.holder)

    def settle(self) -> None:
        while any(self.ways.values()):
            self.arrive(0)

    @property
    def seated(self) -> set[str]:
        return {claim.seat for claim in self.claims if claim.stands and not claim.left}

    def _confirm(self, claim: Claim) -> None:
        seats = claim.process.seats
        claim.stands = seats.confirm(self.room, claim.seat, self.limit, claim.process.name, claim.answers)
        if not claim.stands:
            seats.release(self.room, claim.seat, claim.holder)


moves = st.lists(
    st.tuples(
        st.sampled_from(["claim", "claim", "arrive", "arrive", "arrive", "arrive", "leave"]),
        st.integers(0, 11),
    ),
    max_size=80,
)


@settings(max_examples=300)
@given(moves, st.integers(1, 4), st.integers(1, 4), st.integers(1, 20))
def test_never_more_than_the_limit(
    moves: list[tuple[str, int]], processes: int, limit: int, people: int
) -> None:
    """People share their seat, over processes too, and come and go as they like."""
    world = World(processes, limit)
    for number, (name, index) in enumerate(moves):
        if name == "claim":
            world.claim(index, f"person {number % people}")
        else:
            getattr(world, name)(index)
        assert len(world.seated) <= limit
    world.settle()
    assert len(world.seated) <= limit
    for _ in range(len(world.claims)):
        world.leave(0)
    assert all(len(process.seats) == 0 for process in world.processes), "a seat was left behind"


@settings(max_examples=300)
@given(moves, st.integers(1, 4), st.integers(1, 4))
def test_a_room_that_nobody_leaves_fills(moves: list[tuple[str, int]], processes: int, limit: int) -> None:
    """Nobody is refused while a seat stays free: of claims at the same time they do not refuse each other."""
    world = World(processes, limit)
    for number, (name, index) in enumerate(moves):
        if name == "claim":
            world.claim(index, f"seat {number}")
        elif name == "arrive":
            world.arrive(index)
    world.settle()
    assert len(world.seated) == min(limit, len(world.claims))
