"""What the document says, and that AsyncAPI's own schema and parser take it."""

import importlib
from collections.abc import AsyncIterator, Iterator
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from fastapi import APIRouter, Body, Cookie, Depends, FastAPI, Header, Path, Query, WebSocket
from fastapi.openapi.models import HTTPBearer as HTTPBearerModel
from fastapi.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPBasic,
    HTTPBearer,
    HTTPDigest,
    OAuth2AuthorizationCodeBearer,
    OAuth2PasswordBearer,
    OpenIdConnect,
)
from fastapi.security.base import SecurityBase
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from pydantic import BaseModel, Field
from starlette.requests import HTTPConnection

from fastapi_channels import (
    AllowAny,
    BaseChannel,
    BasePermission,
    Call,
    Channel,
    Envelope,
    Event,
    IsAuthenticated,
    Socket,
    WebSocketException,
    action,
    add_channel,
    limiter,
    topics_router,
)
from fastapi_channels.auth import Authenticator
from fastapi_channels.contract.document import document
from tests.support.asyncapi import Official, described, message
from tests.support.live import application
from tests.support.schemes import for_websockets


class Node(BaseModel):
    """A schema that refers to itself."""

    name: str
    children: "list[Node]" = []
    parent: "Node | None" = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Order(BaseModel, extra="forbid"):
    """What is bought."""

    id: int
    pair: tuple[int, str] = (1, "")
    since: date | None = None
    nodes: dict[str, Node] = {}


class Other:
    class Order(BaseModel):
        """Another of the same name."""

        other: bool


class Placed(Event, name="order.placed"):
    """An order was placed."""

    order: Order


class IsStaff(BasePermission):
    pass


class Shop(Channel):
    """A shop."""

    event_types = (Placed,)
    room_pattern = "shop:{number:int}"
    throttle_classes = None

    @limiter(times=5, seconds=10)
    @action(permission=IsAuthenticated & ~IsStaff, tags=["orders"], summary="Buy")
    async def buy(self, order: Order) -> Other.Order:
        """Buy something."""
        return Other.Order(other=True)

    @action(sunset=date(2099, 1, 31))
    async def twin(self, order: Other.Order) -> list[Order]: ...

    @action(deprecated=True)
    async def old(self, number: int) -> None: ...

    @action("count/all things")
    async def count(self, to: int) -> AsyncIterator[int]:
        yield to

    @action()
    async def adopt(self, pet: Pet) -> Node: ...

    @action()
    async def upstream(self, websocket: WebSocket, data: dict, **kwargs: Any): ...

    @action("say.*")
    async def any(self, action: str, text: str) -> str: ...

    @action(include_in_schema=False)
    async def hidden(self) -> None: ...


def codes(document: dict[str, Any], name: str) -> list[str]:
    payload = message(document, "Shop", f"{name}.error")
    return payload["properties"]["code"]["anyOf"][0]["enum"]


@pytest.mark.parametrize("name", ["main", "modern", "support_desk.main"])
def test_the_examples(name: str, official: Official):
    app = importlib.import_module(f"example.{name}").app
    found = document(app)
    official.check(found)
    assert found["operations"]


SERVERS = ("https://shops.example:8443/api", "ws://user:word@[::1]:8000")


