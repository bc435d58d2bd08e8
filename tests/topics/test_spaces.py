"""What is published to a topic reaches whoever has a filter that it fits, once."""

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI

from fastapi_channels import (
    BaseChannel,
    Channel,
    ConfigurationError,
    Connection,
    Event,
    NotFound,
    ParseError,
    PermissionDenied,
    Publisher,
    Socket,
    TooManyRooms,
    action,
    add_channel,
    current_connection,
    topics_router,
)
from fastapi_channels.client import ActionError
from fastapi_channels.cluster.node import Node
from fastapi_channels.testing import Client, Site, running
from fastapi_channels.wire.messages import Publication


class Score(Event):
    points: int


def by_user(connection: Connection, frame: dict[str, Any]) -> dict[str, Any] | None:
    if connection.user == "nobody":
        return None
    return {**frame, "data": {**frame["data"], "to": connection.user}}


class Scores(Channel):
    topics = True
    room_pattern = "sport/{game}/{player:int}"
    event_types = (Score,)
    for_each = (by_user,)
    routers = (topics_router,)
    max_rooms = 12

    async def authorize(self, connection: Connection, game: str | None, player: int | None) -> bool:
        return game != "secret"

    def may_receive(self, connection: Connection, game: str, player: int) -> bool:
        return game != "secret" and not (connection.user == "half" and player % 2)

    @action()
    async def score(self, topic: str, points: int, connection: Connection, echo: bool = True) -> None:
        await self.broadcast(topic, Score(points=points), exclude=None if echo else connection)

    @action()
    async def take_all(self, connection: Connection) -> int:
        taken = 0
        for number in range(10_000):
            with suppress(TooManyRooms):
                await connection.subscribe(f"sport/golf/{number}")
                taken += 1
        return taken

    @action()
    async def filters(self, connection: Connection) -> list[str]:
        return sorted(connection.rooms)


class Anything(Channel):
    """Topics without a pattern, and without anybody who asks."""

    topics = True
    routers = (topics_router,)
    for_each = (by_user,)


scores = Scores()
anything = Anything()


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    app = FastAPI()
    add_channel(app)
    scores.mount(app, "/scores")
    scores.mount(app, "/of/{channel:path}", sse=True)
    anything.mount(app, "/anything")
    Socket(scores, anything).mount(app, "/socket")
    async with running(app) as site:
        yield site


async def subscribed(site: Site, *filters: str, path: str = "/scores", user: Any = None) -> Client:
    client = await site.client(path, user=user)
    for filter in filters:
        assert await client.call("subscribe", filter=filter) == filter
    return client


async def points(client: Client) -> list[int]:
    """Those of all scores that have come."""
    await client.send({"type": "ping"})
    await client.expect_frame(lambda frame: frame.get("type") == "pong")
    return [frame["data"]["points"] for frame in client.received if frame.get("event") == "score"]


async def test_a_client_gets_what_fits_its_filters(site: Site):
    tennis, seven, all_of = [await subscribed(site, each) for each in ("sport/tennis/+", "sport/+/7", "#")]
    for number, topic in enumerate(("sport/tennis/7", "sport/golf/7", "sport/golf/8")):
        await scores.broadcast(topic, Score(points=number))
    assert await points(tennis) == [0]
    assert await points(seven) == [0, 1]
    assert await points(all_of) == [0, 1, 2]


async def test_the_frame_names_the_topic(site: Site):
    client = await subscribed(site, "sport/#")
    await scores.broadcast("sport/golf/8", Score(points=1))
    frame = await client.expect_frame(lambda frame: frame.get("type") == "event")
    assert frame == {"type": "event", "event": "score", "channel": "sport/golf/8", "data": {"points": 1}}


async def test_filters_that_overlap_bring_it_once(site: Site):
    client = await subscribed(site, "sport/#", "sport/+/7", "#", "sport/golf/7")
    await scores.broadcast("sport/golf/7", Score(points=1))
    assert await points(client) == [1]


async def test_so_they_do_over_one_socket(site: Site):
    client = await site.client("/socket")
    for filter in ("sport/#", "sport/+/7", "sport/golf/7"):
        await client.join(filter)
    await scores.broadcast("sport/golf/7", Score(points=1))
    assert await points(client) == [1]
    await client.leave("sport/#")
    await scores.broadcast("sport/golf/8", Score(points=2))
    await scores.broadcast("sport/golf/7", Score(points=3))
    assert await points(client) == [1, 3]


async def test_whoever_publishes_may_be_left_out(site: Site):
    client, other = await subscribed(site, "sport/#", "#"), await subscribed(site, "#")
    await client.call("score", topic="sport/golf/7", points=1, echo=False)
    await client.call("score", topic="sport/golf/7", points=2)
    assert await points(client) == [2]
    assert await points(other) == [1, 2]


