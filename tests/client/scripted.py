"""A server that plays what `docs/protocol.md` says of how a client comes back, row by row, to a client of any
language. Each row has an address of its own, `/rows/{row}`, and a script that meets each handshake there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from fastapi_channels.wire.messages import MAX_WINDOW, SUBPROTOCOL, decode_json, encode_json
from tests.support.live import DEADLINE

Frame: TypeAlias = dict[str, Any]


class Visit:
    """One handshake at a row.

    Attributes:
        number: of the visits there, from 1.
        query: of the handshake.
        token: that it brought.
        at: when it came.
        kept: what the row's script keeps from one visit to the next.
    """

    def __init__(self, socket: ServerConnection, number: int, kept: list[Any]) -> None:
        assert socket.request is not None
        self.number = number
        self.kept = kept
        self.query = dict(parse_qsl(urlsplit(socket.request.path).query))
        offered = [each.strip() for each in socket.request.headers["Sec-WebSocket-Protocol"].split(",")]
        assert offered[0] == SUBPROTOCOL
        self.token = next((each.removeprefix("bearer.") for each in offered[1:]), "")
        self.at = asyncio.get_running_loop().time()
        self._socket = socket

    async def say(self, *frames: Frame) -> None:
        for frame in frames:
            await self._socket.send(encode_json(frame))

    async def welcome(self, **more: Any) -> None:
        """Without `max_window`, as of a server that does not know windows."""
        said = {"connection": f"c.{self.number}", "max_message_size": 65536, **more}
        await self.say({"type": "welcome", **said})

    async def placed(self, position: str, **said: Any) -> None:
        """In a room with history `joined` comes first."""
        await self.say({"type": "joined", "position": position, "connection": f"c.{self.number}", **said})
        await self.welcome()

    async def event(self, number: int) -> None:
        said = {"event": "said", "channel": "a", "data": number, "position": f"e:{number}"}
        await self.say({"type": "event", **said})

    async def hear(self) -> Frame:
        """The next frame of the client; that it leaves ends the script."""
        frame: Frame = decode_json(await self._socket.recv())
        return frame

    async def reply(self, request: Frame, data: Any = None, **more: Any) -> None:
        named = {key: request[key] for key in ("action", "channel", "request_id") if key in request}
        await self.say({"type": "response", "status": "ok", **named, "data": data, **more})

    async def refuse(self, code: str, close: int) -> None:
        error = {"request_id": None, "status": "bad", "data": None, "errors": "no", "code": code}
        await self.say({"type": "response", "action": None, **error})
        await self.close(close, "no")

    async def close(self, code: int, reason: str = "") -> None:
        await self._socket.close(code, reason)

    def vanish(self) -> None:
        """Be gone without a word: 1006."""
        self._socket.transport.abort()

    async def stay(self) -> None:
        """Until the client leaves."""
        await self._socket.wait_closed()


Script: TypeAlias = Callable[[Visit], Awaitable[None]]
BACK: Final = (1001, 1011, 1012, 1013, 1014, 3008, 4000, 4001, 4008, 4010, 4499)
AWAY: Final = (1000, 1002, 1003, 1007, 1008, 1009, 1010, 3000, 3003, 4500, 4501, 4504, 4505, 4509, 4510)


def closes(code: int) -> Script:
    """Let it in, and close the first time."""

    async def script(visit: Visit) -> None:
        await visit.welcome()
        if visit.number == 1:
            await visit.close(code)
        await visit.stay()

    return script


async def vanishes(visit: Visit) -> None:
    await visit.welcome()
    if visit.number == 1:
        await visit.say({"type": "ping"})
        await visit.hear()
        visit.vanish()
    await visit.stay()


async def refuses(visit: Visit) -> None:
    await visit.refuse("permission_denied", 1008)


async def expired(visit: Visit) -> None:
    await visit.refuse("token_expired", 4001)


async def full(visit: Visit) -> None:
    """For now: the second time there is a place."""
    if visit.number == 1:
        await visit.refuse("channel_full", 1013)
    await visit.welcome()
    await visit.stay()


async def restarts(visit: Visit) -> None:
    await visit.welcome()
    if visit.number == 1:
        await visit.say({"type": "drain", "within": 1.0, "retry_after": 0.5})
        await visit.close(1012, "restart; retry_after=0.5")
    await visit.stay()


async def recovers(visit: Visit) -> None:
    """What it was told comes again, and what it missed; then it has been away for too long."""
    if visit.number == 1:
        await visit.placed("e:0")
        await visit.event(1)
        await visit.close(1012)
    elif visit.number == 2:
        await visit.placed("e:1", recovered=True)
        for number in (1, 2, 2, 3):
            await visit.event(number)
        await visit.close(1012)
    else:
        await visit.placed("f:9", recovered=False, reason="epoch")
    await visit.stay()


async def has_gaps(visit: Visit) -> None:
    await visit.placed("e:0")
    await visit.say({"type": "lagged", "channel": "a", "dropped": 3}, {"type": "resync", "position": "e:5"})
    await visit.event(5)
    await visit.event(6)
    await visit.stay()


async def lags(visit: Visit) -> None:
    """What was dropped is asked for in the open room, and what comes meanwhile comes again."""
    await visit.placed("e:0")
    await visit.event(1)
    await visit.say({"type": "lagged", "channel": "a", "dropped": 2, "since": "e:1"})
    await visit.event(4)
    frame = await visit.hear()
    assert (frame["type"], frame["since"]) == ("join", "e:1")
    joined = {"type": "joined", "channel": "a", "position": "e:1", "recovered": True}
    await visit.say({**joined, "request_id": frame["request_id"], "connection": f"c.{visit.number}"})
    for number in range(2, 6):
        await visit.event(number)
    await visit.stay()


async def asks(visit: Visit) -> None:
    await visit.welcome()
    await visit.say({"type": "ping"})
    assert await visit.hear() == {"type": "pong"}
    await visit.say({"type": "call", "call": "confirm", "call_id": 7, "data": {"question": "sure?"}})
    assert await visit.hear() == {"type": "answer", "call_id": 7, "data": 5}
    await visit.say({"type": "call", "call": "other", "call_id": 8, "data": None})
    answer = await visit.hear()
    assert (answer["call_id"], "errors" in answer) == (8, True)
    await visit.event(1)
    await visit.stay()


async def renews(visit: Visit) -> None:
    await visit.welcome()
    await visit.say({"type": "authenticated", "expires_in": 30.0}, {"type": "expiring", "expires_in": 30.0})
    frame = await visit.hear()
    assert frame["type"] == "refresh"
    assert frame["token"] != visit.token
    await visit.event(1)
    await visit.stay()


async def loses_a_reply(visit: Visit) -> None:
    """Nobody knows of the first request, and it is not made again."""
    await visit.welcome()
    request = await visit.hear()
    if visit.number == 1:
        visit.vanish()
    else:
        await visit.reply(request, request["number"])
    await visit.stay()


async def is_called(visit: Visit) -> None:
    """The action is the one that was called, whatever its payload has."""
    await visit.welcome()
    request = await visit.hear()
    assert (request["action"], request["text"]) == ("say", "a")
    assert request["request_id"] != "mine"
    await visit.reply(request, "said")
    await visit.stay()


async def loses_the_first(visit: Visit) -> None:
    """An idempotent one is made again with its id, also while it is still being handled."""
    await visit.welcome()
    request = await visit.hear()
    visit.kept.append(request["request_id"])
    if visit.number == 1:
        visit.vanish()
    else:
        assert len(set(visit.kept)) == 1
        in_progress = {"status": "bad", "errors": "wait", "code": "in_progress", "retry_after": 0.1}
        await visit.reply(request, **in_progress)
        assert await visit.hear() == request
        await visit.reply(request, "once")
    await visit.stay()


async def shows_people(visit: Visit) -> None:
    def one(id: str) -> Frame:
        return {"id": id, "user": id, "data": None}

    await visit.welcome()
    diff: Frame = {"type": "presence_diff", "joined": [], "changed": [], "left": []}
    await visit.say(
        {"type": "presence", "version": 1, "present": [one("ann")]},
        {**diff, "version": 3, "joined": [one("eve")]},
        {**diff, "version": 4, "joined": [one("eve")]},
    )
    assert await visit.hear() == {"type": "presence"}
    await visit.say({"type": "presence", "version": 4, "present": [one("ann"), one("bob"), one("eve")]})
    await visit.stay()


async def has_rooms(visit: Visit) -> None:
    """Many on one socket: one is full at first, one is taken away for now, and all are joined again: one by
    one where the server does not say that it knows better, and then by one frame."""
    await visit.welcome(**({"max_joins": 100} if visit.number == 2 else {}))
    joins: list[Frame] = []
    while len(joins) < 2:
        frame = await visit.hear()
        assert frame["type"] == "join"
        assert ("channels" in frame) == (visit.number == 2)
        joins += frame.get("channels", [frame])
    for join in joins:
        named = {"channel": join["channel"], "request_id": join["request_id"]}
        if visit.number == 1 and join["channel"] == "b":
            full = {"status": "bad", "errors": "full", "code": "channel_full"}
            await visit.reply({**named, "action": "join"}, **full)
            frame = await visit.hear()
            assert (frame["type"], frame["channel"]) == ("join", "b")
            named["request_id"] = frame["request_id"]
        recovered = {"recovered": True} if "since" in join else {}
        assert ("since" in join) == (visit.number == 2)
        await visit.say({"type": "joined", **named, "position": join.get("since", "e:0"), **recovered})
    if visit.number == 1:
        await visit.say({"type": "left", "channel": "a", "close_code": 1013, "reason": "full"})
        frame = await visit.hear()
        assert (frame["type"], frame["channel"], frame["since"]) == ("join", "a", "e:0")
        await visit.close(1012)
    await visit.say({"type": "left", "channel": "a", "close_code": 4501, "reason": "language"})
    await visit.stay()


async def streams(visit: Visit) -> None:
    """By windows: what is taken is given back by halves; the end needs no credit."""
    await visit.welcome(max_window=MAX_WINDOW)
    request = await visit.hear()
    window = request["window"]
    sent, credit = 0, window
    while sent < 5 * window:
        while credit:
            await visit.reply(request, sent, more=True, index=sent)
            sent, credit = sent + 1, credit - 1
        given = await visit.hear()
        assert given == {"type": "credit", "request_id": request["request_id"], "count": window // 2}
        credit += given["count"]
    await visit.reply(request, more=False, index=sent)
    await visit.stay()


async def streams_all(visit: Visit) -> None:
    """A server of before: no window, no index, and credit would be an error."""
    await visit.welcome()
    request = await visit.hear()
    assert "window" not in request
    for number in range(200):
        await visit.reply(request, number, more=True)
    await visit.reply(request, more=False)
    assert (await visit.hear())["action"] == "count"
    await visit.event(1)
    await visit.stay()


async def loses_an_item(visit: Visit) -> None:
    await visit.welcome(max_window=MAX_WINDOW)
    request = await visit.hear()
    for index in (0, 2):
        await visit.reply(request, index, more=True, index=index)
    assert await visit.hear() == {"type": "cancel", "request_id": request["request_id"]}
    await visit.event(1)
    await visit.stay()


async def stays(visit: Visit) -> None:
    await visit.welcome(max_message_size=100)
    await visit.say({"type": "presence", "version": 1, "present": [{"id": "c", "user": "ann", "data": None}]})
    await visit.event(1)
    await visit.stay()


ROWS: Final[Mapping[str, Script]] = {
    **{f"back-{code}": closes(code) for code in BACK},
    **{f"away-{code}": closes(code) for code in AWAY},
    "vanishes": vanishes,
    "refuses": refuses,
    "expired": expired,
    "full": full,
    "restarts": restarts,
    "recovers": recovers,
    "has-gaps": has_gaps,
    "asks": asks,
    "renews": renews,
    "loses-a-reply": loses_a_reply,
    "is-called": is_called,
    "loses-the-first": loses_the_first,
    "shows-people": shows_people,
    "lags": lags,
    "has-rooms": has_rooms,
    "streams": streams,
    "streams-all": streams_all,
    "loses-an-item": loses_an_item,
    "stays": stays,
    "unusable-token": stays,
}


class Scripted:
    """
    Attributes:
        url: of the server.
        visits: of each row.
        faults: what a client did that no row allows.
    """

    def __init__(self) -> None:
        self.url = ""
        self.visits: dict[str, list[Visit]] = {row: [] for row in ROWS}
        self.faults: list[str] = []

    async def meet(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        row = urlsplit(socket.request.path).path.rpartition("/")[2]
        visits = self.visits[row]
        kept = visits[0].kept if visits else []
        visits.append(visit := Visit(socket, len(visits) + 1, kept))
        try:
            with suppress(ConnectionClosed):
                await ROWS[row](visit)
        except Exception as exc:
            self.faults.append(f"{row}, visit {visit.number}: {exc!r}")


@asynccontextmanager
async def scripted() -> AsyncIterator[Scripted]:
    found = Scripted()
    # Who is slow to answer a close loses nothing of what was sent before it.
    async with serve(
        found.meet, "127.0.0.1", 0, subprotocols=[Subprotocol(SUBPROTOCOL)], close_timeout=DEADLINE
    ) as server:
        found.url = f"http://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        yield found