def test_everything_at_once(official: Official):
    app = FastAPI(title="Shops", servers=[{"url": each} for each in SERVERS])
    add_channel(app, throttle_classes=None)
    shop = Shop()
    router = APIRouter(prefix="/in")
    shop.mount(router, "/{channel:path}")
    app.include_router(router, prefix="/further")
    BaseChannel().mount(app, "/relay/{channel}")

    @app.websocket("/own/{tenant}")
    async def own(
        websocket: WebSocket,
        tenant: int,
        token: Annotated[str, Depends(OAuth2PasswordBearer("token"))],
        key: Annotated[str, Depends(APIKeyCookie(name="session"))],
        since: Annotated[date, Query(description="the first day")],
        x_client: Annotated[str | None, Header()] = None,
        theme: Annotated[str, Cookie()] = "dark",
    ) -> None:
        """Written by hand."""
        await shop.connect(websocket, "shop:1")

    found = described(app)
    official.check(found)
    assert [each["address"] for each in found["channels"].values()] == [
        "/further/in/{channel}",
        "/relay/{channel}",
        "/own/{tenant}",
    ]
    assert found["servers"] == {
        "shops.example": {"host": "shops.example:8443", "protocol": "wss", "pathname": "/api"},
        "__1": {"host": "[::1]:8000", "protocol": "ws"},
    }
    hand = found["channels"]["Shop_2"]
    assert hand["description"] == "Written by hand."
    binding = hand["bindings"]["ws"]
    assert binding["query"]["required"] == ["since"]
    assert binding["query"]["properties"]["since"]["format"] == "date"
    assert set(binding["headers"]["properties"]) == {"x-client"}
    assert set(hand["bindings"]["x-cookies"]["properties"]) == {"theme"}
    assert set(found["components"]["securitySchemes"]) == {"OAuth2PasswordBearer", "APIKeyCookie"}


def test_what_is_said_of_an_action():
    found = described(application(Shop()))
    buy = found["operations"]["Shop.buy"]
    assert (buy["action"], buy["summary"], buy["description"]) == ("receive", "Buy", "Buy something.")
    assert buy["tags"] == [{"name": "orders"}]
    assert buy["x-permissions"] == ["(IsAuthenticated & ~IsStaff)"]
    assert buy["x-rate-limits"] == [{"times": 5, "seconds": 10.0}]
    assert codes(found, "buy") == [
        *("cancelled", "http_error", "internal_error", "invalid_payload", "permission_denied"),
        *("rate_limited", "unavailable"),
    ]
    assert "deprecated" in codes(found, "old")
    assert found["operations"]["Shop.old"]["x-deprecated"] is True
    assert found["operations"]["Shop.twin"]["x-sunset"] == "2099-01-31"
    assert "Shop.hidden" not in found["operations"]
    assert "hidden" not in str(found)


def test_what_the_server_asks_and_what_answers_it(official: Official):
    class Confirm(Call[bool]):
        """Whether one is sure."""

        text: str

    class Where(Call[Order], name="where is it"):
        since: date

    class Desk(Shop):
        call_types = (Confirm, Where)

    found = described(application(Desk()))
    official.check(found)
    confirm = found["operations"]["Desk.confirm"]
    assert (confirm["action"], confirm["description"]) == ("send", "Whether one is sure.")
    assert message(found, "Desk", "confirm.call")["properties"]["call"] == {"const": "confirm"}
    answers = [each["$ref"].rpartition("/")[2] for each in confirm["reply"]["messages"]]
    assert answers == ["confirm.answer", "any.failure"]
    assert message(found, "Desk", "confirm.answer")["properties"]["data"] == {"type": "boolean"}
    where = message(found, "Desk", "where_is_it.call")["properties"]
    assert where["data"]["$ref"].endswith("/Where")
    assert message(found, "Desk", "where_is_it.answer")["properties"]["data"]["$ref"].rpartition("/")[2]
    assert "Desk.call" not in found["operations"]


def test_a_channel_that_declares_no_calls_may_ask_anything():
    found = described(application(Shop()))
    assert message(found, "Shop", "call.asked")["properties"]["call"] == {"type": "string"}
    assert message(found, "Shop", "call.answer")["required"] == ["type", "call_id", "data"]


