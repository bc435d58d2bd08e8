"""Presence on a loop whose timers have no time, as those of uvloop that are due at once."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVarTuple

from fastapi import FastAPI

from fastapi_channels import Channel, add_channel
from fastapi_channels.testing import running

Ts = TypeVarTuple("Ts")


class Bare:
    """A handle that can be cancelled, and no more."""

    _source_traceback = None  # which `call_later` looks at

    def __init__(self, timer: asyncio.TimerHandle) -> None:
        self.cancel = timer.cancel


class Loop(asyncio.SelectorEventLoop):
    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> Any:
        return Bare(super().call_at(when, callback, *args, context=context))


class Room(Channel):
    presence = True


async def several_come() -> None:
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/rooms/{channel}")
    async with running(app, within=30) as site:
        clients = [await site.client("/rooms/lobby", user=str(number)) for number in range(6)]
        for client in clients:
            await client.expect_frame(lambda frame: frame["type"] == "presence")


def test_who_comes_is_shown_who_is_present() -> None:
    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(several_come())
