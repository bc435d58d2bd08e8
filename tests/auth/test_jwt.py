"""Tokens that hold, and the many that do not."""

from __future__ import annotations

import base64
import hmac
import json
import logging
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.requests import HTTPConnection

from fastapi_channels import ConfigurationError, TokenExpired, Unauthenticated
from fastapi_channels.auth import JWKS, JWT, Identity
from tests.support.tokens import SECRET, KeyPair, claims, token, unsigned

NOBODY = HTTPConnection({"type": "websocket", "headers": []})
HS256 = JWT(SECRET, algorithms=["HS256"], audience="chat", issuer="https://login.example.com", leeway=5.0)
GOOD: Any = {"aud": "chat", "iss": "https://login.example.com"}


SHORT = (
    rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # that is the point
    .public_key()
    .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
)


def confused(pair: KeyPair) -> str:
    """A token that is signed with the public key of `pair` as if it were a secret (CVE-2015-9235)."""
    parts = [json.dumps({"alg": "HS256", "kid": pair.kid}), json.dumps(claims())]
    text = b".".join(base64.urlsafe_b64encode(part.encode()).rstrip(b"=") for part in parts)
    signature = hmac.digest(pair.pem.encode(), text, "sha256")
    return b".".join([text, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


async def test_a_token_that_holds_says_who_it_is_and_until_when():
    sent = claims(sid="laptop", **GOOD)
    found = await HS256(token(sid="laptop", **GOOD), NOBODY)
    assert isinstance(found, Identity)
    assert (found.user["sub"], found.session) == ("ada", "laptop")
    assert found.expires_at is not None
    assert found.issued_at is not None
    assert abs(found.expires_at - sent["exp"] - 5.0) < 2
    assert abs(found.issued_at - sent["iat"]) < 2
    assert "ada" not in repr(found)


BAD = {
    "not yet valid": token(nbf=4e9, **GOOD),
    "another audience": token(aud="mail", iss=GOOD["iss"]),
    "no audience": token(iss=GOOD["iss"]),
    "another issuer": token(aud="chat", iss="https://evil.example.com"),
    "part of the issuer": token(aud="chat", iss="https://login.example"),
    "no issuer": token(aud="chat"),
    "no algorithm": unsigned(),
    "another secret": token(key=SECRET[::-1], **GOOD),
    "another algorithm": KeyPair("k").token(**GOOD),
    "a signature of nothing": token(**GOOD).rpartition(".")[0] + ".",
    "not base64": "a.b.c",
    "nothing": "..",
    "an end that is no number": token(exp="tomorrow", **GOOD),
    "an end that is a text": token(exp="4000000000", **GOOD),
    "no end": token(exp=None, **GOOD),
    "an end beyond all numbers": token(exp=float("inf"), **GOOD),
    "an end beyond all that a float is": token(exp=10**400, **GOOD),
    "issued tomorrow": token(iat=4e9, **GOOD),
    "a header that is too deep to read": base64.urlsafe_b64encode(b"[" * 5001).decode() + ".e30.x",
}


@pytest.mark.parametrize("name", BAD)
async def test_what_does_not_hold(name: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(Unauthenticated) as refused:
        await HS256(BAD[name], NOBODY)
    assert not isinstance(refused.value, TokenExpired)
    assert BAD[name] not in caplog.text + str(refused.value) + repr(refused.value)


async def test_one_that_has_expired_says_so():
    with pytest.raises(TokenExpired):
        await HS256(token(seconds=-6, **GOOD), NOBODY)
    assert await HS256(token(seconds=-2, **GOOD), NOBODY) is not None, "within the leeway"


async def test_what_is_no_token_is_somebody_elses():
    assert await HS256("fct_abc", NOBODY) is None
    assert await HS256({"username": "ada"}, NOBODY) is None


async def test_a_public_key_is_no_secret():
    pair = KeyPair("k", "RS256")
    verifier = JWT(pair.pem, algorithms=["RS256"])
    assert await verifier(pair.token(), NOBODY) is not None
    with pytest.raises(Unauthenticated):
        await verifier(confused(pair), NOBODY)


@pytest.mark.parametrize("allowed", [["HS256"], ["HS384"], ["HS512"], ["HS256", "HS512"]])
async def test_a_secret_is_good_for_its_algorithms(allowed: list[str]):
    secret = 2 * SECRET
    verifier = JWT(secret, algorithms=allowed)
    for name in ("HS256", "HS384", "HS512"):
        signed = jwt.encode(claims(), secret, algorithm=name)
        if name in allowed:
            assert await verifier(signed, NOBODY) is not None
        for wrong in (signed[:-6] + "AAAAAA", jwt.encode(claims(), secret[1:], algorithm=name)):
            with pytest.raises(Unauthenticated):
                await verifier(wrong, NOBODY)
        if name not in allowed:
            with pytest.raises(Unauthenticated):
                await verifier(signed, NOBODY)


async def test_claims_become_a_user_and_none_is_nobody():
    async def load(found: dict[str, Any]) -> str | None:
        return {"ada": "Ada"}.get(found["sub"])

    verifier = JWT(SECRET, algorithms=["HS256"], user=load)
    found = await verifier(token(), NOBODY)
    assert found is not None
    assert found.user == "Ada"
    with pytest.raises(Unauthenticated):
        await verifier(token("eve"), NOBODY)


async def test_a_token_without_end_where_that_is_allowed():
    verifier = JWT(SECRET, algorithms=["HS256"], expires=False)
    found = await verifier(token(exp=4e9), NOBODY)
    assert found is not None
    found = await verifier(jwt.encode({"sub": "ada"}, SECRET, algorithm="HS256"), NOBODY)
    assert found is not None
    assert found.expires_at is found.issued_at is found.session is None


UNSAFE: list[Any] = [
    ("short", {"algorithms": ["HS256"]}, "5 bytes, and 32 are wanted"),
    (SECRET, {"algorithms": ["HS256", "HS512"]}, "64 are wanted"),
    (SECRET, {"algorithms": []}, "algorithms must be"),
    (SECRET, {"algorithms": "HS256"}, "algorithms must be"),
    (SECRET, {"algorithms": ["none"]}, "algorithms must be"),
    (SECRET, {"algorithms": ["HS256", "RS256"]}, "could sign with it"),
    (JWKS("https://login.example.com/keys"), {"algorithms": ["HS256"]}, "could sign with it"),
    (None, {"algorithms": ["ES256"]}, "the key is a text"),
    (SECRET, {"algorithms": ["HS256"], "leeway": -1}, "leeway must be"),
    (SECRET, {"algorithms": ["ES256"]}, "the key is none of ES256"),
    (KeyPair("k").pem, {"algorithms": ["RS256"]}, "the key is none of RS256"),
    (SHORT, {"algorithms": ["RS256"]}, "too short for RS256"),
]


# Keys are new in each process: they name no tests.
@pytest.mark.parametrize(("key", "settings", "why"), UNSAFE, ids=map(str, range(len(UNSAFE))))
def test_what_cannot_be_safe_does_not_start(key: Any, settings: Any, why: str):
    with pytest.raises(ConfigurationError, match=why) as refused:
        JWT(key, **settings)
    assert SECRET not in str(refused.value)


async def test_a_header_that_must_be_understood_is_refused():
    import jwt

    sent = jwt.encode(claims(**GOOD), SECRET, algorithm="HS256", headers={"crit": ["exp2"], "exp2": 1})
    with pytest.raises(Unauthenticated):
        await HS256(sent, NOBODY)
