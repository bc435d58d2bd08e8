"""Layers by alias."""

from typing import Any

import pytest

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.layers import ChannelLayer, ChannelLayers, channel_layers, get_channel_layer


@pytest.fixture
def layers() -> ChannelLayers:
    return ChannelLayers()


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHANNEL_LAYERS", raising=False)
    monkeypatch.setattr(channel_layers, "_settings", None)
    monkeypatch.setattr(channel_layers, "_layers", {})


async def test_there_is_one_for_each_alias(layers: ChannelLayers):
    layers.configure({"default": "memory://", "events": {"url": "memory://", "capacity": 7}})
    assert layers["default"] is layers["default"] is not layers["events"]
    assert (layers["default"].capacity, layers["events"].capacity) == (100, 7)
    layers.configure({"default": {"url": "memory://", "max_message_size": 99, "capacity_bytes": 100}})
    assert (layers["default"].max_message_size, layers["default"].capacity_bytes) == (99, 100)
    await layers.close()


async def test_a_layer_that_was_made_is_taken_as_it_is(layers: ChannelLayers):
    layer = ChannelLayer()
    layers.configure({"default": layer})
    assert layers["default"] is layer


async def test_the_one_of_the_process_is_in_memory_where_nothing_is_said():
    layer = get_channel_layer()
    assert layer is get_channel_layer("default")
    await layer.send("a", {"type": "x"})
    assert await layer.receive("a") == {"type": "x"}
    await channel_layers.close()


@pytest.mark.parametrize(
    ("text", "capacities"),
    [
        ("memory://", {"default": 100}),
        (
            '{"default": "memory://", "more": {"url": "memory://", "capacity": 9}}',
            {"default": 100, "more": 9},
        ),
    ],
)
def test_the_environment_says_which(
    layers: ChannelLayers, monkeypatch: pytest.MonkeyPatch, text: str, capacities: dict[str, int]
):
    monkeypatch.setenv("CHANNEL_LAYERS", text)
    assert {alias: layers[alias].capacity for alias in capacities} == capacities


def test_an_alias_that_is_not_configured(layers: ChannelLayers):
    layers.configure({"default": "memory://"})
    with pytest.raises(ConfigurationError, match="there is no channel layer 'events'; configured: 'default'"):
        layers["events"]


def test_what_is_no_mapping_of_layers(layers: ChannelLayers):
    with pytest.raises(ConfigurationError, match="configure\\(\\) takes the layers by alias"):
        layers.configure("redis://secret@localhost")  # type: ignore[arg-type]  # that is what is told


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"BACKEND": "channels_redis.core.RedisChannelLayer"}, "must be a URL, or a mapping with 'url'"),
        (7, "must be a URL"),
        ({"url": "memory://", "hosts": []}, "unexpected keyword argument 'hosts'"),
        ("carrier-pigeon://x", "is not a scheme"),
        ({"url": "memory://", "capacity": 0}, "capacity must be 1 message or more, got 0"),
        ({"url": "memory://", "channel_capacity": {"a*": 0}}, "a\\* must be 1 message or more, got 0"),
        ({"url": "memory://", "capacity_bytes": 0}, "capacity_bytes must be 1 byte or more, got 0"),
        ({"url": "memory://", "max_message_size": 0.5}, "max_message_size must be 1 byte or more, got 0.5"),
        ({"url": "memory://", "max_message_size": 2**24}, "max_message_size must be at most 16711680, got"),
        ({"url": "memory://", "capacity_bytes": 9}, "must be max_message_size, 1048576, or more, got 9"),
        ({"url": "memory://", "expiry": 0}, "'default': expiry must be more than 0 seconds, got 0"),
        ({"url": "memory://", "expiry": None}, "expiry must be more than 0 seconds, got None"),
        ({"url": "memory://", "group_expiry": "x"}, "group_expiry must be more than 0 seconds, got 'x'"),
        ({"url": "memory://", "channel_capacity": [1]}, "channel_capacity must be a mapping"),
    ],
)
def test_what_is_no_layer(layers: ChannelLayers, value: Any, said: str):
    def configured() -> None:
        layers.configure({"default": value})
        assert layers["default"] is None

    with pytest.raises(ConfigurationError, match=said):
        configured()


def test_an_environment_that_cannot_be_read_is_not_shown(
    layers: ChannelLayers, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CHANNEL_LAYERS", '{"default": "redis://:secret@host"')
    with pytest.raises(ConfigurationError, match="CHANNEL_LAYERS must be") as failure:
        layers["default"]
    assert "secret" not in str(failure.value)
