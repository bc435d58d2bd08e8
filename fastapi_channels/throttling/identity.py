"""Who is limited: the address of a client that cannot be forged, and the key made from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from starlette.requests import HTTPConnection

from fastapi_channels.exceptions import ConfigurationError

from .rates import Rate

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


def parse_proxies(values: Iterable[str | Network]) -> tuple[Network, ...]:
    """The networks of `trusted_proxies`: addresses (`10.0.0.7`) and networks (`10.0.0.0/8`, `fd00::/8`)."""
    if isinstance(values, str):
        raise ConfigurationError(f"trusted_proxies must be a list of networks, not the text {values!r}")
    return tuple(map(_parse_network, values))


def client_address(websocket: HTTPConnection, trusted_proxies: Sequence[Network] = ()) -> str:
    """The address of the client, which it cannot choose; empty where the server knows none.

    That is the peer of the socket, unless the peer is a trusted proxy: then X-Forwarded-For is read
    from the right, where the proxies wrote it, past every trusted one to the first address that is not.
    An entry that is no address ends the reading at the proxy that reported it, because what stands
    left of it may have been sent by the client.

    A server that rewrites the peer itself (uvicorn does for the peers in its `forwarded_allow_ips`) has
    the first word: name the proxies in one of the two places.
    """
    peer = websocket.client.host if websocket.client else ""
    nearest = _parse_address(peer)
    if nearest is None:
        return peer
    for hop in reversed(_forwarded_for(websocket)):
        if not _is_trusted(nearest, trusted_proxies):
            break
        address = _parse_address(hop)
        if address is None:
            break
        nearest = address
    return str(nearest)


def address_group(address: str) -> str:
    """What a limit counts as one client: an IPv4 address, or the /64 network of an IPv6 address.

    A single IPv6 subscriber is given at least a /64, so counting its addresses would limit nobody.
    """
    parsed = _parse_address(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((parsed, 64), strict=False))
    return str(parsed or address)


def budget_key(kind: str, who: str, limit: Rate) -> str:
    """A key for what a client may use up wherever the same budget is said. No room is empty, so it is no key
    of another kind."""
    return limit_key(kind, who, limit.budget, "", "budget", str(limit))


def limit_key(*parts: str) -> str:
    """A key for a limit from what it is about: client, room, action, rate.

    Different parts give different keys, whatever characters they hold and wherever they are split, and
    a key is 32 hexadecimal digits however long they are.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        # A room or an action comes from a client and may hold what UTF-8 cannot: a lone surrogate.
        encoded = part.encode("utf-8", "surrogatepass")
        digest.update(b"%d:%b" % (len(encoded), encoded))
    return digest.hexdigest()


def _parse_network(value: str | Network) -> Network:
    try:
        return ip_network(value)
    except ValueError as error:
        raise ConfigurationError(f"trusted_proxies: {error}") from error


def _parse_address(text: str) -> Address | None:
    """An address as peers and proxies write it: bare, with a port, in brackets, with a zone."""
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    # A socket that listens on both families reports an IPv4 peer as ::ffff:192.0.2.1.
    return getattr(address, "ipv4_mapped", None) or address


def _forwarded_for(websocket: HTTPConnection) -> list[str]:
    return ",".join(websocket.headers.getlist("x-forwarded-for")).split(",")


def _is_trusted(address: Address, trusted_proxies: Sequence[Network]) -> bool:
    return any(address in network for network in trusted_proxies)
