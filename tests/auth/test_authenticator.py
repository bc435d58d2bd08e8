"""Who a client is: by whatever it brings, over a real server."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPBasic,
    HTTPBasicCredentials,
    HTTPBearer,
    OAuth2PasswordBearer,
)
from starlette.authentication import AuthCredentials, SimpleUser
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import HTTPConnection, Request

from fastapi_channels import (
    BaseChannel,
    Channel,
    ConfigurationError,
    Connection,
    Envelope,
    IsAuthenticated,
    PermissionDenied,
    Socket,
    action,
    add_channel,
)
from fastapi_channels.auth import JWT, Authenticator, BearerSubprotocol, Identity
from fastapi_channels.auth.authenticator import MAX_TOKEN
from fastapi_channels.contract.document import document
from tests.support.live import PROTOCOL, RawClient, Site, application, each_implementation, serving
from tests.support.tokens import SECRET, token

TOKENS = JWT(SECRET, algorithms=["HS256"])
ORIGIN = {"origin": "http://evil.example.com"}


class Room(Channel):
    authenticator = Authenticator(TOKENS)

    @action()
    async def me(self, connection: Connection) -> Any:
        return connection.user

    @action()
    async def whoami(self, connection: Connection) -> bool:
        return connection.websocket.user is connection.user


def room(*verifiers: Any, base: type[BaseChannel] = Room, **settings: Any) -> Any:
    return type("Hall", (base,), {"authenticator": Authenticator(*verifiers, **settings)})()


def bearer(value: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {value}"}}


@asynccontextmanager
async def entered(channel: Any, **settings: Any) -> AsyncIterator[Site]:
    # uvicorn calls it an error when an endpoint answers in place of accepting.
    async with serving(application(channel, **settings), may_complain=True) as site:
        yield site


# Sources


async def test_by_header_and_by_subprotocol():
    async with entered(Room()) as site, site.unharmed():
        async with site.connect("/tea", **bearer(token("ada"))) as ada:
            assert (await ada.call("me"))["data"]["sub"] == "ada"
            assert (await ada.call("whoami"))["data"] is True
            assert ada.socket.subprotocol is None
        offered: Any = ["bearer." + token("bob"), "app"]
        async with site.connect("/tea", subprotocols=offered) as bob:
            assert (await bob.call("me"))["data"]["sub"] == "bob"
            assert bob.socket.subprotocol == "app", "the token is not what the server chooses"


async def test_a_refusal_says_why_and_repeats_nothing(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "fastapi_channels")
    expired, forged = token(seconds=-1), token(key=SECRET[::-1])
    async with entered(Room()) as site:
        for brought, code in ((bearer(expired), "token_expired"), (bearer(forged), "unauthenticated")):
            status, body = await site.refusal("/tea", **brought)
            assert (status, body["code"]) == (401, code)
        assert (await site.refusal("/tea")).status == 401
        both: Any = ["bearer." + token("ada"), "bearer." + token("bob")]
        assert (await site.refusal("/tea", subprotocols=both)).status == 401, "it is not known which is meant"
        assert (await site.refusal("/tea", **bearer(""))).status == 401
    for secret in (expired, forged, both[0]):
        assert secret not in caplog.text


async def test_the_first_source_that_has_any_counts():
    async with entered(Room()) as site:
        offered: Any = ["bearer." + token("bob"), "app"]
        async with site.connect("/tea", subprotocols=offered, **bearer(token("ada"))) as client:
            assert (await client.call("me"))["data"]["sub"] == "ada"
        refusal = await site.refusal("/tea", subprotocols=offered, **bearer("wrong"))
        assert refusal.status == 401, "what does not hold is not made up for"


async def test_a_foreign_page_is_refused_whatever_it_brings():
    async with entered(Room()) as site:
        refusal = await site.refusal("/tea", **{**bearer(token()), "origin": "http://evil.example.com"})
        assert (refusal.status, refusal.body["code"]) == (403, "origin_denied")


def check_key(key: str, connection: HTTPConnection) -> str | None:
    return {"key-of-ada": "ada"}.get(key)


async def test_the_security_schemes_of_fastapi():
    def check(found: Any, connection: HTTPConnection) -> str | None:
        if isinstance(found, HTTPBasicCredentials):
            return found.username if found.password == "open" else None  # noqa: S105
        return check_key(found, connection)

    sources = [
        OAuth2PasswordBearer(tokenUrl="login"),
        HTTPBasic(),
        APIKeyHeader(name="x-key"),
        APIKeyCookie(name="key"),
    ]
    async with entered(room(check, sources=sources)) as site:
        for name, value in (
            ("Authorization", "Bearer key-of-ada"),
            ("Authorization", "Basic YWRhOm9wZW4="),
            ("X-Key", "key-of-ada"),
            ("Cookie", "other=1; key=key-of-ada"),
        ):
            async with site.connect("/tea", additional_headers={name: value}) as client:
                assert (await client.call("me"))["data"] == "ada"
        assert (await site.refusal("/tea", additional_headers={"X-Key": "guess"})).status == 401
        assert (await site.refusal("/tea?key=key-of-ada")).status == 401, "the URL is not read"
        status, body = await site.refusal("/tea", additional_headers={"Authorization": "Basic %%%"})
        assert (status, body["code"]) == (401, "unauthenticated")


async def test_verifiers_are_asked_in_turn_and_one_that_fails_refuses(caplog: pytest.LogCaptureFixture):
    async def broken(key: str, connection: HTTPConnection) -> None:
        if key == "boom":
            raise ValueError(f"cannot look up {key}-secret")

    async with entered(room(broken, TOKENS, check_key)) as site:
        for brought in ("key-of-ada", token("ada")):
            async with site.connect("/tea", **bearer(brought)) as client:
                assert (await client.call("me"))["data"] in ("ada", {"sub": "ada"}) or brought != "key-of-ada"
        assert (await site.refusal("/tea", **bearer("boom"))).status == 401
    assert "a verifier failed, and so refuses: ValueError" in caplog.text
    assert "boom-secret" not in caplog.text


async def test_what_a_verifier_raises_for_the_client_is_told():
    def banned(key: str, connection: HTTPConnection) -> None:
        raise PermissionDenied(reason="banned")

    async with entered(room(banned)) as site:
        status, body = await site.refusal("/tea", **bearer("key"))
        assert (status, body["errors"]) == (403, "banned")


class _Backend:
    async def authenticate(self, connection: HTTPConnection) -> Any:
        return AuthCredentials([]), SimpleUser(connection.query_params.get("name", "guest"))


async def test_where_nothing_is_required_a_middleware_says_who_it_is():
    app = application(room(TOKENS, required=False))
    app.add_middleware(AuthenticationMiddleware, backend=_Backend())  # type: ignore[arg-type]

    class Named(Channel):
        @action()
        async def me(self, connection: Connection) -> str:
            return connection.user.display_name

    Named().mount(app, "/named/{channel}")
    async with serving(app, may_complain=True) as site:
        async with site.connect("/named/tea") as client:
            assert (await client.call("me"))["data"] == "guest"
        async with site.connect("/tea", **bearer(token())) as client:
            assert (await client.call("me"))["data"]["sub"] == "ada"
        assert (await site.refusal("/tea", **bearer("wrong"))).status == 401


async def test_starlettes_session_says_who_it_is():
    app = application(room(TOKENS, required=False))
    app.add_middleware(SessionMiddleware, secret_key=SECRET)

    class Signed(Channel):
        authenticator = Authenticator(
            lambda session, connection: connection.session.get("user"), sources=[APIKeyCookie(name="session")]
        )

        @action()
        async def me(self, connection: Connection) -> list[Any]:
            return [connection.user, connection.websocket.session["user"]]

    @app.post("/login")
    async def login(request: Request) -> None:
        request.session["user"] = "ada"

    Signed().mount(app, "/signed/{channel}")
    async with serving(app, may_complain=True) as site:
        async with site.client() as http:
            cookie = (await http.post("/login")).cookies["session"]
        async with site.connect("/signed/tea", additional_headers={"Cookie": f"session={cookie}"}) as client:
            assert (await client.call("me"))["data"] == ["ada", "ada"]
        for wrong in ("e30" + cookie, cookie.rpartition(".")[0] + "." + 27 * "A", "x"):
            refused = await site.refusal("/signed/tea", additional_headers={"Cookie": f"session={wrong}"})
            assert refused.status == 401


async def test_a_socket_has_one_too():
    class Desk(Socket):
        authenticator = Authenticator(TOKENS)
        permission_classes = IsAuthenticated

    app = FastAPI()
    add_channel(app)
    Desk(Room()).mount(app, "/desk")
    async with serving(app, may_complain=True) as site, site.unharmed():
        assert (await site.refusal("/desk")).status == 401
        async with site.connect("/desk", **bearer(token())) as client:
            await client.send({"type": "join", "channel": "tea"})
            assert (await client.receive())["type"] == "joined"
            assert (await client.call("me", channel="tea"))["data"]["sub"] == "ada"


# The URL


@each_implementation
async def test_a_token_in_the_url_is_read_where_asked_and_kept_out_of_the_logs(
    ws: str, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    channel = room(TOKENS, sources=[APIKeyQuery(name="access")])
    app = application(channel)

    @app.get("/me")
    async def me(who: Annotated[Identity, Depends(channel.authenticator)]) -> str:
        return who.user["sub"]

    secret, wrong = token(), token(key=SECRET[::-1])
    async with serving(app, may_complain=True, ws=ws, access_log=True) as site:
        async with site.connect(f"/tea?a=1&access={secret}&b=2"):
            pass
        assert (await site.refusal(f"/tea?access={wrong}", origin="http://evil.example.com")).status == 403
        assert (await site.refusal(f"/tea?access={wrong}")).status == 401
        async with site.connect(f"/tea?%61cc%65ss={secret}"):
            pass
        async with site.client() as http:
            assert (await http.get("/me", params={"access": secret})).json() == "ada"
    of_server = [each for each in caplog.records if each.name.startswith(("uvicorn", "fastapi_channels"))]
    written = "\n".join(each.getMessage() for each in of_server)
    assert secret not in written
    assert wrong not in written
    assert written.count("access=REDACTED") >= 2


# Routes, and the document


async def test_it_is_a_dependency_of_routes():
    app = FastAPI()
    add_channel(app)
    required, optional = Authenticator(TOKENS), Authenticator(TOKENS, required=False)

    @app.get("/me")
    async def me(who: Annotated[Identity, Depends(required)]) -> str:
        return who.user["sub"]

    @app.get("/maybe")
    async def maybe(who: Annotated[Identity | None, Depends(optional)]) -> str | None:
        return None if who is None else who.user["sub"]

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        found = await http.get("/me", headers={"Authorization": f"Bearer {token()}"})
        assert (found.status_code, found.json()) == (200, "ada")
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Bearer {token(seconds=-1)}"},
        ):
            refused = await http.get("/me", headers=headers)
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        assert (await http.get("/maybe")).json() is None
        assert (await http.get("/maybe", headers={"Authorization": "Bearer wrong"})).status_code == 401
    assert {"HTTPBearer", "BearerSubprotocol"} == set(app.openapi()["components"]["securitySchemes"])


def test_the_document_has_the_schemes_and_the_frames():
    found = document(application(room(TOKENS, first_frame=5.0)))
    assert found["components"]["securitySchemes"] == {
        "HTTPBearer": {"type": "http", "scheme": "bearer"},
        "BearerSubprotocol": {
            "type": "httpApiKey",
            "name": "Sec-WebSocket-Protocol",
            "in": "header",
            "description": "Offered as `bearer.` and the token, beside a subprotocol that is none.",
        },
    }
    operations = found["operations"]
    assert {"Hall.auth", "Hall.refresh", "Hall.authenticated", "Hall.expiring"} <= operations.keys()
    assert len(operations["Hall.me"]["security"]) == 2
    assert not {"Plain.auth", "Plain.refresh", "Plain.expiring"} & (
        document(application(type("Plain", (Channel,), {})()))["operations"].keys()
    )
    assert "Hall.auth" not in document(application(room(TOKENS)))["operations"]


# Accept, tell, close


async def test_a_page_can_be_told_why():
    class Members(Room):
        permission_classes = lambda websocket: False  # noqa: E731

    async with entered(room(TOKENS, tell=True)) as site, site.unharmed():
        for brought, code, close in (
            ({}, "unauthenticated", 4501),
            (bearer(token(seconds=-1)), "token_expired", 4001),
        ):
            async with site.connect("/tea", subprotocols=["app"], **brought) as client:
                assert client.socket.subprotocol == "app"
                assert (await client.receive())["code"] == code
                assert (await client.closed()).code == close
    members = entered(room(TOKENS, tell=True, base=Members))
    async with members as site, site.connect("/tea", **bearer(token())) as client:
        assert (await client.receive())["code"] == "permission_denied"
        assert (await client.closed()).code == 1008


# The first frame


async def test_by_the_first_frame():
    async with entered(room(TOKENS, first_frame=5.0)) as site, site.unharmed():
        async with site.connect("/tea") as ada:
            await ada.send({"type": "auth", "token": token("ada"), "request_id": 1})
            welcome = await ada.receive()
            assert 590 < welcome.pop("expires_in") <= 600
            assert welcome == {"type": "authenticated", "request_id": 1}
            assert (await ada.call("me"))["data"]["sub"] == "ada"
        async with site.connect("/tea", **bearer(token("bob"))) as bob:
            assert (await bob.call("me"))["data"]["sub"] == "bob", "it need not wait"
        good, needed = token(), 'the first frame has to be of the type "auth", and bring a token'
        for frame, why in (
            ({"type": "auth", "token": "wrong"}, "Not Authenticated"),
            ({"token": good}, needed),
            *(({"type": kind, "token": good}, needed) for kind in ("refresh", "Auth", ["auth"])),
            ({"action": "auth", "token": good}, needed),
            ({"type": "auth", "token": [good]}, needed),
            ("hello", needed),
            ([1], needed),
        ):
            async with site.connect("/tea") as eve:
                await eve.send(frame)
                answer = await eve.receive()
                assert (answer["code"], answer["errors"]) == ("unauthenticated", why), frame
                assert (await eve.closed()).code == 4501
        async with site.connect("/tea") as eve:
            await eve.send({"type": "auth", "token": token(seconds=-1)})
            assert (await eve.closed()).code == 4001


async def test_a_token_of_a_megabyte_is_refused_unread():
    read: list[str] = []

    def check(key: str, connection: HTTPConnection) -> None:
        read.append(key)

    async with entered(room(check, first_frame=5.0)) as site, site.unharmed():
        for size, code, close in (
            (MAX_TOKEN + 1, "unauthenticated", 4501),
            (1024 * 1024, "error", 1009),  # no frame may have as much
        ):
            async with site.connect("/tea") as eve:
                await eve.send({"type": "auth", "token": "x" * size})
                assert (await eve.receive())["code"] == code
                assert (await eve.closed()).code == close
    assert not read


# On httptools uvicorn's own protocol leaves such a handshake without any answer.
@pytest.mark.parametrize(("http", "ws"), [("h11", "auto"), ("h11", PROTOCOL), ("httptools", PROTOCOL)])
async def test_a_token_of_a_megabyte_in_the_handshake_is_refused_unread(http: str, ws: str):
    read: list[str] = []

    def check(key: str, connection: HTTPConnection) -> None:
        read.append(key)

    app = application(room(check, sources=[HTTPBearer(), BearerSubprotocol(), APIKeyCookie(name="t")]))
    huge = "x" * 1024 * 1024
    ways = ["Authorization: Bearer ", "Sec-WebSocket-Protocol: app, bearer.", "Cookie: t="]
    async with serving(app, may_complain=True, http=http, ws=ws) as site, site.unharmed():
        for way in ways:
            eve = RawClient()
            try:
                with suppress(ConnectionError):  # it need not read to the end
                    await eve.send_handshake(site, "/tea", way + huge)
                    assert (await eve.read_head()).split()[1][0] == "4"
            finally:
                eve.close()
    assert not read


async def test_the_first_frame_of_another_envelope():
    envelope = Envelope(action="type", payload="payload", type="kind")
    hall = type(
        "Hall", (Room,), {"authenticator": Authenticator(TOKENS, first_frame=5.0), "envelope": envelope}
    )
    async with entered(hall()) as site:
        async with site.connect("/tea") as ada:
            await ada.send({"kind": "auth", "token": token("ada")})
            assert (await ada.receive())["kind"] == "authenticated"
        async with site.connect("/tea") as eve:
            await eve.send({"type": "auth", "token": token("ada")})
            assert 'has to be of the kind "auth"' in (await eve.receive())["errors"]


async def test_a_first_frame_that_never_comes():
    async with entered(room(TOKENS, first_frame=0.1)) as site, site.unharmed():
        async with site.connect("/tea") as eve:
            assert (await eve.receive())["errors"] == "nobody said in time who is there"
            assert (await eve.closed()).code == 4501
        async with site.connect("/tea") as eve:
            eve.reset()


async def test_who_waits_is_bounded_and_who_means_it_gets_in():
    hall = entered(room(TOKENS, first_frame=30.0, max_waiting=10))
    async with hall as site, site.unharmed(), site.clients(*["/tea"] * 40) as silent:
        for eve in silent[:30]:
            assert (await eve.closed()).code == 4501
        async with site.connect("/tea") as ada:
            await ada.send({"type": "auth", "token": token()})
            assert (await ada.receive())["type"] == "authenticated"
        assert (await silent[30].closed()).code == 4501
        assert silent[-1].socket.close_code is None


async def test_a_handler_of_ones_own_gets_the_first_frame():
    async def handler(frame: Any, connection: HTTPConnection) -> bool | str:
        return "ada" if frame == "SECRET_HUSH_HUSH" else False

    async with entered(room(first_frame=5.0, auth_handler=handler)) as site:
        async with site.connect("/tea") as ada:
            await ada.send("SECRET_HUSH_HUSH")
            assert (await ada.receive())["type"] == "authenticated"
            assert (await ada.call("me"))["data"] == "ada"
        async with site.connect("/tea") as eve:
            await eve.send("please")
            assert (await eve.closed()).code == 4501
        # Nobody verifies a header: it neither lets in nor keeps out.
        headers = {"Authorization": "Bearer SECRET_HUSH_HUSH"}
        async with (
            site.connect("/tea", additional_headers=headers) as bob,
            site.connect("/tea", additional_headers=headers) as eve,
        ):
            await bob.send("SECRET_HUSH_HUSH")
            assert (await bob.receive())["type"] == "authenticated"
            await eve.send("please")
            assert (await eve.closed()).code == 4501


async def test_a_room_that_relays_takes_it_and_says_nothing():
    async with entered(room(TOKENS, first_frame=5.0, base=BaseChannel)) as site, site.unharmed():
        async with site.connect("/tea") as ada:
            await ada.send({"type": "auth", "token": token()})
            await ada.send("hello")
            assert await ada.read() == "hello"
        async with site.connect("/tea") as eve:
            await eve.send("hello")
            assert (await eve.closed()).code == 4501
        async with site.connect("/tea") as eve:
            await eve.send({"token": token()})
            assert (await eve.closed()).code == 4501


# What cannot work


@pytest.mark.parametrize(
    ("verifiers", "settings", "why"),
    [
        ((), {}, "takes verifiers"),
        (("secret",), {}, "takes verifiers"),
        ((check_key,), {"sources": [check_key]}, "a source of credentials is"),
        ((check_key,), {"first_frame": 0}, "more than 0 seconds"),
        ((check_key,), {"first_frame": 5, "required": False}, "has to say who it is"),
        ((check_key,), {"auth_handler": check_key}, "first_frame=5"),
    ],
)
def test_what_cannot_work_does_not_start(verifiers: Any, settings: Any, why: str):
    with pytest.raises(ConfigurationError, match=why):
        Authenticator(*verifiers, **settings)


def test_a_channel_takes_nothing_else():
    wrong: Any = TOKENS
    for owner in (Channel, Socket):
        with pytest.raises(ConfigurationError, match="must be an Authenticator, got JWT"):
            type("Wrong", (owner,), {"authenticator": wrong})(*([Channel()] if owner is Socket else []))


def test_sources_are_left_as_they_were():
    scheme = HTTPBearer()
    assert Authenticator(TOKENS, sources=[scheme, BearerSubprotocol()]).sources[0] is not scheme
    assert scheme.auto_error
