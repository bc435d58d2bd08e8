"""Authentication: what a connection costs that brings a token, beside one of the same room that brings none.

    python -m benchmarks.authentication

An application for each, so that none has more routes than another, under uvicorn with our own protocol, in
this process, on the loopback interface. A client of bare bytes opens a WebSocket, calls one action and goes.
The applications take turns, so that what the machine does besides meets all alike. The cryptography is
measured alone where no server has just done it, after a visit with a token that nobody reads: caches are then
as a server finds them that does much else. What is counted is the time of the processor, of client and server
together, so that only differences mean anything. `unread` is a token that nobody asks for, `function` one
that a plain function knows. It runs for half a minute.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import statistics
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import jwt
import uvicorn
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fastapi import FastAPI

from fastapi_channels import Channel, action, add_channel
from fastapi_channels.auth import JWT, Authenticator

ROUNDS = 30
CONNECTIONS = 40
"""Of each room, in a round."""

SECRET = secrets.token_urlsafe()
PAIR = ec.generate_private_key(ec.SECP256R1())
PUBLIC = PAIR.public_key().public_bytes(
    serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
)
CLAIMS = {"sub": "ada", "aud": "chat", "iat": time.time(), "exp": time.time() + 3600}
VERIFY: dict[str, tuple[str, Any, list[str]]] = {
    "HS256": (jwt.encode(CLAIMS, SECRET, algorithm="HS256"), SECRET, ["HS256"]),
    "ES256": (jwt.encode(CLAIMS, PAIR, algorithm="ES256"), PUBLIC, ["ES256"]),
}


class Room(Channel):
    @action()
    async def echo(self, data: dict[str, Any]) -> Any:
        return data["text"]


GATES: dict[str, Authenticator | None] = {
    "none": None,
    "unread": None,
    "function": Authenticator(lambda token, connection: "ada"),
    **{
        name: Authenticator(JWT(key, algorithms=algorithms, audience="chat"))
        for name, (_, key, algorithms) in VERIFY.items()
    },
}


def application(gate: Authenticator | None) -> FastAPI:
    app = FastAPI()
    add_channel(app)
    type("Hall", (Room,), {"authenticator": gate})().mount(app, "/{channel}")
    return app


async def visit(port: int, token: str | None) -> tuple[float, float]:
    """Seconds until a connection is accepted, and until its action is answered."""
    head = ["GET /tea HTTP/1.1", "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade"]
    head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    head += [f"Authorization: Bearer {token}"] if token else []
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.thread_time()
    writer.write("\r\n".join([*head, "", ""]).encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101"), answer
    accepted = time.thread_time()
    body = b'{"action":"echo","text":"x"}'
    writer.write(struct.pack("!BBI", 0x81, 0x80 | len(body), 0) + body)
    await reader.readexactly(2)
    answered = time.thread_time()
    writer.close()
    return accepted - began, answered - accepted


def verified(name: str) -> float:
    """Seconds of the cryptography and the claims, as PyJWT does them alone."""
    token, key, algorithms = VERIFY[name]
    began = time.thread_time()
    jwt.decode(token, key, algorithms=algorithms, audience="chat")
    return time.thread_time() - began


async def apart(port: int, name: str) -> float:
    """`verified`, after a visit where nothing of that was done."""
    await visit(port, VERIFY[name][0])
    return verified(name)


async def measured(ports: dict[str, int]) -> dict[str, list[list[float]]]:
    """For each application: the seconds of accepting, of an action, and of the cryptography, by round."""
    found: dict[str, list[list[float]]] = {name: [[], [], []] for name in GATES}
    middle: Callable[[list[float]], float] = statistics.median
    for number in range(ROUNDS + 2):
        for name, columns in found.items():
            token = None if name == "none" else VERIFY.get(name, VERIFY["HS256"])[0]
            visits = [await visit(ports[name], token) for _ in range(CONNECTIONS)]
            alone = [await apart(ports["unread"], name) for _ in range(CONNECTIONS if name in VERIFY else 0)]
            if number > 1:  # the first warm up
                columns[0].append(middle([seconds for seconds, _ in visits]))
                columns[1].append(middle([seconds for _, seconds in visits]))
                columns[2].append(middle(alone) if alone else 0.0)
    return found


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[int]:
    """The port at which `app` is served meanwhile."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, access_log=False, ws="fastapi_channels.uvicorn:Protocol")
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    try:
        yield listener.getsockname()[1]
    finally:
        await server.shutdown(sockets=[listener])


async def main() -> None:
    async with AsyncExitStack() as stack:
        ports = {
            name: await stack.enter_async_context(serving(application(gate))) for name, gate in GATES.items()
        }
        found = await measured(ports)
    print(f"medians of {ROUNDS} rounds of {CONNECTIONS} connections, microseconds")
    print("| token | accepted | more than none | PyJWT alone | more, as a part of that | an action |")
    print("| --- | --- | --- | --- | --- | --- |")
    plain = found["none"]
    for name, (accepted, acted, alone) in found.items():
        more = [one - other for one, other in zip(accepted, plain[0], strict=True)]
        ratio = statistics.median(
            one / other if other else 0.0 for one, other in zip(more, alone, strict=True)
        )
        times = [f"{statistics.median(cell) * 1e6:.0f}" for cell in (accepted, more, alone, acted)]
        print("| " + " | ".join([name, *times[:3], f"{ratio:.2f}", times[3]]) + " |")


if __name__ == "__main__":
    asyncio.run(main())
