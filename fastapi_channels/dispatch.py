"""From a client's message to the handler and back: look up, check, call, reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from .actions import ActionSpec
from .exceptions import ActionIsDeprecated, ActionNotExist, Cancelled
from .messages import Body, Frame, Message

if TYPE_CHECKING:
    from .membership import Membership


class Dispatcher:
    """Runs the actions of one client on one channel, one after the other unless an action says
    otherwise. Nothing that a message contains makes it raise."""

    __slots__ = ("_current", "_member", "_running", "_slots", "_task")

    def __init__(self, member: Membership) -> None:
        self._member = member
        self._current: Message | None = None
        self._task: asyncio.Task[Any] | None = None
        self._running: dict[asyncio.Task[None], Message] = {}
        self._slots: dict[ActionSpec, asyncio.Semaphore] = {}

    async def relay(self, body: Body) -> None:
        """Broadcast what a client of a channel without actions has sent, as it came."""
        member = self._member
        try:
            if await member.guard.check_rates():
                await member.node.publish(member.connection.room, body)
        except Exception as exc:
            await member.session.reporter.report(exc, None, member)

    async def handle(self, message: Message) -> None:
        """Find the action of `message` and run it; returns when the next message may be handled."""
        spec = self._member.channel._find(message.action)
        if spec is None:
            unknown = ActionNotExist(close=False, context={"action": repr(message.action[:64])})
            await self._member.session.reporter.report(unknown, message, self._member)
        elif spec.concurrent > 1:
            await self._start(spec, message)
        else:
            await self._run_cancellable(spec, message)

    def cancel(self, request_id: Any) -> bool:
        """Cancel the client's running request of that id; whether there was one."""
        current = self._current
        if current is not None and current.request_id == request_id and self._task is not None:
            current.cancelled = True
            self._task.cancel()
            return True
        for task, message in self._running.items():
            if message.request_id == request_id:
                message.cancelled = True
                return task.cancel()
        return False

    async def stop(self, grace: float) -> None:
        """Give what runs `grace` seconds, then cancel it."""
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        for task in list(self._running):
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)

    async def _run_cancellable(self, spec: ActionSpec, message: Message) -> None:
        """Run in the task of the session, which a client's cancel interrupts and does not end."""
        self._current, self._task = message, asyncio.current_task()
        try:
            await self._run(spec, message)
        finally:
            self._current = None
            if message.cancelled and self._task is not None:
                self._task.uncancel()

    async def _start(self, spec: ActionSpec, message: Message) -> None:
        """Run beside the others; waits while as many as allowed are running."""
        slots = self._slots.setdefault(spec, asyncio.Semaphore(spec.concurrent))
        await slots.acquire()

        async def run() -> None:
            try:
                await self._run(spec, message)
            finally:
                slots.release()

        task = asyncio.get_running_loop().create_task(run())
        self._running[task] = message
        task.add_done_callback(self._running.pop)

    async def _run(self, spec: ActionSpec, message: Message) -> None:
        """Run one action to its reply, or to the report of what went wrong."""
        member = self._member
        try:
            await self._call(spec, message)
        except Exception as exc:
            await member.session.reporter.report(exc, message, member)
        except asyncio.CancelledError as exc:
            if message.cancelled:
                await member.session.reporter.report(Cancelled(), message, member)
            elif _is_own_cancellation():
                raise
            else:
                await member.session.reporter.report(exc, message, member)

    async def _call(self, spec: ActionSpec, message: Message) -> None:
        member = self._member
        if spec.gone:
            raise ActionIsDeprecated(close=False, context={"action": repr(spec.name)})
        await member.guard.check_permissions(spec, message.data)
        if not await member.guard.check_rates(spec):
            return
        if spec.sunset is not None:
            spec.late_calls += 1
        channel, connection = member.channel, member.connection
        if spec.is_stream:
            await self._stream(spec, message, spec.stream(channel, connection, message, channel.envelope))
            return
        result = await spec.call(channel, connection, message, channel.envelope)
        if result is not None or (message.request_id is not None and (channel.ack or spec.sunset)):
            await self._reply(spec, message, result)

    async def _stream(self, spec: ActionSpec, message: Message, items: AsyncGenerator[Any]) -> None:
        """One reply for each item, each when the one before has left; `more` is false in the last."""
        async with aclosing(items):
            async for item in items:
                if not await self._reply(spec, message, item, more=True):
                    return
                # Neither what yields nor the write need have waited for anything: the others get their turn.
                await asyncio.sleep(0)
        await self._reply(spec, message, None, more=False)

    async def _reply(self, spec: ActionSpec, message: Message, data: Any, **extra: Any) -> bool:
        member = self._member
        frame = member.channel.envelope.reply(message, data)
        frame.update(member.address)
        frame.update(extra)
        if spec.sunset is not None:
            frame.update(deprecated=True, sunset=spec.sunset.isoformat())
        return await member.session.writer.write(Frame(member.channel.envelope.encode(frame)))


def _is_own_cancellation() -> bool:
    """Whether somebody cancels the running task, rather than the handler having raised it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
