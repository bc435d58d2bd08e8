"""What one action takes, replies and refuses."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Final, get_type_hints
from weakref import WeakKeyDictionary

from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError, to_jsonable_python

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.permission import ALLOW
from fastapi_channels.sessions.guard import Rules
from fastapi_channels.signatures.signature import is_model
from fastapi_channels.wire.messages import Envelope

from .handshake import every
from .schemas import Schema, Schemas

ALWAYS: Final = ("cancelled", "http_error", "internal_error", "unavailable")
"""The codes of errors that any action may end with."""
UNASKED: Final = ("error", "internal_error", "parse_error", "too_many_errors", "unknown_action")
"""Those of errors that belong to no action."""
OF_SIGNING_IN: Final = (
    "permission_denied",
    "rate_limited",
    "token_expired",
    "unauthenticated",
    "unavailable",
)
"""Those of a token that a client sends in a frame."""
OF_ENTERING: Final = (
    *("banned", "channel_full", "http_error", "invalid_room", "not_found", "origin_denied"),
    *("permission_denied", "rate_limited", "too_many_connections", "unavailable"),
)
"""Those of a room that is refused: clients that offer the subprotocol read it in a frame."""
OF_HISTORY: Final = ("already_joined", "invalid_position", "not_joined")
OF_PRESENCE: Final = ("invalid_presence",)
OF_TOPICS: Final = ("invalid_filter", "invalid_topic")
OF_ROOMS: Final = ("already_joined", "cancelled", "not_joined", "too_many_rooms")
"""Those of joining and leaving one of many rooms, and of naming one that was not joined."""


def payload(spec: ActionSpec, schemas: Schemas) -> Schema | None:
    """The schema of the fields that an action takes; None where it takes whatever comes."""
    assert spec.binding is not None, "bind() comes first"
    own = spec.binding._payload
    found = None if own is None else _own(spec, schemas)
    if spec.binding.dependencies is None:
        return found
    fields = [field for each in every(spec.binding.dependencies._dependant) for field in each.body_params]
    if not fields:
        return found
    asked: Schema = {"properties": {field.alias: schemas.of(field, "in") for field in fields}}
    asked["required"] = [field.alias for field in fields if field.field_info.is_required()]
    if len(asked["properties"]) == 1 and is_model(fields[0].field_info.annotation):
        asked = schemas.beside(schemas.of(fields[0], "in"), {}, [])
    return schemas.beside(found or {}, asked["properties"], asked.get("required", []))


def is_open(spec: ActionSpec) -> bool:
    """Whether it is given the message as it came, as upstream's `data` and `**kwargs` are."""
    assert spec.binding is not None, "bind() comes first"
    return any(name == "data" for name, _ in spec.binding._sources)


def _own(spec: ActionSpec, schemas: Schemas) -> Schema:
    """The schema of what its own parameters take: one model, or a field for each, with its default."""
    assert spec.binding is not None, "bind() comes first"
    if spec.binding._payload_name is not None:
        return schemas.of(spec.binding._payload, "in")
    found = schemas.of(spec.binding._payload, "in", inline=True)
    found.pop("title", None)
    parameters = inspect.signature(spec.func).parameters
    fields = found.get("properties", {})
    defaults = {name: _plain(parameters[name].default) for name in fields if name in parameters}
    told = {
        name: _beside(fields[name], "default", each) for name, each in defaults.items() if each is not None
    }
    return {**found, "properties": {**fields, **told}} if told else found


def _beside(schema: Schema, word: str, value: Any) -> Schema:
    # Beside a reference everything is ignored there.
    return {**({"allOf": [schema]} if "$ref" in schema else schema), word: value}


def _plain(value: Any) -> Any:
    """A default as JSON; None where it has none, or is none."""
    if value is inspect.Parameter.empty or isinstance(value, FieldInfo):
        return None
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError:
        return None


def reply(spec: ActionSpec, schemas: Schemas) -> Schema:
    """The schema of what it replies with."""
    if spec._reply is not None:
        return schemas.of(spec._reply, "out")
    return {"type": "null"} if _says_nothing(spec) else {}


def is_silent(spec: ActionSpec, *, ack: bool) -> bool:
    """Whether clients are told that it is done only where they have offered the subprotocol."""
    return _says_nothing(spec) and not ack and spec.sunset is None


def _says_nothing(spec: ActionSpec) -> bool:
    none = inspect.signature(spec.func).return_annotation in (None, "None")
    return spec._reply is None and none and not spec.is_stream


def said(present: Callable[..., Any], schemas: Schemas) -> Schema:
    """The schema of what a channel's `presence_data` says of a connection."""
    function = getattr(present, "__func__", present)
    if function not in _SAID:  # what is asked for must stay alive
        try:
            _SAID[function] = get_type_hints(function, include_extras=True).get("return", Any)
        except (NameError, TypeError):
            _SAID[function] = Any
    return {} if _SAID[function] is Any else schemas.of(_SAID[function], "out")


_SAID: Final[WeakKeyDictionary[Callable[..., Any], Any]] = WeakKeyDictionary()


def codes(spec: ActionSpec, rules: Rules, envelope: Envelope, *, many_rooms: bool) -> list[str]:
    """The codes of the errors that the framework itself may answer a call with."""
    assert spec.binding is not None, "bind() comes first"
    takes = spec.binding._payload is not None or spec.binding.dependencies is not None
    asked: list[tuple[str, Any]] = [
        ("already_done", spec.idempotent),
        ("deprecated", spec.deprecated or spec.sunset is not None),
        ("in_progress", spec.idempotent),
        ("invalid_payload", takes),
        ("not_joined", many_rooms),
        ("parse_error", takes and envelope.payload is not None),
        ("permission_denied", rules.permissions or spec.permission is not ALLOW),
        ("rate_limited", rules.rates or rules.foreign or spec.limits),
        ("request_id_reused", spec.idempotent),
    ]
    return sorted([*ALWAYS, *(code for code, may_be in asked if may_be)])
