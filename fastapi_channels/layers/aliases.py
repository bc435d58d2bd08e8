"""The layers of a process, by alias: configured once, made when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.messages import decode_json

from .base import BaseChannelLayer
from .layer import ChannelLayer

DEFAULT: Final = "default"
VARIABLE: Final = "CHANNEL_LAYERS"
"""The environment variable that is read where nothing was configured."""
_Settings: TypeAlias = dict[str, Any] | BaseChannelLayer


class ChannelLayers:
    """The layers by alias. Where nothing was configured, those of the environment variable `CHANNEL_LAYERS`;
    where that is not set, `default` is in memory."""

    def __init__(self) -> None:
        self._settings: dict[str, _Settings] | None = None
        self._layers: dict[str, BaseChannelLayer] = {}

    def configure(self, layers: Mapping[str, str | Mapping[str, Any] | BaseChannelLayer]) -> None:
        """Say what the layers are: for each alias the URL of a broker, `url` and what else `ChannelLayer`
        takes, or a layer. Those that were made before are forgotten, and not closed.

        Raises:
            ConfigurationError: it is something else.
        """
        if not isinstance(layers, Mapping):
            raise ConfigurationError(
                f'configure() takes the layers by alias, such as {{"{DEFAULT}": "redis://localhost:6379"}}, '
                f"got {type(layers).__name__}"
            )
        self._settings = {alias: _settings(alias, value) for alias, value in layers.items()}
        self._layers = {}

    def __getitem__(self, alias: str) -> BaseChannelLayer:
        if self._settings is None:
            self.configure(_environment())
        assert self._settings is not None
        if alias not in self._settings:
            known = ", ".join(map(repr, self._settings)) or "none"
            raise ConfigurationError(f"there is no channel layer {alias!r}; configured: {known}")
        if alias not in self._layers:
            self._layers[alias] = _made(alias, self._settings[alias])
        return self._layers[alias]

    async def close(self) -> None:
        """Disconnect all of them."""
        for layer in self._layers.values():
            await layer.close()


channel_layers: Final = ChannelLayers()
"""Those of this process."""


def get_channel_layer(alias: str = DEFAULT) -> BaseChannelLayer:
    """The layer of that alias, one for the whole process. It is connected with its first use.

    Raises:
        ConfigurationError: none is configured under that alias.
    """
    return channel_layers[alias]


def _environment() -> Mapping[str, Any]:
    text = os.environ.get(VARIABLE, "memory://").strip()
    if not text.startswith("{"):
        return {DEFAULT: text}
    try:
        found: dict[str, Any] = decode_json(text)
    except ValueError:
        # Its text may hold a password.
        raise ConfigurationError(f"{VARIABLE} must be a URL, or a JSON object of layers by alias") from None
    return found


def _settings(alias: str, value: str | Mapping[str, Any] | BaseChannelLayer) -> _Settings:
    if isinstance(value, BaseChannelLayer):
        return value
    if isinstance(value, str):
        return {"url": value}
    if not isinstance(value, Mapping) or "url" not in value:
        raise ConfigurationError(
            f"the channel layer {alias!r} must be a URL, or a mapping with 'url', such as "
            f'{{"url": "redis://localhost:6379", "capacity": 100}}, or a layer'
        )
    return dict(value)


def _made(alias: str, settings: _Settings) -> BaseChannelLayer:
    if isinstance(settings, BaseChannelLayer):
        return settings
    try:
        return ChannelLayer(**settings)
    except TypeError as exc:  # a ConfigurationError is one
        raise ConfigurationError(f"the channel layer {alias!r}: {exc}") from None
