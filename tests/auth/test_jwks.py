"""Keys that are fetched, kept, and changed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import HTTPConnection

from fastapi_channels import ConfigurationError, Unauthenticated, Unavailable
from fastapi_channels.auth import JWKS, JWT
from fastapi_channels.auth.jwks import MAX_SIZE
from tests.support.live import Site, serving
from tests.support.tokens import KeyPair

NOBODY = HTTPConnection({"type": "websocket", "headers": []})
OLD, NEW = KeyPair("old"), KeyPair("new")


class Issuer:
    """What serves a set of keys, and counts how often it was asked."""

    def __init__(self, *pairs: KeyPair) -> None:
        self.pairs = list(pairs)
        self.asked = 0
        self.down = False

    async def fetch(self, url: str) -> str:
        self.asked += 1
        await asyncio.sleep(0)
        if self.down:
            raise OSError("not reached")
        return json.dumps({"keys": [pair.jwk for pair in self.pairs]})

    def verifier(self, **settings: Any) -> JWT:
        return JWT(JWKS("https://issuer.test/keys", fetch=self.fetch, **settings), algorithms=["ES256"])


async def test_keys_are_fetched_once_and_kept():
    issuer = Issuer(OLD, NEW)
    verifier = issuer.verifier()
    for pair in (OLD, NEW, OLD):
        assert await verifier(pair.token(), NOBODY) is not None
    assert issuer.asked == 1


async def test_a_flood_of_unknown_keys_is_one_fetch():
    issuer = Issuer(OLD)
    verifier = issuer.verifier()
    forged = [NEW.token(kid=f"k{number}") for number in range(200)]
    outcomes = await asyncio.gather(*(verifier(each, NOBODY) for each in forged), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unauthenticated}
    assert issuer.asked == 1
    with pytest.raises(Unauthenticated):
        await verifier(NEW.token(kid="later"), NOBODY)
    assert issuer.asked == 1, "not again before the pause is over"
    assert await verifier(OLD.token(), NOBODY) is not None


async def test_a_key_that_is_new_is_found_and_one_that_is_gone_is_refused():
    issuer = Issuer(OLD)
    verifier = issuer.verifier(pause=0.0)
    assert await verifier(OLD.token(), NOBODY) is not None
    issuer.pairs = [NEW]
    assert await verifier(NEW.token(), NOBODY) is not None
    assert issuer.asked == 2
    with pytest.raises(Unauthenticated):
        await verifier(OLD.token(), NOBODY)


async def test_keys_outlive_an_issuer_that_is_away_but_are_looked_for():
    issuer = Issuer(OLD)
    verifier = issuer.verifier(seconds=0.0, pause=0.0)
    assert await verifier(OLD.token(), NOBODY) is not None
    issuer.down = True
    assert await verifier(OLD.token(), NOBODY) is not None
    assert issuer.asked == 2


async def test_without_any_key_nobody_can_say():
    issuer = Issuer()
    issuer.down = True
    with pytest.raises(Unavailable):
        await issuer.verifier()(OLD.token(), NOBODY)
    broken = JWT(JWKS("https://issuer.test/keys", fetch=lambda url: b"{}"), algorithms=["ES256"])
    with pytest.raises(Unavailable):
        await broken(OLD.token(), NOBODY)


async def test_an_issuer_that_does_not_answer_is_not_waited_for():
    async def hang(url: str) -> str:
        await asyncio.Event().wait()
        return ""

    keys = JWKS("https://issuer.test/keys", fetch=hang, timeout=0.01)
    with pytest.raises(Unavailable):
        await JWT(keys, algorithms=["ES256"])(OLD.token(), NOBODY)


async def test_the_key_has_to_be_of_the_algorithm():
    issuer = Issuer(KeyPair("rsa", "RS256"))
    with pytest.raises(Unauthenticated):
        await issuer.verifier()(KeyPair("rsa", "RS256").token(), NOBODY)


@asynccontextmanager
async def serving_keys() -> AsyncIterator[Site]:
    app = FastAPI()

    @app.get("/keys")
    def keys() -> dict[str, Any]:
        return {"keys": [OLD.jwk]}

    @app.get("/long")
    def long() -> str:
        return "x" * MAX_SIZE

    async with serving(app) as site:
        yield site


async def test_over_http():
    async with serving_keys() as site:
        assert await JWT(JWKS(f"{site.http}/keys"), algorithms=["ES256"])(OLD.token(), NOBODY) is not None
        with pytest.raises(Unavailable):
            await JWT(JWKS(f"{site.http}/long"), algorithms=["ES256"])(OLD.token(), NOBODY)


@pytest.mark.parametrize("url", ["http://issuer.test/keys", "file:///etc/keys", "ftp://127.0.0.1/keys", ""])
def test_a_url_that_others_can_change_is_refused(url: str):
    with pytest.raises(ConfigurationError, match="https"):
        JWKS(url)
