"""python-socketio: rooms of an AsyncServer."""

# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false, reportGeneralTypeIssues=false

import socketio

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], cors_allowed_origins="*")
app = socketio.ASGIApp(server)


@server.event
async def connect(sid, environ):
    await server.enter_room(sid, "lobby")


@server.event
async def say(sid, data):
    await server.emit("said", data, room="lobby")


@server.event
async def echo(sid, data):
    await server.emit("echoed", data, to=sid)
