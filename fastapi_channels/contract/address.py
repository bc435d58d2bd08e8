"""One address of the document: everything that passes over a WebSocket to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Final

from fastapi_channels.actions.spec import ActionSpec
from fastapi_channels.channels import BaseChannel
from fastapi_channels.channels.socket import Socket
from fastapi_channels.permission import BasePermission
from fastapi_channels.wire.messages import SUBPROTOCOL, Envelope

from . import actions
from .frames import ANYTHING, SINCE, Frames, room_example, room_name
from .handshake import TEXTS, described, parameters, places, schemes
from .parts import Parts, filled, identifier, unique
from .rules import permission_names, rates
from .schemas import Schema
from .served import Endpoint


class Address:
    """One address, with everything that passes over a WebSocket to it."""

    def __init__(self, parts: Parts, name: str, endpoint: Endpoint) -> None:
        self._parts = parts
        self._name = name
        self._endpoint = endpoint
        self._owner = endpoint.owner
        self._many = isinstance(self._owner, Socket)
        self._served = self._owner.channels if isinstance(self._owner, Socket) else (self._owner,)
        self._keeps = any(channel.history for channel in self._served)
        self._frames = Frames(
            self._owner.envelope,
            parts.schemas,
            max_joins=self._owner.max_joins if isinstance(self._owner, Socket) else None,
            keeps=self._keeps,
            data=self._said(),
        )
        self._messages: dict[str, Any] = {}
        self._authenticator = found = self._owner.authenticator
        self._sources = self._secured(described(() if found is None else found.sources))
        asked = self._secured(schemes(endpoint.dependant))
        self._security = _each_once(asked, self._sources if found is not None and found.required else ())

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
            "x-authentication": self._authentication(),
            **self._rules(channels),
            "x-history": self._with("history", publications="history", seconds="history_ttl"),
            "x-topics": self._with("topics", pattern="room_pattern"),
            "x-presence": self._with("presence", interval="presence_interval", grace="presence_grace"),
            "x-many-rooms": self._many,
            "x-rooms": self._rooms() if self._many else {},
            "x-envelope": {each.name: getattr(owner.envelope, each.name) for each in fields(Envelope)},
        }
        return filled(found)

    def _rooms(self) -> dict[str, Schema]:
        """The names of the rooms of each channel, in the order in which they are asked for one."""
        return {type(each).__name__: room_name(each._plan.pattern) for each in self._served}

    def _with(self, setting: str, **told: str) -> list[Schema]:
        """What the channels that have set one thing say of it: for each word, a setting."""
        return [
            {"channel": type(each).__name__, **{word: getattr(each, name) for word, name in told.items()}}
            for each in self._served
            if getattr(each, setting)
        ]

    def _authentication(self) -> dict[str, Any]:
        """Whether a client has to say who it is, and by what; nothing where nobody asks."""
        found = self._authenticator
        if found is None:
            return {}
        within = {} if found.first_frame is None else {"firstFrame": found.first_frame}
        return {"required": found.required, "sources": self._sources, **within}

    def _said(self) -> Schema | None:
        """What is said of those who are shown in the rooms; None where nobody is."""
        found: list[Schema] = []
        for channel in self._served:
            if channel.presence:
                said = actions.said(channel._plan.present, self._parts.schemas)
                found += [said] if said not in found else []
        return found[0] if len(found) == 1 else {"anyOf": found} if found else None

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
        name, frames, schemas = spec.name, self._frames, self._parts.schemas
        payload, pattern = actions.payload(spec, schemas), channel._plan.pattern
        request = frames.request(
            name,
            payload,
            room_name(pattern),
            may_be_empty=spec.binding is not None and spec.binding.may_be_empty,
            is_open=actions.is_open(spec),
            streams=spec.is_stream,
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
        rules = channel._plan.rules(self._parts.settings)
        codes = actions.codes(spec, rules, channel.envelope, many_rooms=self._many)
        data = actions.reply(spec, self._parts.schemas)
        sunset = spec.sunset.isoformat() if spec.sunset else None
        found: list[Schema] = []
        if spec.is_stream and not spec.deprecated:
            item = frames.reply(name, data, more=True, sunset=sunset)
            end = frames.reply(name, {"type": "null"}, more=False, sunset=sunset)
            found += [self._message(name, "item", item), self._message(name, "end", end)]
        elif not spec.deprecated:
            schema, fluent = frames.reply(name, data, sunset=sunset), actions.is_silent(spec, ack=channel.ack)
            found.append(self._message(name, "reply", schema, fluent=fluent))
        found.append(self._message(name, "error", frames.error(name, codes)))
        return found

    def _events(self, channel: BaseChannel) -> None:
        declared = channel._plan.words.events
        if declared is None:
            message = self._message("event", "any", self._frames.event(None, ANYTHING))
            self._operate("event", "send", [message], **self._of(channel))
            return
        for name, event in declared.items():
            schema = self._frames.event(name, self._parts.schemas.of(event, "out"))
            message = self._message(name, "event", schema)
            self._operate(name, "send", [message], **_described(event), **self._of(channel))

    def _calls(self, channel: BaseChannel) -> None:
        declared, schemas = channel._plan.words.calls, self._parts.schemas
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
        specs = [spec for channel in channels for spec in (channel._plan.actions or {}).values()]
        streams = any(spec.is_stream for spec in specs)
        of_client = self._frames.of_client(room, pings=pings, streams=streams)
        of_server = self._frames.of_server(
            lags=self._owner.slow_policy != "disconnect",
            resyncs=any(channel.resync for channel in channels),
            pings=pings,
        )
        asked = [
            (actions.OF_HISTORY, self._keeps),
            (actions.OF_PRESENCE, any(channel.presence for channel in channels)),
            (actions.OF_ROOMS, self._many),
            (actions.OF_TOPICS, any(channel.topics for channel in channels)),
        ]
        codes = {
            *actions.UNASKED,
            *actions.OF_ENTERING,
            *(each for group, is_ in asked if is_ for each in group),
        }
        if self._authenticator is not None:
            asks = self._authenticator.first_frame is not None
            of_client |= self._frames.of_signing_in(asks=asks)
            of_server |= self._frames.of_signed_in()
            codes |= set(actions.OF_SIGNING_IN)
        for name, schema in of_client.items():
            self._operate(name, "receive", [self._message(name, "control", schema)])
        for name, schema in of_server.items():
            message = self._message(name, "control", schema, fluent=name == "welcome")
            self._operate(name, "send", [message])
        error = self._frames.error(None, sorted(codes))
        self._operate("error", "send", [self._message("any", "error", error)])

    def _message(
        self, name: str, role: str, payload: Schema, shown: Sequence[Any] = (), *, fluent: bool = False
    ) -> Schema:
        """What stands for a message of this address.

        Args:
            shown: examples of it.
            fluent: whether it comes only to clients that have offered the subprotocol.
        """
        key = identifier(f"{name}.{role}")
        part: dict[str, Any] = {"name": name, "title": f"{name}: {role}", "payload": payload}
        if fluent:
            part["x-subprotocol"] = SUBPROTOCOL
        if shown:
            part["examples"] = [{"payload": example} for example in shown]
        if type(self._owner.envelope).encode is not _JSON:
            part["contentType"] = "application/octet-stream"
        reference = self._parts.messages.put(f"{identifier(type(self._owner).__name__)}.{key}", part)
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
        needed = _each_once(self._security, security)
        if needed and way == "receive":
            operation["security"] = needed
        self._parts.operations[unique(key, self._parts.operations)] = operation

    # The handshake

    def _parameters(self) -> dict[str, Schema]:
        found = places(self._endpoint, self._parts.schemas)
        pattern = None if isinstance(self._owner, Socket) else self._owner._plan.pattern
        said = {name: self._parameter(name, schema) for name, schema in found.items()}
        if pattern is not None and self._endpoint.mounted and found.get("channel") in TEXTS:
            schema = {**found["channel"], **room_name(pattern)}
            said["channel"] |= {"examples": [room_example(pattern)], "x-schema": schema}
        return said

    def _parameter(self, name: str, schema: Schema) -> Schema:
        """What AsyncAPI says of one, which is a text to it, and its schema."""
        found = self._parts.schemas.resolved(schema)
        values = [found["const"]] if "const" in found else found.get("enum", [])
        about = schema.get("description") or found.get("description") or self._about(name)
        return {**filled({"description": about, "enum": list(map(str, values))}), "x-schema": schema}

    def _about(self, name: str) -> str:
        pattern = None if isinstance(self._owner, Socket) else self._owner.room_pattern
        if name != "channel":
            return ""
        return "The name of the room." if pattern is None else f"The name of the room: {pattern}"

    def _handshake(self, channels: Iterable[BaseChannel]) -> Schema:
        specs = [spec for channel in channels for spec in (channel._plan.actions or {}).values()]
        asked = [spec.binding.dependencies for spec in specs if spec.include_in_schema and spec.binding]
        later = [each._dependant for each in asked if each is not None]
        found = parameters(self._endpoint.dependant, later, self._parts.schemas)
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
            rules = channel._plan.rules(self._parts.settings)
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
        return [self._parts.security.put(identifier(name), scheme) for name, scheme in found.items()]


_JSON: Final = type(BaseChannel.envelope).encode
_PACKAGE: Final = f"{__name__.partition('.')[0]}."


def _each_once(*groups: Iterable[Schema]) -> list[Schema]:
    found: list[Schema] = []
    for each in (each for group in groups for each in group):
        found += [each] if each not in found else []
    return found


def _described(word: type) -> dict[str, Any]:
    # What a class inherits of pydantic's words is not about it.
    return filled({"description": _plain(vars(word).get("__doc__") or "")})


def _plain(text: str) -> str:
    return "\n".join(line.strip() for line in text.strip().splitlines())
