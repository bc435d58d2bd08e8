from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import HTTPConnection

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.throttling import address_group, client_address, limit_key, parse_proxies

PROXIES = parse_proxies(["10.0.0.0/8", "192.0.2.1", "fd00::/8"])


def connection(peer: str | None, *forwarded: str) -> HTTPConnection:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    client = None if peer is None else (peer, 50_000)
    return HTTPConnection({"type": "websocket", "client": client, "headers": headers})


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        # Without a trusted proxy the header is what the client says, and is not read.
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("203.0.113.9", ["10.0.0.1"], "203.0.113.9"),
        # From a trusted one, the first untrusted entry from the right is the client.
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("192.0.2.1", ["198.51.100.1"], "198.51.100.1"),
        ("192.0.2.2", ["198.51.100.1"], "192.0.2.2"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2, 10.0.0.3"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.9, 198.51.100.1"], "198.51.100.1"),
        # Several headers are one list.
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),
        # All of them trusted: the one farthest away.
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        # What is no address is never the client, nor is anything left of it.
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, garbage"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, garbage, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["6.6.6.6,,10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", ["garbage, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["256.1.1.1"], "10.0.0.1"),
        ("10.0.0.1", ["1"], "10.0.0.1"),
        ("10.0.0.1", ["<script>"], "10.0.0.1"),
        # Ports, brackets, zones, IPv6, IPv4 seen through an IPv6 socket.
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", [" 198.51.100.1 "], "198.51.100.1"),
        ("10.0.0.1", ["2001:db8::7"], "2001:db8::7"),
        ("10.0.0.1", ["[2001:db8::7]"], "2001:db8::7"),
        ("10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("10.0.0.1", ["2001:DB8:0::7"], "2001:db8::7"),
        ("fd00::1", ["2001:db8::7, fd12::1"], "2001:db8::7"),
        ("fe80::1%eth0", [], "fe80::1"),
        ("2001:db8::1", ["198.51.100.1"], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("::ffff:203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        # Peers that have no address: a test client, a Unix socket.
        ("testclient", ["198.51.100.1"], "testclient"),
        ("", ["198.51.100.1"], ""),
        (None, ["198.51.100.1"], ""),
    ],
)
def test_the_address_of_the_client(peer: str | None, forwarded: list[str], address: str) -> None:
    assert client_address(connection(peer, *forwarded), PROXIES) == address


@given(st.lists(st.text(st.characters(max_codepoint=0xFF))))
def test_no_header_changes_the_address_of_an_untrusted_peer(forwarded: list[str]) -> None:
    assert client_address(connection("203.0.113.9", *forwarded), PROXIES) == "203.0.113.9"


@given(st.text(st.characters(max_codepoint=0xFF)))
def test_nothing_that_a_client_sends_ahead_of_its_proxy_changes_its_address(sent: str) -> None:
    assert client_address(connection("10.0.0.1", sent, "198.51.100.1"), PROXIES) == "198.51.100.1"


def test_nobody_is_trusted_unless_named() -> None:
    assert client_address(connection("127.0.0.1", "198.51.100.1")) == "127.0.0.1"


def test_proxies_are_addresses_and_networks() -> None:
    network = ip_network("192.168.0.0/16")
    assert parse_proxies(["10.1.2.3", network, "::1"]) == (
        ip_network("10.1.2.3/32"),
        network,
        ip_network("::1/128"),
    )
    assert parse_proxies([]) == ()


@pytest.mark.parametrize("value", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33", "*", ""])
def test_a_proxy_that_is_no_network_is_named(value: str) -> None:
    with pytest.raises(ConfigurationError, match=r"trusted_proxies: "):
        parse_proxies([value])


def test_a_text_is_no_list_of_proxies() -> None:
    with pytest.raises(ConfigurationError, match=r"must be a list of networks, not the text '10\.0\.0\.1'"):
        parse_proxies("10.0.0.1")


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2::7", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::7", "2001:db8:1:3::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_an_ipv6_subscriber_is_one_client(address: str, group: str) -> None:
    assert address_group(address) == group


parts = st.lists(st.text(st.characters(exclude_categories=())), max_size=4)


@given(parts, parts)
def test_keys_are_equal_only_when_their_parts_are(one: list[str], other: list[str]) -> None:
    assert (limit_key(*one) == limit_key(*other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a/b", "c"], ["a", "b/c"]),
        (["a:b", "c"], ["a", "b:c"]),
        (["ab", ""], ["a", "b"]),
        (["", "ab"], ["ab", ""]),
        (["a"], ["a", ""]),
        (["a1:b"], ["a", "b"]),
        (["a0:b"], ["a", "b"]),
        (["*"], ["a"]),
        (["a\0b"], ["a", "b"]),
        (["é"], ["e\u0301"]),
    ],
)
def test_no_split_of_the_parts_forges_another_key(one: list[str], other: list[str]) -> None:
    assert limit_key(*one) != limit_key(*other)


def test_a_key_is_short_and_plain_whatever_it_is_made_of() -> None:
    for part in ("", "x" * 10_000, "{a}:*?[b]\r\n\0", "\ud800"):
        key = limit_key("user", part)
        assert len(key) == 32
        assert set(key) <= set("0123456789abcdef")