SCHEMES = {
    "query": (APIKeyQuery(name="key"), {"type": "httpApiKey", "name": "key", "in": "query"}),
    "header": (APIKeyHeader(name="x-key"), {"type": "httpApiKey", "name": "x-key", "in": "header"}),
    "cookie": (APIKeyCookie(name="session"), {"type": "httpApiKey", "name": "session", "in": "cookie"}),
    "basic": (HTTPBasic(), {"type": "http", "scheme": "basic"}),
    "digest": (HTTPDigest(), {"type": "http", "scheme": "digest"}),
    "bearer": (
        HTTPBearer(bearerFormat="JWT", description="From /token."),
        {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "From /token."},
    ),
    "password": (OAuth2PasswordBearer("token"), {"type": "http", "scheme": "bearer"}),
    "absolute": (
        OAuth2PasswordBearer("https://id.example/token", scopes={"read": "To read."}),
        {
            "type": "oauth2",
            "flows": {
                "password": {
                    "tokenUrl": "https://id.example/token",
                    "availableScopes": {"read": "To read."},
                }
            },
        },
    ),
    "code": (
        OAuth2AuthorizationCodeBearer("https://id.example/auth", "https://id.example/token"),
        {
            "type": "oauth2",
            "flows": {
                "authorizationCode": {
                    "authorizationUrl": "https://id.example/auth",
                    "tokenUrl": "https://id.example/token",
                    "availableScopes": {},
                }
            },
        },
    ),
    "openid": (
        OpenIdConnect(openIdConnectUrl="https://id.example/.well-known/openid-configuration"),
        {
            "type": "openIdConnect",
            "openIdConnectUrl": "https://id.example/.well-known/openid-configuration",
        },
    ),
}


@pytest.mark.parametrize("name", SCHEMES)
def test_a_security_scheme(name: str, official: Official):
    scheme, said = SCHEMES[name]
    app = FastAPI()
    add_channel(app)
    Shop().mount(app, "/shop", dependencies=[Depends(for_websockets(scheme))])
    found = described(app)
    official.check(found)
    assert found["components"]["securitySchemes"] == {scheme.scheme_name: said}
    reference = {"$ref": f"#/components/securitySchemes/{scheme.scheme_name}"}
    assert found["operations"]["Shop.buy"]["security"] == [reference]


def verifier(token: str, connection: HTTPConnection) -> None: ...


@pytest.mark.parametrize("required", [True, False])
def test_only_who_has_to_sign_in_is_said_to(official: Official, required: bool):
    class Guarded(Shop):
        authenticator = Authenticator(verifier, required=required, first_frame=5 if required else None)

    found = described(application(Guarded()))
    official.conforms(found)
    sources = [{"$ref": f"#/components/securitySchemes/{name}"} for name in SOURCES]
    said = {"required": required, "sources": sources, **({"firstFrame": 5} if required else {})}
    assert found["channels"]["Guarded"]["x-authentication"] == said
    buy = found["operations"]["Guarded.buy"]
    assert buy.get("security") == (sources if required else None)
    assert ("Guarded.auth" in found["operations"]) is required
    assert "x-authentication" not in described(application(Shop()))["channels"]["Shop"]


SOURCES = ("HTTPBearer", "BearerSubprotocol")


@pytest.mark.parametrize("required", [True, False])
def test_an_endpoint_that_depends_on_an_authenticator(required: bool):
    sources = [for_websockets(HTTPBearer())]
    app, authenticator = FastAPI(), Authenticator(verifier, sources=sources, required=required)
    add_channel(app)
    Shop().mount(app, "/shop", dependencies=[Depends(authenticator)])
    assert ("security" in described(app)["operations"]["Shop.buy"]) is required


def test_a_reply_that_says_nothing_comes_to_those_who_offer_the_subprotocol():
    class Quiet(Channel):
        @action()
        async def done(self) -> None: ...

        @action(sunset=date(2099, 1, 31))
        async def late(self) -> None: ...

    class Loud(Quiet):
        ack = True

    def only(channel: Channel, name: str) -> str | None:
        found, mine = described(application(channel)), type(channel).__name__
        assert message(found, mine, f"{name}.reply")["properties"]["data"] == {"type": "null"}
        return found["components"]["messages"][f"{mine}.{name}.reply"].get("x-subprotocol")

    assert only(Quiet(), "done") == "fastapi-channels.1"
    assert only(Quiet(), "late") is only(Loud(), "done") is None


def kinds_of(error: type[WebSocketException]) -> Iterator[type[WebSocketException]]:
    yield error
    for each in error.__subclasses__():
        yield from kinds_of(each)


