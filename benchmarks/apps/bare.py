"""What one write per delivery can reach in Python: a protocol of asyncio, and nothing else.

It is no WebSocket server: it believes what it reads, bounds nothing, and closes without a word.
"""

import asyncio
import base64
import hashlib
import json
import sys
from typing import cast

import uvloop

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
room: set[asyncio.Transport] = set()


def frame(payload: bytes) -> bytes:
    size = len(payload)
    head = bytes((0x81, size)) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")
    return head + payload


class Bare(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.buffer = b""
        self.is_open = False

    def connection_lost(self, exc: Exception | None) -> None:
        room.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.is_open:
            self.shake_hands()
        while self.is_open and (message := self.next_frame()) is not None:
            self.handle(*message)

    def shake_hands(self) -> None:
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        key = head[head.lower().index(b"sec-websocket-key: ") + 19 :].split(b"\r\n", 1)[0]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324  what the protocol wants
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.buffer, self.is_open = rest, True
        room.add(self.transport)

    def next_frame(self) -> tuple[int, bytes] | None:
        buffer = self.buffer
        if len(buffer) < 6:
            return None
        size, start = buffer[1] & 127, 2
        if size == 126:
            size, start = int.from_bytes(buffer[2:4], "big"), 4
        end = start + 4 + size
        if len(buffer) < end:
            return None
        mask = (buffer[start : start + 4] * (size // 4 + 1))[:size]
        payload = int.from_bytes(buffer[start + 4 : end], "big") ^ int.from_bytes(mask, "big")
        self.buffer = buffer[end:]
        return buffer[0] & 15, payload.to_bytes(size, "big")

    def handle(self, opcode: int, payload: bytes) -> None:
        if opcode != 1:
            self.transport.close()
            return
        if payload.startswith(b'{"action":"raw"'):
            self.transport.write(frame(payload))
            return
        message = json.loads(payload)
        data = frame(json.dumps(message).encode())
        if message["action"] == "say":
            for transport in room:
                transport.write(data)
        else:
            self.transport.write(data)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Bare, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
