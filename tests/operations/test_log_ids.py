"""Whose doing a record of the log is, over a real server."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

import fastapi_channels
from fastapi_channels import (
    BasePermission,
    Channel,
    ConfigurationError,
    Connection,
    Socket,
    action,
    add_channel,
    log_ids,
)
from fastapi_channels.operations.loggers import LOGGERS
from tests.support.live import RawClient, serving

FORM = logging.Formatter("%(connection)s %(request_id)s %(user)s %(message)s")
own = logging.getLogger("tests.shop")


@pytest.fixture(autouse=True)
def plain() -> Iterator[None]:
    """No filter stays for the tests behind."""
    before = {name: [*logging.getLogger(name).filters] for name in LOGGERS}
    yield
    for name, filters in before.items():
        logging.getLogger(name).filters[:] = filters


class IsBroken(BasePermission):
    def has_permission(self, websocket: Any, action: str | None, **kwargs: Any) -> bool:
        if action is None and websocket.query_params.get("user") == "eve":
            raise RuntimeError("on purpose")
        return True


class Room(Channel):
    permission_classes = [IsBroken]
    outbox_limit = 100_000

    @action()
    async def fail(self) -> None:
        own.warning("it is going to")
        raise RuntimeError("on purpose")

    @action()
    async def flood(self, connection: Connection) -> str:
        await self.broadcast(connection.room, "much", "x" * 50_000)
        return "done"


def user_of(user: str | None = None) -> str | None:
    return user


def application() -> tuple[FastAPI, logging.Filter]:
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/rooms/{channel}", user=user_of)
    Socket(Room()).mount(app, "/socket", user=user_of)
    return app, log_ids(app)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What is told of the actions, the connection aside, whose id is not known."""
    told = [FORM.format(record).splitlines()[0] for record in caplog.records]
    return [line.partition(" ")[2] for line in told if "error" in line or "going to" in line]


@pytest.mark.parametrize("path", ["/rooms/a", "/socket"])
async def test_records_of_an_action_have_the_ids_of_its_request(caplog: pytest.LogCaptureFixture, path: str):
    app, ids = application()
    caplog.handler.addFilter(ids)
    try:
        async with serving(app, may_complain=True) as site, site.connect(f"{path}?user=ada") as client:
            if path == "/socket":
                await client.send({"type": "join", "channel": "a"})
                await client.receive()
            for request in (7, "seven", "two\nwords", "x" * 100):
                await client.send({"action": "fail", "channel": "a", "request_id": request})
                await client.receive()
    finally:
        caplog.handler.removeFilter(ids)
    found = [line.rsplit(" ada ", 1)[0] for line in lines(caplog)]
    assert found == [
        *("7", "7"),
        *("seven", "seven"),
        *('"two\\nwords"', '"two\\nwords"'),
        *("x" * 64, "x" * 64),
    ]
    connections = {vars(record)["connection"] for record in caplog.records if record.name == own.name}
    assert len(connections) == 1
    assert connections == {
        vars(record)["connection"] for record in caplog.records if "error" in record.getMessage()
    }


async def test_records_of_a_handshake_have_those_of_its_connection(caplog: pytest.LogCaptureFixture):
    app, _ = application()
    async with serving(app, may_complain=True) as site:
        await site.refusal("/rooms/a?user=eve")
    (record,) = (record for record in caplog.records if "a permission failed" in record.getMessage())
    assert vars(record)["connection"] != "-"
    assert vars(record)["request_id"] == "-"


@pytest.mark.parametrize("path", ["/rooms/a", "/socket"])
async def test_a_record_of_another_connection_does_not_name_who_acts(
    caplog: pytest.LogCaptureFixture, path: str
):
    """One does not read, and is closed by what another sends."""
    app, _ = application()
    async with (
        serving(app, may_complain=True) as site,
        RawClient.open(site, "/rooms/a?user=sloth", receive_buffer=4096),
        site.connect(f"{path}?user=ada") as ada,
    ):
        names = {each.user: each.id for each in site.node.hub.members("a")}
        if path == "/socket":
            await ada.send({"type": "join", "channel": "a"})
            await ada.receive()
        for request in range(1000):
            await ada.send({"action": "flood", "channel": "a", "request_id": request})
            while (await ada.receive()).get("event") == "much":
                pass
            if caplog.records:
                break
    (record,) = caplog.records
    assert "a slow client is closed" in record.getMessage()
    assert [vars(record)[name] for name in ("connection", "request_id", "user")] == [names["sloth"], "-", "-"]


@pytest.mark.parametrize("name", LOGGERS)
def test_each_record_has_them_for_a_format(caplog: pytest.LogCaptureFixture, name: str):
    application()
    logging.getLogger(name).warning("alone")
    assert [FORM.format(record) for record in caplog.records] == ["- - - alone"]


def test_it_needs_add_channel():
    with pytest.raises(ConfigurationError, match="add_channel"):
        log_ids(FastAPI())


def test_every_logger_of_this_package_is_known():
    found: set[str] = set()
    for path in Path(fastapi_channels.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        constants = {
            node.target.id: node.value
            for node in tree.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger") and node.args:
                name = node.args[0]
                value = constants.get(name.id) if isinstance(name, ast.Name) else name
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    found.add(value.value)
    own = {name for name in found if name.partition(".")[0] == "fastapi_channels"}
    assert own == set(LOGGERS)
