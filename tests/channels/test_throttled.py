"""One budget for actions and routes, and how often a client may begin anew."""

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Header

from fastapi_channels import (
    Channel,
    ConfigurationError,
    Socket,
    action,
    add_channel,
    limiter,
    rate,
    throttled,
)
from fastapi_channels.auth import Authenticator
from tests.support.live import serving, wait_until

AI: Any = {"times": 10, "minutes": 10, "budget": "assistant"}
NAMES = Authenticator(lambda token, connection: token)


class Room(Channel):
    authenticator = NAMES

    @limiter(**AI, cost=5)
    @action()
    async def ask(self) -> str:
        return "answer"

    @limiter(**AI)
    @action()
    async def hint(self) -> str:
        return "hint"


def of(user: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {user}"}}


def application() -> FastAPI:
    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/rooms/{channel}")

    @app.post("/ask", dependencies=[Depends(throttled(rate(**AI, cost=3), user=NAMES))])
    async def ask() -> str:
        return "answer"

    async def caller(name: Annotated[str, Header()] = "") -> str:
        return name

    @app.get("/seldom", dependencies=[Depends(throttled(rate(1, minutes=10), user=caller))])
    async def seldom() -> str:
        return "now"

    return app


async def test_actions_and_routes_use_up_one_budget():
    async with serving(application()) as site, site.client() as http:
        ada = {"Authorization": "Bearer ada"}
        async with (
            site.connect("/rooms/tea", **of("ada")) as here,
            site.connect("/rooms/2", **of("ada")) as too,
        ):
            assert (await here.call("ask"))["data"] == "answer"  # 5
            assert (await http.post("/ask", headers=ada)).status_code == 200  # 8
            assert (await too.call("hint"))["data"] == "hint"  # 9, in another room
            refused = await here.call("ask")
            assert refused["code"] == "rate_limited"
            assert 0 < refused["retry_after"] <= 600
            answer = await http.post("/ask", headers=ada)
            assert (answer.status_code, answer.json()) == (429, {"detail": "Too Many Requests"})
            assert 0 < int(answer.headers["retry-after"]) <= 600
            assert (await too.call("hint"))["data"] == "hint", "10: what was refused has cost nothing"
            assert (await too.call("hint"))["code"] == "rate_limited"
        assert (await http.post("/ask", headers={"Authorization": "Bearer bob"})).status_code == 200


async def test_a_route_without_budget_counts_its_own_requests():
    async with serving(application()) as site, site.client() as http:
        codes = [
            (await http.get("/seldom", headers={"name": name})).status_code for name in ("a", "b", "a", "")
        ]
        assert codes == [200, 200, 429, 200]
        assert (await http.get("/seldom")).status_code == 429, "who is nobody counts by its address"


async def test_new_connections_in_a_time():
    class Hall(Room):
        connect_throttle_classes = rate(2, minutes=10)

    class Desk(Socket):
        connect_throttle_classes = rate(1, minutes=10)

    app = FastAPI()
    add_channel(app)
    Hall().mount(app, "/rooms/{channel}")
    Desk(Hall()).mount(app, "/desk")
    # uvicorn calls it an error when an endpoint answers in place of accepting.
    async with serving(app, may_complain=True) as site:
        for room in ("1", "2"):
            async with site.connect(f"/rooms/{room}", **of("ada")):
                pass
        status, body = await site.refusal("/rooms/3", **of("ada"))
        assert (status, body["code"]) == (429, "rate_limited")
        assert 0 < body["retry_after"] <= 600
        async with site.connect("/rooms/3", **of("bob")), site.connect("/desk"):
            pass
        assert (await site.refusal("/desk")).status == 429


async def test_a_process_has_so_many_connections_those_counted_that_are_not_in_yet():
    app = FastAPI()
    add_channel(app, max_connections=2)
    type("Open", (Room,), {"authenticator": None})().mount(app, "/rooms/{channel}")
    type(
        "Slow", (Room,), {"authenticator": Authenticator(lambda token, connection: None, first_frame=5.0)}
    )().mount(app, "/slow")
    async with serving(app, may_complain=True) as site:
        async with site.connect("/rooms/1"), site.connect("/slow") as silent:
            status, body = await site.refusal("/rooms/2")
            assert (status, body["code"]) == (503, "unavailable")
            assert body["retry_after"] == 1.0
            assert (await site.refusal("/slow")).status == 503
            await silent.close()
            await wait_until(lambda: site.node.served == 1)
            async with site.connect("/rooms/3"):
                pass
        await wait_until(lambda: site.node.served == 0)


@pytest.mark.parametrize("wrong", [0, -1, True, "10", 1.5])
def test_which_is_a_number(wrong: Any):
    with pytest.raises(ConfigurationError, match="max_connections must be 1 or more"):
        add_channel(FastAPI(), max_connections=wrong)


@pytest.mark.parametrize("wrong", [{"cost": 0}, {"cost": 11}, {"cost": True}, {"budget": None}])
def test_what_cannot_work_does_not_start(wrong: Any):
    with pytest.raises(ConfigurationError):
        rate(10, seconds=1, **wrong)


def test_it_takes_a_rate():
    wrong: Any = 5
    with pytest.raises(ConfigurationError, match="takes rate"):
        throttled(wrong)
