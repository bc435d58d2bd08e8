"""What the broker brings that is for no room: handed to whom it is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastapi_channels.connection import Connection
from fastapi_channels.wire.messages import Body, Frame, Publication
from fastapi_channels.wire.rooms import EVERYWHERE

from .hub import Hub, Recipient
from .steward import Client
from .users import Users


class Personal:
    """
    Args:
        hub: of this process; what it has collected leaves first.
        connections: those here, by id.
        users: the WebSockets of each user here.
        others: by the kind of a publication, what takes its body.
    """

    def __init__(
        self,
        hub: Hub[Any],
        connections: Mapping[str, Connection],
        users: Users[Client],
        others: Mapping[str, Callable[[Body], None]],
    ) -> None:
        self._hub = hub
        self._connections = connections
        self._users = users
        self._others = others

    def receive(self, publication: Publication) -> None:
        if publication.kind == "connection":
            self.send_to_connections(publication.to, publication.body)
        elif publication.kind == "user":
            self.send_to_users(publication.to, publication.body)
        elif publication.kind in self._others:
            self._others[publication.kind](publication.body)

    def send_to_connections(self, ids: Iterable[str], body: Body) -> None:
        """Send `body` to those of the connections that are in this process."""
        here = self._connections
        found: list[Any] = [here[id] for id in ids if id in here]
        self._deliver(found, body)  # Any: pyright binds the function in a Connection's slot as a method

    def send_to_users(self, keys: Iterable[str], body: Body) -> None:
        for key in keys:
            self._deliver((client.writer for client in self._users.recipients(key)), body)

    def _deliver(self, recipients: Iterable[Recipient], body: Body) -> None:
        self._hub.send(recipients, Frame(body, EVERYWHERE))
