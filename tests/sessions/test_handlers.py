"""What runs when a client has joined or left."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import anyio
import pytest

from fastapi_channels import Channel, ConfigurationError, Connection
from fastapi_channels.testing.clock import now, timeless
from tests.support.wire import Close, dial, dialing, others, serving

Seen = list[Any]


async def visit(channel: Channel, *, code: int = 1000, reason: str = "") -> None:
    """One client comes and goes."""
    async with serving(channel) as app, dial(app, "/r") as wire:
        wire.leave(code, reason)
        await wire.ended()


async def later(seen: Seen, what: str) -> None:
    """A handler that keeps that it ran."""
    await asyncio.sleep(0)
    seen.append(what)


# What a handler is called with


def handlers(seen: Seen) -> Iterator[tuple[Callable[..., Any], str]]:
    """Handlers of every form, and what each keeps, by letters: `w`ebsocket, c`h`annel, `c`onnection, co`d`e,
    `r`eason, and the values of two defaults."""

    async def none() -> None:
        seen.append([])

    async def usual(websocket: Any, channel: Any) -> None:
        seen.append([websocket, channel])

    async def by_place(ws: Any, room: Any) -> None:
        seen.append([ws, room])

    async def one_by_place(ws: Any) -> None:
        seen.append([ws])

    async def one_named(channel: Any) -> None:
        seen.append([channel])

    async def place_and_name(ws: Any, connection: Any) -> None:
        seen.append([ws, connection])

    async def name_then_place(connection: Any, ws: Any) -> None:
        seen.append([connection, ws])

    async def named_last(ws: Any, websocket: Any) -> None:
        seen.append([ws, websocket])

    async def positional_only(ws: Any, room: Any, /) -> None:
        seen.append([ws, room])

    async def keywords(*, code: Any, reason: Any, connection: Any) -> None:
        seen.append([code, reason, connection])

    async def everything(**kwargs: Any) -> None:
        seen.append([kwargs[name] for name in ("websocket", "channel", "connection", "code", "reason")])

    async def with_default(ws: Any, room: Any, extra: int = 7, *, more: int = 8) -> None:
        seen.append([ws, room, extra, more])

    async def variadic(*args: Any) -> None:
        seen.append([*args])

    yield from [
        *((none, ""), (usual, "wh"), (by_place, "wh"), (one_by_place, "w"), (one_named, "h")),
        *((place_and_name, "wc"), (name_then_place, "cw"), (named_last, "hw"), (positional_only, "wh")),
        *((keywords, "drc"), (everything, "whcdr"), (with_default, "wh78"), (variadic, "")),
    ]


@pytest.mark.parametrize("event_type", ["join", "leave"])
@timeless
async def test_a_handler_gets_what_it_names_and_else_websocket_and_channel(event_type: Any) -> None:
    for index in range(len(list(handlers([])))):
        seen: Seen = []
        func, kept = list(handlers(seen))[index]
        channel = Channel()
        known: dict[str, Any] = {"7": 7, "8": 8, "d": None, "r": None}

        async def meet(known: dict[str, Any], connection: Connection) -> None:
            known.update(w=connection.websocket, h="r", c=connection)

        channel.add_event_handler("join", functools.partial(meet, known))
        channel.add_event_handler(event_type, func)
        await visit(channel, code=4001, reason="bye")
        if event_type == "leave":
            known.update(d=4001, r="bye")
        assert seen == [[known[letter] for letter in kept]], func.__name__


class Listener:
    """Handlers that are methods and objects."""

    def __init__(self) -> None:
        self.seen: Seen = []

    async def method(self, channel: str) -> None:
        self.seen.append(channel)

    @classmethod
    async def of_class(cls, channel: str) -> None:
        cls.shared.append(channel)

    shared: Seen = []

    @staticmethod
    async def static(channel: str) -> None:
        Listener.shared.append(channel)

    async def __call__(self, channel: str) -> None:
        self.seen.append(channel)


async def _partial(seen: Seen, websocket: Any, channel: str) -> None:
    seen.append(channel)


@pytest.mark.filterwarnings("error")
async def test_a_handler_may_be_anything_that_can_be_called() -> None:
    listener, seen = Listener(), list[Any]()
    Listener.shared.clear()

    def plain(channel: str) -> None:
        seen.extend([channel, threading.current_thread()])

    for func in (listener.method, listener, listener.of_class, listener.static):
        await visit(Channel(on_join=[func]))
    await visit(Channel(on_leave=[functools.partial(_partial, seen)]))
    assert (listener.seen, Listener.shared, seen) == (["r", "r"], ["r", "r"], ["r"])
    await visit(Channel(on_join=[plain]))
    assert seen[1] == "r"
    assert seen[2] is not threading.main_thread(), "what may block runs in a thread"


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (lambda ws, room, third: None, "third"),
        (lambda websocket, channel, third: None, "third"),
        (lambda *, user: None, "user"),
        (lambda websocket, ws, room: None, "room"),
    ],
)
def test_what_cannot_be_bound_is_told_at_once(func: Callable[..., Any], name: str) -> None:
    for register in (lambda: Channel(on_join=[func]), lambda: Channel().add_event_handler("leave", func)):
        with pytest.raises(
            ConfigurationError, match=f"the parameter '{name}' of the event handler .* cannot be"
        ):
            register()


@pytest.mark.parametrize("name", ["joined", "", None, "Join"])
def test_an_event_that_does_not_exist(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r'expected the event "join" or "leave", got'):
        Channel().add_event_handler(name, lambda: None)
    with pytest.raises(ConfigurationError, match=r'expected the event "join" or "leave", got'):
        Channel().on_event(name)(lambda: None)


# In which order


@timeless
async def test_handlers_run_in_their_order_around_the_lifespan() -> None:
    seen: Seen = []

    @asynccontextmanager
    async def lifespan(websocket: Any, channel: str) -> AsyncIterator[None]:
        seen.append(f"enter {channel}")
        yield
        seen.append(f"exit {channel}")

    channel = Channel(lifespan=lifespan)
    for number in (1, 2):
        channel.add_event_handler("join", functools.partial(later, seen, f"join {number}"))
        channel.add_event_handler("leave", functools.partial(later, seen, f"leave {number}"))
    await visit(channel)
    assert seen == ["join 1", "join 2", "enter r", "exit r", "leave 1", "leave 2"]


class Announcing(Channel):
    """Handlers and a lifespan of a class."""

    seen: Seen = []
    on_join = [lambda: Announcing.seen.append("join")]

    @asynccontextmanager
    async def lifespan(self, connection: Connection) -> AsyncIterator[None]:
        assert connection.channel is self
        self.seen.append("enter")
        yield
        self.seen.append("exit")


async def test_a_class_may_have_them() -> None:
    Announcing.seen.clear()
    await visit(Announcing())
    assert Announcing.seen == ["join", "enter", "exit"]


async def test_a_bare_generator_is_a_lifespan_too() -> None:
    seen: Seen = []

    async def lifespan(websocket: Any, channel: str) -> AsyncIterator[None]:
        seen.append(channel)
        yield
        seen.append("exit")

    await visit(Channel(lifespan=lifespan))
    assert seen == ["r", "exit"]


async def test_a_generator_that_is_not_async_is_one_in_a_thread() -> None:
    seen: Seen = []

    def lifespan(websocket: Any, channel: str) -> Iterator[None]:
        seen.append(channel)
        seen.append("a thread" if threading.current_thread() is not threading.main_thread() else "the loop")
        yield
        seen.append("exit")

    await visit(Channel(lifespan=lifespan))
    assert seen == ["r", "a thread", "exit"]


def test_a_lifespan_replaces_the_handlers_of_the_constructor() -> None:
    async def lifespan() -> AsyncIterator[None]:
        yield

    for given in ({"on_join": []}, {"on_leave": []}):
        with pytest.raises(
            ConfigurationError, match="either 'lifespan' or 'on_join' and 'on_leave', not both"
        ):
            Channel(lifespan=lifespan, **given)


# The task of a lifespan


@timeless
async def test_a_lifespan_is_entered_and_left_by_one_task() -> None:
    """As cancel scopes demand: leaving one in another task raises."""
    seen: Seen = []

    async def lifespan(channel: str) -> AsyncIterator[None]:
        with anyio.CancelScope():
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                seen.append(asyncio.current_task())
                yield
                seen.append(asyncio.current_task())
                group.cancel_scope.cancel()

    await visit(Channel(lifespan=lifespan))
    assert seen[0] is seen[1]


@timeless
async def test_a_lifespan_is_left_when_the_server_cancels_the_connection() -> None:
    seen: Seen = []

    async def lifespan(channel: str) -> AsyncIterator[None]:
        seen.append("enter")
        try:
            yield
        finally:
            await asyncio.sleep(1)
            seen.append("exit")

    channel = Channel(lifespan=lifespan, channel="x")
    channel.add_event_handler("leave", functools.partial(later, seen, "leave"))
    async with serving(channel) as app:
        before = others()
        async with dial(app, "/r") as wire:
            await wire.until(lambda: wire.reading)
            wire.task.cancel()
            await wire.ended()
        assert wire.task.cancelled()
        assert seen == ["enter", "exit", "leave"]
        assert others() == before


@pytest.mark.parametrize("polite", [True, False])
@timeless
async def test_who_leaves_while_the_lifespan_is_entered(polite: bool) -> None:
    """Entering is cancelled like any work for a client that has gone; what was entered is left."""
    seen: Seen = []

    @asynccontextmanager
    async def connecting() -> AsyncIterator[None]:
        try:
            await asyncio.sleep(3600)
            yield
        finally:
            seen.append("cleaned up")

    @asynccontextmanager
    async def lifespan(channel: str) -> AsyncIterator[None]:
        async with connecting():
            yield

    channel = Channel(lifespan=lifespan)
    channel.add_event_handler("leave", functools.partial(later, seen, "leave"))
    async with serving(channel) as app, dial(app, "/r") as wire:
        began = now()
        if polite:
            wire.leave()
            await wire.ended()
            assert now() - began < 60
    assert seen == ["cleaned up", "leave"]


@timeless
async def test_who_leaves_while_a_join_handler_runs() -> None:
    seen: Seen = []

    async def slow() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("cancelled")

    channel = Channel(
        on_join=[slow, functools.partial(later, seen, "never")],
        on_leave=[functools.partial(later, seen, "leave")],
    )
    async with serving(channel) as app, dial(app, "/r") as wire:
        wire.leave(4001)
        await wire.ended()
    assert seen == ["cancelled", "leave"]


# Failures


def _fail(*_: Any) -> Any:
    raise LookupError("no such thing")


@asynccontextmanager
async def _fails_to_enter() -> AsyncIterator[None]:
    _fail()
    yield


@asynccontextmanager
async def _fails_to_leave() -> AsyncIterator[None]:
    yield
    _fail()


@contextmanager
def _not_async() -> Iterator[None]:
    yield


@pytest.mark.parametrize("failing", ["join", "enter", "kind"])
async def test_who_cannot_join_is_told_and_closed_and_leaves(
    failing: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: Seen = []
    match failing:
        case "join":
            channel = Channel(on_join=[_fail, functools.partial(later, seen, "never")])
        case "enter":
            channel = Channel(lifespan=_fails_to_enter)
        case _:
            channel = Channel(lifespan=_not_async)
    channel.add_event_handler("leave", functools.partial(later, seen, "leave"))
    async with serving(channel) as app, dialing(app, "/r") as wire:
        assert (await wire.closed()).code == 1011
        assert (await wire.receive())["code"] == "internal_error"
        await wire.ended()
    assert seen == ["leave"]
    assert ("no such thing" in caplog.text) is (failing != "kind")


async def test_every_leave_handler_runs_whatever_the_others_raise(caplog: pytest.LogCaptureFixture) -> None:
    seen: Seen = []
    channel = Channel(lifespan=_fails_to_leave)
    for func in (_fail, lambda: seen.append(1), _fail, lambda: seen.append(2)):
        channel.add_event_handler("leave", func)
    await visit(channel)
    assert seen == [1, 2]
    assert [record.message for record in caplog.records] == ["a leave handler failed"] * 3


@timeless
async def test_leave_handlers_have_a_deadline_together(caplog: pytest.LogCaptureFixture) -> None:
    class Hasty(Channel):
        leave_timeout = 5.0

    async def slow(seconds: float) -> None:
        await asyncio.sleep(seconds)

    channel = Hasty(on_leave=[functools.partial(slow, 3), functools.partial(slow, 3600)])
    began = now()
    await visit(channel)
    assert 5 <= now() - began < 10
    assert "the leave handlers took more than 5 s" in caplog.text


@timeless
async def test_a_lifespan_that_does_not_end_has_the_same_deadline(caplog: pytest.LogCaptureFixture) -> None:
    seen: Seen = []

    async def lifespan(channel: str) -> AsyncIterator[None]:
        yield
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("cancelled")

    began = now()
    await visit(Channel(lifespan=lifespan))
    assert now() - began < 60
    assert seen == ["cancelled"]
    assert "the leave handlers took more than 10 s" in caplog.text
    assert not others()


@timeless
async def test_a_handler_may_refuse_who_has_joined() -> None:
    async def refuse(connection: Connection) -> None:
        await connection.close(4001, "full")

    seen: Seen = []
    channel = Channel(on_join=[refuse], on_leave=[functools.partial(later, seen, "leave")])
    async with serving(channel) as app, dialing(app, "/r") as wire:
        assert await wire.closed() == Close(4001, "full")
        await wire.ended()
    assert seen == ["leave"]


@timeless
async def test_a_parameter_of_the_type_gets_the_connection_whatever_its_name() -> None:
    seen: list[Any] = []

    async def by_type(me: Connection, room: str) -> None:
        seen.append((me, room))

    async def by_type_of_user(ws: Any, who: "Connection[str]") -> None:
        seen.append((who, ws))

    async def perhaps(me: "Connection | None" = None) -> None:
        seen.append((me, None))

    async def with_more(me: Annotated[Connection[str], "more"]) -> None:
        seen.append((me, None))

    on_join = [by_type, by_type_of_user, perhaps, with_more]
    async with serving(Channel(on_join=on_join)) as app, dial(app, "/lobby") as wire:
        await wire.until(lambda: len(seen) == 4)
    (me, websocket_of_room), (who, websocket), *others = seen
    assert isinstance(me, Connection)
    assert me is who
    assert others == [(me, None)] * 2
    assert websocket is websocket_of_room is me.websocket
