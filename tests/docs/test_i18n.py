"""Errors in the client's language, with codes that stay the same."""

from typing import Any

import pytest

from fastapi_channels import Channel, PermissionDenied, WebSocketException, action, limiter
from fastapi_channels.texts import TEXTS
from tests.support.live import application, serving


class Room(Channel):
    @action(deprecated=True)
    async def old(self) -> None: ...

    @action(permission=False)
    async def locked(self) -> None: ...

    @limiter(times=0, seconds=7)
    @action()
    async def never(self) -> None: ...

    @action()
    async def add(self, a: int) -> int:
        return a

    @action()
    async def own(self) -> None:
        raise PermissionDenied(reason="in my own words", close=False)

    @action()
    async def bye(self) -> None:
        raise PermissionDenied()

    @action()
    async def fail(self) -> None:
        raise RuntimeError("on purpose")


CALLS = {
    "unknown_action": {"action": "nothing"},
    "deprecated": {"action": "old"},
    "permission_denied": {"action": "locked"},
    "rate_limited": {"action": "never"},
    "invalid_payload": {"action": "add"},
    "internal_error": {"action": "fail"},
    "parse_error": {},
}


def is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


@pytest.mark.parametrize(
    ("query", "header", "chinese"),
    [
        ("", None, False),
        ("", "zh", True),
        ("", "zh-CN,zh;q=0.9,en;q=0.8", True),
        ("", "en-GB,zh;q=0.9", False),
        ("", "fr, zh;q=0.5", True),
        ("", "zh;q=0, en", False),
        ("", "tlh", False),
        ("", ";;;q=,*", False),
        ("?lang=zh", None, True),
        ("?lang=zh-TW", "en", True),
        ("?lang=en", "zh", False),
        ("?lang=", "zh", True),
        ("?lang=tlh", None, False),
    ],
)
async def test_the_language_of_a_client(query: str, header: str | None, chinese: bool):
    headers = {} if header is None else {"Accept-Language": header}
    async with (
        serving(application(Room())) as site,
        site.connect(f"/r{query}", additional_headers=headers) as client,
    ):
        for code, frame in CALLS.items():
            await client.send(frame)
            error = await client.receive()
            assert error["code"] == code
            assert is_chinese(error["errors"]) is chinese


async def test_a_refusal_is_in_the_clients_language():
    async with serving(application(Room(permission_classes=False))) as site:
        refusal = await site.refusal("/r?lang=zh")
        assert (refusal.status, refusal.body["code"]) == (403, "permission_denied")
        assert is_chinese(refusal.body["errors"])


async def test_own_words_are_not_translated():
    async with serving(application(Room())) as site, site.connect("/r?lang=zh") as client:
        assert (await client.call("own"))["errors"] == "in my own words"


async def test_two_clients_with_two_languages():
    async with serving(application(Room())) as site, site.clients("/r?lang=zh", "/r?lang=en") as clients:
        texts: list[Any] = [(await client.call("locked"))["errors"] for client in clients]
        assert [is_chinese(text) for text in texts] == [True, False]


async def test_the_reason_of_a_close_is_the_error_in_the_frame_before_it():
    async with serving(application(Room())) as site, site.connect("/r") as client:
        error = await client.call("bye")
        assert (await client.closed()).reason == error["errors"]


def test_every_language_says_everything():
    english = TEXTS["en"]
    for texts in TEXTS.values():
        assert texts.keys() == english.keys()


def test_a_code_belongs_to_one_class():
    found: dict[str, type] = {}
    pending = [WebSocketException]
    while pending:
        for kind in pending.pop().__subclasses__():
            if kind.__module__.startswith("fastapi_channels"):
                assert kind.error_code not in found or issubclass(kind, found[kind.error_code])
                found[kind.error_code] = kind
                pending.append(kind)
    assert found.keys() <= TEXTS["en"].keys() | {"error"}
