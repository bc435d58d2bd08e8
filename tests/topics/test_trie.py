"""The trie, against what the rules say of each filter by itself."""

import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fastapi_channels.topics.names import matches
from fastapi_channels.topics.trie import Trie
from tests.topics.test_names import FITTING, NOT_FITTING

words = st.sampled_from(["", "a", "b", "$a", "$", "sport"])
topics = st.lists(words, min_size=1, max_size=5).map("/".join).filter(bool)


@st.composite
def filters(draw: st.DrawFn) -> str:
    levels = draw(st.lists(st.one_of(words, st.just("+")), min_size=0, max_size=5))
    levels += ["#"] if draw(st.booleans()) or not any(levels) else []
    return "/".join(levels)


def fits(filter: str, topic: str) -> bool:
    """What the rules say, by a regular expression: no code of the package."""
    if filter == "#":
        expression = ".*"
    else:
        head, rest = (filter[:-2], "(/.*)?") if filter.endswith("/#") else (filter, "")
        levels = [level if level != "+" else "[^/]*" for level in head.split("/")]
        expression = "/".join(each if each == "[^/]*" else re.escape(each) for each in levels) + rest
    hidden = topic.startswith("$") and filter[:1] in ("+", "#")
    return not hidden and re.fullmatch(expression, topic) is not None


@given(filters(), topics)
def test_one_filter_by_itself(filter: str, topic: str):
    assert matches(filter, topic) == fits(filter, topic)


@given(st.lists(filters(), max_size=30), topics)
def test_a_match_is_of_those_that_fit(found: list[str], topic: str):
    trie: Trie[str] = Trie()
    for filter in found:
        trie.put(filter, filter)
    assert len(trie) == len(set(found))
    assert sorted(trie.match(topic)) == sorted({filter for filter in found if fits(filter, topic)})


def test_the_examples_of_the_standard():
    for filter, topic in FITTING:
        trie: Trie[int] = Trie()
        trie.put(filter, 1)
        assert trie.match(topic) == [1], (filter, topic)
    for filter, topic in NOT_FITTING:
        trie = Trie()
        trie.put(filter, 1)
        assert trie.match(topic) == [], (filter, topic)


def test_a_filter_has_its_last_value():
    trie: Trie[int] = Trie()
    trie.put("a/+", 1)
    trie.put("a/+", 2)
    assert (trie.match("a/b"), len(trie)) == ([2], 1)


@given(st.lists(filters(), max_size=20))
def test_of_what_has_gone_nothing_is_left(found: list[str]):
    trie: Trie[str] = Trie()
    for filter in found:
        trie.put(filter, filter)
    for filter in found:
        trie.remove(filter)
    assert not trie._root.further
    assert len(trie) == 0


class Changes(RuleBasedStateMachine):
    """Filters come and go, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.trie: Trie[str] = Trie()
        self.there: set[str] = set()

    @rule(filter=filters())
    def put(self, filter: str) -> None:
        self.trie.put(filter, filter)
        self.there.add(filter)

    @rule(filter=filters())
    def remove(self, filter: str) -> None:
        self.trie.remove(filter)
        self.there.discard(filter)

    @rule(topic=topics)
    def match(self, topic: str) -> None:
        assert sorted(self.trie.match(topic)) == sorted(each for each in self.there if fits(each, topic))

    @invariant()
    def counts(self) -> None:
        assert len(self.trie) == len(self.there)


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=30, stateful_step_count=30)


def test_a_match_looks_at_no_filter_that_begins_otherwise():
    """Of many, only the nodes that the topic's levels lead to."""
    trie: Trie[int] = Trie()
    for number in range(1000):
        trie.put(f"other{number}/+/#", number)
    trie.put("mine/+/#", -1)
    Counting.looked = 0
    count(trie._root)
    assert trie.match("mine/a/b") == [-1]
    assert 0 < Counting.looked <= 9  # three looks for each level, at one node each


class Counting(dict[str, Any]):
    looked = 0

    def get(self, *args: Any) -> Any:
        Counting.looked += 1
        return super().get(*args)


def count(node: Any) -> None:
    """Count the looks at what follows a node."""
    if node.further is not None:
        node.further = Counting(node.further)
        for each in node.further.values():
            count(each)