async def test_it_is_left_out_over_one_socket_whatever_else_fits(site: Site):
    client = await site.client("/socket")
    await client.join("sport/#")
    await client.join("sport/golf/+")
    await client.call("score", room="sport/#", topic="sport/golf/7", points=1, echo=False)
    await client.leave("sport/#")
    await client.join("sport/tennis/+")
    await client.call("score", room="sport/tennis/+", topic="sport/golf/7", points=2, echo=False)
    await client.call("score", room="sport/tennis/+", topic="sport/golf/7", points=3)
    assert await points(client) == [3]


async def test_it_comes_in_the_order_in_which_it_was_published(site: Site):
    one, other = await subscribed(site, "#", "sport/+/7"), await subscribed(site, "sport/golf/#")
    for number in range(50):
        await scores.broadcast(f"sport/golf/{6 + number % 3}", Score(points=number))
        await scores.broadcast(["default_channel", "sport/golf/7"], Score(points=-number))
    sent = [each for number in range(50) for each in (number, -number, -number)]
    assert (await points(one), await points(other)) == (sent, sent)


async def test_unsubscribed_is_unsubscribed(site: Site):
    client = await subscribed(site, "sport/golf/+", "sport/+/7")
    await client.call("unsubscribe", filter="sport/golf/+")
    for nothing in ("sport/golf/9", "never/had", "a/#/b", "default_channel"):
        await client.call("unsubscribe", filter=nothing)
    assert await client.call("filters") == ["default_channel", "sport/+/7"]
    await scores.broadcast("sport/golf/8", Score(points=1))
    await scores.broadcast("sport/golf/7", Score(points=2))
    assert await points(client) == [2]


async def test_who_subscribes_is_asked_for_with_what_the_filter_fixes(site: Site):
    asked = []

    class Asking(Scores):
        async def authorize(self, connection: Connection, game: str | None, player: int | None) -> bool:
            asked.append((game, player))
            return game == "golf"

    asking = Asking()
    app: Any = site.app
    asking.mount(app, "/asking")
    client = await site.client("/asking")
    assert asked == []  # at home nobody is asked for
    await client.call("subscribe", filter="sport/golf/+")
    await client.call("subscribe", filter="sport/golf/7")
    for filter in ("sport/+/7", "#"):
        with pytest.raises(ActionError, match="Permission Denied"):
            await client.call("subscribe", filter=filter)
    assert asked == [("golf", None), ("golf", 7), (None, 7), (None, None)]
    await client.expect_nothing()  # and it is still connected


async def test_who_may_not_receive_what_fits_does_not(site: Site):
    client, half = await subscribed(site, "#"), await subscribed(site, "#", user="half")
    for number in (7, 8):
        await scores.broadcast(f"sport/golf/{number}", Score(points=number))
        await scores.broadcast(f"sport/secret/{number}", Score(points=0))
    assert await points(client) == [7, 8]
    assert await points(half) == [8]


async def test_each_gets_what_a_function_makes_of_it(site: Site):
    ann, nobody = (
        await subscribed(site, "#", "sport/#", user="ann"),
        await subscribed(site, "#", user="nobody"),
    )
    await scores.broadcast("sport/golf/8", Score(points=1), for_each=by_user)
    await ann.expect("score", points=1, to="ann")
    await ann.expect_nothing()
    await nobody.expect_nothing()


async def test_so_it_is_where_one_filter_fits_and_nobody_asks(site: Site):
    ann = await subscribed(site, "a/+", path="/anything", user="ann")
    nobody = await subscribed(site, "a/+", path="/anything", user="nobody")
    await anything.broadcast("a/b", "score", {"points": 1}, for_each=by_user)
    await anything.broadcast("a/b", "score", {"points": 2}, exclude=ann.id)
    await ann.expect("score", points=1, to="ann")
    await ann.expect_nothing()
    assert await points(nobody) == [2]


async def test_a_path_may_be_a_filter(site: Site):
    client = await site.client("/of/sport/+/7")
    await scores.broadcast("sport/golf/7", Score(points=1))
    await scores.broadcast("sport/golf/8", Score(points=2))
    assert await points(client) == [1]
    for filter, code in (("sport/secret/7", "permission_denied"), ("news/7", "not_found")):
        assert (await site.refusal(f"/of/{filter}")).code == code


async def test_whoever_is_connected_is_in_one_room(site: Site):
    client, other = await subscribed(site, "sport/#"), await subscribed(site)
    await scores.broadcast("default_channel", Score(points=1))
    assert (await points(client), await points(other)) == ([1], [1])


