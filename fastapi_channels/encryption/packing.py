"""Publications as ciphertext: all but the position, which a store adds to what it has been given."""

from __future__ import annotations

from dataclasses import replace

from fastapi_channels.wire.messages import Publication
from fastapi_channels.wire.packing import PLAIN, SEALED, Packing, Unreadable

from .cipher import Cipher


class SealedPacking(Packing):
    """Takes nothing that is not encrypted: whoever writes to the broker without a key says nothing."""

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher

    def pack(self, publication: Publication) -> str:
        head, tail = self.around(publication)
        return f"{head}{publication.position}{tail}"

    def around(self, publication: Publication) -> tuple[str, str]:
        packed = PLAIN.pack(replace(publication, position=""))
        return SEALED, "\n" + self._cipher.seal(f"message {publication.topic}", packed.encode())

    def unpack(self, topic: str, text: str | bytes) -> Publication:
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        if not text.startswith(SEALED):
            raise Unreadable("it is not encrypted, and encryption_keys= was given here")
        position, _, token = text[len(SEALED) :].partition("\n")
        packed = self._cipher.open(f"message {topic}", token)
        return replace(PLAIN.unpack(topic, packed), position=position)
