"""From a client's message to the handler and back: look up, check, call, reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import aclosing
from functools import partial
from time import perf_counter
from typing import Any, Protocol

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.cluster.node import Node
from fastapi_channels.exceptions import ActionIsDeprecated, ActionNotExist, Cancelled
from fastapi_channels.signatures.callables import MaybeAwaited, apart
from fastapi_channels.stores import StoreUnavailable
from fastapi_channels.wire.messages import Body, Frame, Message, RequestId
from fastapi_channels.wire.writer import Writer

from .guard import Guard
from .repeats import once
from .report import Party, Reporter
from .run import Run


class Member(Party, Protocol):
    """What a dispatcher needs of the membership whose messages it runs."""

    node: Node
    guard: Guard
    reporter: Reporter
    writer: Writer
    holds_place: bool
    acknowledges: bool


class Dispatcher:
    """Runs the actions of one client on one channel, one after the other unless an action says
    otherwise. Nothing that a message contains makes it raise."""

    __slots__ = ("_ends", "_member", "_runs", "_slots", "_stopping", "_tasks")

    def __init__(self, member: Member) -> None:
        self._member = member
        self._runs: dict[Run, None] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._slots: dict[ActionSpec, asyncio.Semaphore] = {}
        self._ends = False
        """Whether the client takes nothing more."""
        self._stopping = False

    async def relay(self, body: Body) -> None:
        """Broadcast what a client of a channel without actions has sent, as it came."""
        member = self._member
        try:
            if member.holds_place and not member.node.rooms.holds:
                await member.node.rooms.regain()
                if not member.connection.keys:
                    return
            admitted = member.guard.check_rates()
            if admitted if isinstance(admitted, bool) else await admitted:
                await member.node.publish(member.plan.key(member.connection.room), body)
        except Exception as exc:
            await member.reporter.report(exc, None, member)

    def handle(self, message: Message, task: asyncio.Task[Any] | None) -> Awaitable[None] | None:
        """Find the action of `message` and run it until it waits for something; to be awaited at once if it
        does, until the next message may be handled.

        Args:
            task: the running one. To ask the event loop for it takes a microsecond.
        """
        if self._member.holds_place and not self._member.node.rooms.holds:
            return self._regained(message, task)
        spec = self._member.plan.find(message.action)
        if spec is None:
            unknown = ActionNotExist(close=False, context={"action": repr(message.action[:64])})
            return self._member.reporter.report(unknown, message, self._member)
        run = Run(message, self._runs, task)
        return self._start(spec, run) if spec.concurrent > 1 else apart(self._run(spec, run))

    async def _regained(self, message: Message, task: asyncio.Task[Any] | None) -> None:
        """Handle `message` when it is known that the client still has its place."""
        member = self._member
        try:
            await member.node.rooms.regain()
        except StoreUnavailable as exc:
            await member.reporter.report(exc, message, member)
        else:
            work = self.handle(message, task) if member.connection.keys else None
            if work is not None:
                await work

    def find(self, request_id: RequestId) -> Run | None:
        """The client's request of that id, if it is running."""
        return next((run for run in self._runs if run.message.request_id == request_id), None)

    def cancel_all(self) -> None:
        """Cancel whatever runs."""
        for run in list(self._runs):
            run.cancel()

    @property
    def is_busy(self) -> bool:
        """Whether anything runs beside the others."""
        return bool(self._tasks)

    @property
    def is_working(self) -> bool:
        """The same, but for streams that wait for their client to take more."""
        return len(self._tasks) > sum(run.is_stalled for run in self._runs)

    async def finished(self) -> None:
        """Wait for what runs beside the others."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def stop(self, grace: float) -> None:
        """Give what runs beside the others `grace` seconds, then cancel it. A stream that waits for its
        client ends at once."""
        self._ends = True
        for run in self._runs:
            run.wake()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _start(self, spec: ActionSpec, run: Run) -> None:
        """Run beside the others; waits while as many as allowed are running."""
        slots = self._slots.setdefault(spec, asyncio.Semaphore(spec.concurrent))
        await slots.acquire()

        async def beside() -> None:
            try:
                await self._run(spec, run)
            finally:
                slots.release()

        task = run.task = asyncio.get_running_loop().create_task(beside())
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _run(self, spec: ActionSpec, run: Run) -> None:
        """Run one action to its last reply, or to the report of what went wrong."""
        member, message, last = self._member, run.message, None
        told = member.node.observers
        began = perf_counter() if told.timer else 0.0
        problem: BaseException
        for begins in told.acting:
            begins(member.plan.name, spec, member.connection, message)
        try:
            try:
                with run:
                    admitted = self._admit(spec, message)
                    if admitted if isinstance(admitted, bool) else await admitted:
                        spec.late_calls += spec.sunset is not None
                        if spec.is_stream:
                            last = await self._stream(spec, run)
                        else:
                            last = self._last(spec, message, await self._result(spec, message))
            except Exception as exc:
                problem = exc
            except asyncio.CancelledError as exc:
                if _is_being_cancelled() and not self._outlives():
                    raise
                problem = Cancelled() if run.message.cancelled or self._stopping else exc
            else:
                if last is not None and not member.writer.write_now(last, patiently=True):
                    await member.writer.write(last)
                return
            handlers = spec.exception_handlers
            await member.reporter.report(problem, run.message, member, handlers=handlers)
        finally:
            for ends in told.acted:
                ends()
            if told.timer:
                seconds = perf_counter() - began
                try:
                    timers = told.timers[spec]
                except KeyError:
                    timers = told.time(member.plan.name, spec)
                for timer in timers:
                    timer.seconds += seconds
                    if seconds <= timer.least:
                        timer.quick += 1
                    else:
                        timer.add_slow(seconds)

    def _outlives(self) -> bool:
        """Whether a cancel of the running task ends its action alone: the application asked for it, or the
        client left this room and no other. It is taken back then."""
        task = asyncio.current_task()
        if task not in self._tasks or self._member.writer.closed:
            return False
        while task.uncancel():
            pass
        return True

    def _admit(self, spec: ActionSpec, message: Message) -> MaybeAwaited[bool]:
        """Whether the handler may be called; False if something else has answered."""
        if message.cancelled:
            raise Cancelled()
        if (spec.deprecated or spec.sunset) and spec.gone:
            raise ActionIsDeprecated(close=False, context={"action": repr(spec.name)})
        guard = self._member.guard
        pending = guard.check_permissions(spec, message.data)
        return guard.check_rates(spec) if pending is None else self._admit_later(pending, spec)

    async def _admit_later(self, pending: Awaitable[None], spec: ActionSpec) -> bool:
        await pending
        admitted = self._member.guard.check_rates(spec)
        return admitted if isinstance(admitted, bool) else await admitted

    def _result(self, spec: ActionSpec, message: Message) -> Awaitable[Any]:
        """Call the handler, for the data of its reply."""
        if spec.idempotent:
            return self._once(spec, message)
        channel = self._member.plan.channel
        return spec.call(channel, self._member.connection, message, channel.envelope)

    def _last(self, spec: ActionSpec, message: Message, data: Any) -> Frame | None:
        """The reply to a call, if there is one."""
        wanted = self._member.acknowledges or spec.sunset
        if data is None and (message.request_id is None or not wanted):
            return None
        return self._reply(spec, message, data)

    def _once(self, spec: ActionSpec, message: Message) -> Awaitable[Any]:
        member = self._member
        channel, connection, node = member.plan.channel, member.connection, member.node
        assert node.store is not None, "the channel does not start without one"
        envelope = channel.envelope
        call = partial(spec.call, channel, connection, message, envelope)
        room, user = node.rooms.topic(member.plan.key(connection.room)), node.key_of(connection.user)
        return once(node.store, room, user, message, envelope.payload_of(message), call)

    async def _stream(self, spec: ActionSpec, run: Run) -> Frame:
        """Call the handler, and send a reply for each item that it yields, each when the one before has left
        and the client takes one more; the last reply, whose `more` is false, is returned."""
        member, message, sent = self._member, run.message, 0
        channel = member.plan.channel
        has_window = run.take_window()
        items = spec.stream(channel, member.connection, message, channel.envelope)
        async with aclosing(items):
            async for item in items:
                index = {"index": sent} if has_window else {}
                if not await member.writer.write(self._reply(spec, message, item, more=True, **index)):
                    raise Cancelled()  # there is no client any more
                sent += 1
                if has_window:
                    await self._take(run)
                if member.connection.ended:
                    raise Cancelled()  # by leaving the room
                # Neither what yields nor the write need have waited for anything: the others get their turn.
                await asyncio.sleep(0)
        return self._reply(spec, message, None, more=False, **({"index": sent} if has_window else {}))

    async def _take(self, run: Run) -> None:
        """Take the credit for an item, and wait until there is some for the next.

        Raises:
            Cancelled: the client takes no more.
        """
        run.message.credit -= 1
        while not run.message.credit:
            if self._ends:
                raise Cancelled()
            await run.stall()

    def _reply(self, spec: ActionSpec, message: Message, data: Any, **extra: Any) -> Frame:
        member = self._member
        envelope = member.plan.channel.envelope
        frame = envelope.reply(message, data)
        if member.fields:
            frame.update(member.fields)
        if extra:
            frame.update(extra)
        if spec.sunset is not None:
            frame.update(deprecated=True, sunset=spec.sunset.isoformat())
        return envelope.frame(frame)


def _is_being_cancelled() -> bool:
    """Whether somebody cancels the running task, rather than the handler having raised it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
