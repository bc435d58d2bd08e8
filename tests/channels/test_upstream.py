import inspect
import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI

from fastapi_channels import Channel, ConfigurationError, action, add_channel, limiter
from fastapi_channels.channels.upstream import ACTION, ADD_CHANNEL, CHANNEL
from fastapi_channels.used import GroupChannel, PersonChannel


class Room(Channel):
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)


async def handler() -> None: ...


CALLS: list[tuple[Callable[..., Any], str, tuple[str, ...]]] = [
    (lambda **given: action("x", **given)(handler), "action()", ACTION),
    (lambda **given: Channel().action("x", **given)(handler), "action()", ACTION),
    (Channel, "Channel()", CHANNEL),
    (GroupChannel, "GroupChannel()", CHANNEL),
    (PersonChannel, "PersonChannel()", CHANNEL),
    (Room, "Room()", CHANNEL),
    (lambda **given: add_channel(FastAPI(), **given), "add_channel()", ADD_CHANNEL),
    (lambda **given: add_channel(APIRouter(), **given), "add_channel()", ADD_CHANNEL),
]


@pytest.fixture(autouse=True)
def _plain_handler() -> None:
    vars(handler).clear()


@pytest.mark.parametrize(("call", "where", "names"), CALLS)
def test_what_never_did_anything_is_taken_with_a_warning(
    call: Callable[..., Any], where: str, names: tuple[str, ...]
) -> None:
    for name in names:
        vars(handler).clear()
        message = f"{name!r} of {where} has no effect and is ignored: remove it"
        with pytest.warns(FutureWarning, match=re.escape(message)) as caught:
            call(**{name: 7})
        assert [str(warning.message) for warning in caught] == [message]
        assert caught[0].filename == __file__, "it is shown to the code that it is about"


@pytest.mark.parametrize(("call", "where", "names"), CALLS)
def test_none_is_as_good_as_not_given(call: Callable[..., Any], where: str, names: tuple[str, ...]) -> None:
    call(**dict.fromkeys(names))


@pytest.mark.parametrize(("call", "where", "names"), CALLS)
def test_what_nobody_knows_is_refused(call: Callable[..., Any], where: str, names: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        call(permision=True)
    assert str(caught.value) == f"{where} got an unexpected keyword argument 'permision'"


def test_the_limiters_dead_keyword() -> None:
    with pytest.warns(FutureWarning, match="use_cache"):
        limiter(times=1, seconds=1, use_cache=True)


def test_every_keyword_of_upstream_is_known() -> None:
    def known(function: Callable[..., Any], unused: tuple[str, ...] = ()) -> set[str]:
        return {*inspect.signature(function).parameters, *unused}

    assert known(add_channel, ADD_CHANNEL) >= {
        *("url", "backend", "broadcast", "limiter_url", "storage", "prefix", "identifier", "http_callback"),
        *("ws_callback", "permission_classes", "throttle_classes", "pagination_class", "query_token_key"),
        *("cookie_token_key", "add_exception_handlers"),
    }
    assert known(limiter) >= {
        *("times", "milliseconds", "seconds", "minutes", "hours", "identifier", "ws_callback", "use_cache"),
    }
    settings = dict.fromkeys(
        [
            *("channel", "max_connection", "history_key", "max_history", "limiter_depends"),
            *("permission_classes", "throttle_classes", "on_join", "on_leave", "lifespan"),
        ]
    )
    with warnings.catch_warnings(action="error"):
        for channel in (Channel, PersonChannel, GroupChannel):
            channel(**settings)


def test_upstreams_modules_hold_upstreams_names() -> None:
    from fastapi_channels import FastAPIChannel, api, channels, decorators, exceptions, permission, throttling

    assert api.add_channel is add_channel
    assert api.FastAPIChannel is FastAPIChannel
    assert channels.Channel is Channel
    assert channels.BaseChannel in Channel.__mro__
    assert decorators.action is action
    assert decorators.limiter is throttling.limiter is limiter
    assert issubclass(exceptions.PermissionDenied, exceptions.WebSocketException)
    assert permission.AllowAny in permission.BasePermission.__subclasses__()


def test_what_upstream_would_have_called_is_told_of():
    with pytest.warns(FutureWarning, match=r"Old\.receiver overrides what upstream called"):

        class Old(Channel):
            async def receiver(self, websocket: Any, channel: str, message: Any) -> None: ...

    with pytest.warns(FutureWarning, match=r"Kept\.max_history has no effect and is ignored: remove it"):

        class Kept(Channel):
            max_history = 50


def test_an_action_may_have_the_name_of_what_upstream_called():
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        class New(Channel):
            @action()
            async def receiver(self) -> None: ...

            @action()
            async def encode(self) -> None: ...
