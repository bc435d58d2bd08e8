"""The channels of an application, by the names that operators say."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import FastAPI

from fastapi_channels.channels import BaseChannel
from fastapi_channels.channels.base import words_of
from fastapi_channels.channels.socket import Socket
from fastapi_channels.contract.served import endpoints
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.rooms import key_of

from .reports import ChannelReport


class Channels:
    """
    Args:
        app: may get more of them at any time.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def __iter__(self) -> Iterator[tuple[str, BaseChannel]]:
        """Each, with the address that leads to it."""
        for endpoint in endpoints(self._app):
            owner = endpoint.owner
            for channel in owner.channels if isinstance(owner, Socket) else (owner,):
                yield endpoint.address, channel

    def named(self, name: str) -> BaseChannel:
        """
        Raises:
            ConfigurationError: no channel has that name.
        """
        for _, channel in self:
            if channel._plan.name == name:
                return channel
        raise ConfigurationError(f"no channel is named {name!r}")

    def voice(self, name: str | None) -> BaseChannel | None:
        """In whose words something is said; None for those of the whole application.

        Raises:
            ConfigurationError: no channel has that name.
        """
        return None if name is None else self.named(name)

    def key(self, room: str, name: str | None, scope: str, topics: bool) -> str:
        """A room as the processes know it: of the channel `name`, or else of a scope, which no channel here
        need have.

        Raises:
            ConfigurationError: no channel has that name, or it has no such room.
            ParseError: the name of the room is not usable.
        """
        return key_of(scope, room, topics=topics) if name is None else words_of(self.named(name)).key(room)

    def reports(self) -> list[ChannelReport]:
        return [_report(address, channel) for address, channel in self]


def _report(address: str, channel: BaseChannel) -> ChannelReport:
    plan = channel._plan
    return ChannelReport(
        name=plan.name,
        address=address,
        actions=[*(plan.actions or ())],
        events=None if plan.words.events is None else [*plan.words.events],
        scope=plan.words.scope,
        history=plan.history is not None,
        topics=bool(channel.topics),
    )
