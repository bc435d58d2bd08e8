"""A line in the log for each connection, when it ends."""

from __future__ import annotations

import json
import logging
from typing import Final, Literal, get_args

from fastapi import APIRouter, FastAPI

from fastapi_channels.cluster.node import Node
from fastapi_channels.cluster.observer import Observer, Stay
from fastapi_channels.exceptions import ConfigurationError

LOGGER: Final = "fastapi_channels.connections"
Style = Literal["text", "json"]


def log_connections(app: FastAPI | APIRouter, style: Style = "text") -> None:
    """Write a line for each connection when it ends, to the logger `fastapi_channels.connections` at INFO.

    It says the id, the address, the user and the rooms, how long it lasted, how many messages the client has
    sent and their bytes, the close code, and who closed. Addresses and names of users are personal data.

    Args:
        app: what add_channel() was called on.
        style: `text` for people, `json` for programs; it is one line in either.

    Raises:
        ConfigurationError: add_channel() was not called, or there is no such style.
    """
    node = Node.attached(app)
    if node is None:
        raise ConfigurationError(
            "log_connections() needs an application or router that add_channel() was called on"
        )
    if style not in get_args(Style):
        raise ConfigurationError(f"expected one of {get_args(Style)}, got the style {style!r}")
    node.observe(ConnectionLog(style))


class ConnectionLog(Observer):
    """Observes a node for `log_connections`."""

    def __init__(self, style: Style) -> None:
        self._line = _as_json if style == "json" else _as_text
        self._logger = logging.getLogger(LOGGER)

    def closed(self, stay: Stay) -> None:
        if self._logger.isEnabledFor(logging.INFO):
            self._logger.info("%s", self._line(_fields(stay)), extra={"connection": stay.connection})


def _fields(stay: Stay) -> dict[str, object]:
    return {
        "connection": stay.connection,
        "address": stay.address,
        "user": stay.user,
        "rooms": list(stay.rooms),
        "seconds": round(stay.seconds, 3),
        "received": stay.received,
        "received_bytes": stay.received_bytes,
        "code": stay.code,
        "closed_by": stay.by,
    }


def _as_json(fields: dict[str, object]) -> str:
    return encoded(fields)


def _as_text(fields: dict[str, object]) -> str:
    """What clients or users have chosen is quoted: it could be a line of its own."""
    return " ".join(f"{name}={encoded(value)}" for name, value in fields.items())


def encoded(value: object) -> str:
    """JSON in which what is not printable is written out: the ends of lines that JSON has for none, controls,
    and what UTF-8 cannot hold. Outside of texts it has nothing of that."""
    found = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if found.isprintable():
        return found
    return "".join(each if each.isprintable() else json.dumps(each)[1:-1] for each in found)
