"""What makes a document hard, over a real server: the document, the page, the types, and what is kept."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from jsonschema import Draft7Validator
from pydantic import BaseModel
from typing_extensions import TypeAliasType

from fastapi_channels import Channel, action, add_channel
from fastapi_channels.contract.typescript.file import typescript
from tests.support.asyncapi import Official, message
from tests.support.live import Site, serving
from tests.support.typescript import Compiler


class Tree(BaseModel):
    name: str
    children: "list[Tree]" = []


class Egg(BaseModel):
    laid_by: "Hen | None" = None


class Hen(BaseModel):
    egg: Egg | None = None


Nested = TypeAliasType("Nested", "list[Nested] | int")
EGG = {"laid_by": {"egg": {"laid_by": None}}}


class Cyclic(Channel):
    @action()
    async def plant(self, tree: Tree) -> Tree:
        return tree

    @action()
    async def lay(self, egg: Egg) -> Hen:
        return Hen(egg=egg)

    @action()
    async def nest(self, value: Nested) -> Nested:
        return value


class Order(BaseModel):
    id: int


class Other:
    class Order(BaseModel):
        name: str


class Shop(Channel):
    @action()
    async def one(self, order: Order, count: int = 1) -> Order:
        return order

    @action()
    async def other(self, order: Other.Order, count: int = 1) -> Other.Order:
        return order


@asynccontextmanager
async def served(channel: Channel, *paths: str) -> AsyncIterator[tuple[Site, dict[str, Any]]]:
    """A server with the channel, and its document as a client gets it; the page is there too."""
    app = FastAPI()
    add_channel(app)
    for path in paths:
        channel.mount(app, path)
    async with serving(app) as site, site.client() as http:
        page = await http.get("/asyncapi")
        assert page.status_code == 200
        assert f'id="channel/{type(channel).__name__}"' in page.text
        yield site, (await http.get("/asyncapi.json")).json()


async def answer(site: Site, path: str, frame: dict[str, Any]) -> dict[str, Any]:
    async with site.connect(path) as client:
        await client.send({**frame, "request_id": 1})
        found: dict[str, Any] = await client.receive()
        return found


def check(document: dict[str, Any], official: Official, compiler: Compiler) -> None:
    official.check(document)
    assert compiler.faults(channels=typescript(document)) == {}


RIGHT_AND_WRONG: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plant": (
        {"name": "a", "children": [{"name": "b", "children": []}]},
        {"name": "a", "children": [{}]},
    ),
    "lay": (EGG, {"laid_by": {"egg": 1}}),
    "nest": ({"value": [1, [2, [3]]]}, {"value": [["x"]]}),
}


async def test_schemas_that_refer_to_each_other_in_a_circle(official: Official, compiler: Compiler):
    async with served(Cyclic(), "/cyclic") as (site, document):
        check(document, official, compiler)
        for name, (right, wrong) in RIGHT_AND_WRONG.items():
            request = Draft7Validator(message(document, "Cyclic", f"{name}.request"))
            assert request.is_valid({"action": name, **right})
            assert not request.is_valid({"action": name, **wrong})
            reply = await answer(site, "/cyclic", {"action": name, **right})
            Draft7Validator(message(document, "Cyclic", f"{name}.reply")).validate(reply)
            refused = await answer(site, "/cyclic", {"action": name, **wrong})
            assert refused["code"] == "invalid_payload"


async def test_a_model_that_is_named_like_another(official: Official, compiler: Compiler):
    async with served(Shop(), "/shop") as (site, document):
        check(document, official, compiler)
        assert len([name for name in document["components"]["schemas"] if "Order" in name]) == 2
        orders = {"one": {"id": 1}, "other": {"name": "a"}}
        for name, order in orders.items():
            reply = Draft7Validator(message(document, "Shop", f"{name}.reply"))
            reply.validate(await answer(site, "/shop", {"action": name, "order": order}))
            (strange,) = (each for other, each in orders.items() if other != name)
            frame = {"action": name, "order": strange}
            assert not Draft7Validator(message(document, "Shop", f"{name}.request")).is_valid(frame)
            assert (await answer(site, "/shop", frame))["code"] == "invalid_payload"


async def test_a_channel_that_is_mounted_twice(official: Official, compiler: Compiler):
    async with served(Shop(), "/here", "/there") as (site, document):
        check(document, official, compiler)
        addresses = {name: each["address"] for name, each in document["channels"].items()}
        assert addresses == {"Shop": "/here", "Shop_2": "/there"}
        for channel, path in addresses.items():
            reply = await answer(site, path, {"action": "one", "order": {"id": 1}})
            Draft7Validator(message(document, channel, "one.reply")).validate(reply)
