"""Nothing of a token is in logs, error texts, frames, reasons of a close or a `repr`."""

import logging
from contextlib import suppress
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.security import APIKeyCookie, APIKeyQuery, HTTPBearer
from prometheus_client import CollectorRegistry
from websockets.exceptions import ConnectionClosed, InvalidStatus

from fastapi_channels import Channel, action, add_channel
from fastapi_channels.auth import JWT, Authenticator, BearerSubprotocol, Identity, Tickets
from tests.support.live import Site, serving
from tests.support.tokens import SECRET, token, unsigned

TICKETS = Tickets()
TOKENS = JWT(SECRET, algorithms=["HS256"])
SOURCES = [HTTPBearer(), BearerSubprotocol(), APIKeyCookie(name="t"), APIKeyQuery(name="t")]


class Room(Channel):
    authenticator = Authenticator(TICKETS, TOKENS, sources=SOURCES, first_frame=5.0)

    @action()
    async def quick(self) -> str:
        return "quick"


def application() -> FastAPI:
    app = FastAPI()
    add_channel(app, metrics=CollectorRegistry(), metrics_url="/metrics")

    @app.post("/ticket")
    async def ticket(identity: Annotated[Identity, Depends(Room.authenticator)], request: Request) -> str:
        return await TICKETS.issue(identity, request)

    Room().mount(app, "/{channel}", sse=True, http=True)
    return app


async def told(site: Site, secret: str, said: list[Any]) -> None:
    """Bring `secret` in every way; what the server answers goes into `said`."""
    ways: list[tuple[str, dict[str, Any]]] = [
        ("", {"additional_headers": {"Authorization": f"Bearer {secret}"}}),
        ("", {"additional_headers": {"Cookie": f"t={secret}"}}),
        ("", {"subprotocols": ["app", f"bearer.{secret}"]}),
        (f"?t={secret}", {}),
    ]
    for query, options in ways:
        try:
            async with site.connect(f"/tea{query}", **options) as client:
                assert client.socket.response is not None
                said += [client.socket.response.headers, await client.call("quick")]
                await client.send({"type": "refresh", "token": secret})
                said.append(await client.receive())
        except InvalidStatus as refused:
            said += [refused.response.headers, refused.response.body]
        how = {"headers": options.get("additional_headers", {})}
        async with site.client() as http:
            answer = await http.post(f"/tea/actions/quick{query}", json={"token": secret}, **how)
            said += [answer.headers, answer.text]
            async with http.stream("GET", f"/tea/events{query}", **how) as answer:
                said += [answer.headers, answer.status_code]
    async with site.connect("/tea") as client:
        await client.send({"type": "auth", "token": secret})
        said += [await client.receive()]
        with suppress(ConnectionClosed):  # who was not let in may have been told so already
            await client.send({"type": "refresh", "token": secret})
            await client.send({"action": "quick", "token": secret, "request_id": []})
        await client.close()
        said += [*(await client.rest()), client.socket.close_reason]


async def test_nothing_of_a_token_is_told(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "fastapi_channels")
    said: list[Any] = []
    # uvicorn calls it an error when an endpoint answers in place of accepting.
    async with serving(application(), may_complain=True, access_log=True) as site:
        good = token()
        async with site.client() as http:
            answer = await http.post("/ticket", headers={"Authorization": f"Bearer {good}"})
            secrets = [good, token(seconds=-1), token(key=SECRET[::-1]), unsigned(), answer.json()]
            for secret in secrets:
                await told(site, secret, said)
            for path in ("/metrics", "/asyncapi.json"):
                answer = await http.get(path)
                assert answer.is_success
                said.append(answer.text)
    client = "httpx", "websockets"
    written = [each for each in caplog.records if not each.name.startswith(client)]
    text = "\n".join([*(each.getMessage() + str(each.exc_info) for each in written), *map(str, said)])
    assert "refused: unauthenticated" in text
    assert "refused: token_expired" in text
    for secret in secrets:
        assert secret not in text
        assert secret.rpartition(".")[2][:20] not in text or secret.endswith("."), "nor its signature"


async def test_nothing_is_in_a_repr():
    connection: Any = None
    good = token()
    found = await TOKENS(good, connection)
    for value in (TOKENS, TICKETS, Room.authenticator, found):
        assert good not in repr(value)
        assert SECRET not in repr(value)
