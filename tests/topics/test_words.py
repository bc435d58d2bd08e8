"""The words of a channel with topics."""

import pytest

from fastapi_channels.exceptions import ConfigurationError, NotFound
from fastapi_channels.topics.names import InvalidFilter, InvalidTopic
from fastapi_channels.topics.words import TopicWords
from fastapi_channels.wire.messages import Envelope
from fastapi_channels.wire.rooms import name_of, source_of


class Speaker:
    envelope = Envelope()


def words(pattern: str | None = "sport/{player:int}") -> TopicWords:
    return TopicWords(Speaker(), "Scores", pattern=pattern, scope=None, guarded=True, home="lobby")


def test_all_filters_of_a_space_have_one_source():
    one, other = words().key("sport/+"), words().key("#")
    assert (name_of(one), name_of(other)) == ("sport/+", "#")
    assert source_of(one) == source_of(other) == source_of(words().target("sport/7"))
    assert source_of(one) not in (one, other)
    assert "Scores" in source_of(one)


def test_home_is_a_room_as_any_other():
    key = words().key("lobby")
    assert source_of(key) == key == words().target("lobby")
    assert words().params("lobby") == {}
    assert not words().guards("lobby")
    assert words().guards("sport/+")
    assert words().room_of(key) == "lobby"


def test_what_has_a_room():
    assert words().has("sport/+")
    assert words().has("#")
    assert not words().has("news/+")
    assert not words().has("sport/#/7")
    assert words(None).has("news/+")


def test_what_a_client_asks_for_in_vain():
    assert words().params("sport/+") == {"player": None}
    assert words(None).params("sport/+") == {}
    with pytest.raises(NotFound):
        words().params("news/+")
    with pytest.raises(InvalidFilter):
        words().params("sport/#/7")


def test_what_the_application_gets_wrong():
    with pytest.raises(ConfigurationError, match=r"no topic of Scores fits 'news/\+'"):
        words().key("news/+")
    with pytest.raises(NotFound, match="no topic of Scores fits 'sport/ann'"):
        words().target("sport/ann")
    with pytest.raises(InvalidTopic):
        words().target("sport/+")
    with pytest.raises(InvalidFilter):
        words(None).key("a/#/b")


def test_a_key_is_told_from_that_of_a_room():
    assert words().room_of(words().key("sport/7")) == "sport/7"
    assert words().room_of("sport/7") is None
    assert words().room_of("Scores\x1fsport/7") is None
