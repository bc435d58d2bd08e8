"""The public keys of who issues tokens (RFC 7517): fetched when one is needed, kept, and fetched anew."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
import urllib.request
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi_channels.exceptions import ConfigurationError, Unauthenticated, Unavailable
from fastapi_channels.signatures.callables import awaited
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.messages import decode_json

try:
    import jwt
except ImportError as error:  # pragma: no cover  # a test runs it in a process without PyJWT
    raise ImportError('JWKS needs PyJWT: pip install "fastapi-channels[jwt]"') from error

logger = logging.getLogger("fastapi_channels")

MAX_SIZE: Final = 256 * 1024
"""Bytes of a set of keys."""
KEPT: Final = 86_400.0
"""Seconds that keys which cannot be fetched anew hold beyond their time."""


class JWKS:
    """A set of keys at a URL.

    However many tokens name a key that is not in it, it is fetched once, and not again before `pause` is
    over. While it cannot be fetched, the keys that are known hold on for up to a day.

    Args:
        url: of the set: `jwks_uri` of the issuer's `/.well-known/openid-configuration`. It is https, but on
            this machine.
        seconds: how long a set is taken for the newest.
        pause: seconds between two fetches, at least.
        timeout: seconds that one may take.
        fetch: gets the body of a URL, in place of `urllib.request` in a thread; plain or async.

    Raises:
        ConfigurationError: the URL is none that can be trusted.
    """

    def __init__(
        self,
        url: str,
        *,
        seconds: float = 3600.0,
        pause: float = 30.0,
        timeout: float = 5.0,
        fetch: Callable[[str], Any] | None = None,
    ) -> None:
        _check(url)
        self._url = url
        self._seconds = seconds
        self._pause = pause
        self._timeout = timeout
        self._fetch = fetch or self._download
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._failures = Seldom(logger)

    async def find(self, kid: str) -> jwt.PyJWK:
        """The key of that name.

        Raises:
            Unauthenticated: there is none of that name.
            Unavailable: there are no keys, and they cannot be fetched.
        """
        now = time.monotonic()
        if kid not in self._keys or now > self._fetched_at + self._seconds:
            await self._refresh(now)
        if not self._keys or now > self._fetched_at + self._seconds + KEPT:
            raise Unavailable
        if kid not in self._keys:
            raise Unauthenticated
        return self._keys[kid]

    async def _refresh(self, now: float) -> None:
        """Fetch the set, unless that has just been done; all who need it wait for one fetch."""
        fetching = self._fetching
        if fetching is None or fetching.done() or fetching.get_loop() is not asyncio.get_running_loop():
            if now < self._tried_at + self._pause:
                return
            self._tried_at = now
            fetching = self._fetching = asyncio.create_task(self._renew())
        await asyncio.shield(fetching)

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(self._timeout):
                body: bytes | str = await awaited(self._fetch(self._url))
            found = jwt.PyJWKSet.from_dict(decode_json(body)).keys
            usable = [
                key for key in found if key.public_key_use != "enc" and not is_short(key.Algorithm, key.key)
            ]
            self._keys = {key.key_id or "": key for key in usable}
            self._fetched_at = time.monotonic()
        except Exception as exc:
            self._failures.warn(f"the keys of {self._url} cannot be fetched: {type(exc).__name__}")

    async def _download(self, url: str) -> bytes:
        return await asyncio.to_thread(_download, url, self._timeout)


def is_short(algorithm: Any, key: Any) -> bool:
    """Whether `key` is shorter than `algorithm` asks for (RFC 7518 section 3)."""
    return algorithm.check_key_length(key) is not None


def _download(url: str, timeout: float) -> bytes:
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310  # checked
    with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
        body: bytes = response.read(MAX_SIZE + 1)
    if len(body) > MAX_SIZE:
        raise ValueError(f"a set of keys may have {MAX_SIZE} bytes")
    return body


def _check(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname or "")):
        return
    raise ConfigurationError(
        f"JWKS takes an https URL: whoever changes the keys signs the tokens; got {url!r}"
    )


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
