"""An echo server for every ASGI server, and the same for Node: what is on the other side of a proxy.

It takes the first subprotocol that it is offered. `close 4321 why` closes, and `left` tells how the client
before has closed. Node's also pings, and tells of the answer.
"""

from __future__ import annotations

import json
from typing import Any, Final

ON_NODE: Final = """
const { WebSocketServer } = require("ws");
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[1]) });
let left = null;
server.on("connection", (socket) => {
  socket.on("pong", (data) => socket.send("pong " + data));
  socket.on("close", (code, reason) => { left = [code, reason.toString()]; });
  socket.on("error", () => {});
  socket.on("message", (data, isBinary) => {
    const words = isBinary || data.length > 99 ? [] : data.toString().split(" ");
    if (words[0] === "close") socket.close(Number(words[1]), words[2]);
    else if (words[0] === "left") socket.send(JSON.stringify(left));
    else if (words[0] === "ping") socket.ping(words[1]);
    else socket.send(data, { binary: isBinary });
  });
});
"""

left: list[Any] | None = None


async def app(scope: Any, receive: Any, send: Any) -> None:
    global left
    assert scope["type"] == "websocket", "the server asks for no lifespan"
    await receive()
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    while (event := await receive())["type"] == "websocket.receive":
        text = event.get("text")
        match text.split() if text and len(text) < 100 else ():
            case ["close", code, reason]:
                await send({"type": "websocket.close", "code": int(code), "reason": reason})
                return
            case ["left"]:
                await send({"type": "websocket.send", "text": json.dumps(left)})
            case _:
                await send({**event, "type": "websocket.send"})
    left = [event["code"], event.get("reason") or ""]
