"""The AsyncAPI 3.0 document of an application."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic_core import to_json

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.channels import BaseChannel
from fastapi_channels.channels.socket import Socket
from fastapi_channels.cluster.settings import Settings
from fastapi_channels.permission import BasePermission
from fastapi_channels.wire.messages import Envelope

from . import actions
from .frames import ANYTHING, SINCE, Frames, room_example, room_name
from .handshake import parameters, schemes
from .rules import permission_names, rates
from .schemas import Interned, Schema, Schemas
from .served import Endpoint, endpoints

__all__ = ["document"]

VERSION: Final = "3.0.0"
_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def document(app: Any, settings: Settings | None = None, only: Any = None) -> dict[str, Any]:
    """What `app` serves over WebSockets, as AsyncAPI 3.0.

    Args:
        app: the FastAPI application.
        settings: what `add_channel` was told.
        only: a router, for a document of its endpoints alone.
    """
    served = list(endpoints(app, only))
    schemas = Schemas()
    _Document(schemas, settings or Settings()).add(served)  # only to ask for the schemas
    schemas.generate()
    made = _Document(schemas, settings or Settings())
    made.add(served)
    return made.of(app)


def encoded(document: dict[str, Any]) -> bytes:
    """The document as JSON: the same bytes for the same program."""
    return to_json(document, indent=2, inf_nan_mode="null", fallback=lambda value: type(value).__name__)


class _Document:
    def __init__(self, schemas: Schemas, settings: Settings) -> None:
        self._schemas = schemas
        self._settings = settings
        self._messages = Interned(lambda name: {"$ref": f"#/components/messages/{name}"})
        self._security = Interned(lambda name: {"$ref": f"#/components/securitySchemes/{name}"})
        self._channels: dict[str, Any] = {}
        self._operations: dict[str, Any] = {}

    def add(self, served: Iterable[Endpoint]) -> None:
        for endpoint in served:
            name = unique(type(endpoint.owner).__name__, self._channels)
            self._channels[name] = _Address(self, name, endpoint).described()

    def of(self, app: Any) -> dict[str, Any]:
        components = {
            "schemas": self._schemas.components,
            "messages": self._messages.parts,
            "securitySchemes": self._security.parts,
        }
        servers = _servers(app)
        return {
            "asyncapi": VERSION,
            "info": _info(app),
            "defaultContentType": "application/json",
            **({"servers": servers} if servers else {}),
            "channels": self._channels,
            "operations": self._operations,
            "components": filled(components),
        }


class _Address:
    """One address, with everything that passes over a WebSocket to it."""

    def __init__(self, document: _Document, name: str, endpoint: Endpoint) -> None:
        self._document = document
        self._name = name
        self._endpoint = endpoint
        self._owner = endpoint.owner
        self._many = isinstance(self._owner, Socket)
        self._served = self._owner.channels if isinstance(self._owner, Socket) else (self._owner,)
        self._keeps = any(channel.history for channel in self._served)
        self._frames = Frames(
            self._owner.envelope, document._schemas, many_rooms=self._many, keeps=self._keeps
        )
        self._messages: dict[str, Any] = {}
        self._security = self._secured(schemes(endpoint.dependant))

    def described(self) -> Schema:
        """The channel object; its operations go into the document."""
        owner, endpoint = self._owner, self._endpoint
        channels = self._served
        for channel in channels:
            self._channel(channel)
        if any(channel._plan.actions is not None for channel in channels):
            self._controls(channels)
        is_ours = type(owner).__module__.startswith(_PACKAGE)
        text = endpoint.summary or ("" if is_ours else type(owner).__doc__ or "")
        found = {
            "address": endpoint.address,
            "title": self._name,
            "description": _plain(text),
            "messages": self._messages,
            "parameters": self._parameters(),
            "bindings": self._handshake(channels),
            **self._rules(channels),
            "x-history": [
                {
                    "channel": type(channel).__name__,
                    "publications": channel.history,
                    "seconds": channel.history_ttl,
                }
                for channel in channels
                if channel.history
            ],
            "x-many-rooms": self._many,
            "x-envelope": {each.name: getattr(owner.envelope, each.name) for each in fields(Envelope)},
        }
        return filled(found)

    # Messages and operations

    def _channel(self, channel: BaseChannel) -> None:
        plan = channel._plan
        if plan.actions is None:
            self._operate("relay", "receive", [self._message("relay", "sent", ANYTHING)])
            self._operate("relayed", "send", [self._message("relayed", "sent", ANYTHING)])
        for spec in (plan.actions or {}).values():
            if spec.include_in_schema:
                self._action(channel, spec)
        self._events(channel)
        if plan.actions is not None:
            self._calls(channel)

    def _action(self, channel: BaseChannel, spec: ActionSpec) -> None:
        name, frames, schemas = spec.name, self._frames, self._document._schemas
        payload, pattern = actions.payload(spec, schemas), channel._plan.pattern
        request = frames.request(
            name,
            payload,
            room_name(pattern),
            may_be_empty=spec.binding is not None and spec.binding._may_be_empty,
        )
        shown = [frames.example(name, room_example(pattern), each) for each in schemas.examples(payload)]
        if spec.deprecated or spec.sunset is not None:
            request["deprecated"] = True
        more = self._answers(channel, spec)
        found = {
            "summary": spec.summary,
            "description": spec.description,
            "tags": [{"name": tag} for tag in spec.tags],
            "reply": {"channel": {"$ref": f"#/channels/{self._name}"}, "messages": more},
            "x-stream": spec.is_stream,
            "x-deprecated": spec.deprecated,
            "x-sunset": spec.sunset.isoformat() if spec.sunset else None,
            "x-permissions": permission_names([spec.permission]),
            "x-rate-limits": rates(spec.limits),
            **self._of(channel),
        }
        dependencies = spec.binding.dependencies if spec.binding is not None else None
        security = [] if dependencies is None else self._secured(schemes(dependencies._dependant))
        message = self._message(name, "request", request, shown)
        self._operate(name, "receive", [message], security=security, **filled(found))

    def _answers(self, channel: BaseChannel, spec: ActionSpec) -> list[Schema]:
        """The messages that a call of an action is answered with."""
        name, frames = spec.name, self._frames
        rules = channel._plan.rules(self._document._settings)
        codes = actions.codes(spec, rules, channel.envelope, many_rooms=self._many)
        data = actions.reply(spec, self._document._schemas, ack=channel.ack)
        sunset = spec.sunset.isoformat() if spec.sunset else None
        found: list[Schema] = []
        if data is not None and not spec.deprecated:
            more = True if spec.is_stream else None
            schema = frames.reply(name, data, more=more, sunset=sunset)
            found.append(self._message(name, "item" if more else "reply", schema))
        if spec.is_stream and not spec.deprecated:
            end = frames.reply(name, {"type": "null"}, more=False, sunset=sunset)
            found.append(self._message(name, "end", end))
        found.append(self._message(name, "error", frames.error(name, codes)))
        return found

    def _events(self, channel: BaseChannel) -> None:
        declared = channel._plan.words.events
        if declared is None:
            message = self._message("event", "any", self._frames.event(None, ANYTHING))
            self._operate("event", "send", [message], **self._of(channel))
            return
        for name, event in declared.items():
            schema = self._frames.event(name, self._document._schemas.of(event, "out"))
            message = self._message(name, "event", schema)
            self._operate(name, "send", [message], **_described(event), **self._of(channel))

    def _calls(self, channel: BaseChannel) -> None:
        declared, schemas = channel._plan.words.calls, self._document._schemas
        if declared is None:
            asked = self._message("call", "asked", self._frames.call(None, ANYTHING))
            self._ask("call", asked, ANYTHING, self._of(channel))
            return
        for name, call in declared.items():
            asked = self._message(name, "call", self._frames.call(name, schemas.of(call, "out")))
            answer = schemas.of(call.call_answer, "in")
            self._ask(name, asked, answer, {**_described(call), **self._of(channel)})

    def _ask(self, name: str, asked: Schema, answer: Schema, more: dict[str, Any]) -> None:
        answers = [
            self._message(name, "answer", self._frames.answer(answer)),
            self._message("any", "failure", self._frames.failure()),
        ]
        reply = {"channel": {"$ref": f"#/channels/{self._name}"}, "messages": answers}
        self._operate(name, "send", [asked], reply=reply, **more)

    def _of(self, channel: BaseChannel) -> dict[str, Any]:
        """Which channel of several an operation belongs to."""
        return {"x-channel": type(channel).__name__} if self._many else {}

    def _controls(self, channels: Iterable[BaseChannel]) -> None:
        patterns = [channel._plan.pattern for channel in channels]
        room = room_name(patterns[0]) if len(patterns) == 1 else room_name(None)
        pings = self._owner.heartbeat is not None
        for name, schema in self._frames.of_client(room, pings=pings).items():
            self._operate(name, "receive", [self._message(name, "control", schema)])
        lags = self._owner.slow_policy != "disconnect"
        resyncs = any(channel.resync for channel in channels)
        for name, schema in self._frames.of_server(lags=lags, resyncs=resyncs, pings=pings).items():
            self._operate(name, "send", [self._message(name, "control", schema)])
        codes = sorted({*actions.UNASKED, *(actions.OF_ROOMS if self._many else ())})
        self._operate("error", "send", [self._message("any", "error", self._frames.error(None, codes))])

    def _message(self, name: str, role: str, payload: Schema, shown: Sequence[Any] = ()) -> Schema:
        """What stands for a message of this address; `shown` are examples of it."""
        key = identifier(f"{name}.{role}")
        part: dict[str, Any] = {"name": name, "title": f"{name}: {role}", "payload": payload}
        if shown:
            part["examples"] = [{"payload": example} for example in shown]
        if type(self._owner.envelope).encode is not _JSON:
            part["contentType"] = "application/octet-stream"
        reference = self._document._messages.put(f"{identifier(type(self._owner).__name__)}.{key}", part)
        while self._messages.get(key, reference) != reference:
            key += "_"
        self._messages[key] = reference
        return {"$ref": f"#/channels/{self._name}/messages/{key}"}

    def _operate(
        self,
        name: str,
        way: str,
        messages: list[Schema],
        *,
        security: Iterable[Schema] = (),
        **more: Any,
    ) -> None:
        key = f"{self._name}.{identifier(name)}"
        operation = {
            "action": way,
            "channel": {"$ref": f"#/channels/{self._name}"},
            "title": name,
            **more,
            "messages": messages,
        }
        needed = [*self._security, *(each for each in security if each not in self._security)]
        if needed and way == "receive":
            operation["security"] = needed
        self._document._operations[unique(key, self._document._operations)] = operation

    # The handshake

    def _parameters(self) -> dict[str, Schema]:
        names = re.findall(r"{(\w+)}", self._endpoint.address)
        return {name: {"description": self._about(name)} for name in names}

    def _about(self, name: str) -> str:
        pattern = None if isinstance(self._owner, Socket) else self._owner.room_pattern
        if name != "channel":
            return f"The parameter {name} of the path."
        return "The name of the room." if pattern is None else f"The name of the room: {pattern}"

    def _handshake(self, channels: Iterable[BaseChannel]) -> Schema:
        specs = [spec for channel in channels for spec in (channel._plan.actions or {}).values()]
        asked = [spec.binding.dependencies for spec in specs if spec.include_in_schema and spec.binding]
        later = [each._dependant for each in asked if each is not None]
        found = parameters(self._endpoint.dependant, later, self._document._schemas)
        if self._keeps and not self._many:
            query = found.setdefault("query", {"type": "object", "properties": {}})
            query["properties"] = {**query["properties"], **SINCE}
        cookies = found.pop("cookies", None)
        binding = {"method": "GET", **found, "bindingVersion": "0.1.0"}
        return {"ws": binding, **({} if cookies is None else {"x-cookies": cookies})}

    def _rules(self, channels: Iterable[BaseChannel]) -> dict[str, Any]:
        permissions: list[BasePermission] = []
        limits: list[Any] = []
        for channel in channels:
            rules = channel._plan.rules(self._document._settings)
            permissions += rules.permissions
            limits += [each for each in (*rules.rates, *rules.foreign) if each not in limits]
        if isinstance(self._owner, Socket):
            permissions.append(self._owner._permission)
        patterns = [channel.room_pattern for channel in channels if channel.room_pattern is not None]
        return {
            "x-room-patterns": patterns,
            "x-permissions": permission_names(permissions),
            "x-rate-limits": rates(limits),
        }

    def _secured(self, found: dict[str, Schema]) -> list[Schema]:
        return [self._document._security.put(identifier(name), scheme) for name, scheme in found.items()]


_JSON: Final = type(BaseChannel.envelope).encode
_PACKAGE: Final = f"{__name__.partition('.')[0]}."


def identifier(name: str) -> str:
    """`name` as a key of the document."""
    return re.sub(r"[^\w.-]", "_", name, flags=re.ASCII)


def unique(name: str, taken: Iterable[str]) -> str:
    """`name`, or that with a number where it is taken."""
    name = chosen = identifier(name)
    number = 1
    while chosen in taken:
        number += 1
        chosen = f"{name}_{number}"
    return chosen


def filled(values: dict[str, Any]) -> dict[str, Any]:
    """What of `values` says something."""
    return {key: value for key, value in values.items() if value}


def _described(word: type) -> dict[str, Any]:
    # What a class inherits of pydantic's words is not about it.
    return filled({"description": _plain(vars(word).get("__doc__") or "")})


def _plain(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())


def _info(app: Any) -> dict[str, Any]:
    found = {"title": app.title, "version": app.version, "description": app.description}
    found |= {"termsOfService": app.terms_of_service, "contact": app.contact, "license": app.license_info}
    return {"title": "FastAPI", "version": "0.1.0", **filled(found)}


def _servers(app: Any) -> dict[str, Any]:
    """The servers that the application names, by their absolute addresses."""
    found: dict[str, Any] = {}
    for server in app.servers or ():
        url = urlsplit(str(server.get("url", "")))
        if url.scheme in _SCHEMES and url.hostname:
            host = url.hostname if url.port is None else f"{url.hostname}:{url.port}"
            said = {"pathname": url.path.rstrip("/"), "description": server.get("description")}
            found[unique(url.hostname, found)] = {
                "host": host,
                "protocol": _SCHEMES[url.scheme],
                **filled(said),
            }
    return found
