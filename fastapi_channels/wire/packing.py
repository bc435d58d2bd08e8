"""The texts that go through a broker for publications."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Final, Protocol

from pydantic_core import from_json, to_json

from .messages import Body, Publication

MARK: Final = "\x01fc1 "
"""Begins a packed publication. A text without it is a bare body, whoever published it."""
SEALED: Final = "\x01fcs "
"""Begins one that is encrypted."""


MAX_TRACE: Final = 512
"""Characters of a `traceparent`, or a `tracestate`, that are looked at."""


class Unreadable(ValueError):
    """A publication that this process has no key for; says why."""


class Packs(Protocol):
    """Makes what goes through a broker for a publication, and reads it."""

    def pack(self, publication: Publication) -> Body: ...

    def unpack(self, topic: str, text: Body) -> Publication: ...


class Packing:
    """Of publications as they are."""

    def pack(self, publication: Publication) -> str:
        """The text that goes through a broker for `publication`.

        A plain text body stays as it is, so that programs that listen with broadcaster read it. Any other
        body is preceded by the mark, a JSON header and a newline; bytes are base64.
        """
        body = publication.body
        header: dict[str, object] = {}
        if publication.position:
            header["position"] = publication.position
        if publication.exclude:
            header["exclude"] = sorted(publication.exclude)
        if publication.kind:
            header["kind"] = publication.kind
        if publication.to:
            header["to"] = publication.to
        if publication.for_each:
            header["for_each"] = publication.for_each
        if publication.traceparent:
            header["traceparent"] = publication.traceparent
        if publication.tracestate:
            header["tracestate"] = publication.tracestate
        if isinstance(body, bytes):
            header["encoding"] = "base64"
            body = base64.b64encode(body).decode()
        elif not header and not body.startswith((MARK, SEALED)):
            return body
        return f"{MARK}{to_json(header).decode()}\n{body}"

    def around(self, publication: Publication) -> tuple[str, str]:
        """What comes before its position, and what comes behind it, in the text of `pack`: for who publishes
        without knowing the position yet."""
        head, _, tail = self.pack(replace(publication, position="?")).partition("?")
        return head, tail

    def unpack(self, topic: str, text: Body) -> Publication:
        """The publication that `text` stands for.

        A text with the mark and a header that cannot be read is a bare body: the broker is shared, and
        what a stranger wrote into it must not stop the listener.

        Raises:
            Unreadable: it is encrypted.
        """
        if isinstance(text, bytes):
            try:
                text = text.decode()
            except UnicodeDecodeError:
                return Publication(topic, text)
        if text.startswith(SEALED):
            raise Unreadable("it is encrypted, and encryption_keys= was not given here")
        if not text.startswith(MARK):
            return Publication(topic, text)
        head, _, body = text[len(MARK) :].partition("\n")
        try:
            header = from_json(head)
            return Publication(
                topic,
                base64.b64decode(body, validate=True) if header.get("encoding") == "base64" else body,
                frozenset(header.get("exclude", ())),
                str(header.get("kind", "")),
                tuple(map(str, header.get("to", ()))),
                str(header.get("position", "")),
                str(header.get("for_each", "")),
                _bounded(header.get("traceparent")),
                _bounded(header.get("tracestate")),
            )
        except (ValueError, AttributeError, TypeError):
            return Publication(topic, text)


class BarePacking:
    """Of bodies alone, for a topic that is spoken on with programs of others."""

    def pack(self, publication: Publication) -> Body:
        return publication.body

    def unpack(self, topic: str, text: Body) -> Publication:
        return Publication(topic, text)


def _bounded(text: object) -> str:
    """A text that whoever traces is to judge; empty for what cannot be one."""
    return text if isinstance(text, str) and len(text) <= MAX_TRACE else ""


PLAIN: Final = Packing()
BARE: Final = BarePacking()
