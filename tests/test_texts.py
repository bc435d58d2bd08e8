import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastapi_channels.texts import TEXTS, choose_language, text


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_every_language_has_every_text_with_the_same_placeholders(language: str) -> None:
    def placeholders(template: str) -> set[str | None]:
        return {name for _, name, _, _ in string.Formatter().parse(template)} - {None}

    assert TEXTS[language].keys() == TEXTS["en"].keys()
    for code, template in TEXTS[language].items():
        assert placeholders(template) == placeholders(TEXTS["en"][code])


@pytest.mark.parametrize(
    ("code", "language", "context", "expected"),
    [
        ("not_found", "en", {}, "Not Found"),
        ("not_found", "zh", {}, "未找到"),
        ("not_found", "xx", {}, "Not Found"),
        ("unknown", "en", {}, "The request was refused"),
        ("unknown", "zh", {}, "请求被拒绝"),
        ("unknown", "xx", {}, "The request was refused"),
        ("channel_full", "en", {"limit": 3}, "The room is full: there is place for 3"),
        ("channel_full", "en", {}, "The room is full"),
        ("unknown_action", "en", {"action": "{limit}", "limit": 1}, "The action {limit} does not exist"),
        ("not_found", "en", {"unused": 1}, "Not Found"),
    ],
)
def test_text(code: str, language: str, context: dict[str, object], expected: str) -> None:
    assert text(code, language, context) == expected


@pytest.mark.parametrize(
    ("code", "language", "expected"),
    [
        ("rate_limited", "en", "Too Many Requests"),
        ("parse_error", "zh", "无法解析该消息"),
        ("unknown_action", "en", "The action does not exist"),
        ("unknown_action", "zh", "操作不存在"),
        ("internal_error", "en", "Internal error"),
        ("deprecated", "zh", "操作已废弃"),
    ],
)
def test_an_error_is_told_also_without_its_details(code: str, language: str, expected: str) -> None:
    assert text(code, language, {}) == expected


@pytest.mark.parametrize("language", sorted(TEXTS))
def test_no_placeholder_is_ever_seen(language: str) -> None:
    for code in TEXTS[language]:
        told = text(code, language, {})
        assert told == told.strip() != ""
        assert not set("{}…") & set(told)


@pytest.mark.parametrize(
    ("wanted", "language"),
    [
        *((("zh", "en"), "zh"), (("de", "zh"), "zh"), (("", "zh"), "zh"), (("en", "zh"), "en")),
        *((("de", "fr"), "en"), ((), "en"), (("zh;q=0", "zh"), "zh")),
    ],
)
def test_the_first_wish_that_can_be_met_counts(wanted: tuple[str, ...], language: str) -> None:
    assert choose_language(*wanted) == language


def test_a_text_that_a_language_lacks_is_english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TEXTS, "eo", {"not_found": "Ne trovita"})
    assert text("not_found", "eo", {}) == "Ne trovita"
    assert text("permission_denied", "eo", {}) == "Permission Denied"


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("zh-Hans-CN", "zh"),
        ("ZH-cn", "zh"),
        ("en", "en"),
        ("de", "en"),
        ("*", "en"),
        ("de, zh;q=0.5", "zh"),
        ("en, zh", "en"),
        ("zh, en", "zh"),
        ("en;q=0.5, zh", "zh"),
        ("en;q=0.5,zh;q=0.6", "zh"),
        ("zh;q=0.5, en;q=0.9", "en"),
        ("zh ; q=0.8 , en;q=0.1", "zh"),
        ("zh;Q=0.8, en;q=0.1", "zh"),
        ("zh;q=0", "en"),
        ("zh;q=high", "en"),
        ("zh;q=nan", "en"),
        ("zh;q=", "en"),
        ("zh;", "zh"),
        (";;;,,,", "en"),
        ("x" * 2000 + ", zh", "en"),
        ("de, fr;q=0.9, zh-TW;q=0.8, en;q=0.7", "zh"),
    ],
)
def test_choose_language(header: str, language: str) -> None:
    assert choose_language(header) == language


@given(st.text())
def test_whatever_a_client_sends_there_is_a_language(header: str) -> None:
    assert choose_language(header) in TEXTS
