"""Schemas in words, and the document as the page shows it."""

from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels import Channel, Envelope, Socket, action, add_channel
from fastapi_channels.contract.document import document
from fastapi_channels.contract.reading import Reader
from fastapi_channels.contract.view import View

COMPONENTS: dict[str, Any] = {
    "Line": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    "Tree": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "of": {"type": "array", "items": {"$ref": "#/components/schemas/Tree"}},
        },
    },
    "Circle": {"$ref": "#/components/schemas/Circle"},
}
LINE = {"$ref": "#/components/schemas/Line"}


def words(schema: Any) -> str:
    return " ".join(word.name or word.key for word in Reader(COMPONENTS).words(schema))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({}, "anything"),
        (True, "anything"),
        (False, "nothing"),
        ({"type": "string"}, "text"),
        ({"type": "string", "format": "date-time"}, "dateTime"),
        ({"type": "string", "format": "date-time-local"}, "dateTimeLocal"),
        ({"type": "string", "format": "of its own"}, "text"),
        ({"type": ["integer", "null"]}, "whole or null"),
        ({"const": "x"}, '"x"'),
        ({"enum": [1, "a", None]}, '1 or "a" or null'),
        (LINE, "Line"),
        ({"allOf": [LINE], "description": "of it"}, "Line"),
        ({"anyOf": [LINE, {"type": "null"}]}, "Line or null"),
        ({"type": "array", "items": LINE}, "listOf Line"),
        ({"type": "array"}, "listOf anything"),
        ({"type": "array", "items": [LINE, {"type": "number"}]}, "listOf Line comma number"),
        ({"type": "object"}, "object"),
        ({"type": "object", "additionalProperties": LINE}, "mapOf Line"),
        ({"const": "x" * 1000}, '"' + "x" * 199 + "…"),
    ],
)
def test_a_type_in_words(schema: Any, said: str):
    assert words(schema) == said


def test_what_stands_for_a_secret_is_no_default():
    schema = {"type": "string", "format": "password", "default": "**********"}
    (row,) = Reader({}).rows({"properties": {"pin": schema}})
    assert (words(schema), row.bounds) == ("secret", [])


def test_the_fields_of_what_is_inside_are_read():
    reader = Reader(COMPONENTS)
    for schema in (LINE, {"type": "array", "items": LINE}, {"anyOf": [LINE, {"type": "null"}]}):
        (row,) = reader.rows(schema)
        assert (row.name, row.required) == ("text", True)
    assert reader.rows(LINE, without=["text"]) == []


def test_a_schema_within_itself_ends():
    reader = Reader(COMPONENTS)
    name, within = reader.rows({"$ref": "#/components/schemas/Tree"})
    assert (name.rows, within.rows) == ([], [])
    assert reader.rows({"$ref": "#/components/schemas/Circle"}) == []
    assert reader.resolved({"$ref": "#/components/schemas/Circle"}) == {"$ref": "#/components/schemas/Circle"}
    assert reader.resolved({"$ref": "#/components/schemas/Gone"}) == {}


def test_bounds_are_told_also_of_what_may_be_null():
    (row,) = Reader({}).rows(
        {"properties": {"n": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}], "default": 3}}}
    )
    assert [(word.key, word.values["value"]) for word in row.bounds] == [("minimum", "1"), ("default", "3")]


def test_a_list_of_a_fixed_length_says_it_once():
    pair = {"type": "array", "items": [{"type": "integer"}, {}], "minItems": 2, "maxItems": 2}
    (row,) = Reader({}).rows({"properties": {"at": pair}})
    assert row.bounds == [("exactItems", {"value": "2"}, "", False)]


def test_what_may_be_several_objects_says_which_fields_are_whose():
    cat = {"title": "Cat", "properties": {"lives": {}}}
    reader = Reader({"Dog": {"properties": {"tricks": {}}}})
    schema = {"anyOf": [{"$ref": "#/components/schemas/Dog"}, cat, {"properties": {"x": {}}}]}
    rows = reader.rows({"properties": {"pet": schema}})[0].rows
    assert [(row.form, row.name) for row in rows] == [("Dog", "tricks"), ("Cat", "lives"), ("3", "x")]
    (row,) = reader.rows({"anyOf": [cat, {"type": "null"}]})
    assert row.form == ""


@pytest.mark.parametrize("null", [[], [{"type": "null"}]])
def test_the_values_of_a_named_enumeration_are_told(null: list[Any]):
    reader = Reader({"Size": {"enum": ["small", "large"]}})
    size = {"$ref": "#/components/schemas/Size"}
    (row,) = reader.rows({"properties": {"size": {"anyOf": [size, *null]} if null else size}})
    assert [(word.key, word.values) for word in row.bounds] == [("oneOf", {"value": '"small", "large"'})]


SCHEMAS = st.recursive(
    st.booleans() | st.sampled_from([{}, LINE, {"$ref": "#/components/schemas/Circle"}, {"type": "string"}]),
    lambda inner: (
        st.fixed_dictionaries({"anyOf": st.lists(inner, max_size=3)})
        | st.fixed_dictionaries({"allOf": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries({"type": st.just("array"), "items": inner})
        | st.fixed_dictionaries({"type": st.just("object"), "additionalProperties": inner})
        | st.fixed_dictionaries({"properties": st.dictionaries(st.text(max_size=3), inner, max_size=3)})
    ),
    max_leaves=12,
)


@given(SCHEMAS)
def test_any_schema_has_some_words(schema: Any):
    rows = Reader(COMPONENTS).rows({"properties": {"it": schema}})
    assert [row.name for row in rows] == ["it"]


class Nested(Channel):
    envelope = Envelope(payload="params", data="result")

    @action()
    async def add(self, a: int, b: int = 1) -> int:
        return a + b


class Plain(Channel):
    room_pattern = "plain:{name}"

    @action()
    async def say(self, text: str) -> None:
        """Say it."""


def view(*served: tuple[Channel | Socket, str]) -> View:
    app = FastAPI()
    add_channel(app)
    for owner, path in served:
        owner.mount(app, path)
    return View(document(app))


def test_an_operation_shows_its_own_fields():
    nested, plain = view((Nested(), "/nested/{channel}"), (Plain(), "/plain/{channel}")).addresses
    (add,) = nested.groups["actions"]
    assert [row.name for row in add.rows] == ["a", "b"]
    assert [word.key for answer in add.answers for word in answer.type] == ["whole"]
    (say,) = plain.groups["actions"]
    assert [row.name for row in say.rows] == ["text"]
    assert say.errors[0] == "cancelled"


def test_a_room_is_no_field_of_an_action_over_many():
    (desk,) = view((Socket(Plain()), "/desk")).addresses
    (say,) = desk.groups["actions"]
    assert [row.name for row in say.rows] == ["text"]
    operation = view((Socket(Plain()), "/desk")).console()["channels"][0]["operations"][0]
    assert operation["room"]["pattern"].startswith("^plain:")


def test_what_the_page_does_not_know_is_shown_as_it_is():
    made = document(_application())
    made["channels"]["Plain"]["x-colour"] = {"size": 100}
    made["operations"]["Plain.say"]["x-mood"] = True
    (plain,) = View(made).addresses
    assert plain.extras == {"colour": {"size": 100}}
    assert plain.groups["actions"][0].extras == {"mood": True}


def _application() -> FastAPI:
    app = FastAPI()
    add_channel(app)
    Plain().mount(app, "/plain/{channel}")
    return app
