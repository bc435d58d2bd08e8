"""What of a handshake passes, where that is more than whether it is listed."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.websockets import WebSocket

from fastapi_channels.exceptions import ConfigurationError, ParseError
from fastapi_channels.proxying.passing import Passing


class Connection:
    """As much of a connection as is looked at."""

    def __init__(self, address: str = "", scheme: str = "wss", **headers: str) -> None:
        raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        scope = {"type": "websocket", "scheme": scheme, "path": "/", "query_string": b"", "headers": raw}
        self.websocket = WebSocket(scope, _never, _never)
        self.address = address


async def _never(*_: Any) -> Any:
    raise AssertionError("nobody reads or sends")


def headers(passing: Passing, connection: Connection, **own: str) -> list[tuple[str, str]]:
    named = {name.replace("_", "-"): value for name, value in own.items()}
    client: Any = connection
    return passing.headers(client, named)


def passing(*names: str, forwarded: tuple[str, ...] = ()) -> Passing:
    return Passing(names, (), (), (), forwarded)


def test_what_the_application_says_stands_in_place_of_what_a_client_says():
    found = headers(passing("x-user"), Connection(x_user="root", X_User="root"), X_USER="ada")
    assert found == [("x-user", "ada")]


def test_the_same_header_twice_passes_twice():
    connection = Connection()
    connection.websocket.scope["headers"] = [(b"x-tag", b"1"), (b"x-tag", b"2")]
    assert headers(passing("X-Tag"), connection) == [("x-tag", "1"), ("x-tag", "2")]


def test_a_clients_header_that_no_header_may_have_is_refused():
    with pytest.raises(ParseError):
        headers(passing("x-tag"), Connection(x_tag="a\r\nX-Admin: yes"))
    with pytest.raises(ParseError):
        headers(passing(forwarded=("host",)), Connection(host="a\nb"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-User", "a\r\nX-Admin: yes"), ("X User", "a"), ("Host", "evil"), ("Upgrade", "h2c")],
)
def test_a_header_of_the_application_that_cannot_be_sent_is_said(name: str, value: str):
    client: Any = Connection()
    with pytest.raises(ConfigurationError, match=f"(?i){name}"):
        passing().headers(client, {name: value})


def test_an_address_that_nobody_knows_is_not_forwarded():
    assert headers(passing(forwarded=("for", "proto", "host")), Connection()) == [
        ("x-forwarded-proto", "https")
    ]


def test_of_an_answer_only_what_can_be_a_header_passes():
    lists = Passing((), (), (), ("x-room", "x-wrong"), ())
    assert lists.answered([("X-Room", "7"), ("X-Wrong", "a\nb"), ("X-Other", "8")]) == [(b"x-room", b"7")]