async def test_topics_of_one_class_are_not_those_of_another(site: Site):
    client, other = await subscribed(site, "#"), await subscribed(site, "#", path="/anything")
    await scores.broadcast("sport/golf/7", Score(points=1))
    await anything.broadcast("sport/golf/7", "score", {"points": 2})
    assert (await points(client), await points(other)) == ([1], [2])


async def test_names_that_begin_with_a_dollar_are_asked_for_by_name(site: Site):
    client, own = [await subscribed(site, each, path="/anything") for each in ("#", "$SYS/#")]
    await anything.broadcast("$SYS/load", "score", {"points": 1})
    assert (await points(client), await points(own)) == ([], [1])


@pytest.mark.parametrize(
    ("filter", "code"),
    [
        ("a/#/b", "invalid_filter"),
        ("+a", "invalid_filter"),
        ("a\0", "invalid_filter"),
        ("x" * 60_000, "invalid_filter"),
        ("", "invalid_filter"),
        ("news/+", "not_found"),
        ("sport/golf/ann", "not_found"),
        ("sport/secret/+", "permission_denied"),
        (7, "invalid_payload"),
        (None, "invalid_payload"),
    ],
)
async def test_a_filter_that_cannot_be_is_answered(site: Site, filter: Any, code: str):
    client = await site.client("/scores")
    await client.send({"action": "subscribe", "filter": filter, "request_id": 1})
    frame = await client.expect_frame(lambda frame: frame.get("request_id") == 1)
    assert frame["code"] == code
    assert await client.call("filters") == ["default_channel"]


@pytest.mark.parametrize(
    ("filter", "code"),
    [("a/#/b", "invalid_filter"), ("x" * 60_000, "invalid_room"), ("sport/secret/7", "permission_denied")],
)
async def test_so_it_is_where_it_joins(site: Site, filter: str, code: str):
    client = await site.client("/socket")
    await client.send({"type": "join", "channel": filter, "request_id": 1})
    frame = await client.expect_frame(lambda frame: frame.get("request_id") == 1)
    assert frame["code"] == code


@pytest.mark.parametrize(
    ("filter", "code"), [("a/#/b", "invalid_filter"), ("sport+", "invalid_filter"), ("news/+", "not_found")]
)
async def test_so_it_is_where_each_channel_has_a_pattern(site: Site, filter: str, code: str):
    class Room(Channel):
        room_pattern = "room:{name}"

    app: Any = site.app
    Socket(scores, Room()).mount(app, "/patterns")
    client = await site.client("/patterns")
    await client.send({"type": "join", "channel": filter, "request_id": 1})
    frame = await client.expect_frame(lambda frame: frame.get("request_id") == 1)
    assert frame["code"] == code
    # What is none of its filters may still be the room of another.
    await client.send({"type": "join", "channel": "room:a#b", "request_id": 2})
    assert "code" not in await client.expect_frame(lambda frame: frame.get("request_id") == 2)


async def test_filters_of_one_client_are_bounded(site: Site):
    client = await site.client("/scores", within=30)
    taken = await client.call("take_all")
    assert taken == Scores.max_rooms - 1  # one is its home
    with pytest.raises(ActionError, match="You may be in 12 rooms at most") as caught:
        await client.call("subscribe", filter="sport/#")
    assert caught.value.code == "too_many_rooms"
    await client.call("unsubscribe", filter="sport/golf/0")
    await client.call("subscribe", filter="sport/#")


async def test_filters_of_one_user_are_bounded_too(site: Site):
    class Few(Anything):
        scope = "few"
        max_rooms_per_user = 4

    app: Any = site.app
    few = Few()
    few.mount(app, "/few")
    one = await subscribed(site, "a", "b/+", path="/few", user="ann")
    other = await subscribed(site, "c/#", path="/few", user="ann")  # both are in one home
    with pytest.raises(ActionError, match="4 rooms at most") as caught:
        await other.call("subscribe", filter="#")
    assert caught.value.code == "too_many_rooms"
    await one.call("unsubscribe", filter="b/+")
    await other.call("subscribe", filter="#")


@pytest.mark.parametrize("topic", ["sport/+/7", "#", "sport/golf/#", "a\0", "x" * 60_000, ""])
async def test_nothing_is_published_to_a_wildcard(site: Site, topic: str):
    client = await subscribed(site, "#")
    publisher = publisher_in(site)
    for publish in (
        scores.broadcast(["sport/golf/7", topic], Score(points=1)),
        publisher.broadcast(topic, Score(points=1), channel=Scores),
        scores.broadcast_to_channel(topic, {"event": "score"}),
    ):
        with pytest.raises(ParseError):
            await publish
    await client.expect_nothing()


