"""What is said of requests before their turn: once for each, and bounded."""

from fastapi_channels.sessions.foretold import MAX_FORETOLD, Foretold, stand_in, tell
from fastapi_channels.wire.messages import MAX_WINDOW, Message


def come(foretold: Foretold, request_id: str | int | None, *, is_last: bool = False) -> tuple[bool, int]:
    message = Message("count", {}, request_id)
    tell(foretold, message, is_last=is_last)
    return message.cancelled, message.credit


def test_the_first_of_an_id_is_told_and_no_other():
    foretold: Foretold = {}
    stand_in(foretold, 1).give(2)
    stand_in(foretold, 1).give(3)
    stand_in(foretold, "a").cancel()
    assert come(foretold, None) == (False, 0)
    assert come(foretold, "a") == (True, 0)
    assert come(foretold, 1) == (False, 5)
    assert come(foretold, 1) == (False, 0)
    assert not foretold


def test_when_nothing_waits_nothing_is_remembered():
    foretold: Foretold = {}
    stand_in(foretold, 1).cancel()
    assert foretold
    assert come(foretold, 2, is_last=True) == (False, 0)
    assert not foretold


def test_the_oldest_are_forgotten():
    foretold: Foretold = {}
    for number in range(MAX_FORETOLD + 1):
        stand_in(foretold, number).give(1)
    stand_in(foretold, 1).give(1)
    stand_in(foretold, "last").give(10**400)
    assert [come(foretold, number) for number in (0, 1, 2, "last")] == [
        (False, 0),
        (False, 2),
        (False, 0),
        (False, MAX_WINDOW),
    ]
