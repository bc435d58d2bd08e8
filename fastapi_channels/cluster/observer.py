"""The one hook of all that watches a process: nobody, where nobody asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from starlette.websockets import WebSocket

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.connection import Connection
from fastapi_channels.wire.messages import Message, Publication
from fastapi_channels.wire.traffic import Timer


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

    What is not overridden is not called. Channels are named by their class. Nothing but a Stay names a
    room, a user or an address. Of two that belong together, such as `acting` and `acted`, the second is
    called in the context of the first, whatever happened between.
    """

    def asked(self, connection: str, websocket: WebSocket) -> None:
        """A handshake, or a request in place of one, is to be answered; it would become `connection`."""

    def opened(self) -> None:
        """A WebSocket was accepted."""

    def refused(self, code: str) -> None:
        """A handshake was refused, with that `error_code`."""

    def answered(self, failure: BaseException | None) -> None:
        """A handshake that was `asked` is answered, or its client has gone; or answering it has failed."""

    def closed(self, stay: Stay) -> None:
        """A WebSocket has ended that was accepted."""

    def joined(self, channel: str, recovered: bool | None) -> None:
        """A client came into a room. `recovered`: whether it got all that it had missed; None where it did
        not ask for anything."""

    def joining(self, channel: str, connection: str, websocket: WebSocket, message: Message) -> None:
        """A client of a Socket asks for a room, or for what it has missed there."""

    def answered_join(self, failure: BaseException | None) -> None:
        """That is answered, and its join handlers have run; or it has failed, with what the client is told
        unless `failed` was called before."""

    def acting(self, channel: str, spec: ActionSpec, connection: Connection, message: Message) -> None:
        """An action begins, in a context of its own, which ends with it."""

    def acted(self) -> None:
        """An action has ended, in whatever way."""

    def timer(self, channel: str, spec: ActionSpec) -> Timer:
        """Where it is added how long each call of an action takes. Asked once for each action."""
        raise NotImplementedError  # nobody asks an observer that does not override it

    def failed(self, channel: str, action: str, code: str, failure: BaseException | None) -> None:
        """An error was told to a client: of no channel, or of no action, where these are empty. `failure` is
        what went wrong on this side; None where the client was told that it may not, or cannot."""

    def publishing(self, publication: Publication, room: str) -> Publication:
        """A publication goes to the broker: to a room, by its key; what goes in its place."""
        return publication

    def published(self, publication: Publication, seconds: float, failure: BaseException | None) -> None:
        """The broker has taken a publication, or has not."""

    def delivering(self, publication: Publication, room: str, recipients: int) -> None:
        """A publication with a trace has come, and there is somebody here whom it is for. Until `delivered`
        it is handed to them."""

    def delivered(self) -> None:
        """That was done."""

    def running(self, job: str) -> None:
        """A job is run for one of its ticks, in a task of its own."""

    def ran(self, job: str, seconds: float | None, outcome: str, failure: BaseException | None) -> None:
        """What became of one tick of a job. `seconds` is how long it ran; None where it did not."""

    def broker_changed(self, up: bool) -> None:
        """The broker has come back, or was lost."""


class Tracer(Protocol):
    """Whoever traces."""

    @property
    def observer(self) -> Observer: ...


class Observers:
    """Those of a process, by what each of them wants to be told: nobody is called for nothing."""

    __slots__ = (
        "acted",
        "acting",
        "answered",
        "answered_join",
        "asked",
        "broker_changed",
        "closed",
        "delivered",
        "delivering",
        "failed",
        "joined",
        "joining",
        "opened",
        "published",
        "publishing",
        "ran",
        "refused",
        "running",
        "timer",
        "timers",
    )

    acted: Sequence[Callable[[], None]]
    acting: Sequence[Callable[[str, ActionSpec, Connection, Message], None]]
    answered: Sequence[Callable[[BaseException | None], None]]
    answered_join: Sequence[Callable[[BaseException | None], None]]
    asked: Sequence[Callable[[str, WebSocket], None]]
    broker_changed: Sequence[Callable[[bool], None]]
    closed: Sequence[Callable[[Stay], None]]
    delivered: Sequence[Callable[[], None]]
    delivering: Sequence[Callable[[Publication, str, int], None]]
    failed: Sequence[Callable[[str, str, str, BaseException | None], None]]
    joined: Sequence[Callable[[str, bool | None], None]]
    joining: Sequence[Callable[[str, str, WebSocket, Message], None]]
    opened: Sequence[Callable[[], None]]
    published: Sequence[Callable[[Publication, float, BaseException | None], None]]
    publishing: Sequence[Callable[[Publication, str], Publication]]
    ran: Sequence[Callable[[str, float | None, str, BaseException | None], None]]
    refused: Sequence[Callable[[str], None]]
    running: Sequence[Callable[[str], None]]
    timer: Sequence[Callable[[str, ActionSpec], Timer]]

    def __init__(self, *observers: Observer) -> None:
        self.timers: dict[ActionSpec, Sequence[Timer]] = {}
        """Those of each action that was called; see `time`."""
        for name in TOLD:
            setattr(self, name, ())
        for observer in observers:
            self.add(observer)

    def time(self, channel: str, spec: ActionSpec) -> Sequence[Timer]:
        """The timers of an action that has none yet."""
        found = self.timers[spec] = tuple(timer(channel, spec) for timer in self.timer)
        return found

    def add(self, observer: Observer) -> None:
        self.timers.clear()
        for name in TOLD:
            if getattr(type(observer), name) is not getattr(Observer, name):
                told: tuple[Any, ...] = getattr(self, name)
                setattr(self, name, (*told, getattr(observer, name)))


TOLD: Final = tuple(name for name in Observers.__slots__ if name != "timers")