def test_every_code_of_the_package_stands_where_it_may_come():
    class All(Shop):
        history = 5
        presence = True
        authenticator = Authenticator(verifier)

        @action(idempotent=True)
        async def pay(self, amount: int) -> None: ...

    class Filters(Channel):
        topics = True
        room_pattern = "topic/{name}"

    class Door(Socket):
        authenticator = All.authenticator

    app = FastAPI()
    add_channel(app)
    Door(Filters(), All()).mount(app, "/socket")
    found = described(app)
    said = {
        code
        for name in found["channels"]["Door"]["messages"]
        if name.endswith(".error")
        for code in message(found, "Door", name)["properties"]["code"]["anyOf"][0]["enum"]
    }
    own = {each.error_code for each in kinds_of(WebSocketException) if each.__module__.startswith("fastapi_")}
    # A proxy's is there where it was imported; applications raise the next; HTTP alone has the last.
    assert own - said - {"bad_gateway"} == {"not_allowed", "too_large"}


def test_where_rooms_are_filters_of_topics_their_names_are(official: Official):
    class Scores(Channel):
        topics = True
        room_pattern = "sport/{game}/{player:int}"
        routers = (topics_router,)

    class Any_(Channel):
        topics = True

    app = FastAPI()
    add_channel(app)
    Socket(Scores(), Any_()).mount(app, "/socket")
    Scores().mount(app, "/scores/{channel:path}")
    found = described(app)
    official.conforms(found)
    channel = found["channels"]["Socket"]
    (mine, any_) = channel["x-topics"]
    assert mine == {"channel": "Scores", "pattern": "sport/{game}/{player:int}"}
    assert any_ == {"channel": "Any_", "pattern": None}
    assert found["channels"]["Scores"]["parameters"]["channel"]["examples"] == ["sport/game/1"]
    name = Draft7Validator(channel["x-rooms"]["Scores"])
    fits = ("#", "sport/#", "sport/+/7", "+/golf/+", "sport/golf/7", "sport/golf/#", "sport/golf/7/#", "+/#")
    assert [each for each in fits if not name.is_valid(each)] == []
    others = ("", "news/#", "sport", "sport/+", "sport/golf/ann", "sport/golf/7/8")
    assert [each for each in others if name.is_valid(each)] == []


def test_a_stream_has_items_and_an_end():
    found = described(application(Shop()))
    answers = found["operations"]["Shop.count_all_things"]["reply"]["messages"]
    assert [each["$ref"].rpartition(".")[2] for each in answers] == ["item", "end", "error"]
    item = message(found, "Shop", "count_all_things.item")["properties"]
    assert (item["data"], item["more"]) == ({"type": "integer"}, {"const": True})


def test_two_models_of_one_name_are_two_schemas(official: Official):
    found = described(application(Shop()))
    names = [name for name in found["components"]["schemas"] if "Order" in name]
    assert len(names) >= 2
    official.conforms(found)


def test_examples_are_whole_frames():
    class Line(BaseModel, json_schema_extra={"examples": [{"text": "Hello"}]}):
        text: str

    class Room(Channel):
        room_pattern = "ticket:{number:int}"

        @action()
        async def say(self, line: Line) -> None: ...

        @action()
        async def move(self, x: Annotated[int, Field(examples=[4])], far: bool = False) -> None: ...

        @action()
        async def bare(self, x: int, y: Annotated[int, Field(examples=[4])]) -> None: ...

    app = FastAPI()
    add_channel(app)
    Room().mount(app, "/{channel}")
    Socket(Room()).mount(app, "/socket")
    found = described(app)
    messages = found["components"]["messages"]
    shown = {name: each["examples"][0]["payload"] for name, each in messages.items() if "examples" in each}
    assert shown == {
        "Room.say.request": {"action": "say", "text": "Hello"},
        "Room.move.request": {"action": "move", "x": 4},
        "Socket.say.request": {"action": "say", "channel": "ticket:1", "text": "Hello"},
        "Socket.move.request": {"action": "move", "channel": "ticket:1", "x": 4},
    }
    for name in shown:
        channel, _, key = name.partition(".")
        Draft7Validator(message(found, channel, key)).validate(shown[name])


