"""A WebSocket and the rooms on it: one that the address names, or as many as are joined."""

from __future__ import annotations

import asyncio
import random
from abc import ABC, abstractmethod
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from pydantic_core import to_jsonable_python

from fastapi_channels.topics.names import is_wild, matches

from .connection import Connection, Frame, State, comes_back
from .errors import FOR_NOW, ActionError, ClientError, NotSent, Refused
from .home import Home
from .requests import Asker, How, Request, Requests
from .room import Payload, Room, RoomState
from .settings import Settings


class Line(ABC):
    """A WebSocket.

    Args:
        url: of the handshake.
    """

    def __init__(self, settings: Settings, url: str) -> None:
        self.settings = settings
        self.home = Home()
        self._url = url
        self._connection = Connection(settings, self)
        self._requests = Requests(settings, self._send, lambda: self._connection.knows_windows)
        self._is_closed = False

    @property
    def state(self) -> State:
        return self._connection.state

    @property
    def until(self) -> float:
        return self._connection.until

    def address(self) -> str:
        parts = urlsplit(self._url)
        query = [*parse_qsl(parts.query), *{**self.settings.query, **self._since()}.items()]
        return urlunsplit(parts._replace(query=urlencode(query)))

    def ask(self, room: Room, action: str, payload: Payload, asker: Asker, how: How) -> Request:
        self.home.check()
        names = self.settings.envelope
        fields = {} if payload is None else to_jsonable_python(payload)
        inner = fields if names.payload is None else {names.payload: fields}
        addressed = self._addressed(room, {**inner, names.action: action})
        return self._requests.ask(addressed, room.name, room.state, asker, how)

    def cancel(self, request: Request, error: BaseException) -> None:
        self._requests.cancel(request, error)

    def give(self, request: Request, count: int) -> None:
        self._requests.give(request, count)

    def say(self, room: Room, frame: Frame) -> None:
        self._connection.send(self._addressed(room, frame))

    def recover(self, room: Room) -> str:
        names = self.settings.envelope
        id = self._requests.next_id()
        try:
            asked = {names.type: "join", names.request_id: id, **_since(room)}
            return id if self._connection.send(self._addressed(room, asked)) else ""
        except NotSent:
            return ""

    async def close(self) -> None:
        """Leave for good."""
        self.home.check()
        self._is_closed = True
        await self._connection.close()

    def _check(self) -> None:
        """No connection is opened that nobody closes.

        Raises:
            ClientError: it was closed; or another event loop runs.
        """
        self.home.check()
        if self._is_closed:
            raise ClientError("the socket was closed")

    def _become(self, room: Room, state: RoomState) -> None:
        """The connection is lost: what becomes of a room, and what the server said."""
        room.become(state, None if state == "left" else self._connection.refusal)

    def _send(self, frame: Frame, room: str) -> bool:
        return self._is_ready(room) and self._connection.send(frame)

    @abstractmethod
    def opened(self) -> None: ...

    @abstractmethod
    def received(self, frame: Frame) -> None: ...

    @abstractmethod
    def lost(self) -> None: ...

    @abstractmethod
    def retry(self, room: Room) -> None: ...

    @abstractmethod
    async def release(self, room: Room) -> None: ...

    @abstractmethod
    def _is_ready(self, room: str) -> bool: ...

    def _since(self) -> dict[str, str]:
        """Where the room has been, for the handshake."""
        return {}

    def _addressed(self, room: Room, frame: Frame) -> Frame:
        return frame


