"""Schemas as types, and how they are written."""

from typing import Any

import pytest

from fastapi_channels.contract.typescript.text import comment, tuple_of
from fastapi_channels.contract.typescript.types import Names, Types, template

STRING, NUMBER, NULL = ({"type": kind} for kind in ("string", "number", "null"))


def written(schema: Any, **components: Any) -> str:
    return Types(components, Names()).type(schema)


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        ({}, "unknown"),
        (True, "unknown"),
        (False, "never"),
        (STRING, "string"),
        ({"type": "integer"}, "number"),
        ({"type": ["string", "null"]}, "string | null"),
        ({"const": 'a"b'}, '"a\\"b"'),
        ({"enum": ["a", 1, True, None]}, '"a" | 1 | true | null'),
        ({"anyOf": [STRING, NUMBER, STRING]}, "string | number"),
        ({"anyOf": [STRING, {}]}, "unknown"),
        ({"anyOf": [{"enum": ["a", "b"]}, STRING]}, '"a" | "b" | (string & {})'),
        ({"allOf": [{"$ref": "#/components/schemas/A"}], "description": "x"}, "A"),
        (
            {"allOf": [{"type": ["string", "null"]}, {"$ref": "#/components/schemas/A"}]},
            "(string | null) & A",
        ),
        ({"type": "array"}, "unknown[]"),
        ({"type": "array", "items": {"type": ["string", "null"]}}, "(string | null)[]"),
        ({"type": "array", "items": {"const": "a|b"}}, '"a|b"[]'),
        ({"type": "array", "items": [STRING, NUMBER], "maxItems": 2}, "[string, number]"),
        ({"type": "array", "items": [STRING], "additionalItems": NUMBER}, "[string, ...number[]]"),
        ({"type": "object"}, "{ [key: string]: unknown }"),
        ({"type": "object", "additionalProperties": False}, "{ [key: string]: never }"),
        ({"type": "object", "additionalProperties": NUMBER}, "{ [key: string]: number }"),
        ({"type": "object", "patternProperties": {"^a": NUMBER}}, "{ [key: string]: number }"),
        ({"properties": {"a": STRING}, "required": ["a"]}, "{\n  a: string;\n}"),
        (
            {"properties": {"a-b": STRING}, "additionalProperties": True},
            '{\n  "a-b"?: string;\n  [key: string]: unknown;\n}',
        ),
        (
            {"anyOf": [{"properties": {"a": STRING}}, NULL]},
            "{\n  a?: string;\n} | null",
        ),
        ({"type": "string", "pattern": "^a[bc]$"}, "string"),
    ],
)
def test_each_schema_has_a_type(schema: Any, type_: str):
    assert written(schema, A={"type": "object"}) == type_


@pytest.mark.parametrize(
    ("pattern", "type_"),
    [
        ("^lobby$", '"lobby"'),
        ("^ticket:([0-9]+)$", "`ticket:${number}`"),
        ("^a\\.(.*)-([^/]+)$", "`a.${string}-${string}`"),
        ("^say\\.", "`say.${string}`"),
        ("^x([0-9]+(\\.[0-9]+)?)$", "`x${number}`"),
        ("lobby$", None),
        ("^a+$", None),
        ("^(?!a)b$", None),
        ("^(a)?$", None),
        ("^(a", None),
        ("^\\d$", None),
        ("^a`b$", None),
        ("^a.b$", None),
        ("^a\\", None),
    ],
)
def test_a_pattern_that_a_template_says(pattern: str, type_: str | None):
    assert template(pattern) == type_


def test_names_are_given_once():
    names = Names(["Channels"])
    given = [
        names.new(each)
        for each in (
            "Order-Input",
            "order_input",
            "Channels",
            "2nd",
            "房间",
            "!",
            "Paginated_Line_",
            "Room_2",
        )
    ]
    assert given == [
        "OrderInput",
        "OrderInput_2",
        "Channels_2",
        "_2nd",
        "房间",
        "Type",
        "PaginatedLine",
        "Room_2",
    ]


def test_what_is_said_cannot_end_the_comment():
    assert comment("one */ alert(1)", 2) == "  /** one *\\/ alert(1) */\n"
    assert comment("one\n\ntwo", 0) == "/**\n * one\n *\n * two\n */\n"
    assert comment(" ", 0) == ""


def test_a_tuple_that_is_too_long_for_its_line_has_a_line_for_each():
    assert tuple_of(["Ticket", "Team"], 2, 10) == "[Ticket, Team]"
    assert tuple_of(["Ticket", "Team"], 2, 67) == "[\n    Ticket,\n    Team,\n  ]"
