"""What a client may put on the wire, to the byte, and in whatever pieces it arrives.

Nothing here knows a WebSocket library: this file puts frames together and takes them apart itself, by
RFC 6455. Most of its tests have no opinion of their own: a channel must answer as a plain endpoint on
the same server does, with the same frames in the same order, whoever reads and writes them.
"""

from __future__ import annotations

import asyncio
import fcntl
import importlib
import importlib.util
import socket
import struct
import sys
import termios
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import accumulate, chain, pairwise, repeat
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import pytest
from fastapi import FastAPI, WebSocket
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fastapi_channels import BaseChannel, Channel, Connection, Envelope, action, add_channel
from tests.support.live import DEADLINE, PROTOCOL, RawClient, Site, each_implementation, serving, unique

# uvicorn's oldest protocol is deprecated, and used until it is gone.
pytestmark = pytest.mark.filterwarnings("ignore:remove second argument")

T = TypeVar("T")

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LIMIT: Final = 1 << 17
"""Bytes that a message may have."""
TURNS: Final = 15
"""Turns of the event loop after which a server has done whatever it can do."""
READ: Final = 4
"""Turns after which it has read what there is to read."""
PAUSE: Final = 0.002
"""Seconds between two looks at what takes longer."""
PIECE: Final = 16 * 1024
"""The most that is sent at a time: kernels have room for it."""
SOON: Final = 5.0
"""Seconds that a server may need to close: uvicorn gives up on a client's close frame after ten."""