def test_only_who_is_asked_for_a_sign_of_life_is_told_of_it():
    class Watched(Channel):
        heartbeat = 25.0

    operations = described(application(Watched()))["operations"]
    asked, answers = operations["Watched.heartbeat"], operations["Watched.alive"]
    assert (asked["action"], answers["action"]) == ("send", "receive")
    assert not {"Shop.heartbeat", "Shop.alive"} & described(application(Shop()))["operations"].keys()


def test_a_client_may_ask_for_a_sign_of_life():
    operations = described(application(Shop()))["operations"]
    assert (operations["Shop.ping"]["action"], operations["Shop.pong"]["action"]) == ("receive", "send")


def test_only_who_is_told_of_gaps_has_resync():
    class Quiet(Channel):
        resync = False

    found = described(application(Shop()))
    assert message(found, "Shop", "resync.control")["required"] == ["type", "channel"]
    assert "Quiet.resync" not in described(application(Quiet()))["operations"]


def test_an_open_payload_is_an_open_object():
    request = message(described(application(Shop())), "Shop", "upstream.request")
    assert request["required"] == ["action"]
    assert request["additionalProperties"] is True
    assert "additionalProperties" not in message(described(application(Shop())), "Shop", "old.request")


def test_other_names_of_the_fields(official: Official):
    class Renamed(Shop):
        envelope = Envelope(action="method", request_id="id", payload="params", errors="error", type="kind")

    found = described(application(Renamed()))
    official.check(found)
    request = message(found, "Renamed", "buy.request")
    assert request["required"] == ["method", "params"]
    inner = message(found, "Renamed", "upstream.request")["properties"]["params"]
    assert inner == {"type": "object", "additionalProperties": True}
    assert "id" in request["properties"]
    error = message(found, "Renamed", "buy.error")
    assert {"kind", "id", "error"} <= set(error["required"])
    assert found["channels"]["Renamed"]["x-envelope"]["payload"] == "params"


def test_a_socket_names_the_room(official: Official):
    app = FastAPI()
    add_channel(app, permission_classes=AllowAny)
    Socket(Shop(), Channel()).mount(app, "/socket")
    found = described(app)
    official.check(found)
    request = message(found, "Socket", "buy.request")
    assert request["required"][:2] == ["action", "channel"]
    assert request["properties"]["channel"]["pattern"] == "^shop:([0-9]+)$"
    assert found["operations"]["Socket.buy"]["x-channel"] == "Shop"
    assert {"Socket.join", "Socket.leave", "Socket.joined", "Socket.left"} <= set(found["operations"])


def test_a_channel_mounted_twice_has_two_addresses_and_one_set_of_messages(official: Official):
    app = FastAPI()
    add_channel(app)
    shop = Shop()
    shop.mount(app, "/a/{channel}")
    shop.mount(app, "/b/{channel}")
    found = described(app)
    official.check(found)
    first, second = found["channels"].values()
    assert first["messages"] == second["messages"]


class Colour(Enum):
    """Of a team."""

    RED = "red"
    BLUE = "blue"


def test_what_stands_in_the_path(official: Official):
    app, sub, shop = FastAPI(), FastAPI(), Shop()
    add_channel(app)
    shop.mount(app, "/shops/{channel}")
    shop.mount(app, "/numbers/{channel:int}")

    @sub.websocket("/{height:float}/{day}/{colour}/{kind}/{id:uuid}/{rest:path}")
    async def own(
        websocket: WebSocket,
        day: date,
        colour: Colour,
        kind: Annotated[Literal["a"], Path(description="Which.")],
    ) -> None:
        await shop.connect(websocket, "shop:1")

    app.mount("/of/{tenant:int}", sub)
    found = described(app)
    official.check(found)
    mounted, numbered, hand = (each["parameters"] for each in found["channels"].values())
    assert mounted["channel"] == {
        "description": "The name of the room: shop:{number:int}",
        "examples": ["shop:1"],
        "x-schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^shop:([0-9]+)$"},
    }
    assert numbered["channel"]["x-schema"] == {"type": "integer", "minimum": 0}
    assert {name: each["x-schema"] for name, each in hand.items() if name != "kind"} == {
        "tenant": {"type": "integer", "minimum": 0},
        "height": {"type": "number", "minimum": 0},
        "day": {"type": "string", "format": "date"},
        "colour": {"$ref": "#/components/schemas/Colour"},
        "id": {"type": "string", "format": "uuid"},
        "rest": {"type": "string", "format": "path"},
    }
    assert (hand["colour"]["enum"], hand["colour"]["description"]) == (["red", "blue"], "Of a team.")
    assert (hand["kind"]["enum"], hand["kind"]["description"]) == (["a"], "Which.")


