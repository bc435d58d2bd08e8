"""The connection itself: a port from its first byte on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.server import ServerState
from websockets.exceptions import ProtocolError
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import Protocol as Parser
from websockets.protocol import State

from fastapi_channels.wire.messages import header
from fastapi_channels.wire.port import MAX_AHEAD, ASGIEvent, Port, frame_of, send_at_once, unmasking

from .handshake import read
from .opening import Opening
from .server import Server

CLOSE_TIMEOUT: Final = 10.0
"""Seconds that a client has to answer a close frame."""
_CLOSE: Final = 0x88
_PING: Final = 0x89
MAX_CONTROL: Final = 125
"""Bytes of a control frame's payload (RFC 6455 section 5.5)."""

REQUEST, ANSWER, OPEN, CLOSED, LOST = range(5)
"""What comes next: the client's request; the application's answer; messages; nothing from the application,
which has closed or refused; nothing at all."""


class Protocol(Port):
    """One connection, as uvicorn makes it when a client wants a WebSocket.

    Args:
        config, server_state, app_state: uvicorn's own.
    """

    __slots__ = (
        *("_is_text", "_opening", "_parser", "_parts", "_paused", "_phase"),
        *("_ping", "_pong", "_sending", "_server", "_spoke", "_timer"),
    )

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._server = Server.of(
            config, server_state, app_state, _loop, Protocol._send_ping, Protocol._time_out
        )
        super().__init__(self._server.loop, config.ws_max_size)
        self._phase = REQUEST
        self._opening: Opening | None = None
        """While the request is not answered."""
        self._parser: Parser | None = None
        """While a frame that is not plain, or a message of several, is open; and from a close frame on."""
        self._parts: list[bytes] = _NONE
        """Of a message that is not whole."""
        self._is_text = False
        """Whether that message is a text."""
        self._paused = False
        """Whether the transport takes no more for now."""
        self._sending: asyncio.Future[None] | None = None  # of those who wait for it to take more
        self._spoke: set[Protocol] | None = None
        """Where this waits for its next ping, or for the end of its time to answer one."""
        self._ping: bytes | None = None
        """What the client's pong has to say."""
        self._pong = b""
        """What the client's last ping is answered with when the client reads again."""
        self._timer: asyncio.TimerHandle | None = None
        """For the client's answer to a close frame."""

    # Of a protocol, for uvicorn and the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        send_at_once(transport)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        code = 1005 if OPEN <= self._phase < LOST else 1006
        self._phase = LOST
        self._stop_timers()
        self._server.connections.discard(self)
        self.put_nowait({"type": "websocket.disconnect", "code": code})
        self._parser = self._opening = None
        self._parts = _NONE
        self._resume()
        if exc is None:
            self.transport.close()

    def eof_received(self) -> None:
        """The transport then closes itself."""

    def pause_writing(self) -> None:
        self._paused = True
        self._set_ready(False)

    def resume_writing(self) -> None:
        self._resume()
        if self._pong and not self._shut:
            self.transport.write(self._pong)
        self._pong = b""
        self._set_ready(self._phase == OPEN and not self._shut and not self._paused)

    def shutdown(self) -> None:
        """The server ends."""
        if self._phase == OPEN and not self._shut:
            self._close_with(1012)
            self.put_nowait({"type": "websocket.disconnect", "code": 1012})
        self._fail_handshake()
        self._stop_timers()
        self.transport.close()

    @property
    def keepalive(self) -> float | None:
        return None if self._server.pongs is None else self._server.config.ws_ping_interval

    # The handshake

    def _begin(self, head: bytes) -> None:
        found = read(head, self._server.logger)
        if isinstance(found, bytes):
            self._phase = CLOSED
            self._end_with(found)
            return
        scope = self._server.scope(found, self.transport)
        self._phase = ANSWER
        self._opening = Opening(found, scope, self._server.logger)
        self.events.append({"type": "websocket.connect"})
        task = self._loop.create_task(self._run(scope))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    async def _run(self, scope: dict[str, Any]) -> None:
        logger = self._server.logger
        try:
            result = await self._server.app(scope, self.get, self.send)
        except ClientDisconnected:
            pass
        except BaseException:
            logger.exception("Exception in ASGI application\n")
            self._fail_handshake()
        else:
            if self._opening is not None:
                logger.error("ASGI callable returned without completing handshake.")
                self._fail_handshake()
            elif result is not None:
                logger.error("ASGI callable should return None, but returned '%s'.", result)
        if self._timer is None:
            self.flush()
            self.transport.close()

    def _fail_handshake(self) -> None:
        """The application has no answer to the request."""
        if self._opening is not None:
            answer, self._opening = self._opening.failure(), None
            self._phase = LOST
            self._end_with(answer)

    def _answer(self, opening: Opening, message: ASGIEvent) -> None:
        """What the application says to the request."""
        answer = opening.answer(message, self._server.headers)
        if not answer:
            return
        self._opening = None
        if opening.accepted:
            self._open(answer)
        else:
            self._phase = CLOSED
            self.put_nowait({"type": "websocket.disconnect", "code": 1006})
            self._end_with(answer)

    def _open(self, answer: bytes) -> None:
        self._phase = OPEN
        self.transport.write(answer)
        if self._server.pings is not None:
            self._spoke = self._server.pings.ride(self)
        self._set_ready(not self._paused)
        if self._rest:
            self._read_on()

    # The way out

    async def send(self, message: ASGIEvent) -> None:
        """Take an ASGI message, when the client reads.

        Raises:
            ClientDisconnected: the client has gone.
            RuntimeError: it is not the time for this message.
        """
        while self._paused:
            await self._resumed()
        if self.ready and message["type"] == "websocket.send":
            frame = frame_of(message)
            # At once, or with more: but for a channel, which has an order of its own.
            if self.on_change is None and (self.events or self in self._server.bursts.kept):
                self._server.bursts.keep(self, frame, len(frame))
            elif frame:
                self.transport.write(frame)
        elif self._opening is not None:
            self._answer(self._opening, message)
        elif self._phase == OPEN:
            self._send_open(message)
        elif self._phase == LOST:
            raise ClientDisconnected
        else:
            raise RuntimeError(
                f"Unexpected ASGI message '{message['type']}', after sending 'websocket.close'."
            )

    def _send_open(self, message: ASGIEvent) -> None:
        """Take what is no message for the client, or comes behind a close frame."""
        kind = message["type"]
        if kind == "websocket.send":
            raise ClientDisconnected
        if kind != "websocket.close":
            raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', got '{kind}'.")
        if not self._shut:
            self._close(message.get("code", 1000), message.get("reason", "") or "")

    def flush(self) -> None:
        self._server.bursts.flush()

    def send_kept(self, frames: Sequence[bytes]) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"".join(frames))

    def _close(self, code: int, reason: str) -> None:
        """Close, and read on until the client has answered."""
        self._close_with(code, reason)
        self._phase = CLOSED
        self.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self._timer = self._loop.call_later(CLOSE_TIMEOUT, self.transport.close)
        if self._read_paused:
            self._read_on()

    def _close_with(self, code: int, reason: str = "") -> None:
        """Send a close frame, behind which nothing is sent.

        Raises:
            websockets.exceptions.ProtocolError: no endpoint may send this code.
        """
        self.flush()
        parser = self._parsing()
        parser.send_close(code, reason)
        self._shut_down()
        self.transport.write(b"".join(parser.data_to_send()))

    def _end_with(self, data: bytes) -> None:
        self._server.bursts.flush()
        self._shut_down()
        self.transport.write(data)
        self.transport.close()

    async def _resumed(self) -> None:
        if self._sending is None:
            self._sending = self._loop.create_future()
        await asyncio.wait((self._sending,))

    def _resume(self) -> None:
        self._paused = False
        if self._sending is not None:
            self._sending.set_result(None)
            self._sending = None

    # The way in

    def _read(self, data: bytes) -> None:
        if self._phase >= OPEN:
            Port._read(self, data)
            if self._parser is not None:
                self._let_go(self._parser)
        elif self._phase == REQUEST:
            self._begin(data)
        else:  # what comes before the answer is read behind it
            self._rest = data
            if len(data) > MAX_AHEAD:
                self._pause_reading()

    def _parsing(self) -> Parser:
        if self._parser is None:
            self._parser = self._server.parser()
        return self._parser

    def _let_go(self, parser: Parser) -> None:
        """Parsers take more memory than all else that is here."""
        if not self._theirs and not self._fragmented and parser.state is State.OPEN:
            self._parser = None

    def _pass_on(self, data: bytes) -> bool:
        if self._parser is None and self._take_plain_close(data):
            return False
        parser = self._parsing()
        parser.receive_data(data)
        for frame in parser.events_received():
            if isinstance(frame, Frame) and not self.transport.is_closing():
                self._take_frame(frame, parser)
        if not self.transport.is_closing():
            if parser.parser_exc is not None:
                self._end_broken(parser)
            else:
                self._send_pongs(parser.data_to_send())
        return not self.transport.is_closing()

    def _take_frame(self, frame: Frame, parser: Parser) -> None:
        if frame.opcode is Opcode.CLOSE:
            self._take_close(parser.close_rcvd, b"".join(parser.data_to_send()))
        elif frame.opcode is Opcode.PONG:
            self._take_pong(bytes(frame.data))
        elif frame.opcode is not Opcode.PING:  # `websockets` has made the pong
            if frame.opcode is not Opcode.CONT:
                self._is_text = frame.opcode is Opcode.TEXT
                self._parts = []
            self._parts.append(bytes(frame.data))
            if frame.fin:
                data, self._parts = b"".join(self._parts), _NONE
                self._take_message(data, parser)

    def _take_message(self, data: bytes, parser: Parser) -> None:
        if self._shut:
            return
        if not self._is_text:
            self.events.append({"type": "websocket.receive", "bytes": data})
            return
        try:
            self.events.append({"type": "websocket.receive", "text": data.decode()})
        except UnicodeDecodeError:
            if parser.state is State.OPEN:
                parser.send_close(1007)
            self._end_broken(parser)

    def _take_plain_close(self, data: bytes) -> bool:
        """End the connection if `data` is one close frame and nothing else, and right. That is how most end,
        and to make a parser for it would take as long as all the rest of it."""
        size = len(data) - 6
        if data[0] != _CLOSE or not 0 <= size <= MAX_CONTROL or data[1] != 0x80 | size:
            return False
        payload = unmasking()(data[6:], data[2:6])
        try:
            close = Close.parse(payload)
        except (ProtocolError, UnicodeDecodeError):
            return False  # the parser says what is wrong
        self._take_close(close, header(_CLOSE, size) + payload)
        return True

    def _take_close(self, close: Close | None, answer: bytes) -> None:
        """The client closes, or has answered a close frame."""
        if self._phase == OPEN and close is not None:
            self.put_nowait({"type": "websocket.disconnect", "code": close.code, "reason": close.reason})
        self._stop_timers()
        self._end_with(answer)

    def _end_broken(self, parser: Parser) -> None:
        """The client has broken the protocol, and gets to know it."""
        said = parser.close_sent
        if said is not None:
            self.put_nowait({"type": "websocket.disconnect", "code": said.code, "reason": said.reason})
        self._stop_timers()
        self._end_with(b"".join(parser.data_to_send()))

    def _send_pongs(self, pongs: list[bytes]) -> None:
        """To a client that does not read, only the last is owed (RFC 6455 section 5.5.3)."""
        if pongs and self._paused:
            self._pong = pongs[-1]
        elif pongs:
            self.transport.write(b"".join(pongs))

    # Keepalive

    def _send_ping(self) -> None:
        server = self._server
        if self._shut or server.pings is None:
            return
        self._ping = random.getrandbits(32).to_bytes(4, "big")
        self.transport.write(header(_PING, 4) + self._ping)
        self._spoke = (server.pongs or server.pings).ride(self)

    def _take_pong(self, data: bytes) -> None:
        server = self._server
        if data == self._ping:
            self._ping = None
            if server.pings is not None and server.pongs is not None:
                self._get_off()
                self._spoke = server.pings.ride(self)

    def _time_out(self) -> None:
        """The client has answered no ping."""
        if self._shut:
            return
        parser = self._parsing()
        parser.fail(1011, "keepalive ping timeout")
        self.put_nowait({"type": "websocket.disconnect", "code": 1011, "reason": "keepalive ping timeout"})
        self._end_with(b"".join(parser.data_to_send()))

    def _stop_timers(self) -> None:
        self._get_off()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _get_off(self) -> None:
        if self._spoke is not None:
            self._spoke.discard(self)
            self._spoke = None


_NONE: Final[list[bytes]] = []
