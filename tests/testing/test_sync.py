"""What a test without an event loop says and expects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from uuid import UUID

import pytest
from fastapi import FastAPI

from fastapi_channels import add_channel
from fastapi_channels.testing import Refused, Site, SyncSite, running, serving

from .app import Said, create_app


@pytest.mark.parametrize("how", [running, serving])
def test_calls_streams_events_and_refusals(how: Callable[[Any], AbstractAsyncContextManager[Site]]):
    with SyncSite(how(create_app())) as site:
        ann, bob = site.client("/rooms/lobby"), site.client("/rooms/lobby")
        assert ann.call("say", text="hello") == 5
        assert bob.expect(Said).text == "hello"
        assert ann.expect("said", text="hello")["by"] is None
        assert list(ann.stream("count", upto=3)) == [0, 1, 2]
        assert ann.refused("say").code == "invalid_payload"
        ann.answers["sure"] = True
        assert ann.call("delete") is True
        bob.expect_nothing()
        many = site.client("/many")
        assert many.join("a")["type"] == "joined"
        assert many.call("say", room="a", text="x") == 1
        streaming = many.stream("forever", room="a", request_id="c")
        assert next(streaming) == 0
        many.cancel("c")
        many.expect_frame(lambda frame: frame.get("code") == "cancelled")
        assert many.leave("a")["type"] == "left"
        many.close()
        assert site.refusal("/rooms/closed").code == "permission_denied"
        with pytest.raises(Refused, match="permission_denied"):
            site.client("/rooms/closed")
        bob.send({"action": "end"})
        assert bob.expect_close(1013) == (1013, "full")
        with site.record() as sent, site.connect("/rooms/lobby") as carl:
            assert carl.call("move", {"room": "attic"}, within=UUID(int=1))["room"] == "attic"
            carl.expect("moved", {"room": "attic"}, within=5)
        assert [each.event for each in sent.broadcasts] == ["moved"]
        with pytest.raises(AssertionError, match="no event 'said'"), site.connect("/rooms/lobby") as carl:
            carl.expect("said", within=0)
        assert ann.id != bob.id
        assert ann.joined is not None
        assert bob.received


def test_nothing_waits_for_ever():
    with SyncSite(running(create_app())) as site:
        ann = site.client("/rooms/lobby")
        with pytest.raises(AssertionError, match=r"no event 'said' within 0\.05 s"):
            ann.expect(Said, within=0.05)


def test_what_fails_while_it_starts_is_raised():
    @asynccontextmanager
    async def fails(app: FastAPI) -> AsyncIterator[None]:
        raise ValueError("no database")
        yield

    app = FastAPI(lifespan=fails)
    add_channel(app)
    with pytest.raises(ValueError, match="no database"), SyncSite(running(app)):
        pass
