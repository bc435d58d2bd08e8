import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from fastapi_channels import Channel
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.sessions.origin import how_to_allow, origin_allowed, parse_origins
from tests.support.live import application, serving

ANY = ["*"]


@pytest.mark.parametrize(
    ("site", "listed", "expected"),
    [
        ("cross-site", None, False),
        ("same-site", None, False),
        ("cross-site", ["https://example.com"], False),
        ("cross-site", ANY, True),
        ("same-origin", None, True),
        ("none", None, True),
    ],
)
def test_a_get_without_an_origin_says_whence_it_comes(site: str, listed: list[str] | None, expected: bool):
    headers = [(b"host", b"example.com"), (b"sec-fetch-site", site.encode())]
    connection = HTTPConnection({"type": "websocket", "headers": headers})
    assert origin_allowed(connection, parse_origins(listed)) is expected


def allowed(origins: list[str], host: str | None, listed: list[str] | None) -> bool:
    """Whether a handshake with these Origin headers and this Host header may go on."""
    headers = [(b"origin", origin.encode("latin-1")) for origin in origins]
    if host is not None:
        headers.append((b"host", host.encode("latin-1")))
    return origin_allowed(HTTPConnection({"type": "websocket", "headers": headers}), parse_origins(listed))


SAME_ORIGIN = [
    # Origin, Host, whether it may connect
    ("http://example.com", "example.com", True),
    ("https://example.com", "example.com", True),
    ("https://EXAMPLE.com", "example.COM", True),
    ("HTTPS://example.com", "example.com", True),
    ("http://example.com:80", "example.com", True),
    ("http://example.com", "example.com:80", True),
    ("https://example.com:443", "example.com", True),
    ("https://example.com", "example.com:443", True),
    ("https://example.com:80", "example.com", False),
    ("https://example.com", "example.com:80", False),
    ("http://example.com:8000", "example.com:8000", True),
    ("http://example.com:8000", "example.com:8001", False),
    ("http://example.com:8000", "example.com", False),
    ("http://example.com", "example.com:8000", False),
    ("http://localhost:8000", "127.0.0.1:8000", False),
    ("http://[::1]:8000", "[::1]:8000", True),
    ("http://[::1]", "[::1]:80", True),
    ("http://[2001:DB8::1]", "[2001:db8::1]", True),
    ("http://[::1]", "[::2]", False),
    ("http://[::1", "[::1", False),
    ("http://192.168.1.7:80", "192.168.1.7", True),
    ("https://xn--bcher-kva.example", "xn--bcher-kva.example", True),
    ("https://xn--bcher-kva.example", "bucher.example", False),
    ("https://b\xfccher.example", "b\xfccher.example", True),
    # Not the same, however alike.
    ("https://evil-example.com", "example.com", False),
    ("https://example.com.evil.com", "example.com", False),
    ("https://evil.com", "example.com", False),
    ("https://www.example.com", "example.com", False),
    ("https://example.com", "www.example.com", False),
    ("https://example.com.", "example.com", False),
    ("https://examp1e.com", "example.com", False),
    ("https://example.com@evil.com", "example.com", False),
    ("https://evil.com@example.com", "example.com", False),
    ("https://example.com", "evil.com@example.com", False),
    ("https://example.com/", "example.com", False),
    ("https://example.com/path", "example.com", False),
    ("https://example.com?query", "example.com", False),
    ("https://example.com#part", "example.com", False),
    ("https://evil.com/example.com", "example.com", False),
    ("https://evil.com\\example.com", "example.com", False),
    ("https://example.com https://evil.com", "example.com", False),
    ("https://example.com, https://evil.com", "example.com", False),
    # Not an origin at all.
    ("null", "example.com", False),
    ("null", "null", False),
    ("", "example.com", False),
    ("", "", False),
    ("example.com", "example.com", False),
    ("//example.com", "example.com", False),
    ("://example.com", "example.com", False),
    ("https://", "", False),
    ("https://:443", ":443", False),
    ("https://example.com:99999", "example.com:99999", False),
    ("https://example.com:port", "example.com:port", False),
    ("https://example.com:-1", "example.com:-1", False),
    ("file://", "example.com", False),
    ("https://example.com", None, False),
    ("https://example.com", "", False),
    ("https://example.com", "example.com/path", False),
    ("https://example.com", "*", False),
]


@pytest.mark.parametrize(("origin", "host", "expected"), SAME_ORIGIN)
def test_the_same_origin(origin: str, host: str | None, expected: bool) -> None:
    assert allowed([origin], host, None) is expected


