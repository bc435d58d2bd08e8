"""URLs of other servers, with what a client's path says in its place."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels.exceptions import ConfigurationError, NotFound
from fastapi_channels.proxying.target import Target


@pytest.mark.parametrize(
    ("template", "params", "query", "url"),
    [
        ("ws://chat", {}, [], "ws://chat/"),
        ("wss://chat:8443/a/", {}, [], "wss://chat:8443/a/"),
        ("ws://[::1]:80/{room}", {"room": "x"}, [], "ws://[::1]:80/x"),
        ("ws://chat/{a}/{b}", {"a": 7, "b": "ü?#/é", "c": "unused"}, [], "ws://chat/7/%C3%BC%3F%23/%C3%A9"),
        ("ws://chat/{a};v=1", {"a": "..;x"}, [], "ws://chat/..%3Bx;v=1"),
        ("ws://chat/{a}", {"a": "%2e%2e"}, [], "ws://chat/%252e%252e"),
        ("ws://chat/{a}", {"a": "http://evil"}, [], "ws://chat/http://evil"),
        ("ws://chat/{a}", {"a": "\r\nX: y\0"}, [], "ws://chat/%0D%0AX:%20y%00"),
        ("ws://chat/?v=2", {}, [("q", "a&b=c"), ("q", "")], "ws://chat/?v=2&q=a%26b%3Dc&q="),
        ("ws://chat/", {}, [("q", "#\n")], "ws://chat/?q=%23%0A"),
    ],
)
def test_the_url_of_a_client(
    template: str, params: dict[str, object], query: list[tuple[str, str]], url: str
):
    assert Target(template).url(params, query) == url


@pytest.mark.parametrize("value", ["..", ".", "a/..", "../a", "a/./b"])
def test_dots_lead_nowhere(value: str):
    with pytest.raises(NotFound):
        Target("ws://chat/rooms/{room}").url({"room": value}, [])


@pytest.mark.parametrize(
    "template", ["wss://x/{a", "wss://x/a}", "wss://x/{}", "wss://x/{a-b}", "wss://x/{{a}}", "ws://x/?q={"]
)
def test_a_brace_that_is_around_no_name_is_said(template: str):
    with pytest.raises(ConfigurationError, match="braces are in pairs"):
        Target(template)


def test_a_path_without_a_parameter_is_said():
    with pytest.raises(ConfigurationError, match=r"wants \{room\}"):
        Target("ws://chat/{room}").url({}, [])


@given(value=st.text(), name=st.text(min_size=1), said=st.text())
def test_whatever_a_client_says_stays_in_its_place(value: str, name: str, said: str):
    try:
        url = Target("ws://chat:8000/rooms/{room}/events?key=7").url({"room": value}, [(name, said)])
    except (NotFound, UnicodeEncodeError):
        return  # a lone surrogate is no text that anybody could have sent
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("ws", "chat:8000", "")
    assert unquote(parts.path) == f"/rooms/{value}/events"
    assert parts.query.startswith("key=7&")
    assert url.isascii()
    assert url.isprintable()
