"""JSON schemas of everything that travels, as AsyncAPI 3.0 takes them: JSON Schema draft 7."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode

Schema: TypeAlias = dict[str, Any]

FOLDER: Final = "#/components/schemas/"

_MAPS: Final = frozenset({"properties", "patternProperties"})
_LISTS: Final = frozenset({"allOf", "anyOf", "oneOf"})
_OF_THE_WHOLE: Final = frozenset({"default", "examples"})
"""What is said of an object, and not true of one with further properties."""
_ONE: Final = frozenset({"items", "additionalProperties", "not", "contains", "propertyNames"})


class Schemas:
    """The schemas of types. Asked before `generate`, it only notes what is wanted, so that all are made at
    once: two models of one name then get two names, and a model that is read as it is written gets one.

    Attributes:
        components: the schemas that others refer to, by name.
    """

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}
        self._wanted: dict[tuple[int, JsonSchemaMode], Any] = {}
        self._inline: set[tuple[int, JsonSchemaMode]] = set()
        self._made: dict[tuple[int, JsonSchemaMode], Schema] = {}

    def of(self, source: Any, mode: Literal["in", "out"], *, inline: bool = False) -> Schema:
        """The schema of a type, a TypeAdapter or a parameter that FastAPI reads; `source` must stay alive.

        Args:
            mode: whether a client sends it, or the server does.
            inline: whether it is nobody's type, made for one place: then it is no component.
        """
        key = (id(source), _MODES[mode])
        self._wanted.setdefault(key, source)
        if inline:
            self._inline.add(key)
        return dict(self._made.get(key, {}))

    def generate(self) -> None:
        """Make all that was asked for."""
        inputs: list[tuple[Any, JsonSchemaMode, Any]] = [
            (key[0], key[1], self._core(key, source)) for key, source in self._wanted.items()
        ]
        made, shared = _Generator(ref_template=FOLDER + "{model}").generate_definitions(inputs)
        self._made = {key: _draft_7(made[key]) for key in self._wanted}
        self.components = {name: _draft_7(schema) for name, schema in shared.items()}

    def _core(self, key: tuple[int, JsonSchemaMode], source: Any) -> Any:
        core = _adapter(source).core_schema
        return _written_out(core) if key in self._inline else core

    def resolved(self, schema: Schema) -> Schema:
        """What `schema` refers to, if it is nothing but a reference."""
        while "$ref" in schema:
            schema = self.components[schema["$ref"].removeprefix(FOLDER)]
        return schema

    def examples(self, schema: Schema | None) -> list[dict[str, Any]]:
        """Objects that were given as examples of it; else one of its fields' examples, where all that are
        required have some."""
        schema = self.resolved(schema or {})
        if "examples" in schema:
            return [each for each in schema["examples"] if isinstance(each, dict)]
        fields = {name: self.resolved(each) for name, each in schema.get("properties", {}).items()}
        found = {name: each["examples"][0] for name, each in fields.items() if each.get("examples")}
        return [found] if found and found.keys() >= set(schema.get("required", ())) else []

    def beside(self, schema: Schema, properties: Schema, required: list[str]) -> Schema:
        """An object of `schema` that has `properties` too. Written out rather than combined: a model that
        forbids other fields would forbid these."""
        return self._beside(schema, properties, required, ())

    def _beside(
        self, schema: Schema, properties: Schema, required: list[str], seen: tuple[int, ...]
    ) -> Schema:
        schema = self.resolved(schema)
        for word in ("anyOf", "oneOf", "allOf"):
            if word in schema and id(schema) not in seen:
                members = [member for member in schema[word] if member.get("type") != "null"]
                made = [self._beside(each, properties, required, (*seen, id(schema))) for each in members]
                return {word: made} if len(made) != 1 else made[0]
        return {
            **{key: value for key, value in schema.items() if key not in _OF_THE_WHOLE},
            "type": "object",
            "properties": {**schema.get("properties", {}), **properties},
            "required": list(dict.fromkeys([*required, *schema.get("required", ())])),
        }


_PLAIN: Final = frozenset({type(None), bool, int, str})
_MODES: Final[Mapping[str, JsonSchemaMode]] = {"in": "validation", "out": "serialization"}


class _Generator(GenerateJsonSchema):
    """What has no schema may be anything: a document with a gap is of more use than none."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> Schema:
        return {}

    def datetime_schema(self, schema: Any) -> Schema:
        # A date-time has an offset (RFC 3339, section 5.6). What must have none is of a format of OpenAPI's.
        found = super().datetime_schema(schema)
        return {**found, "format": "date-time-local"} if schema.get("tz_constraint") == "naive" else found

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Of defaults that are no JSON: they are left out."""

    def encode_default(self, dft: Any) -> Any:
        # pydantic makes a TypeAdapter for each: a tenth of the time that a document takes.
        return dft if type(dft) in _PLAIN else super().encode_default(dft)

    def sort(self, value: Schema, parent_key: str | None = None) -> Schema:
        """As it is: in the order in which things are declared, the same for the same program."""
        return value


def _written_out(core: Any) -> Any:
    """A core schema of pydantic's that stands where it is used: what has no reference is no definition."""
    if core["type"] == "definitions":
        return {**core, "schema": _written_out(core["schema"])}
    return {key: value for key, value in core.items() if key != "ref"}


def _adapter(source: Any) -> TypeAdapter[Any]:
    if isinstance(source, TypeAdapter):
        return source
    info = getattr(source, "field_info", None)
    annotated: Any = Annotated
    wanted: Any = source if info is None else annotated[info.annotation, info]
    return TypeAdapter(wanted)


def _draft_7(schema: Any) -> Any:
    """A schema of pydantic's (draft 2020-12) in the words of draft 7 and AsyncAPI."""
    if not isinstance(schema, dict):
        return schema
    found = {key: _part(key, value) for key, value in schema.items() if not _is_foreign(key, value)}
    if "prefixItems" in found:
        found["additionalItems"] = found.pop("items", True)
        found["items"] = found.pop("prefixItems")
    if "$ref" in found and len(found) > 1:
        # Beside a reference everything is ignored there.
        found["allOf"] = [{"$ref": found.pop("$ref")}]
    return found


def _part(key: str, value: Any) -> Any:
    if key in _MAPS and isinstance(value, dict):
        return {name: _draft_7(each) for name, each in value.items()}
    if (key in _LISTS or key == "prefixItems") and isinstance(value, list):
        return [_draft_7(each) for each in value]
    return _draft_7(value) if key in _ONE else value


def _is_foreign(key: str, value: Any) -> bool:
    """Whether AsyncAPI means something else by that word: its discriminator names schemas."""
    return key == "discriminator" and isinstance(value, dict)


class Interned:
    """Parts of the document under names, each once.

    Args:
        reference: makes what stands for a part elsewhere.
    """

    def __init__(self, reference: Callable[[str], Any] = str) -> None:
        self.parts: dict[str, Any] = {}
        self._reference = reference

    def put(self, name: str, part: Any) -> Any:
        """What stands for `part`: under `name`, or that with a number where another part has it."""
        chosen, number = name, 1
        while self.parts.get(chosen, part) != part:
            number += 1
            chosen = f"{name}_{number}"
        self.parts[chosen] = part
        return self._reference(chosen)
