"""The one hook of all that watches a process: nobody, where nobody asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fastapi_channels.actions.spec import ActionSpec


@dataclass(frozen=True, slots=True)
class Stay:
    """A WebSocket, from the answer to its handshake to its end.

    Attributes:
        connection: its id.
        address: of the client.
        user: the key of the client's user; None where it has none.
        rooms: those that it was in, the first hundred.
        seconds: how long it lasted.
        received, received_bytes: messages of the client, and their bytes.
        code: of whoever closed first; 1006 where the connection was lost (RFC 6455 section 7.1.5).
        by_us: whether that was the server.
    """

    connection: str
    address: str
    user: str | None
    rooms: Sequence[str]
    seconds: float
    received: int
    received_bytes: int
    code: int
    by_us: bool

    @property
    def by(self) -> str:
        """Who ended it: `server`, `client`, or `nobody` where it was lost."""
        return "server" if self.by_us else "nobody" if self.code == 1006 else "client"


class Observer:
    """Is told of what happens in a process, in its event loop. Nothing that it is told of waits for it, so it
    must neither wait nor raise. What happens for each message is in the hub's `traffic`.

    What is not overridden is not looked at. Channels are named by their class. Nothing but a Stay names a
    room, a user or an address.
    """

    def opened(self) -> None:
        """A WebSocket was accepted."""

    def refused(self, code: str) -> None:
        """A handshake was refused, with that `error_code`."""

    def closed(self, stay: Stay) -> None:
        """A WebSocket has ended that was accepted."""

    def joined(self, channel: str, recovered: bool | None) -> None:
        """A client came into a room. `recovered`: whether it got all that it had missed; None where it did
        not ask for anything."""

    def acted(self, channel: str, spec: ActionSpec, seconds: float) -> None:
        """An action has ended, in whatever way."""

    def failed(self, channel: str, action: str, code: str) -> None:
        """An error was told to a client: of no channel, or of no action, where these are empty."""

    def published(self, seconds: float, ok: bool) -> None:
        """The broker has taken a broadcast, or has not."""

    def ran(self, job: str, seconds: float | None, outcome: str) -> None:
        """What became of one tick of a job. `seconds` is how long it ran; None where it did not."""

    def broker_changed(self, up: bool) -> None:
        """The broker has come back, or was lost."""
