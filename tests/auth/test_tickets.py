"""Tickets that a route gives out, and that are good once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request
from pydantic import BaseModel

from fastapi_channels import Channel, ConfigurationError, Connection, action, add_channel
from fastapi_channels.auth import JWT, Authenticator, Identity, Tickets
from tests.support.live import Refusal, Site, serving
from tests.support.tokens import SECRET, token

TOKENS = JWT(SECRET, algorithms=["HS256"])


class Person(BaseModel):
    id: str
    role: str


def site_of(tickets: Tickets, **settings: Any) -> FastAPI:
    """Gives tickets to who brings a token, and lets in who brings a ticket."""
    by_token = Authenticator(TOKENS)
    app = FastAPI()

    @app.post("/ticket")
    async def ticket(identity: Annotated[Identity, Depends(by_token)], request: Request) -> str:
        person = Person(id=identity.user["sub"], role="agent")
        known = Identity(person, identity.expires_at, identity.issued_at, identity.session)
        return await tickets.issue(known, request)

    class Room(Channel):
        authenticator = Authenticator(tickets)

        @action()
        async def me(self, connection: Connection) -> Any:
            return [type(connection.user).__name__, connection.user]

    add_channel(app, **settings)
    Room().mount(app, "/rooms/{channel}")
    return app


async def get_ticket(site: Site, **headers: str) -> str:
    async with site.client() as http:
        response = await http.post(
            "/ticket", headers={"Authorization": f"Bearer {token(sid='s')}", **headers}
        )
        assert response.status_code == 200
        found: str = response.json()
        return found


def offered(ticket: str, **options: Any) -> dict[str, Any]:
    return {"subprotocols": ["app", f"bearer.{ticket}"], **options}


@asynccontextmanager
async def processes(*apps: FastAPI) -> AsyncIterator[list[Site]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(serving(app, may_complain=True)) for app in apps]


async def test_a_ticket_is_good_once():
    async with processes(site_of(Tickets(user=Person))) as [site]:
        ticket = await get_ticket(site)
        async with site.connect("/rooms/tea", **offered(ticket)) as ada:
            assert ada.socket.subprotocol == "app"
            assert (await ada.call("me"))["data"] == ["Person", {"id": "ada", "role": "agent"}]
        for wrong in (ticket, ticket + "x", "fct_", "fct_" + "x" * 43):
            assert (await site.refusal("/rooms/tea", **offered(wrong))).status == 401


async def test_at_the_same_moment_in_two_processes_one_of_them_gets_in(shared_redis: Any):
    url, namespace = shared_redis.url, "tickets."
    apps = [site_of(Tickets(user=Person), url=url, namespace=namespace) for _ in range(2)]
    async with processes(*apps) as sites:
        for _ in range(5):
            ticket = await get_ticket(sites[0])

            async def bring(site: Site, ticket: str = ticket) -> int:
                try:
                    async with site.connect("/rooms/tea", **offered(ticket)):
                        return 101
                except Exception as exc:
                    return exc.response.status_code  # type: ignore[attr-defined]

            answers = await asyncio.gather(*(bring(site) for site in sites * 3))
            assert sorted(answers) == [101, 401, 401, 401, 401, 401]


async def test_a_ticket_of_another_page_or_address_is_refused_and_used_up():
    for tickets in (Tickets(bind=["origin"]), Tickets(bind=["address"])):
        app = site_of(
            tickets,
            allowed_origins=["https://app.example.com", "https://other.example.com"],
            trusted_proxies=["127.0.0.1"],
        )
        async with processes(app) as [site]:
            at: dict[str, Any] = {"additional_headers": {"X-Forwarded-For": "192.0.2.1"}}
            here: dict[str, Any] = {**at, "origin": "https://app.example.com"}
            sent = {"Origin": "https://app.example.com", "X-Forwarded-For": "192.0.2.1"}
            async with site.connect("/rooms/tea", **offered(await get_ticket(site, **sent), **here)):
                pass
            ticket = await get_ticket(site, **sent)
            there = {"origin": "https://other.example.com"}
            assert (await site.refusal("/rooms/tea", **offered(ticket, **there))).status == 401
            assert (await site.refusal("/rooms/tea", **offered(ticket, **here))).status == 401


async def test_a_ticket_ends_in_time():
    async with processes(site_of(Tickets(0.001))) as [site]:
        assert isinstance(await site.refusal("/rooms/tea", **offered(await get_ticket(site))), Refusal)


async def test_what_does_not_fit_is_not_given_out():
    app = FastAPI()
    add_channel(app)

    @app.get("/ticket")
    async def ticket(request: Request) -> str:
        with pytest.raises(ConfigurationError, match="16384 bytes"):
            await Tickets().issue(Identity("x" * 20_000), request)
        return "refused"

    async with serving(app) as site, site.client() as http:
        assert (await http.get("/ticket")).json() == "refused"


@pytest.mark.parametrize("settings", [{"seconds": 0}, {"bind": "origin"}, {"bind": ["browser"]}])
def test_what_cannot_work_does_not_start(settings: Any):
    with pytest.raises(ConfigurationError):
        Tickets(**settings)
