"""Who may receive what is published to a topic."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from fastapi_channels.topics.pattern import TopicPattern
from fastapi_channels.topics.reception import Reception


@pytest.mark.parametrize(("answer", "allowed"), [(True, True), (False, False), (None, False), (1, False)])
def test_only_true_allows(answer: Any, allowed: bool):
    assert Reception(lambda connection: answer, None).allows("ann", "a") is allowed


def test_it_is_asked_with_the_typed_parameters_of_the_topic():
    asked = []

    def may_receive(connection: Any, **params: Any) -> bool:
        asked.append((connection, params))
        return True

    reception = Reception(may_receive, TopicPattern("sport/{game}/{player:int}"))
    assert reception.allows("ann", "sport/tennis/7")
    assert reception.allows("bob", "sport/tennis/7")
    assert reception.allows("bob", "sport/golf/8")
    tennis, golf = {"game": "tennis", "player": 7}, {"game": "golf", "player": 8}
    assert asked == [("ann", tennis), ("bob", tennis), ("bob", golf)]


def test_a_topic_that_fits_no_pattern_reaches_nobody():
    assert not Reception(lambda connection, **params: True, TopicPattern("a/{b:int}")).allows("ann", "a/b")


def test_what_fails_refuses_and_is_told_seldom(caplog: pytest.LogCaptureFixture):
    def may_receive(connection: Any) -> bool:
        raise KeyError("x" * 1000)

    reception = Reception(may_receive, None)
    ann = SimpleNamespace(websocket=HTTPConnection({"type": "websocket"}))
    with caplog.at_level(logging.WARNING):
        assert not any(reception.allows(ann, "a") for _ in range(5))
    (record,) = caplog.records
    assert "may_receive fails, and its client gets nothing: KeyError" in record.message
    assert len(record.message) < 400
