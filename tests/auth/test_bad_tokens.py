"""What does not hold, over a real server: by every way in, and in a flood. That of one verifier alone is in
`test_jwt` and `test_jwks`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from fastapi import FastAPI
from fastapi.security import APIKeyCookie, HTTPBearer

from fastapi_channels import Channel, Connection, action, add_channel
from fastapi_channels.auth import JWKS, JWT, Authenticator, BearerSubprotocol
from tests.support.live import Site, serving
from tests.support.tokens import SECRET, KeyPair, token, unsigned

from .test_jwt import BAD, GOOD, confused

ISSUER: Final = KeyPair("current")
SIGNER: Final = KeyPair("signer", "RS256")
FLOOD: Final = 100

OVER: Final = {"expired": token(seconds=-60, **GOOD)}
FOR_SECRET: Final = BAD | OVER
BY_EACH: Final = {*OVER, "no algorithm", "its public key as a secret"}
FOR_PAIR: Final = {
    "its public key as a secret": confused(SIGNER),
    "no algorithm": unsigned(),
    "a secret's": token(),
    "another pair's": KeyPair("other", "RS256").token(),
}


class Room(Channel):
    @action()
    async def me(self, connection: Connection) -> Any:
        return connection.user["sub"]


@asynccontextmanager
async def served() -> AsyncIterator[tuple[Site, list[str]]]:
    """A room for each kind of key, and what was fetched."""
    app, fetched = FastAPI(), list[str]()
    add_channel(app)

    def fetch(url: str) -> str:
        fetched.append(url)
        return f'{{"keys": [{ISSUER.jwk}]}}'.replace("'", '"')

    expected: Any = {"audience": "chat", "issuer": GOOD["iss"]}
    verifiers = {
        "secret": JWT(SECRET, algorithms=["HS256"], **expected),
        "pair": JWT(SIGNER.pem, algorithms=["RS256"]),
        "keys": JWT(JWKS("https://issuer.test/keys", fetch=fetch), algorithms=["ES256"]),
    }
    sources = [HTTPBearer(), BearerSubprotocol(), APIKeyCookie(name="t")]
    for name, verifier in verifiers.items():
        gate = Authenticator(verifier, sources=sources, first_frame=5.0)
        type(name, (Room,), {"authenticator": gate})().mount(app, f"/{name}")
    # uvicorn calls it an error when an endpoint answers in place of accepting.
    async with serving(app, may_complain=True) as site:
        yield site, fetched


def ways(brought: str) -> list[dict[str, Any]]:
    return [
        {"additional_headers": {"Authorization": f"Bearer {brought}"}},
        {"additional_headers": {"Cookie": f"t={brought}"}},
        {"subprotocols": ["app", f"bearer.{brought}"]},
    ]


async def test_none_gets_in_by_any_way(caplog: pytest.LogCaptureFixture):
    """The ways take turns, and those that are in everybody's hands come by each."""
    caplog.set_level(logging.DEBUG, "fastapi_channels")
    number = 0
    async with served() as (site, _), site.unharmed():
        for path, bad in (("/secret", FOR_SECRET), ("/pair", FOR_PAIR)):
            for name, brought in bad.items():
                code = "token_expired" if name in OVER else "unauthenticated"
                for turn, way in enumerate([*ways(brought), None]):
                    if name not in BY_EACH and turn != number % 4:
                        continue
                    if way is not None:
                        status, body = await site.refusal(path, **way)
                        assert (status, body["code"]) == (401, code), name
                        continue
                    async with site.connect(path) as client:
                        await client.send({"type": "auth", "token": brought})
                        assert (await client.receive())["code"] == code, name
                        assert (await client.closed()).code == (4001 if name in OVER else 4501), name
                number += 1
        for path, good in (("/secret", token(**GOOD)), ("/pair", SIGNER.token())):
            async with site.connect(path, **ways(good)[0]) as client:
                assert (await client.call("me"))["data"] == "ada"
    for brought in (*FOR_SECRET.values(), *FOR_PAIR.values()):
        assert len(brought) < 10 or brought not in caplog.text


async def test_a_flood_of_unknown_keys_is_one_fetch():
    async with served() as (site, fetched), site.unharmed():  # noqa: SIM117  # the second is within the first
        async with site.connect("/keys", **ways(ISSUER.token())[0]) as ada:
            assert fetched == ["https://issuer.test/keys"]
            flood = [KeyPair("other").token(kid=f"k{number}") for number in range(FLOOD)]
            refused = await asyncio.gather(*(site.refusal("/keys", **ways(bad)[0]) for bad in flood))
            assert {status for status, _ in refused} == {401}
            assert len(fetched) == 1, "and none before its pause is over"
            assert (await ada.call("me"))["data"] == "ada"