async def test_nor_by_who_knows_how_the_processes_name_it(site: Site):
    node = Node.attached(site.app)
    assert node is not None
    with pytest.raises(ParseError):
        await node.publish("Scores\x1e\x1f#", "text")


async def test_nor_to_what_no_pattern_has(site: Site):
    with pytest.raises(NotFound, match="no topic of Scores fits 'news/7'"):
        await scores.broadcast("news/7", Score(points=1))
    client = await subscribed(site, "#")
    with pytest.raises(ActionError, match="no topic of Scores fits 'news/7'") as caught:
        await client.call("score", topic="news/7", points=1)
    assert caught.value.code == "not_found"


def publisher_in(site: Site) -> Publisher:
    return Publisher._of(Node.of({"app": site.app, "fastapi_channels": Node.attached(site.app)}))


async def test_a_publisher_says_in_whose_words(site: Site, caplog: pytest.LogCaptureFixture):
    client = await subscribed(site, "sport/#")
    publisher = publisher_in(site)
    await publisher.broadcast("sport/golf/7", Score(points=1), channel=Scores)
    with caplog.at_level(logging.WARNING):
        await publisher.broadcast("sport/golf/7", Score(points=2))
    assert "nobody in a room of that channel hears it" in caplog.text
    assert await points(client) == [1]


async def test_a_key_names_a_publication_to_one_topic(site: Site):
    client = await subscribed(site, "#")
    for topic in ("sport/golf/7", "sport/golf/7", "sport/golf/8"):
        await scores.broadcast(topic, Score(points=int(topic[-1])), key="once")
    assert await points(client) == [7, 8]


async def test_who_is_ordered_into_a_filter_has_it(site: Site):
    client = await site.client("/scores", user="ann")
    publisher = publisher_in(site)
    await publisher.join_room("ann", "sport/+/7", channel=Scores)
    while "sport/+/7" not in await client.call("filters"):
        await asyncio.sleep(0)
    await scores.broadcast("sport/golf/7", Score(points=1))
    assert await points(client) == [1]
    assert [member["user"] for member in await scores.members("sport/+/7")] == ["ann"]


async def test_who_has_left_leaves_nothing(site: Site):
    node = Node.attached(site.app)
    assert node is not None
    async with site.connect("/scores") as client:
        await client.call("subscribe", filter="sport/+/7")
        await client.call("subscribe", filter="#")
        (connection,) = node.hub.members("Scores\x1e\x1f#")
        gone = weakref.ref(connection)
        del connection
        assert {"Scores\x1e\x1f#", "Scores\x1e\x1fsport/+/7"} < set(node.hub.rooms)
        assert node.broker.topics == {"Scores\x1e\x1f", "Scores\x1fdefault_channel"}
    assert set(node.hub.rooms) == set()
    await scores.broadcast("sport/golf/7", Score(points=1))  # until the filters have fallen idle
    for room in list(node.rooms.idle):
        node.rooms.idle[room].cancel()
        node.rooms._fell_idle(room)
    while node.rooms.spaces._tries:
        await asyncio.sleep(0)
    while node.broker.topics:
        await asyncio.sleep(0)
    gc.collect()
    assert gone() is None


async def test_what_was_missed_is_told_for_each_filter(site: Site):
    node = Node.attached(site.app)
    assert node is not None
    client = await subscribed(site, "sport/+/7", "#")
    node.rooms.missed("Scores\x1e\x1f")
    for filter in ("sport/+/7", "#"):
        await client.expect_frame(lambda frame, filter=filter: frame == {"type": "resync", "channel": filter})


async def test_what_a_stranger_puts_on_the_broker_ends_nothing(site: Site):
    node = Node.attached(site.app)
    assert node is not None
    client = await subscribed(site, "#")
    for strange in (
        Publication("Scores\x1e\x1f", "bare"),
        Publication("Scores\x1e\x1f", "no topic", kind="topic"),
        Publication("Nobody\x1e\x1f", "no space", kind="topic", to=("a",)),
        Publication("Scores\x1e\x1f", "no pattern", kind="topic", to=("a/b",)),
    ):
        node.rooms.receive(strange)
    await client.expect_nothing()