# The client


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    form: int = 0,
    mask: bytes = b"\1\xa2C\xf4",
) -> bytes:
    """A client's frame, right or wrong.

    Args:
        form: bytes of the extended length, 2 or 8; 0 for as many as it takes.
        mask: four bytes; none for a frame that is not masked.
    """
    size = len(payload)
    form = form or (0 if size < 126 else 2 if size < 1 << 16 else 8)
    length = {0: size, 2: 126, 8: 127}[form]
    head = bytes([fin << 7 | rsv << 4 | opcode, bool(mask) << 7 | length])
    head += size.to_bytes(form) if form else b""
    key = ((mask or bytes(4)) * (size // 4 + 1))[:size]
    return head + mask + (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)


def close(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


class Answer(NamedTuple):
    """A message, or a control frame, of the server."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int | None:
        """What a close frame says, if it is one."""
        if self.opcode != CLOSE:
            return None
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else 1005


def answers(data: bytes) -> Iterator[Answer]:
    """What is in `data`, each of whose frames must be whole, and as a server may send it."""
    inflater = zlib.decompressobj(wbits=-15)
    at = 0
    while at < len(data):
        first, size, start = data[at], data[at + 1], at + 2
        assert size < 128, "masked"
        if size == 126:
            size, start = struct.unpack_from("!H", data, start)[0], start + 2
            assert size > 125
        elif size == 127:
            size, start = struct.unpack_from("!Q", data, start)[0], start + 8
            assert size >= 1 << 16
        assert first & 0x80, "in fragments"
        at = start + size
        payload = data[start:at]
        assert len(payload) == size, "half a frame"
        if first & 0x40:
            payload = inflater.decompress(payload + b"\0\0\xff\xff")
        yield Answer(first & 0x3F, payload)


class Amid(bytes):
    """A piece in which no frame ends: a server can only read it."""


class Peer:
    """A client whose every piece the server reads and works off before the next one is sent."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._socket = socket.create_connection(("127.0.0.1", site.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * PIECE)
        self._socket.setblocking(False)
        self._transport: Any = None
        self._received = bytearray()

    @classmethod
    @asynccontextmanager
    async def open(cls, site: Site, path: str, *headers: str) -> AsyncIterator[Peer]:
        """One that the server has accepted."""
        peer = cls(site)
        try:
            await peer._shake_hands(path, headers)
            yield peer
        finally:
            peer._socket.close()

    async def send(self, piece: bytes) -> None:
        """Send it, unless the server has closed."""
        assert len(piece) <= PIECE
        if self._read() and not self._transport.is_closing():
            expected = self.unread + len(piece)
            self._socket.send(piece)
            deadline = time.monotonic() + DEADLINE
            # The server runs in this thread, and reads nothing meanwhile.
            while self.unread < expected:
                assert time.monotonic() < deadline
        await self.settle(READ if isinstance(piece, Amid) else TURNS)

    @staticmethod
    async def settle(turns: int = TURNS) -> None:
        """Let the server do whatever it can do."""
        for _ in range(turns):
            await asyncio.sleep(0)

    async def quiet(self) -> None:
        """Let the server do whatever it can do, also if many messages wait."""
        size = -1
        while size < len(self._received):
            size = len(self._received)
            await self.settle()
            self._read()

    async def flood(self, data: bytes, within: float) -> bytes:
        """Send what the server takes of `data` in some seconds; what it does not take."""
        deadline, at = time.monotonic() + within, 0
        while at < len(data) and time.monotonic() < deadline:
            try:
                at += self._socket.send(data[at : at + PIECE])
            except BlockingIOError:
                self._read()
                await self.settle()
                await asyncio.sleep(PAUSE)
        return data[at:]

    @property
    def unread(self) -> int:
        """How many bytes have arrived that the server has not read."""
        unread = bytearray(4)
        fcntl.ioctl(self._transport.get_extra_info("socket").fileno(), termios.FIONREAD, unread)
        return int.from_bytes(unread, sys.byteorder)

    async def receive(self, size: int) -> None:
        """Wait until the server has sent so many bytes."""
        await self._until(lambda: self._read() and len(self._received) >= size)

    async def take(self) -> list[Answer]:
        """What the server has sent since the last time."""
        await self.quiet()
        return self._taken()

    async def end(self) -> list[Answer]:
        """Say that nothing more comes; what the server has sent."""
        if self._read():
            self._socket.shutdown(socket.SHUT_WR)
        return await self.all()

    async def all(self) -> list[Answer]:
        """What the server has sent, once it has closed."""
        await self._until(lambda: not self._read())
        return self._taken()

    def _taken(self) -> list[Answer]:
        taken, self._received = bytes(self._received), bytearray()
        return list(answers(taken))

    async def _shake_hands(self, path: str, headers: Iterable[str]) -> None:
        self._socket.send(RawClient.handshake(self._site, path, *headers))
        await self._until(lambda: self._read() and b"\r\n\r\n" in self._received)
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert self._site._server is not None
        protocols: Any = self._site._server.server_state.connections
        own = self._socket.getsockname()
        transports = [protocol.transport for protocol in protocols]
        (self._transport,) = (each for each in transports if each.get_extra_info("peername") == own)

    def _read(self) -> bool:
        """Take what is there; False if that was all."""
        try:
            while data := self._socket.recv(1 << 20):
                self._received += data
        except BlockingIOError:
            return True
        except ConnectionResetError:
            pass
        return False

    @staticmethod
    async def _until(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON):
            pauses = chain(repeat(0, TURNS), repeat(PAUSE))
            while not condition():
                await asyncio.sleep(next(pauses))


# The servers


class Bare(Envelope):
    """Whatever a client sends calls one action."""

    def decode(self, body: str | bytes) -> Any:
        return {"action": "echo", "body": body}


class Relay(BaseChannel):
    max_message_size = LIMIT


class Reply(Channel):
    envelope = Bare()
    max_message_size = LIMIT

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__()
        self._gate = gate

    @action()
    async def echo(self, body: str, connection: Connection) -> None:
        await self._gate.wait()
        await connection.send(body)


def make_app(gate: asyncio.Event) -> FastAPI:
    """Echoes: by plain endpoints, by a room that relays, and by an action, which takes texts only.

    All but the relay wait for the gate before each echo; those that accept themselves, before they read.
    """
    app = FastAPI()
    add_channel(app)
    Relay().mount(app, "/relay/{channel}")
    reply = Reply(gate)
    reply.mount(app, "/reply/{channel}")

    @app.websocket("/late/{channel}")
    async def late(websocket: WebSocket, channel: str) -> None:
        await websocket.accept()
        await gate.wait()
        await reply.connect(websocket, channel)

    async def plain(websocket: WebSocket) -> None:
        await websocket.accept()
        await gate.wait()
        while (event := await websocket.receive())["type"] == "websocket.receive":
            if event.get("text") is None and websocket.url.path == "/plain-texts":
                await websocket.close(1003, "this kind of frame is not accepted")
                return
            await gate.wait()
            await websocket.send({**event, "type": "websocket.send"})

    app.add_api_websocket_route("/plain", plain)
    app.add_api_websocket_route("/plain-texts", plain)
    return app


DEFLATE: Final = "Sec-WebSocket-Extensions: permessage-deflate"
HOLD: Final = "hold"
RELEASE: Final = "release"
Step: TypeAlias = bytes | str
"""A piece of the stream, or what happens to the gate."""


class Stage:
    """A server, and what runs it."""

    def __init__(self, site: Site, gate: asyncio.Event, runner: asyncio.Runner) -> None:
        self.site = site
        self._gate = gate
        self._runner = runner

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.get_loop().run_until_complete(coroutine)

    def turn(self, step: str) -> None:
        """Open or close the gate."""
        self._gate.clear() if step == HOLD else self._gate.set()

    def answers(self, path: str, steps: Sequence[Step], *headers: str, held: bool = False) -> list[Answer]:
        """What the endpoint at `path` sends to a client.

        Args:
            held: whether the gate is closed from the beginning on.
        """
        return self.run(self._play(path, steps, headers, held))

    def rounds(self, path: str, rounds: Iterable[Sequence[bytes]]) -> list[list[Answer]]:
        """What it sends to one client for each of several streams, and in the end."""
        return self.run(self._play_rounds(path, rounds))

    async def _play_rounds(self, path: str, rounds: Iterable[Sequence[bytes]]) -> list[list[Answer]]:
        self.turn(RELEASE)
        got = []
        async with self.site.unharmed(), Peer.open(self.site, path) as peer:
            for pieces in rounds:
                for piece in pieces:
                    await peer.send(piece)
                got.append(await peer.take())
            return [*got, await peer.end()]

    async def _play(
        self, path: str, steps: Sequence[Step], headers: Sequence[str], held: bool
    ) -> list[Answer]:
        self.turn(HOLD if held else RELEASE)
        async with self.site.unharmed(), Peer.open(self.site, path, *headers) as peer:
            for step in steps:
                if isinstance(step, bytes):
                    await peer.send(step)
                else:
                    self.turn(step)
                    await peer.settle()
            self.turn(RELEASE)
            await peer.quiet()
            return await peer.end()


def stages(*but: str) -> list[Any]:
    """The protocols, our own and the one that uvicorn chooses itself on both event loops."""
    there = {"asyncio": ("asyncio", "websockets-sansio"), "own": ("asyncio", PROTOCOL)}
    if importlib.util.find_spec("uvloop"):
        there["uvloop"] = ("uvloop", "websockets-sansio")
        there["own-uvloop"] = ("uvloop", PROTOCOL)
    if importlib.util.find_spec("wsproto"):
        there["wsproto"] = ("asyncio", "wsproto")
    if importlib.util.find_spec("websockets.legacy"):
        there["legacy"] = ("asyncio", "websockets")
    return [pytest.param(there[name], id=name) for name in there if name not in but]


@pytest.fixture(scope="module", params=stages())
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    loop, ws = request.param
    gate = asyncio.Event()
    with asyncio.Runner(loop_factory=importlib.import_module(loop).new_event_loop) as runner:
        stack = AsyncExitStack()
        # uvicorn raises in endpoints that go on when the client has broken the protocol.
        site = runner.run(stack.enter_async_context(serving(make_app(gate), ws=ws, may_complain=True)))
        try:
            yield Stage(site, gate, runner)
        finally:
            runner.run(stack.aclose())


# What the protocol says, by the categories of the Autobahn test suite


class Case(NamedTuple):
    """A stream, what it is answered with, and the code that the server closes with, if it does."""

    name: str
    frames: tuple[bytes, ...]
    says: list[Answer]
    code: int | None

    def pieces(self, size: int) -> list[bytes]:
        """The stream in pieces of a size, and in large ones after the first hundred."""
        ends = set(accumulate(map(len, self.frames)))
        got, at = [], 0
        for piece in pieces(b"".join(self.frames), size):
            inner = ends.isdisjoint(range(at + 1, at + len(piece) + 1))
            got.append(Amid(piece) if inner else piece)
            at += len(piece)
        return got


def case(name: str, *frames: bytes, says: Sequence[Answer] = (), code: int | None = None) -> Case:
    return Case(name, frames, list(says), code)


def text(payload: bytes) -> Answer:
    return Answer(TEXT, payload)


def pong(payload: bytes) -> Answer:
    return Answer(PONG, payload)


def _messages() -> Iterator[Case]:
    for size in (0, 1, 125, 126, 127, 128, 65_535, 65_536):
        for name, opcode in (("text", TEXT), ("binary", BINARY)):
            payload = b"*" * size
            yield case(f"{name} of {size}", frame(opcode, payload), says=[Answer(opcode, payload)])
    for form in (2, 8):
        yield case(f"long form {form}", frame(TEXT, b"hi", form=form), says=[text(b"hi")])


def _pings() -> Iterator[Case]:
    for payload in (b"", b"hello", bytes(range(130, 255)), b"\xff"):
        yield case(f"ping of {len(payload)}", frame(PING, payload), says=[pong(payload)])
    yield case("ping of 126", frame(PING, bytes(126)), code=1002)
    yield case("pong", frame(PONG), frame(PONG, b"unasked"), frame(PING, b"x"), says=[pong(b"x")])
    each = [b"%d" % n for n in range(10)]
    yield case("ten pings", *(frame(PING, n) for n in each), says=[pong(n) for n in each])


def _reserved() -> Iterator[Case]:
    for rsv in range(1, 8):
        for opcode in (TEXT, BINARY, PING, CLOSE):
            yield case(f"rsv {rsv} on {opcode}", frame(opcode, b"", rsv=rsv), code=1002)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"hello"):
            bad = frame(opcode, payload)
            yield case(f"opcode {opcode} with {len(payload)}", bad, frame(PING), code=1002)
            said = frame(TEXT, b"hi")
            yield case(f"opcode {opcode} later, {len(payload)}", said, bad, says=[text(b"hi")], code=1002)
    yield case("unmasked", frame(TEXT, b"hello", mask=b""), code=1002)
    yield case("unmasked with more", frame(BINARY, b"hello", mask=b""), b"more", code=1002)
    yield case("unmasked ping", frame(PING, mask=b""), code=1002)


def _fragments() -> Iterator[Case]:
    begin, end = frame(TEXT, b"one", fin=False), frame(CONTINUATION, b"two")
    more = frame(CONTINUATION, b"", fin=False)
    ping, pinged = frame(PING, b"p"), pong(b"p")
    yield case("two", begin, end, says=[text(b"onetwo")])
    yield case("four", begin, more, more, end, says=[text(b"onetwo")])
    yield case("empty", frame(TEXT, fin=False), more, frame(CONTINUATION), says=[text(b"")])
    yield case("ping between", begin, ping, end, says=[pinged, text(b"onetwo")])
    yield case("pings between", begin, ping, more, ping, end, says=[pinged, pinged, text(b"onetwo")])
    many = [frame(CONTINUATION, b"%d" % n, fin=False) for n in range(100)]
    numbers = b"".join(b"%d" % n for n in range(100))
    yield case("a hundred", begin, *many, end, says=[text(b"one" + numbers + b"two")])
    yield case("binary", frame(BINARY, b"a", fin=False), end, says=[Answer(BINARY, b"atwo")])
    for control in (PING, PONG, CLOSE):
        yield case(f"{control} in fragments", frame(control, b"a", fin=False), end, code=1002)
    yield case("end of nothing", end, code=1002)
    yield case("middle of nothing", more, code=1002)
    yield case("end of what has ended", begin, end, end, says=[text(b"onetwo")], code=1002)
    yield case("message in a message", begin, frame(TEXT, b"whole"), code=1002)
    yield case("message in a message, later", begin, ping, frame(TEXT, b"whole"), says=[pinged], code=1002)
    yield case("message begins in a message", begin, begin, end, code=1002)


def _utf8() -> Iterator[Case]:
    good = ["κόσμε", "\0", "\x7f\x80߿ࠀ￿", "\U00010000\U0010ffff", "￾", "é" * 200]
    for number, characters in enumerate(good):
        encoded = characters.encode()
        yield case(f"utf-8 {number}", frame(TEXT, encoded), says=[text(encoded)])
        for cut in range(1, min(len(encoded), 8)):
            parts = (frame(TEXT, encoded[:cut], fin=False), frame(CONTINUATION, encoded[cut:]))
            yield case(f"utf-8 {number} cut at {cut}", *parts, says=[text(encoded)])
    bad = [b"\xce\xba\xed\xa0\x80", b"\x80", b"\xff", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a\xc3"]
    for encoded in bad:
        yield case(
            f"utf-8 {encoded!r}", frame(TEXT, b"ok"), frame(TEXT, encoded), says=[text(b"ok")], code=1007
        )
        parts = (frame(TEXT, encoded[:1], fin=False), frame(CONTINUATION, encoded[1:]))
        yield case(f"utf-8 {encoded!r} in two", *parts, code=1007)
        yield case(f"bytes {encoded!r}", frame(BINARY, encoded), says=[Answer(BINARY, encoded)])


def _closes() -> Iterator[Case]:
    hi, said = frame(TEXT, b"hi"), [text(b"hi")]
    for code in (
        1000,
        1001,
        1002,
        1003,
        1007,
        1008,
        1009,
        1010,
        1011,
        1012,
        1013,
        1014,
        3000,
        3999,
        4000,
        4999,
    ):
        yield case(f"close {code}", close(code), code=code)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535):
        yield case(f"close {code}", close(code), code=1002)
    yield case("close without code", frame(CLOSE), code=1005)
    yield case("close with half a code", frame(CLOSE, b"\x03"), code=1002)
    yield case("close with a long reason", close(1000, b"x" * 123), code=1000)
    yield case("close with too long a reason", close(1000, b"x" * 124), code=1002)
    yield case("close with a bad reason", close(1000, b"\xce\xba\xed"), code=1007)
    yield case("close twice", close(1000), close(1001), code=1000)
    yield case("message after close", close(1000), hi, code=1000)
    yield case("ping after close", close(1000), frame(PING), code=1000)
    yield case("bad frame after close", close(1000), frame(3), code=1000)
    yield case("message before close", hi, close(1000), says=said, code=1000)


CATEGORIES = (_messages, _pings, _reserved, _fragments, _utf8, _closes)


@pytest.mark.parametrize("stage", stages("wsproto"), indirect=True)
@pytest.mark.parametrize("cases", CATEGORIES, ids=lambda cases: cases.__name__.strip("_"))
def test_the_protocol(stage: Stage, cases: Callable[[], Iterator[Case]]) -> None:
    """In pieces of one byte and of seven, and in one piece. (With wsproto, uvicorn itself fails many: it
    cuts clients off without a close frame.)"""
    good = [case for case in cases() if case.code is None]
    for size in (1, 7, PIECE):
        *got, end = stage.rounds("/relay/" + unique(), (case.pieces(size) for case in good))
        for case, said in zip(good, got, strict=True):
            assert said == case.says, (case.name, size)
        assert end == []
    for case in cases():
        if case.code is not None:
            assert_ends(stage, case)


def assert_ends(stage: Stage, case: Case) -> None:
    for size in (1, 7, PIECE):
        pieces = case.pieces(size)
        *before, last = stage.answers("/relay/" + unique(), pieces)
        assert last.code == case.code, (case.name, size)
        # What comes in one piece with what is wrong may be lost.
        assert before == case.says[: len(before)], (case.name, size)
        assert size > 1 or before == case.says, case.name
        if len(pieces) == 1:  # larger ones are the same
            break


def pieces(stream: bytes, size: int) -> list[bytes]:
    """`stream` in pieces of a size, and in large ones after the first hundred."""
    small = min(100 * size, len(stream))
    cuts = [*range(0, small, size), *range(small, len(stream), PIECE), len(stream)]
    return [stream[start:stop] for start, stop in pairwise(cuts)]


# What a plain endpoint on the same server does

MIXED: Final = b"".join(
    [
        frame(TEXT, b"one"),
        frame(PING, b"a"),
        frame(TEXT, b"two"),
        frame(TEXT, b"th", fin=False),
        frame(PING, b"b"),
        frame(CONTINUATION, b"ree"),
        frame(TEXT, b"four"),
        frame(TEXT, b"five"),
    ]
)


def test_messages_and_pings_in_two_pieces_cut_anywhere(stage: Stage) -> None:
    rounds = [[MIXED[:cut], MIXED[cut:]] for cut in range(1, len(MIXED))]
    rounds.append([MIXED[:-2]])
    expected = stage.rounds("/plain", rounds)
    for said in expected[:-2]:
        assert by_opcode(said)[TEXT] == [b"one", b"two", b"three", b"four", b"five"]
    for path in ("/relay/", "/reply/", "/late/"):
        assert stage.rounds(path + unique(), rounds) == expected, path


LOOKS_LIKE_A_FRAME: Final = "⁄".encode() + "\x80".encode() * 4
"""From its second byte on, and with a mask that unmasks it to zeros."""


def test_a_channel_takes_over_from_its_endpoint_amid_a_frame(stage: Stage) -> None:
    stream = frame(TEXT, LOOKS_LIKE_A_FRAME, mask=bytes(4)) + frame(TEXT, b"more")
    for cut in range(1, len(stream)):
        got = stage.answers("/late/" + unique(), [stream[:cut], RELEASE, stream[cut:]], held=True)
        assert got == [text(LOOKS_LIKE_A_FRAME), text(b"more")], cut


def by_opcode(got: list[Answer]) -> dict[int, list[bytes]]:
    said: dict[int, list[bytes]] = {}
    for answer in got:
        said.setdefault(answer.opcode, []).append(answer.payload)
    return said


def deflated(payload: bytes) -> bytes:
    """Without a context, so that any frame may be left out."""
    compressor = zlib.compressobj(wbits=-15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def in_fragments(opcode: int, parts: list[bytes], between: list[bytes]) -> bytes:
    """A message, with a control frame behind each of its first fragments."""
    stream = frame(opcode, parts[0], fin=False)
    for number, part in enumerate(parts[1:], 1):
        stream += b"".join(between[number - 1 : number])
        stream += frame(CONTINUATION, part, fin=number == len(parts) - 1)
    return stream


SMALL: Final = st.text(max_size=20).map(str.encode)
LARGE: Final = st.sampled_from([125, 126, 127, 128, 300, 4000]).map(lambda size: b"x" * size)
BYTES: Final = st.binary(max_size=125)
DATA: Final = st.sampled_from([TEXT, TEXT, TEXT, BINARY])
CONTROL: Final = st.builds(frame, st.sampled_from([PING, PING, PONG]), BYTES)
CODES: Final = st.sampled_from([1000, 1001, 1005, 1006, 1015, 3000, 4999]) | st.integers(0, 65_535)


def right(data: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    """Frames with messages of these opcodes and between them, the last if compression was negotiated."""
    return st.one_of(
        st.builds(frame, data, SMALL),
        st.builds(frame, data, SMALL | LARGE),
        CONTROL,
        st.builds(in_fragments, data, st.lists(SMALL, min_size=2, max_size=4), st.lists(CONTROL, max_size=3)),
        st.builds(frame, data, SMALL, form=st.sampled_from([2, 8])),
        st.builds(frame, data, SMALL.map(deflated), rsv=st.just(4)),
    )


GOOD: Final = right(DATA)
GOOD_TEXTS: Final = right(st.just(TEXT))
BAD: Final = st.one_of(
    st.builds(close, CODES, SMALL | BYTES),
    st.sampled_from([frame(CLOSE), frame(CLOSE, b"\x03"), frame(CLOSE, bytes(126)), frame(PING, bytes(126))]),
    st.builds(frame, st.integers(0, 15), BYTES, fin=st.booleans()),
    st.builds(frame, DATA, BYTES, rsv=st.integers(0, 7)),
    st.builds(frame, DATA, SMALL, mask=st.just(b"")),
    st.builds(lambda size: b"\x81\xff" + size.to_bytes(8) + b"mask", st.integers(1 << 24, (1 << 64) - 1)),
    BYTES,
)
"""Ends the connection, or leaves a message unfinished."""


@st.composite
def streams(draw: st.DrawFn, good: st.SearchStrategy[bytes] = GOOD) -> list[bytes]:
    """A stream of frames in pieces."""
    first, bad = draw(st.lists(good, max_size=8)), draw(st.lists(BAD, max_size=1))
    # Whether a header is wrong may be told when it is whole, which it is with what follows.
    rest = [*draw(st.lists(GOOD, max_size=2)), bytes(14)] if bad else []
    stream = b"".join([*first, *bad, *rest])
    cuts = [0, *sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8))), len(stream)]
    parts = (stream[start:stop] for start, stop in pairwise(cuts))
    return [piece for part in parts for piece in pieces(part, PIECE)]


FAULTS: Final = {1002, 1007, 1009}


def alike(got: list[Answer], expected: list[Answer]) -> bool:
    """Whether they are the same. What comes in one piece with something wrong may be lost, pings behind it
    may be answered, and of several faults any may be told."""
    if got and expected and {got[-1].code, expected[-1].code} <= FAULTS:
        return agree(got[:-1], expected[:-1])
    return got == expected


def agree(got: list[Answer], expected: list[Answer]) -> bool:
    """Whether, of each kind, one has said all that the other has, and perhaps more."""
    said, owed = by_opcode(got), by_opcode(expected)
    return all(
        one == other
        for opcode in said.keys() & owed.keys()
        for one, other in zip(said[opcode], owed[opcode], strict=False)
    )


@settings(max_examples=25)
@given(sent=streams(), headers=st.sampled_from([(), (DEFLATE,)]))
def test_a_channel_answers_as_a_plain_endpoint(
    stage: Stage, sent: list[bytes], headers: tuple[str, ...]
) -> None:
    for plain, channels in (("/plain", ["/relay/"]), ("/plain-texts", ["/reply/", "/late/"])):
        expected = stage.answers(plain, sent, *headers)
        for path in channels:
            got = stage.answers(path + unique(), sent, *headers)
            assert alike(got, expected), path


@st.composite
def plays(draw: st.DrawFn) -> list[Step]:
    """A stream in pieces, some of which come while the endpoint is busy, perhaps with many messages."""
    steps: list[Step] = [HOLD, MANY] if draw(st.booleans()) else []
    for piece in draw(streams(GOOD_TEXTS)):
        steps += [*draw(st.lists(st.sampled_from([HOLD, RELEASE]), max_size=1)), piece]
    return steps


MANY: Final = frame(TEXT, b"x") * 70


@pytest.mark.parametrize("stage", stages("wsproto"), indirect=True)  # it does not tell of its end
@settings(max_examples=25)
@given(steps=plays())
def test_a_busy_action_answers_what_a_plain_endpoint_answers(stage: Stage, steps: list[Step]) -> None:
    """Late, when the first pieces come before the channel has the WebSocket. How far a server reads ahead
    decides when a ping is answered, and what is still said to a client that closes."""
    assume(sum(len(step) for step in steps) <= PIECE)  # more does not arrive while nothing is read
    for path, held in (("/reply/", False), ("/late/", True)):
        expected = stage.answers("/plain-texts", steps, held=held)
        got = stage.answers(path + unique(), steps, held=held)
        # The server's own close races with what the client does next.
        assume(all(answer.code != 1003 for answer in (*got, *expected)))
        if any(answer.opcode == CLOSE for answer in expected):
            assert alike(got[-1:], expected[-1:]), path
            assert agree(got[:-1], expected[:-1]), path
        else:
            assert by_opcode(got) == by_opcode(expected), path


async def exchange(stage: Stage, path: str, stream: bytes) -> list[Answer]:
    """What a client gets that leaves it to the server to end the connection."""
    stage.turn(RELEASE)
    async with Peer.open(stage.site, path) as peer:
        for piece in pieces(stream, PIECE):
            await peer.send(piece)
        return await peer.all()


@pytest.mark.parametrize("stage", stages("legacy"), indirect=True)
def test_a_client_that_goes_on_after_the_servers_close_is_read_on(stage: Stage) -> None:
    """Else its own close frame would not be seen, as the oldest of uvicorn's protocols does not see it."""
    refused = frame(BINARY)
    for more in (b"", frame(TEXT) * 500, frame(TEXT, b"x" * 1000) * 200, frame(TEXT, bytes(65_536)) * 3):
        for path in ("/plain-texts", "/reply/" + unique(), "/late/" + unique()):
            (end,) = stage.run(exchange(stage, path, refused + more + close(1003)))
            assert end.code == 1003


async def flood(stage: Stage, message: bytes, count: int) -> int:
    """How many bytes of a flood are read while the first message of it is at work."""
    stage.turn(HOLD)
    async with Peer.open(stage.site, "/reply/" + unique()) as peer:
        data = frame(TEXT, message) * count
        rest = await peer.flood(data, within=0.2)
        read = len(data) - len(rest) - peer.unread
        stage.turn(RELEASE)
        assert not await peer.flood(rest, within=SOON)
        await peer.receive(count * (len(message) + 4))
        assert await peer.end() == [text(message)] * count
        return read


def test_a_client_is_not_read_much_further_than_it_is_served(stage: Stage) -> None:
    for size, count in ((1000, 5000), (60_000, 90)):
        assert stage.run(flood(stage, b"x" * size, count)) < 3_000_000


def always() -> asyncio.Event:
    gate = asyncio.Event()
    gate.set()
    return gate


@each_implementation
async def test_a_client_that_answers_no_ping_is_closed(ws: str) -> None:
    options: dict[str, Any] = {"ws": ws, "ws_ping_interval": 0.5, "ws_ping_timeout": 0.05}
    async with serving(make_app(always()), **options) as site:
        for path in ("/plain", "/relay/r"):
            async with Peer.open(site, path) as peer:
                await peer.send(frame(TEXT, b"hi"))
                hi, ping, end = await peer.all()
                assert (hi, ping.opcode, end.code) == (text(b"hi"), PING, 1011)


@each_implementation
async def test_a_client_is_told_that_the_server_ends(ws: str) -> None:
    async with AsyncExitStack() as stack, AsyncExitStack() as server:
        site = await server.enter_async_context(serving(make_app(always()), ws=ws))
        peers = [await stack.enter_async_context(Peer.open(site, path)) for path in ("/plain", "/relay/r")]
        for peer in peers:
            await peer.send(frame(TEXT, b"hi"))
        await server.aclose()
        for peer in peers:
            hi, end = await peer.all()
            assert (hi, end.code) == (text(b"hi"), 1012)
