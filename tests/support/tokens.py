"""Tokens to sign in with, good and bad."""

from __future__ import annotations

import base64
import json
import time
from functools import cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

SECRET: Final = "a secret of the tests, which has more than 32 bytes"  # noqa: S105


def claims(user: str = "ada", seconds: float = 600.0, **more: Any) -> dict[str, Any]:
    now = time.time()
    return {"sub": user, "iat": now - 60, "exp": now + seconds, **more}


def token(user: str = "ada", seconds: float = 600.0, *, key: str = SECRET, **more: Any) -> str:
    """A good one, unless it is told otherwise."""
    return jwt.encode(claims(user, seconds, **more), key, algorithm="HS256")


def unsigned(user: str = "ada") -> str:
    """One of the algorithm `none`, as an attacker writes it."""
    parts = ({"alg": "none", "typ": "JWT"}, claims(user))
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return b".".join([*encoded, b""]).decode()


class KeyPair:
    """What an issuer signs with."""

    def __init__(self, kid: str, algorithm: str = "ES256") -> None:
        self.kid = kid
        self.algorithm = algorithm
        self._private: Any = _elliptic(kid) if algorithm == "ES256" else _rsa(kid)

    @property
    def pem(self) -> str:
        """The public key."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._private.public_key().public_bytes(serialization.Encoding.PEM, form).decode()

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key, as a set of keys has it."""
        algorithm: Any = jwt.get_algorithm_by_name(self.algorithm)
        found = algorithm.to_jwk(self._private.public_key(), as_dict=True)
        return {**found, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def token(self, user: str = "ada", *, kid: str | None = None, **more: Any) -> str:
        headers = {"kid": kid or self.kid}
        return jwt.encode(claims(user, **more), self._private, algorithm=self.algorithm, headers=headers)


@cache
def _elliptic(name: str) -> Any:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def _rsa(name: str) -> Any:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)