LISTED = [
    (["https://example.com"], "https://example.com", True),
    (["https://example.com/"], "https://example.com", True),
    (["HTTPS://Example.com"], "https://example.com", True),
    (["https://example.com:443"], "https://example.com", True),
    (["https://example.com"], "https://example.com:443", True),
    (["https://example.com"], "https://example.com:8443", False),
    (["https://example.com:8443"], "https://example.com:8443", True),
    (["https://example.com"], "http://example.com", False),
    (["https://example.com"], "https://sub.example.com", False),
    (["https://example.com"], "https://evil-example.com", False),
    (["https://example.com"], "https://example.com.evil.com", False),
    (["https://example.com"], "https://example.com@evil.com", False),
    (["https://example.com"], "https://evil@example.com", False),
    (["https://example.com", "https://other.com"], "https://other.com", True),
    (["https://example.com"], "null", False),
    (["https://*.example.com"], "https://sub.example.com", True),
    (["https://*.example.com"], "https://a.b.example.com", True),
    (["https://*.example.com"], "https://SUB.example.com:443", True),
    (["https://*.example.com"], "https://example.com", False),
    (["https://*.example.com"], "http://sub.example.com", False),
    (["https://*.example.com"], "https://sub.example.com:8443", False),
    (["https://*.example.com:8443"], "https://sub.example.com:8443", True),
    (["https://*.example.com"], "https://evil-example.com", False),
    (["https://*.example.com"], "https://sub.example.com.evil.com", False),
    (["https://*.example.com"], "https://*.example.com", False),
    (["https://xn--bcher-kva.example"], "https://xn--bcher-kva.example", True),
    (["http://[::1]:8000"], "http://[::1]:8000", True),
    (["http://[::1]:8000"], "http://[::1]", False),
    (["chrome-extension://abcdef"], "chrome-extension://abcdef", True),
    (["chrome-extension://abcdef"], "chrome-extension://abcdeg", False),
    (["capacitor://localhost"], "capacitor://localhost", True),
    ([], "https://example.com", False),
    (ANY, "https://evil.com", True),
    (ANY, "null", True),
    (ANY, "\xff\xfe", True),
]


@pytest.mark.parametrize(("listed", "origin", "expected"), LISTED)
def test_listed_origins(listed: list[str], origin: str, expected: bool) -> None:
    assert allowed([origin], "unrelated.com", listed) is expected


def test_a_list_replaces_the_servers_own_origin() -> None:
    assert not allowed(["https://example.com"], "example.com", ["https://other.com"])


@pytest.mark.parametrize("listed", [None, [], ["https://example.com"], ANY])
def test_who_sends_no_origin_is_not_a_browser(listed: list[str] | None) -> None:
    assert allowed([], "example.com", listed)
    assert allowed([], None, listed)


@pytest.mark.parametrize("second", ["https://example.com", "https://evil.com", ""])
def test_two_origins_are_none(second: str) -> None:
    for origins in (["https://example.com", second], [second, "https://example.com"]):
        assert not allowed(origins, "example.com", None)
        assert not allowed(origins, "example.com", ["https://example.com"])
        assert allowed(origins, "example.com", ANY)


@given(st.text(st.characters(max_codepoint=255)), st.text(st.characters(max_codepoint=255)))
def test_whatever_the_headers_hold_there_is_an_answer(origin: str, host: str) -> None:
    assert not allowed([origin], host, ["https://example.com"])
    allowed([origin], host, None)


labels = st.text("abc", min_size=1, max_size=3)


@given(st.lists(labels, min_size=1, max_size=4), st.lists(labels, min_size=1, max_size=4))
def test_a_wildcard_stands_for_one_label_or_more(parent: list[str], host: list[str]) -> None:
    listed = ["https://*." + ".".join(parent)]
    below = len(host) > len(parent) and host[-len(parent) :] == parent
    assert allowed(["https://" + ".".join(host)], "unrelated", listed) is below


@pytest.mark.parametrize(
    "value",
    [
        *("", "/", "example.com", "null", "https://", "https:example.com", "//example.com", "file://"),
        *("https://example.com/path", "https://example.com?q", "https://example.com:port", "https://[::1"),
        *("https://user:secret@example.com", "https://*", "https://sub.*.com", "https://ex*mple.com", "**"),
        *("https://*example.com", "*.example.com", "http*://example.com", "https://*.*.com"),
    ],
)
def test_what_is_no_origin_is_told_at_once(value: str) -> None:
    with pytest.raises(ConfigurationError, match="an origin looks like") as caught:
        parse_origins(["https://example.com", value])
    assert repr(value) in str(caught.value)


def test_a_name_is_listed_as_browsers_send_it() -> None:
    with pytest.raises(ConfigurationError, match="xn--bcher-kva"):
        parse_origins(["https://bücher.example"])


def test_one_text_is_not_a_list() -> None:
    with pytest.raises(ConfigurationError, match="must be a list of origins"):
        parse_origins("https://example.com")


def test_the_default_is_the_servers_own() -> None:
    assert parse_origins(None) is None
    assert parse_origins([]) == frozenset()


@pytest.mark.parametrize(
    ("listed", "origin", "advice"),
    [
        (None, "http://localhost:5173", "['http://127.0.0.1:8000', 'http://localhost:5173']"),
        (["https://a.example"], "http://b.example", "['https://a.example', 'http://b.example']"),
    ],
)
def test_a_refusal_says_what_would_let_the_page_in(listed: list[str] | None, origin: str, advice: str):
    headers = [(b"origin", origin.encode()), (b"host", b"127.0.0.1:8000")]
    websocket = HTTPConnection({"type": "websocket", "headers": headers, "scheme": "ws"})
    told = how_to_allow(websocket, parse_origins(listed))
    assert f"{origin!r} may not connect to '127.0.0.1:8000'" in told
    assert f"allowed_origins={advice}" in told
    assert allowed([origin], "127.0.0.1:8000", re.findall("'(http[^']*)'", advice))


def test_what_has_no_origin_gets_no_advice_that_cannot_work():
    websocket = HTTPConnection({"type": "websocket", "headers": [(b"origin", b"null")]})
    assert "allowed_origins" not in how_to_allow(websocket, None)


async def test_each_refused_origin_is_warned_of_once(caplog: pytest.LogCaptureFixture):
    async with serving(application(Channel())) as site:
        for _ in range(2):
            assert (await site.refusal("/r", origin="http://localhost:5173")).status == 403
    told = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(told) == 1
    assert "http://localhost:5173" in told[0].getMessage()