@pytest.mark.parametrize("filters", [("a/+",), ("a/+", "a/#", "#")])
async def test_a_slow_client_is_told_by_its_filters_what_it_has_missed(filters: tuple[str, ...]):
    class Lossy(Anything):
        slow_policy = "drop_oldest"
        outbox_limit = 1000

    lossy, app = Lossy(), FastAPI()
    add_channel(app)
    lossy.mount(app, "/lossy")
    async with running(app) as site:
        client = await subscribed(site, *filters, path="/lossy")
        node = Node.attached(app)
        assert node is not None
        for number in range(100):  # faster than anybody can read
            node.rooms.receive(Publication("\x1e\x1f", '{"type": "news"}', kind="topic", to=(f"a/{number}",)))
        node.hub.flush()
        await client.expect_frame(lambda frame: frame.get("type") == "lagged" and frame["channel"] in filters)
        await client.send({"type": "ping"})
        await client.expect_frame(lambda frame: frame.get("type") == "pong")
        assert [frame.get("type") for frame in client.received].count("lagged") == 1


async def test_a_channel_without_topics_has_no_filters():
    class Plain(Channel):
        @action()
        async def subscribe(self, connection: Connection) -> str:
            try:
                await connection.subscribe("a/+")
            except ConfigurationError as exc:
                return str(exc)
            return "done"

    app = FastAPI()
    add_channel(app)
    Plain().mount(app, "/plain")
    async with running(app) as site:
        client = await site.client("/plain")
        assert await client.call("subscribe") == "Plain has no topics to subscribe: say topics = True"


@pytest.mark.parametrize(
    ("name", "value"), [("history", 10), ("presence", True), ("max_connection", 2), ("max_per_user", 2)]
)
def test_what_is_about_one_room_is_refused(name: str, value: Any):
    kind = type("Both", (Channel,), {"topics": True, name: value})
    with pytest.raises(ConfigurationError, match=f"Both has topics, and {name} is about one room"):
        kind()


def test_a_relay_has_no_topics():
    class Relay(BaseChannel):
        topics = True

    app = FastAPI()
    add_channel(app)
    with pytest.raises(ConfigurationError, match="a topic is none"):
        Relay().mount(app, "/relay")


def test_who_may_receive_is_a_plain_function_of_what_the_pattern_has():
    class Async(Channel):
        topics = True

        async def may_receive(self, connection: Connection) -> bool:
            return True

    class Other(Channel):
        topics = True
        room_pattern = "a/{b}"

        def may_receive(self, connection: Connection, c: str) -> bool:
            return True

    class Without(Channel):
        def may_receive(self, connection: Connection) -> bool:
            return True

    with pytest.raises(ConfigurationError, match="cannot be awaited"):
        Async()
    with pytest.raises(ConfigurationError, match="may_receive"):
        Other()
    with pytest.raises(ConfigurationError, match="say topics = True"):
        Without()


async def test_what_a_permission_depends_on_is_resolved_for_each_subscription():
    asked = []

    def team(connection: Annotated[Connection, Depends(current_connection)]) -> str:
        asked.append(connection.id)
        return "sales"

    class Desk(Anything):
        room_pattern = "desk/{of}/{ticket:int}"

        async def authorize(
            self,
            connection: Connection,
            of: str | None,
            ticket: int | None,
            team: Annotated[str, Depends(team)],
        ) -> bool:
            return of == team

    app = FastAPI()
    add_channel(app)
    desk = Desk()
    desk.mount(app, "/desk")
    async with running(app) as site:
        client = await subscribed(site, "desk/sales/+", path="/desk")
        with pytest.raises(ActionError, match="Permission Denied"):
            await client.call("subscribe", filter="desk/support/+")
        await client.expect_nothing()
        assert len(set(asked)) == 1
        assert len(asked) >= 2


async def test_a_node_that_stops_forgets_all_filters():
    app = FastAPI()
    add_channel(app)
    anything.mount(app, "/anything")
    async with running(app) as site:
        await subscribed(site, "a/+", path="/anything")
        node = Node.attached(app)
        assert node is not None
        assert node.rooms.spaces._tries
    assert not node.rooms.spaces._tries
    async with running(app) as site:
        client = await subscribed(site, "a/+", path="/anything")
        await anything.broadcast("a/b", "said", 1)
        assert await client.expect("said") == 1


async def test_permission_of_a_subscription_that_fails_refuses():
    class Broken(Channel):
        topics = True

        async def authorize(self, connection: Connection) -> bool:
            raise KeyError("x")

        @action()
        async def watch(self, connection: Connection) -> str:
            try:
                await connection.subscribe("a/+")
            except PermissionDenied as exc:
                return f"refused {exc.close}"
            return "let in"

    app = FastAPI()
    add_channel(app)
    Broken().mount(app, "/broken")
    async with running(app, raise_server_exceptions=False) as site:
        client = await site.client("/broken")
        assert await client.call("watch") == "refused False"
