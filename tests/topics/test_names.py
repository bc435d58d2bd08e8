"""The names of topics, and filters: the normative examples of MQTT 3.1.1, section 4.7."""

import pytest

from fastapi_channels.exceptions import ParseError
from fastapi_channels.topics.names import InvalidFilter, InvalidTopic, check_filter, check_topic, matches

FITTING = [
    ("sport/tennis/player1/#", "sport/tennis/player1"),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
    ("sport/#", "sport"),
    ("#", "sport/tennis"),
    ("sport/tennis/+", "sport/tennis/player1"),
    ("sport/tennis/+", "sport/tennis/player2"),
    ("sport/+", "sport/"),
    ("+", "finance"),
    ("+/tennis/#", "sport/tennis"),
    ("sport/+/player1", "sport/tennis/player1"),
    ("+/+", "/finance"),
    ("/+", "/finance"),
    ("$SYS/#", "$SYS/monitor/Clients"),
    ("$SYS/#", "$SYS"),
    ("$SYS/monitor/+", "$SYS/monitor/Clients"),
    ("/", "/"),
    ("+/+", "/"),
    ("Accounts payable", "Accounts payable"),
    ("sport/+/#", "sport/$tennis"),
]
NOT_FITTING = [
    ("sport/tennis/+", "sport/tennis/player1/ranking"),
    ("sport/+", "sport"),
    ("+", "/finance"),
    ("#", "$SYS/monitor/Clients"),
    ("+/monitor/Clients", "$SYS/monitor/Clients"),
    ("+/#", "$SYS"),
    ("ACCOUNTS", "Accounts"),
    ("finance", "/finance"),
    ("finance/", "finance"),
    ("sport/tennis", "sport/tennis/player1"),
    ("sport/tennis/#", "sport"),
]
"""Filters, and topics that they do not let through."""
VALID = ("#", "+", "sport/#", "sport/tennis/#", "+/tennis/#", "sport/+/player1", "/", "//", "$SYS/+", "a b/é")
WRONG = {
    "sport/tennis#": "'tennis#' is more",
    "sport/tennis/#/ranking": "'ranking' follows",
    "a/#/b": "'b' follows",
    "#/": "'' follows",
    "sport+": "'sport\\+' is more",
    "+a": "'\\+a' is more",
    "++": "'\\+\\+' is more",
    "a/##": "'##' is more",
    "": "1 to 255 printable characters",
    "a\0b": "1 to 255 printable characters",
    "a/\n": "1 to 255 printable characters",
    "x" * 65_536: "1 to 255 printable characters",
    "*": "1 to 255 printable characters",
}


@pytest.mark.parametrize(("filter", "topic"), FITTING)
def test_a_topic_that_fits(filter: str, topic: str):
    assert matches(check_filter(filter), check_topic(topic))


@pytest.mark.parametrize(("filter", "topic"), NOT_FITTING)
def test_one_that_does_not(filter: str, topic: str):
    assert not matches(check_filter(filter), check_topic(topic))


@pytest.mark.parametrize("filter", VALID)
def test_filters(filter: str):
    assert check_filter(filter) == filter


@pytest.mark.parametrize("filter", WRONG, ids=lambda filter: repr(filter)[:12])
def test_what_is_no_filter_says_why(filter: str):
    with pytest.raises(InvalidFilter, match=WRONG[filter]) as caught:
        check_filter(filter)
    assert not caught.value.close


@pytest.mark.parametrize("topic", ["a/+", "#", "c#", "a+b"])
def test_a_topic_has_no_wildcard(topic: str):
    with pytest.raises(InvalidTopic, match="no wildcards"):
        check_topic(topic)


@pytest.mark.parametrize("topic", ["", "a\0", "x" * 256, None, 5])
def test_nor_what_no_name_has(topic: str):
    with pytest.raises(ParseError):
        check_topic(topic)


def test_the_error_says_so_in_chinese_too():
    with pytest.raises(InvalidFilter) as caught:
        check_filter("a/#/b")
    assert caught.value.message("zh").startswith("无法解析该订阅过滤器")
