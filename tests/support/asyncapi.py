"""The official judges of AsyncAPI documents, which npm installs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from fastapi_channels.contract.document import document, encoded

from .npm import NodeServer, installed
from .servers import shared

VERSIONS: Final = {"@asyncapi/parser": "3.6.3", "@asyncapi/specs": "6.11.1"}
IMPORTS: Final = """
import { Parser } from "@asyncapi/parser";
import { createRequire } from "module";
const required = createRequire(`${process.cwd()}/node_modules/`);
// The schema of AsyncAPI would be compiled anew for each document, which takes most of the time.
const ajv = required("./@stoplight/spectral-functions/dist/schema/ajv.js");
const compiled = ajv.createAjvInstances();
ajv.createAjvInstances = () => compiled;
const parser = new Parser();
const { AsyncAPIFormats } = required("./@asyncapi/parser/cjs/ruleset/formats.js");
const { getSchema } = required("./@asyncapi/parser/cjs/ruleset/functions/documentStructure.js");
const schema = getSchema({ has: (format) => format === AsyncAPIFormats.get("3.0.0") }, false);
const found = (faults) => faults.map(({ path, message }) => `${path} ${message}`);
function bySchema(text) {
  const valid = compiled(schema, "draft7", true);
  const faults = valid(JSON.parse(text)) ? [] : valid.errors;
  return found(faults.map(({ instancePath, message }) => ({ path: instancePath, message })));
}
async function byParser(text) {
  const { diagnostics } = await parser.parse(text);
  return found(diagnostics.filter(({ severity }) => severity === 0));
}
"""
ANSWER: Final = """
  const { text, isParsed } = asked;
  const answer = [...bySchema(text), ...(isParsed ? await byParser(text) : [])];
"""


class Official(NodeServer):
    """The JSON schema of AsyncAPI 3.0, and the parser, from their authors.

    Args:
        folder: has the parser.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, IMPORTS, ANSWER)

    def check(self, document: dict[str, Any]) -> None:
        """
        Raises:
            AssertionError: it is wrong, by the schema or by the parser.
        """
        assert self.ask({"text": encoded(document).decode(), "isParsed": True}) == []

    def conforms(self, document: dict[str, Any]) -> None:
        """The schema's judgement alone, which is made in no time."""
        assert self.ask({"text": encoded(document).decode(), "isParsed": False}) == []


@pytest.fixture(scope="session")
def official(run_folder: Path) -> Iterator[Official]:
    try:
        folder = installed("asyncapi", VERSIONS)
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"npm cannot install AsyncAPI's parser: {exc}")
    with shared(lambda: Official(folder), Official.__name__, run_folder) as program:
        yield program


def described(app: Any) -> dict[str, Any]:
    """The document of `app` as a client reads it."""
    found: dict[str, Any] = json.loads(encoded(document(app)))
    return found


def message(document: dict[str, Any], channel: str, name: str) -> dict[str, Any]:
    """The schema of one message, which validators take: what it refers to is in it."""
    reference = document["channels"][channel]["messages"][name]["$ref"]
    payload = document["components"]["messages"][reference.rpartition("/")[2]]["payload"]
    schemas = document["components"].get("schemas", {})
    return {**payload, "components": {"schemas": schemas}}


def values(schema: dict[str, Any], root: dict[str, Any], depth: int = 3) -> st.SearchStrategy[Any]:
    """Values that a schema allows, of the words that those of these tests have.

    Args:
        root: holds what the schema refers to.
        depth: how often a schema may be entered anew before what is optional is left out.
    """
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return values(root["components"]["schemas"][name], root, depth - 1)
    if "anyOf" in schema:
        # Where it has become deep, the last of them: null ends it.
        choices = schema["anyOf"] if depth > 0 else schema["anyOf"][-1:]
        return st.one_of([values(each, root, depth) for each in choices])
    if "not" in schema:
        rest = {word: each for word, each in schema.items() if word != "not"}
        return values(rest, root, depth).filter(
            lambda each: not Draft7Validator(schema["not"]).is_valid(each)
        )
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kinds = schema.get("type", ["null", "integer", "string"])
    return st.one_of(
        [_of(kind, schema, root, depth) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    )


def _of(kind: str, schema: dict[str, Any], root: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if kind == "object":
        properties = {name: values(each, root, depth) for name, each in schema.get("properties", {}).items()}
        required = set(schema.get("required", ()))
        optional = {name: each for name, each in properties.items() if name not in required and depth > 0}
        return st.fixed_dictionaries({name: properties[name] for name in required}, optional=optional)
    if kind == "array":
        most = schema.get("maxItems", 3) if depth > 0 else 0
        return st.lists(values(schema.get("items", {}), root, depth), max_size=most)
    if kind == "string":
        assert "pattern" not in schema, "it is not read"
        return st.text(min_size=schema.get("minLength", 0), max_size=schema.get("maxLength", 8))
    if kind in ("integer", "number"):
        return st.integers(schema.get("minimum", -(2**40)), schema.get("maximum", 2**40))
    return {"boolean": st.booleans(), "null": st.none()}[kind]
