"""Whose doing a record of the log is: the ids of connection, request and user."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Final, NamedTuple

from fastapi import APIRouter, FastAPI
from starlette.websockets import WebSocket

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.observer import Observer
from fastapi_channels.connection import Connection
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.sessions.http import user_of
from fastapi_channels.wire.messages import Message

from .connection_log import encoded
from .loggers import add_to_all

NAMES: Final = ("connection", "request_id", "user")
NOBODY: Final = "-"
CONNECTION: Final = "fastapi_channels.log_ids.connection"
"""Where the scope of a WebSocket has its id: on a Socket each room has a connection with another one."""
MAX_LENGTH: Final = 64
_PLAIN: Final = re.compile(r"[\w.:@/+-]+")


class _Doing(NamedTuple):
    """What goes on in this context; `user` is asked when a record is made, as it may change.

    `own` is the id of the connection as the records of its room have it: on a Socket another one.
    """

    connection: str
    own: str
    request_id: Any
    user: Callable[[], Any]


_doing: ContextVar[_Doing | None] = ContextVar("doing", default=None)


def log_ids(app: FastAPI | APIRouter) -> logging.Filter:
    """Give the records of this package the attributes `connection`, `request_id` and `user`, "-" for none.

    While an action runs they are the id of its connection, that of the request as the client has said it, and
    the key of the user; while a handshake is answered, all but the second. A record of another connection,
    such as one that is too slow for what the action sends, has the id of that one alone. What a client may
    have chosen is cut, and quoted where it is more than one word. Names of users are personal data.

    Args:
        app: what add_channel() was called on.

    Returns:
        What gives them, for handlers that see the application's own records too:
        `handler.addFilter(log_ids(app))`.

    Raises:
        ConfigurationError: add_channel() was not called.
    """
    node = Node.attached(app)
    if node is None:
        raise ConfigurationError("log_ids() needs an application or router that add_channel() was called on")
    node.observe(_Doings(node))
    add_to_all(_IDS)
    return _IDS


class _Doings(Observer):
    def __init__(self, node: Node) -> None:
        self._node = node

    def asked(self, connection: str, websocket: WebSocket) -> None:
        websocket.scope[CONNECTION] = connection
        _doing.set(_Doing(connection, connection, None, lambda: self._node.key_of(user_of(websocket))))

    def answered(self, failure: BaseException | None) -> None:
        _doing.set(None)

    def acting(self, channel: str, spec: ActionSpec, connection: Connection, message: Message) -> None:
        user = lambda: self._node.key_of(connection.user)  # noqa: E731 - as above
        id = connection.websocket.scope.get(CONNECTION, connection.id)
        _doing.set(_Doing(id, connection.id, message.request_id, user))


class _Ids(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        doing = _doing.get()
        of = getattr(record, "connection", None)
        if doing is not None and of not in (None, doing.connection, doing.own):
            doing = None  # it is of another one, whom this one has sent something
        said: dict[str, Any] = dict.fromkeys(NAMES)
        if doing is not None:
            said = dict(zip(NAMES, (doing.connection, doing.request_id, _key(doing)), strict=True))
        for name, value in said.items():
            if not hasattr(record, name):  # what says whose it is itself
                setattr(record, name, NOBODY if value is None else _word(value))
        return True


_IDS: Final = _Ids()


def _key(doing: _Doing) -> str | None:
    try:
        found: str | None = doing.user()
    except Exception:  # it has no key, and whoever logs is not to fail for it
        return None
    return found


def _word(value: Any) -> str:
    text = str(value)[:MAX_LENGTH]
    return text if _PLAIN.fullmatch(text) else encoded(text)
