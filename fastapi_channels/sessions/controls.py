"""Frames of a client that are no action: a cancel, credit, an answer, a ping or pong, a token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from fastapi_channels.wire.messages import Envelope, Message
from fastapi_channels.wire.writer import Writer

from .calls import Calls
from .life import PING, PONG, Life
from .membership import Membership
from .run import Run
from .sign_in import AUTH, REFRESH, SignIn


class Guest(Protocol):
    """The session of a WebSocket."""

    envelope: Envelope
    writer: Writer
    calls: Calls
    _life: Life | None
    _sign_in: SignIn | None

    def _members(self) -> Iterable[Membership]: ...

    def _known(self, request_id: str | float) -> Run | Message | None: ...


def take(guest: Guest, frame: Any) -> bool:
    """Take a frame that is no action; False for another."""
    names = guest.envelope
    controls = isinstance(frame, dict) and names.action not in frame
    kind = frame.get(names.type) if controls else None
    if guest._life is not None:
        guest._life.heard(kind)
    if kind == "cancel":
        _request(guest, frame.get(names.request_id)).cancel()
    elif kind == "credit":
        request_id, count = names.credit(frame)
        _request(guest, request_id).give(count)
    elif kind == "answer":
        guest.calls.answer(frame.get("call_id"), frame.get(names.data), frame.get(names.errors))
    elif kind == PING:
        guest.writer.post(names.frame({names.type: PONG}))
    elif kind in (AUTH, REFRESH) and guest._sign_in is not None:
        guest._sign_in.refresh(frame)
    else:
        return kind == PONG or (kind == "presence" and any(m.show(frame) for m in guest._members()))
    return True


def _request(guest: Guest, request_id: Any) -> Run | Message:
    """The client's request of that id; one that nobody makes, where there is none."""
    if isinstance(request_id, str | int | float) and (known := guest._known(request_id)) is not None:
        return known
    return Message("", {})
