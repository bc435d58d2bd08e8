"""JSON Web Tokens (RFC 7519), verified as RFC 8725 says: the algorithms are fixed here, not by the token."""

from __future__ import annotations

import base64
import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from starlette.requests import HTTPConnection

from fastapi_channels.exceptions import ConfigurationError, TokenExpired, Unauthenticated
from fastapi_channels.sessions.identity import Identity
from fastapi_channels.signatures.callables import awaited

from .jwks import JWKS, is_short

try:
    import jwt
    from jwt.algorithms import HMACAlgorithm
except ImportError as error:  # pragma: no cover  # a test runs it in a process without PyJWT
    raise ImportError('JWT needs PyJWT: pip install "fastapi-channels[jwt]"') from error

logger = logging.getLogger("fastapi_channels")

SECRETS: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Algorithms whose key is a secret, and the bytes that it has at least (RFC 7518 section 3.2)."""
KEY_PAIRS: Final = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
)
"""Those that verify with a public key."""


class JWT:
    """Verifies a token, and makes an Identity of its claims.

    Args:
        key: the secret of HS256 and its like; the public key, as PEM; or the JWKS of who issues the tokens.
        algorithms: those that a token may be signed with, all of one kind.
        audience: which the token must name as its `aud`; one of several. Without it, a token that names any
            is for somebody else, and refused.
        issuer: whose it must be, by its `iss`; one of several. None takes any that has the key.
        leeway: seconds by which two clocks may differ.
        user: makes the user of the claims, plain or async; the claims themselves unless given. None refuses.
        session: the claim that names what the client signed in with: `sid` (OpenID Connect), or say `jti`.
        expires: whether a token must say when it ends.

    Raises:
        ConfigurationError: what is given cannot be safe.
    """

    def __init__(
        self,
        key: str | bytes | JWKS,
        *,
        algorithms: Sequence[str],
        audience: str | Sequence[str] | None = None,
        issuer: str | Sequence[str] | None = None,
        leeway: float = 0.0,
        user: Callable[[dict[str, Any]], Any] | None = None,
        session: str = "sid",
        expires: bool = True,
    ) -> None:
        _check(key, algorithms)
        if not 0 <= leeway < math.inf:
            raise ConfigurationError(f"leeway must be 0 or more seconds, got {leeway!r}")
        self._keys = key if isinstance(key, JWKS) else None
        self._key: Any = None
        self._algorithms = list(algorithms)
        if not isinstance(key, JWKS):
            self._key, self._algorithms = _prepared(key, algorithms)
        self._audience = audience
        self._issuer = issuer
        self._required = ["exp"] if expires else []
        self._leeway = leeway
        self._user = user
        self._session = session

    async def __call__(self, token: Any, connection: HTTPConnection) -> Identity | None:
        """Whose `token` is; None for what is no JWT.

        Raises:
            Unauthenticated: it does not hold; the log says why, in a word.
            TokenExpired: not any more.
            Unavailable: the keys cannot be had.
        """
        if not isinstance(token, str) or token.count(".") != 2:
            return None
        try:
            claims = await self._claims(token)
            ends, issued = _moment(claims.get("exp")), _moment(claims.get("iat"))
        except jwt.ExpiredSignatureError:
            raise TokenExpired from None
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as exc:
            logger.info("a token is refused: %s", type(exc).__name__)
            raise Unauthenticated from None
        user = claims if self._user is None else await awaited(self._user(claims))
        if user is None:
            raise Unauthenticated
        ends = None if ends is None else ends + self._leeway
        return Identity(user, ends, issued, _text(claims.get(self._session)))

    async def _claims(self, token: str) -> dict[str, Any]:
        return jwt.decode(
            token,
            self._key if self._keys is None else await self._keys.find(_named(token)),
            algorithms=self._algorithms,
            audience=self._audience,
            issuer=self._issuer,
            leeway=self._leeway,
            options={"require": self._required},
        )


def _named(token: str) -> Any:
    """The name of the key that `token` says it is signed with."""
    return jwt.get_unverified_header(token).get("kid", "")


class _Looked(HMACAlgorithm):
    """Takes the secret as it is. PyJWT looks at it for each token, whether it is a public key in some format,
    which takes as long as all of the cryptography; that has been done."""

    def prepare_key(self, key: str | bytes) -> bytes:
        return key if isinstance(key, bytes) else key.encode()


def _prepared(key: str | bytes, algorithms: Sequence[str]) -> tuple[Any, list[str]]:
    """The key, looked at once, and those of the algorithms that it fits.

    Raises:
        ConfigurationError: it fits none, or is too short for one.
    """
    found: Any = None
    fits: list[str] = []
    for name in algorithms:
        algorithm = jwt.get_algorithm_by_name(name)
        try:
            found = algorithm.prepare_key(key)
        except (jwt.PyJWTError, TypeError, ValueError):
            continue
        if is_short(algorithm, found):
            raise ConfigurationError(f"the key is too short for {name}: see RFC 7518 section 3")
        fits.append(name)
    if not fits:
        raise ConfigurationError(
            f"the key is none of {', '.join(algorithms)}: a public key is PEM, beginning with "
            "-----BEGIN PUBLIC KEY-----"
        )
    if len(fits) == 1 and fits[0] in SECRETS:
        found = _secret(found, fits[0])
    return found, fits


def _secret(secret: bytes, name: str) -> jwt.PyJWK:
    found = jwt.PyJWK({"kty": "oct", "k": base64.urlsafe_b64encode(secret).decode()}, name)
    found.Algorithm = _Looked(getattr(HMACAlgorithm, name.replace("HS", "SHA")))
    return found


def _moment(claim: Any) -> float | None:
    """The seconds since 1970 of a NumericDate (RFC 7519 section 2): a number, as PyJWT does not insist.

    Raises:
        jwt.InvalidTokenError: it is none.
        OverflowError: it is beyond all times.
    """
    if claim is None:
        return None
    if isinstance(claim, int | float) and not isinstance(claim, bool):
        return float(claim)
    raise jwt.InvalidTokenError


def _text(claim: Any) -> str | None:
    return str(claim) if isinstance(claim, str | int) and str(claim) else None


def _check(key: str | bytes | JWKS, algorithms: Sequence[str]) -> None:
    known = {*SECRETS, *KEY_PAIRS}
    if isinstance(algorithms, str) or not algorithms or not known.issuperset(algorithms):
        raise ConfigurationError(
            f"algorithms must be a list of some of {', '.join(sorted(known))}, got {algorithms!r}"
        )
    secret = [name for name in algorithms if name in SECRETS]
    if secret and (len(secret) < len(algorithms) or isinstance(key, JWKS)):
        raise ConfigurationError(
            f"{secret[0]} wants a secret, and whoever reads a public key could sign with it: take two "
            "JWT(…) for a secret and for public keys"
        )
    if not isinstance(key, JWKS | str | bytes):
        raise ConfigurationError(f"the key is a text, bytes, or a JWKS(url), got {type(key).__name__}")
    if secret and not isinstance(key, JWKS):
        size, least = (
            len(key.encode() if isinstance(key, str) else key),
            max(SECRETS[name] for name in secret),
        )
        if size < least:
            raise ConfigurationError(
                f"the secret has {size} bytes, and {least} are wanted (RFC 7518 section 3.2): make one with "
                f' python -c "import secrets; print(secrets.token_urlsafe({least}))"'
            )
