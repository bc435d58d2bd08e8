"""The table of what five projects can do: where each of it is here, and that it is shown by code that runs.

A row leads to headings of other pages. Either Python that is executed stands under one of them, with every
name that the row has in code, or the row has a test of its own, in TESTED.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from fastapi import Depends, FastAPI, WebSocketException

from fastapi_channels import Channel, Connection, action, add_channel
from tests.docs.test_docs import FENCE, blocks
from tests.support.live import application, serving

ROOT: Final = Path(__file__).parents[2]
ENGLISH, CHINESE = ROOT / "docs/migration/features.md", ROOT / "docs/zh/migration/features.md"
LINK: Final = re.compile(r"\]\(([^)#]+)(?:#([^)]+))?\)")

TESTED: Final = {
    "an example project": "examples/test_support_desk.py::test_a_customer_and_an_agent_talk",
    "`client.subscribe(topic)`, `client.topics`": "channels/test_channel.py::test_rooms_while_connected",
    "`app.connections`, `client.uid`": (
        "docs/test_pages.py::test_the_keys_of_a_member_are_those_that_are_named"
    ),
    "`--ws-ping-interval`, `--ws-max-size` of uvicorn": (
        "sessions/test_bad_input.py::test_an_oversize_message_closes"
    ),
    "a broadcast that reaches the clients of all servers": (
        "cluster/test_two_processes.py::test_a_room_is_one_over_both"
    ),
    "`new_connection`, `remove_connection`, `close_connection`": (
        "channels/test_manager.py::test_closing_from_here"
    ),
    "`active_connections`": ("channels/test_publisher.py::test_it_knows_who_is_in_a_room_of_all_processes"),
    "`manager.receive`, so that a message takes the way of the broker": (
        "brokers/test_nats.py::test_a_stranger_listens_and_publishes"
    ),
    "`Connection`: `accept`, `close(code)`, `send_json`": (
        "test_connection.py::test_a_close_goes_behind_what_is_queued"
    ),
    "`subscribe`, `unsubscribe`, by messages": "channels/test_channel.py::test_rooms_while_connected",
    "`WebSocketOAuth2PasswordBearer`": "auth/test_authenticator.py::test_the_security_schemes_of_fastapi",
    "`auto_error=False`": (
        "auth/test_authenticator.py::test_where_nothing_is_required_a_middleware_says_who_it_is"
    ),
    "`InvalidSubscription`, `InvalidSubscriptionMessage`": (
        "topics/test_spaces.py::test_a_filter_that_cannot_be_is_answered"
    ),
    "`send_by_conn_id`, to one or to a list": (
        "channels/test_channel.py::test_one_connection_is_reached_by_its_id"
    ),
    "`@action(deprecated=True)`": (
        "sessions/test_dispatch.py::test_an_action_with_a_sunset_works_until_that_day_and_says_so"
    ),
    "an action `close` that ends the connection": (
        "channels/test_channel.py::test_an_action_may_have_the_name_of_any_method"
    ),
    "its example and its page": (
        "examples/test_upstream_example.py::test_it_serves_its_three_sockets_twice_in_a_row"
    ),
    "**goals:** permissions of the application, the channel and the action": (
        "sessions/test_dispatch.py::test_wider_permissions_are_asked_for_each_action_too"
    ),
    "complete documents": "docs/test_guide.py::test_both_languages_have_the_same_pages",
    "messages to one connection from other processes": (
        "channels/test_publisher.py::test_it_reaches_rooms_users_and_connections_of_all_processes"
    ),
    "in memory, Redis, RabbitMQ, NATS, PostgreSQL": (
        "conformance/test_layers.py::test_a_group_is_over_all_processes"
    ),
    "a backend by its dotted path": ("layers/test_layer.py::test_a_backend_may_be_given_in_place_of_a_url"),
    "an extra for each broker": "brokers/test_package.py::test_a_missing_package_is_named_with_its_extra",
    "`get_channel_layer_from_env`, 30 variables, several aliases": (
        "layers/test_aliases.py::test_the_environment_says_which"
    ),
    "`send`, `receive`, `group_add`, `group_send`, `group_discard`, `new_channel`, `close`": (
        "conformance/test_layers.py::test_flush_empties_every_process"
    ),
    "`websocket_json_message`, `websocket_bytes_message`; `send_json_message`, `send_bytes_message`": (
        "layers/test_messages.py::test_what_a_consumer_sends_on"
    ),
    "large messages on PostgreSQL": (
        "conformance/test_layers.py::test_a_channel_is_full_of_bytes_whoever_sends"
    ),
    "a cluster of NATS or RabbitMQ": "brokers/test_nats.py::test_several_servers_of_which_one_is_there",
    "`accept(subprotocol, headers)`": (
        "sessions/test_session.py::test_the_subprotocol_and_headers_of_the_answer"
    ),
    "`receive_text`, `receive_bytes`, `receive_json`": (
        "channels/test_channel.py::test_a_base_channel_relays_what_comes_as_it_came"
    ),
    "`send_text`, `send_bytes`, `send_json`": (
        "channels/test_channel.py::test_sending_in_ways_of_starlette_keeps_the_order"
    ),
    "`client`, `url`, `headers`, `query_params`, `path_params`, `cookies`, `state`": (
        "docs/test_features.py::test_what_starlette_knows_of_a_websocket"
    ),
    "`WebSocketState`": "test_connection.py::test_nothing_is_raised_for_a_client_that_has_gone",
    "`@app.websocket(path, name=…, dependencies=…)`": (
        "docs/test_features.py::test_a_mounted_route_has_a_name_and_dependencies"
    ),
}
"""For each row that no page shows, what does."""


def _rows(page: Path) -> list[tuple[str, ...]]:
    """Of its tables, without their heads."""
    return re.findall(r"^\| (?!---|there |那边 )(.+?) \| (.+) \|$", page.read_text(), re.MULTILINE)


def _chapters(page: Path) -> Iterator[tuple[str, str]]:
    """What GitHub makes of each heading, and the second-level heading that it stands under, or is."""
    chapter = ""
    for level, title in re.findall(r"^(#+) (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE):
        if len(level) <= 2:
            chapter = f"{level} {title}"
        yield re.sub(r"[^\w\- ]", "", title).replace(" ", "-").lower(), chapter


def _executed(row: str) -> str:
    """The Python that runs under the headings which a row leads to."""
    shown: list[str] = []
    for path, anchor in LINK.findall(row):
        page = (ENGLISH.parent / path).resolve()
        chapters = dict(_chapters(page))
        assert not anchor or anchor in chapters, f"{path} has no heading for #{anchor}"
        shown += [
            block.source
            for block in blocks(page.read_text())
            if block.language == "python" and block.runs and (not anchor or block.section == chapters[anchor])
        ]
    return "\n".join(shown)


def _shows(code: str, row: str) -> bool:
    names = [name for text in re.findall(r"`([^`]+)`", row) for name in re.findall(r"\w+", text)]
    return bool(code) and all(re.search(rf"\b{re.escape(name)}\b", code) for name in names)


def test_every_feature_is_shown_by_what_runs_or_is_said_not_to_be_there():
    left = dict(TESTED)
    for there, here in _rows(ENGLISH):
        shown = _shows(_executed(here), here)
        if here.startswith("**no**"):
            assert LINK.search(here), f"what one does in place of {there}"
        elif test := left.pop(there, None):
            assert not shown, f"{there} is shown by a page, and needs no test here"
            module, _, name = test.partition("::")
            assert re.search(
                rf"^(async )?def {name}\(", (ROOT / "tests" / module).read_text(), re.MULTILINE
            ), test
        else:
            assert shown, f"{there}: what does {here} show?"
    assert not left


def test_both_languages_have_the_same_features():
    english, chinese = _rows(ENGLISH), _rows(CHINESE)
    assert len(english) == len(chinese) > 100
    for (there, here), (_, hier) in zip(english, chinese, strict=True):
        assert here.startswith("**no**") == hier.startswith("**没有**"), there


async def test_what_starlette_knows_of_a_websocket():
    class Room(Channel):
        @action()
        async def me(self, connection: Connection) -> list[Any]:
            websocket = connection.websocket
            assert websocket.client is not None
            state = websocket.state.seen = getattr(websocket.state, "seen", 0) + 1
            return [
                *(websocket.client.host, websocket.url.path, websocket.headers["x-token"]),
                *(dict(each) for each in (websocket.query_params, websocket.path_params, websocket.cookies)),
                state,
            ]

    headers = {"Cookie": "session=ada", "X-Token": "bob"}
    app = application(Room())
    async with serving(app) as site, site.connect("/lobby?q=3", additional_headers=headers) as client:
        for turn in (1, 2):
            seen = ["127.0.0.1", "/lobby", "bob", {"q": "3"}, {"channel": "lobby"}, {"session": "ada"}, turn]
            assert (await client.call("me"))["data"] == seen


async def test_a_mounted_route_has_a_name_and_dependencies():
    def members_only(name: str | None = None) -> None:
        if name is None:
            raise WebSocketException(1008)

    app = FastAPI()
    add_channel(app)
    Channel().mount(app, "/rooms/{channel}", name="room", dependencies=[Depends(members_only)])
    path = app.url_path_for("room", channel="lobby")
    async with serving(app) as site, site.connect(f"{path}?name=ada"):
        assert (await site.refusal(path)).status == 403


def test_what_a_page_shows_is_told_from_what_it_does_not():
    assert _shows("channel.connect(websocket)", "[`channel.connect(websocket)`](x.md)")
    assert not _shows("channel.connect(socket)", "[`channel.connect(websocket)`](x.md)")
    assert not _shows("", "[a page of prose](x.md)")
    assert "add_channel(" in _executed("[a](../settings.md#the-broker)")
    assert _executed("[a](../deployment.md#pings)") == ""