class Single(Line):
    """A WebSocket whose address is that of a room."""

    def __init__(self, settings: Settings, url: str, name: str, since: str) -> None:
        super().__init__(settings, url)
        self.room = Room(self, name, since)
        self._is_placed = False
        self._connection.open()

    def opened(self) -> None:
        if not self._is_placed:  # in a room with history `joined` has come before
            self.room.joined(None)
        self._requests.flush(self.room.name)

    def received(self, frame: Frame) -> None:
        kind = frame.get(self.settings.envelope.type)
        if kind == "joined":
            self._is_placed = True
            self.room.joined(frame)
        elif kind != "response" or not self._requests.received(frame):
            self.room.received(frame)

    def lost(self) -> None:
        self._is_placed = False
        self._requests.lost()
        state, over = _over(self._connection, "the room was left")
        if over is not None:
            self._requests.refused(over)
        self._become(self.room, state)

    def retry(self, room: Room) -> None:
        self._check()
        if room.state != "joined":
            room.become("joining")
            self._connection.retry()

    async def release(self, room: Room) -> None:
        self.home.check()
        await self._connection.close()

    def _is_ready(self, room: str) -> bool:
        return self._connection.state == "open"

    def _since(self) -> dict[str, str]:
        return _since(self.room)


class _Place:
    """A room on a socket, and how joining it goes."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.uses = 0
        """How often it was asked for, beyond those that have left."""
        self.joining: str | None = None
        """Id of the join that waits for its answer."""
        self.failures = 0
        self.timer: asyncio.TimerHandle | None = None

    def stop(self) -> None:
        if self.timer is not None:
            self.timer.cancel()


class Many(Line):
    """A WebSocket that carries as many rooms as are joined.

    Attributes:
        own: what is sent to this client alone, or to all of its user, wherever it is.
    """

    def __init__(self, settings: Settings, url: str) -> None:
        super().__init__(settings, url)
        self.own = Room(self, "*")
        self._places: dict[str, _Place] = {}
        self._connection.open()

    def room(self, name: str, since: str) -> Room:
        self._check()
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = _Place(Room(self, name, since))
            if self._connection.state == "closed":
                self._become(place.room, "refused")
            self._ask(place)
        place.uses += 1
        return place.room

    def opened(self) -> None:
        self.own.joined(None)
        places = [place for place in self._places.values() if place.room.state != "refused"]
        most = self._connection.max_joins
        for first in range(0, len(places), most):
            self._join(*places[first : first + most])

    def received(self, frame: Frame) -> None:
        names = self.settings.envelope
        kind, channel = frame.get(names.type), frame.get(names.channel)
        place = self._places.get(channel) if isinstance(channel, str) else None
        if kind == "joined":
            self._joined(place, frame)
        elif kind == "left":
            self._left(place, frame)
        elif kind == "response":
            self._answered(frame, place)
        elif channel in (None, "*"):
            self.own.received(frame)
        else:
            reached = [] if place is None else [place]
            # What has a position is in the history of its room, and topics have none.
            if kind == "event" and isinstance(channel, str) and not frame.get(names.position):
                reached += self._fitting(channel)
            for each in reached:
                each.room.received(frame)

    def _fitting(self, topic: str) -> list[_Place]:
        """The filters that a topic fits, beside the one of its name: its event comes once for all."""
        others = ((name, place) for name, place in self._places.items() if name != topic)
        return [place for name, place in others if not place.room.position and _fits(name, topic)]

    def lost(self) -> None:
        self._requests.lost()
        state, over = _over(self._connection, "the socket was closed")
        if over is not None:
            self._requests.refused(over)
        for place in list(self._places.values()):
            place.joining = None
            place.stop()
            if place.room.state != "refused":
                self._become(place.room, state)
        self._become(self.own, state)

    def retry(self, room: Room) -> None:
        self._check()
        self._connection.retry()
        place = self._places.get(room.name)
        if place is not None and room.state != "joined":
            place.stop()
            room.become("joining")
            self._ask(place)

    async def release(self, room: Room) -> None:
        self.home.check()
        place = self._places.get(room.name)
        if room is self.own:
            await self.close()
        if place is None or place.room is not room:
            return
        place.uses -= 1
        if place.uses:
            return
        del self._places[room.name]
        place.stop()
        if room.state == "joined" or place.joining is not None:
            names = self.settings.envelope
            asked = {names.channel: room.name, names.request_id: self._requests.next_id()}
            self._connection.send({names.type: "leave", **asked})
        self._requests.refused(Refused(0, "the room was left"), room.name)
        room.become("left")

    async def close(self) -> None:
        await super().close()
        self._places.clear()

    def _is_ready(self, room: str) -> bool:
        place = self._places.get(room)
        return place is not None and place.room.state == "joined"

    def _addressed(self, room: Room, frame: Frame) -> Frame:
        return {**frame, self.settings.envelope.channel: room.name}

    def _ask(self, place: _Place) -> None:
        if self._connection.state == "open" and place.room.state != "refused" and place.joining is None:
            self._join(place)

    def _join(self, *places: _Place) -> None:
        """Join rooms by one frame."""
        names = self.settings.envelope
        rooms: list[Frame] = []
        for place in places:
            place.joining = self._requests.next_id()
            asked = {names.channel: place.room.name, names.request_id: place.joining}
            rooms.append({**asked, **_since(place.room)})
        self._connection.send({names.type: "join", **(rooms[0] if len(rooms) == 1 else {"channels": rooms})})

    def _joined(self, place: _Place | None, frame: Frame) -> None:
        id = frame.get(self.settings.envelope.request_id)
        # The server let it in and nobody here has asked, or it was left meanwhile and is asked for again.
        if place is None or (place.joining is not None and id is not None and id != place.joining):
            return
        place.joining = None
        place.failures = 0
        place.room.joined(frame)
        self._requests.flush(place.room.name)

    def _left(self, place: _Place | None, frame: Frame) -> None:
        code = frame.get("close_code")
        # Where it is asked for again, this answers that it was left before.
        if place is None or (place.joining is not None and code is None):
            return
        if code is None:
            self._requests.refused(Refused(0, "the server took it out of the room"), place.room.name)
            self._places.pop(place.room.name, None)
            place.room.become("left")
        elif comes_back(code):
            self._again(place, None)
        else:
            self._refuse(place, Refused(code, frame.get("reason") or ""))

    def _answered(self, frame: Frame, place: _Place | None) -> None:
        id = frame.get(self.settings.envelope.request_id)
        asked = next((each for each in self._places.values() if id is not None and each.joining == id), None)
        if asked is None:
            if not self._requests.received(frame):
                (self.own if place is None else place.room).received(frame)
            return
        error = ActionError(frame, self.settings.envelope)
        asked.joining = None
        if error.code == "already_joined":  # the server has let it in meanwhile
            self._joined(asked, {})
        elif error.code in FOR_NOW:
            self._again(asked, error)
        else:
            self._refuse(asked, Refused(0, str(error), error))

    def _refuse(self, place: _Place, refusal: Refused) -> None:
        self._requests.refused(refusal, place.room.name)
        place.room.become("refused", refusal)

    def _again(self, place: _Place, error: ActionError | None) -> None:
        times = self.settings.times
        ceiling = times.ceiling(place.failures)
        place.failures += 1
        told = 0.0 if error is None else error.retry_after or 0.0
        place.room.become("joining", None if error is None else Refused(0, str(error), error))
        delay = max(times.rejoin, random.uniform(0, ceiling), told)  # noqa: S311
        place.timer = asyncio.get_running_loop().call_later(delay, self._ask, place)


def _over(connection: Connection, left: str) -> tuple[RoomState, Refused | None]:
    """What becomes of rooms whose connection is lost, and what ends their requests."""
    if connection.state == "closed":
        return "refused", connection.refusal
    if connection.state == "idle":
        return "left", Refused(0, left)
    return "joining", None


def _fits(name: str, topic: str) -> bool:
    """Whether an event on a topic is for a room whose name may be a filter."""
    return is_wild(name) and matches(name, topic)


def _since(room: Room) -> dict[str, str]:
    if not room.position:
        return {}
    return {"since": room.position, **({"connection": room.connection} if room.connection else {})}
