"""The other server: a WebSocket of the package `websockets`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any, Final

from starlette.exceptions import HTTPException
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from fastapi_channels.client.sockets import Connect
from fastapi_channels.exceptions import CloseCode
from fastapi_channels.wire.closing import valid_close_code
from fastapi_channels.wire.log import Seldom
from fastapi_channels.wire.messages import Body

from .line import BadGateway, Line, Lost, Upstream
from .target import Target

logger = logging.getLogger("fastapi_channels")

CLOSE_TIMEOUT: Final = 2.0
"""Seconds that the other server gets to answer a close, and to hang up after one."""
GOING_AWAY: Final = 1001
"""What the other server is told where neither side has closed (RFC 6455 section 7.4.1)."""
QUEUED: Final = 1
"""Messages that wait for a client that does not read; then nothing is read of the other server."""


class _Socket:
    """An Upstream."""

    def __init__(self, socket: ClientConnection, line: Line) -> None:
        self._socket = socket
        self._line = line

    @property
    def subprotocol(self) -> str | None:
        return self._socket.subprotocol

    @property
    def answer(self) -> Iterable[tuple[str, str]]:
        response = self._socket.response
        return () if response is None else response.headers.raw_items()

    async def send(self, body: Body) -> None:
        try:
            async with asyncio.timeout(self._line.send_timeout):
                await self._socket.send(body)
        except TimeoutError:
            self._socket.transport.abort()
            raise Lost(CloseCode.BAD_GATEWAY, "the other server takes nothing") from None
        except ConnectionClosed as exc:
            raise _lost(exc) from None

    async def receive(self) -> Body:
        try:
            return await self._socket.recv()
        except ConnectionClosed as exc:
            raise _lost(exc) from None

    async def close(self, code: int | None, reason: str | None) -> None:
        # uvicorn calls that a close without a code, but has no reason for it.
        if code == 1006 or (code == 1005 and reason is None):
            self._socket.transport.abort()
            return
        said = GOING_AWAY if code is None else CloseCode.NORMAL if code == 1005 else code
        await self._socket.close(valid_close_code(said), reason or "")


class _Connection(ClientConnection):
    """Hangs up where either side has said goodbye, and the server stays on the line or reads nothing.

    Whatever the server sends is a sign of its life: its answer to a ping stands behind what it has sent
    before, of which nothing is read while the client takes nothing.
    """

    _end: asyncio.TimerHandle | None = None
    _heard = 0
    """How often something has come of the server."""

    async def keepalive(self) -> None:
        assert self.ping_interval is not None, "it is not called otherwise"
        while True:
            await asyncio.sleep(self.ping_interval)
            answer = asyncio.ensure_future(await self.ping())
            while self.ping_timeout is not None and not answer.done():
                heard, listens = self._heard, self.transport.is_reading()
                await asyncio.wait((answer,), timeout=self.ping_timeout)
                if listens and self._heard == heard:
                    async with self.send_context():
                        self.protocol.fail(CloseCode.INTERNAL_ERROR, "no answer to a ping")

    def data_received(self, data: bytes) -> None:
        self._heard += 1
        super().data_received(data)

    def send_data(self) -> None:
        super().send_data()
        if self._end is None and self.protocol.close_expected():
            self._end = self.loop.call_later(CLOSE_TIMEOUT, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._end is not None:
            self._end.cancel()
        super().connection_lost(exc)


class Dialler:
    """Connects to the first address that answers, beginning with another one each time.

    Args:
        targets: where the same is served.
    """

    def __init__(self, targets: Sequence[Target], line: Line) -> None:
        self._targets = targets
        self._line = line
        self._next = 0
        self._troubles = Seldom(logger)

    def addresses(self) -> list[Target]:
        """All of them, in the order in which they are to be tried now."""
        first, self._next = self._next, (self._next + 1) % len(self._targets)
        return [*self._targets[first:], *self._targets[:first]]

    async def dial(
        self, urls: Sequence[str], subprotocols: Sequence[str], headers: Sequence[tuple[str, str]]
    ) -> Upstream:
        """
        Raises:
            BadGateway: none of them is there.
            HTTPException: one of them refuses the client.
        """
        refusal: Exception = BadGateway()
        for url in urls:
            try:
                return _Socket(await self._connect(url, subprotocols, headers), self._line)
            except InvalidStatus as exc:
                status = exc.response.status_code
                refusal = _refusal(exc)
                if 400 <= status < 500:
                    break
                self._tell(url, f"HTTP {status}" + (", which is not followed" if 300 <= status < 400 else ""))
            except TimeoutError:
                refusal = BadGateway()
                refusal.http_status = HTTPStatus.GATEWAY_TIMEOUT
                self._tell(url, f"no answer within {self._line.connect_timeout:g} s")
            except (OSError, InvalidHandshake, EOFError) as exc:
                refusal = BadGateway()
                self._tell(url, str(exc) or type(exc).__name__)
        raise refusal

    def _connect(self, url: str, subprotocols: Sequence[str], headers: Sequence[tuple[str, str]]) -> Connect:
        line = self._line
        options: dict[str, Any] = {} if line.ssl is None else {"ssl": line.ssl}
        return Connect(
            url,
            subprotocols=[Subprotocol(each) for each in subprotocols] or None,
            additional_headers=headers,
            user_agent_header=None,
            open_timeout=line.connect_timeout,
            close_timeout=CLOSE_TIMEOUT,
            ping_interval=line.ping_interval,
            ping_timeout=line.ping_timeout,
            max_size=line.max_size,
            max_queue=QUEUED,
            compression=None,
            # The variables of the environment are for whoever browses.
            proxy=None,
            create_connection=_Connection,
            **options,
        )

    def _tell(self, url: str, what: str) -> None:
        """Of the URL without its query, where a client's words are."""
        self._troubles.warn(f"a proxy cannot connect to {url.partition('?')[0]}: {what}")


def _refusal(exc: InvalidStatus) -> Exception:
    """What a client is told of an answer that opens nothing: its status, if that concerns the client."""
    response = exc.response
    status = response.status_code
    if not (400 <= status < 500 or status == HTTPStatus.SERVICE_UNAVAILABLE):
        return BadGateway()
    wait = response.headers.get("Retry-After", "")
    headers = {"retry-after": wait} if wait.isdigit() else None
    return HTTPException(status, "The other server refuses", headers)


def _lost(exc: ConnectionClosed) -> Lost:
    """What the other server has said; else that it is gone, or what was wrong with it."""
    said, own = exc.rcvd, exc.sent
    if said is not None and (own is None or exc.rcvd_then_sent):
        if said.code == 1005:
            return Lost(CloseCode.NORMAL, "")
        if valid_close_code(said.code) == said.code:
            return Lost(said.code, said.reason)
    why = own.reason if own is not None and said is None else ""
    return Lost(CloseCode.BAD_GATEWAY, f"the other server: {why}" if why else "the other server is gone")