def test_what_another_add_channel_covers_is_left_out():
    app, sub, other = FastAPI(), FastAPI(), FastAPI()
    add_channel(app)
    add_channel(other)
    Shop().mount(sub, "/{channel}")
    Shop().mount(other, "/{channel}")
    app.mount("/sub", sub)
    app.mount("/other", other)
    assert [each["address"] for each in described(app)["channels"].values()] == ["/sub/{channel}"]


def test_a_type_without_a_schema_may_be_anything(official: Official):
    class Odd:
        pass

    class Open(BaseModel, arbitrary_types_allowed=True):
        odd: Odd
        name: str

    class Room(Channel):
        @action()
        async def take(self, thing: Open) -> None: ...

    found = described(application(Room()))
    official.conforms(found)
    assert message(found, "Room", "take.request")["properties"]["name"]["type"] == "string"


class Token(SecurityBase):
    model = HTTPBearerModel()
    scheme_name = "Token"

    def __call__(self, websocket: WebSocket) -> str:
        return ""


def test_what_dependencies_read_of_the_message():
    def page(size: Annotated[int, Body(le=10)], token: Annotated[str, Depends(Token())]) -> int:
        return size

    class Room(Channel):
        @action()
        async def listing(self, name: str, page: Annotated[int, Depends(page)]) -> None: ...

    found = described(application(Room()))
    assert found["operations"]["Room.listing"]["security"] == [{"$ref": "#/components/securitySchemes/Token"}]
    request = message(found, "Room", "listing.request")
    assert set(request["required"]) == {"action", "name", "size"}
    assert request["properties"]["size"]["maximum"] == 10


NAMES = st.text(min_size=1, max_size=12)
TYPES = st.recursive(
    st.sampled_from(
        [int, str, float, bool, date, Order, Node, Other.Order, Cat, None, Literal["a", 1], Any, bytes]
    ),
    lambda each: st.one_of(
        each.map(lambda t: list[t]),
        each.map(lambda t: t | None if t not in (None, Any) else t),
        each.map(lambda t: dict[str, t]),
        st.tuples(each, each).map(lambda pair: tuple[pair]),
    ),
    max_leaves=4,
)


def generated(shapes: dict[str, Any], in_rooms: bool) -> FastAPI:
    channel = Channel()
    for name, (takes, gives) in shapes.items():

        async def handler(value: takes, other: int = 0) -> gives: ...  # type: ignore[valid-type]

        handler.__annotations__.update({"value": takes, "return": gives})
        channel.action(name)(handler)
    app = FastAPI()
    add_channel(app)
    (Socket(channel) if in_rooms else channel).mount(app, "/x")
    return app


@settings(max_examples=30)
@given(st.dictionaries(NAMES, st.tuples(TYPES, TYPES), min_size=1, max_size=5), st.booleans())
def test_generated_channels(official: Official, shapes: dict[str, Any], in_rooms: bool):
    app = generated(shapes, in_rooms)
    found = described(app)
    official.conforms(found)
    assert described(app) == found


@settings(max_examples=4, phases=[Phase.generate])
@given(st.dictionaries(NAMES, st.tuples(TYPES, TYPES), min_size=1, max_size=2), st.booleans())
def test_generated_channels_are_taken_by_the_parser(
    official: Official, shapes: dict[str, Any], in_rooms: bool
):
    official.check(described(generated(shapes, in_rooms)))
