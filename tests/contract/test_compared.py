"""What became narrower and what wider, of two schemas, and whom it hurts."""

from typing import Any

import pytest

from fastapi_channels.contract.compared import Change, Compared, Way

STRING, INTEGER, NUMBER, NULL = ({"type": kind} for kind in ("string", "integer", "number", "null"))


def fields(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or []}


def changes(old: Any, new: Any, way: Way, shared: Any = None) -> list[Change]:
    return list(Compared(shared or {}, shared or {}).changes(old, new, way, "x"))


NARROWER: list[tuple[Any, Any]] = [
    ({}, STRING),
    ({"type": ["string", "null"]}, STRING),
    ({"anyOf": [STRING, INTEGER]}, STRING),
    (NUMBER, INTEGER),
    ({"enum": ["a", "b"]}, {"enum": ["a"]}),
    ({"enum": ["a", 1]}, {"const": 1}),
    (STRING, {"type": "string", "maxLength": 5}),
    ({"type": "string", "maxLength": 9}, {"type": "string", "maxLength": 5}),
    ({"type": "integer", "minimum": 0}, {"type": "integer", "minimum": 1}),
    (STRING, {"type": "string", "pattern": "^a"}),
    ({"type": "integer", "multipleOf": 2}, {"type": "integer", "multipleOf": 4}),
    ({"type": "number", "multipleOf": 0.1}, {"type": "number", "multipleOf": 0.3}),
    (fields(a=STRING), fields(["a"], a=STRING)),
    (fields(a=STRING), {**fields(a=STRING), "additionalProperties": False}),
    (
        {"type": "object", "additionalProperties": NUMBER},
        {"type": "object", "additionalProperties": INTEGER},
    ),
    ({"type": "object", "additionalProperties": True}, {"type": "object", "additionalProperties": INTEGER}),
    ({"type": "array", "items": NUMBER}, {"type": "array", "items": INTEGER}),
    ({"type": "array", "items": [NUMBER]}, {"type": "array", "items": [INTEGER]}),
    ({"type": "array"}, {"type": "array", "items": [INTEGER]}),
    (
        {"oneOf": [fields(["k"], k={"const": "a"}), fields(["k"], k={"const": "b"})]},
        {"oneOf": [fields(["k"], k={"const": "b"})]},
    ),
    ({"allOf": [{"type": "string"}], "description": "x"}, {"type": "string", "minLength": 2}),
    (fields(a={"properties": {"b": NUMBER}}), fields(a={"properties": {"b": INTEGER}})),
]


@pytest.mark.parametrize(("wide", "narrow"), NARROWER)
def test_each_way_has_its_own_harm(wide: Any, narrow: Any):
    assert {change.kind for change in changes(wide, narrow, "sent")} == {"breaking"}
    assert {change.kind for change in changes(narrow, wide, "sent")} == {"compatible"}
    assert {change.kind for change in changes(wide, narrow, "received")} == {"compatible"}
    if narrow.get("additionalProperties") is not False:
        # A further field of what is received does no harm.
        assert {change.kind for change in changes(narrow, wide, "received")} == {"breaking"}


@pytest.mark.parametrize(("schema", "other"), NARROWER)
def test_what_is_alike_has_not_changed(schema: Any, other: Any):
    for each in (schema, other):
        for way in ("sent", "received"):
            assert changes(each, each, way) == []


@pytest.mark.parametrize(
    ("old", "new", "sent", "received"),
    [
        (fields(), fields(a=STRING), "compatible", "compatible"),
        (fields(), fields(["a"], a=STRING), "breaking", "compatible"),
        (fields(a=STRING), fields(), "breaking", "compatible"),
        (fields(["a"], a=STRING), fields(), "breaking", "breaking"),
        ({"type": "integer", "multipleOf": 4}, {"type": "integer", "multipleOf": 6}, "breaking", "breaking"),
        ({"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}, "breaking", "breaking"),
        ({"type": "string"}, {"type": "string", "deprecated": True}, "cosmetic", "cosmetic"),
        ({"type": "string", "deprecated": True}, {"type": "string"}, "cosmetic", "cosmetic"),
    ],
)
def test_fields_and_what_cannot_be_compared(old: Any, new: Any, sent: str, received: str):
    assert [change.kind for change in changes(old, new, "sent")] == [sent]
    assert [change.kind for change in changes(old, new, "received")] == [received]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (STRING, {"anyOf": [STRING, {"const": "a"}]}),
        (NUMBER, {"anyOf": [NUMBER, {"const": 1}]}),
        ({"anyOf": [STRING, NULL]}, {"type": ["null", "string"]}),
        (STRING, {"type": "string", "description": "said", "title": "Said"}),
        ({"allOf": [{}]}, {}),
        ({"type": "array", "items": True}, {"type": "array"}),
    ],
)
def test_another_way_to_say_it_is_no_change(old: Any, new: Any):
    assert changes(old, new, "sent") == changes(new, old, "received") == []


def test_what_refers_to_itself_is_looked_at_once():
    node = {"$ref": "#/components/schemas/Node"}
    old = {"Node": fields(next={"anyOf": [node, NULL]}, name=STRING)}
    new = {"Node": fields(next={"anyOf": [node, NULL]}, name=INTEGER)}
    found = list(Compared(old, new).changes(node, node, "sent", "x"))
    assert [change.where for change in found] == ["x.name", "x.name"]


def test_a_reference_to_itself_alone_may_be_anything():
    loop = {"$ref": "#/components/schemas/Loop"}
    assert changes(loop, STRING, "sent", {"Loop": loop})[0].what == "anything → a type"


def test_alternatives_are_told_apart_by_what_is_fixed_in_them():
    cat, dog = fields(["k"], k={"const": "cat"}, lives=NUMBER), fields(["k"], k={"const": "dog"})
    moved = {**cat, "properties": {**cat["properties"], "lives": INTEGER}}
    found = changes({"oneOf": [cat, dog]}, {"oneOf": [dog, moved]}, "sent")
    assert {change.where for change in found} == {"x.lives"}
    (new,) = changes({"oneOf": [cat, dog]}, {"oneOf": [dog, cat, fields(b=NULL)]}, "received")
    assert new == Change("breaking", "x", "the alternative b is new")
