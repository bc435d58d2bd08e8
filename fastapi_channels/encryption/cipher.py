"""The keys, and what is done with them.

Fernet (AES-128-CBC and HMAC-SHA256, encrypt-then-MAC), whole, as `cryptography` has it. AES-GCM would save
the base64. But its nonces are 96 bits: chosen at random, as processes that know nothing of each other must,
they are good for 2**32 messages of one key (NIST SP 800-38D section 8.3), five days at 10,000 a second.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.packing import Unreadable


class Cipher:
    """
    Args:
        keys: the first encrypts, and each decrypts.

    Raises:
        ConfigurationError: one is no key, or there is none. Shows no key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._each = [_fernet(key, place) for place, key in enumerate(keys or [""])]
        self._fernet = MultiFernet(self._each)

    def seal(self, what: str, content: bytes) -> str:
        """A text that stands for `content`.

        Args:
            what: it is, and where: `open` asks for the same, so that it cannot be taken elsewhere.
        """
        return self._fernet.encrypt(_bound(what) + content).decode()

    def open(self, what: str, token: str | bytes) -> bytes:
        """What `seal` was given.

        Raises:
            Unreadable: it was sealed with another key, as something else, or not at all.
        """
        try:
            content = self._fernet.decrypt(token)
        except (InvalidToken, ValueError):
            raise Unreadable("it was encrypted with none of encryption_keys=, or not at all") from None
        bound = _bound(what)
        if not content.startswith(bound):
            raise Unreadable("it was encrypted for another place")
        return content[len(bound) :]

    def samples(self, what: str) -> list[str]:
        """Of each key a text by which `is_read_by` knows it."""
        return [fernet.encrypt(_bound(what)).decode() for fernet in self._each]

    def is_read_by(self, what: str, samples: Sequence[str]) -> bool:
        """Whether what is sealed here can be opened where those `samples` are from."""
        for sample in samples:
            with suppress(InvalidToken, ValueError):
                if self._each[0].decrypt(sample) == _bound(what):
                    return True
        return False

    def reads(self, what: str, samples: Sequence[str]) -> bool:
        """Whether what is sealed where those `samples` are from can be opened here."""
        try:
            return self.open(what, samples[0]) == b""
        except (Unreadable, IndexError):
            return False


def _bound(what: str) -> bytes:
    name = what.encode()
    return b"%d %b" % (len(name), name)


def _fernet(key: str, place: int) -> Fernet:
    try:
        return Fernet(key.strip())
    except (ValueError, AttributeError):
        raise ConfigurationError(
            f"encryption_keys[{place}] is no key: 32 bytes as URL-safe base64; make one with python -c "
            '"from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"'
        ) from None
