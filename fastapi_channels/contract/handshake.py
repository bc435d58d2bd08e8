"""What a client brings when it connects: parameters and credentials, from what FastAPI read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from fastapi.dependencies.models import Dependant
from fastapi.security.base import SecurityBase
from starlette.convertors import FloatConvertor, IntegerConvertor, PathConvertor, UUIDConvertor

from fastapi_channels.auth.authenticator import Authenticator
from fastapi_channels.signatures.signature import is_model

from .schemas import Schema, Schemas
from .served import Endpoint

KINDS: Final = {"query": "query_params", "headers": "header_params", "cookies": "cookie_params"}


def parameters(dependant: Dependant, later: Iterable[Dependant], schemas: Schemas) -> dict[str, Schema]:
    """An object for each of query, headers and cookies that something is read from.

    Args:
        later: what actions depend on: they read the handshake too, and a client may connect without.
    """
    found: dict[str, Schema] = {}
    for kind, attribute in KINDS.items():
        fields = [field for each in every(dependant) for field in getattr(each, attribute)]
        further = [field for sub in later for each in every(sub) for field in getattr(each, attribute)]
        if fields or further:
            schema = _object(fields, schemas)
            own = schema.get("properties", {})
            found[kind] = {**schema, "properties": {**_object(further, schemas)["properties"], **own}}
    return found


def places(endpoint: Endpoint, schemas: Schemas) -> dict[str, Schema]:
    """What stands for each parameter of an address: by the endpoint's annotation, else by the convertor."""
    fields = {field.alias: field for each in every(endpoint.dependant) for field in each.path_params}
    return {
        name: _place(name, fields.get(name), endpoint, schemas) for name in _NAME.findall(endpoint.address)
    }


def _place(name: str, field: Any, endpoint: Endpoint, schemas: Schemas) -> Schema:
    converted = _CONVERTED.get(type(endpoint.convertors.get(name)))
    if field is None or (converted is not None and field.field_info.annotation is str):
        return _TEXT if converted is None else converted
    return schemas.of(field, "in")


_NAME: Final = re.compile(r"{(\w+)}")
_TEXT: Final[Schema] = {"type": "string"}
_PATH: Final[Schema] = {"type": "string", "format": "path"}
TEXTS: Final = (_TEXT, _PATH)
"""What stands for any text: without a slash, or with."""
_CONVERTED: Final[Mapping[Any, Schema]] = {
    IntegerConvertor: {"type": "integer", "minimum": 0},
    FloatConvertor: {"type": "number", "minimum": 0},
    PathConvertor: _PATH,
    UUIDConvertor: {"type": "string", "format": "uuid"},
}


def every(dependant: Dependant) -> Iterator[Dependant]:
    """`dependant`, and all that it depends on."""
    yield dependant
    for sub in dependant.dependencies:
        yield from every(sub)


def schemes(dependant: Dependant) -> dict[str, Schema]:
    """The security schemes that something depends on, by name; without those of an authenticator that lets
    in who brings nothing."""
    calls: list[Any] = [each.call for each in _required(dependant)]
    return described(call for call in calls if isinstance(call, SecurityBase))


def _required(dependant: Dependant) -> Iterator[Dependant]:
    if not (isinstance(dependant.call, Authenticator) and not dependant.call.required):
        yield dependant
        for sub in dependant.dependencies:
            yield from _required(sub)


def described(found: Iterable[SecurityBase]) -> dict[str, Schema]:
    """Security schemes by name."""
    return {each.scheme_name: _scheme(each.model.model_dump(mode="json", by_alias=True)) for each in found}


def _object(fields: list[Any], schemas: Schemas) -> Schema:
    if len(fields) == 1 and is_model(fields[0].field_info.annotation):
        # Its fields are the parameters.
        return schemas.beside(schemas.of(fields[0], "in"), {}, [])
    required = [field.alias for field in fields if field.field_info.is_required()]
    schema: Schema = {
        "type": "object",
        "properties": {field.alias: schemas.of(field, "in") for field in fields},
    }
    return {**schema, "required": list(dict.fromkeys(required))} if required else schema


def _scheme(model: dict[str, Any]) -> Schema:
    """A security scheme of OpenAPI in the words of AsyncAPI."""
    said = {"description": model["description"]} if model.get("description") else {}
    kind = model["type"]
    if kind == "apiKey":
        return {"type": "httpApiKey", "name": model["name"], "in": model["in"], **said}
    if kind == "http":
        form = {"bearerFormat": model["bearerFormat"]} if model.get("bearerFormat") else {}
        return {"type": "http", "scheme": model["scheme"], **form, **said}
    if kind == "openIdConnect" and "://" in model["openIdConnectUrl"]:
        return {"type": kind, "openIdConnectUrl": model["openIdConnectUrl"], **said}
    flows = {name: _flow(flow) for name, flow in (model.get("flows") or {}).items() if flow}
    if flows and all("://" in url for flow in flows.values() for key, url in flow.items() if key in _URLS):
        return {"type": "oauth2", "flows": flows, **said}
    # Their addresses must be absolute there, and are mostly not here: what is brought is a bearer token.
    return {"type": "http", "scheme": "bearer", **said}


_URLS: Final = ("authorizationUrl", "tokenUrl", "refreshUrl")


def _flow(flow: dict[str, Any]) -> Schema:
    urls = {name: flow[name] for name in _URLS if flow.get(name)}
    return {**urls, "availableScopes": flow.get("scopes") or {}}
