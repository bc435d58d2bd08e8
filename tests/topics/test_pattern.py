"""The pattern of topics, and what a filter fixes of it."""

from typing import Any
from uuid import UUID

import pytest

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.topics.pattern import TopicPattern

SCORES = "sport/{game}/{player:int}"
ID = "0c9e7a0e-32a1-4f4b-9f3e-0d4f0c0d5d11"

FIXED: list[tuple[str, str, dict[str, Any] | None]] = [
    (SCORES, "sport/tennis/7", {"game": "tennis", "player": 7}),
    (SCORES, "sport/+/7", {"game": None, "player": 7}),
    (SCORES, "+/tennis/+", {"game": "tennis", "player": None}),
    (SCORES, "sport/tennis/#", {"game": "tennis", "player": None}),
    (SCORES, "sport/#", {"game": None, "player": None}),
    (SCORES, "#", {"game": None, "player": None}),
    (SCORES, "sport/tennis/7/#", {"game": "tennis", "player": 7}),
    (SCORES, "sport/tennis", None),
    (SCORES, "sport/tennis/7/8", None),
    (SCORES, "sport/tennis/7/+", None),
    (SCORES, "sport/tennis/ann", None),
    (SCORES, "sport/tennis/007", None),
    (SCORES, "news/#", None),
    (SCORES, "sport//7", None),
    ("files/{path:path}", "files/a/b", {"path": "a/b"}),
    ("files/{path:path}", "files/a/+/b", {"path": None}),
    ("files/{path:path}", "files/a/#", {"path": None}),
    ("files/{path:path}", "files/+", {"path": None}),
    ("files/{path:path}", "files", None),
    ("user-{id:int}/{part}", "user-7/+", {"id": 7, "part": None}),
    ("user-{id:int}/{part}", "+/mail", {"id": None, "part": "mail"}),
    ("/{id:uuid}", f"/{ID}", {"id": UUID(ID)}),
    ("/{id:uuid}", f"+/{ID}", {"id": UUID(ID)}),
    ("/{id:uuid}", ID, None),
    ("$SYS/{what}", "$SYS/+", {"what": None}),
    ("$SYS/{what}", "#", None),
    ("$SYS/{what}", "+/load", None),
    ("plain", "plain", {}),
    ("plain", "+", {}),
    ("at/{point:float}", "at/1.5", {"point": 1.5}),
    ("at/{point:float}", "at/1.50", None),
]


@pytest.mark.parametrize(("pattern", "filter", "params"), FIXED)
def test_what_a_filter_fixes(pattern: str, filter: str, params: dict[str, Any] | None):
    assert TopicPattern(pattern).fixed(filter) == params


def test_of_a_topic_all_are_known():
    assert TopicPattern(SCORES).match("sport/tennis/7") == {"game": "tennis", "player": 7}
    assert TopicPattern(SCORES).match("sport/tennis/ann") is None


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("sport/+", r"name the level, as in 'sport/\{name\}'"),
        ("sport/#", "has a wildcard"),
        ("{path:path}/end", "a path before its end"),
        ("", "empty"),
        ("{a}/{a}", "Duplicated"),
        ("{connection}", "stands for something else"),
    ],
)
def test_a_pattern_that_cannot_be(pattern: str, problem: str):
    with pytest.raises(ConfigurationError, match=problem):
        TopicPattern(pattern)
