"""The texts of errors in each language, and the choice of a client's language."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

TEXTS: Final[dict[str, dict[str, str]]] = {
    "en": {
        "error": "The request was refused",
        "unauthenticated": "Not Authenticated",
        "token_expired": "The token has expired: come back with a new one",
        "permission_denied": "Permission Denied",
        "banned": "You are banned",
        "origin_denied": "Connections from the origin {origin} are not allowed",
        "rate_limited": "Too Many Requests. Retry after {retry_after} seconds.",
        "unknown_action": "The action {action} does not exist",
        "deprecated": "The action {action} is deprecated",
        "not_found": "Not Found",
        "not_allowed": "Method Not Allowed",
        "parse_error": "The frame cannot be read: {problem}",
        "too_large": "A message may have {limit} bytes",
        "invalid_payload": "The payload does not fit the action {action}",
        "channel_full": "The room is full: there is place for {limit}",
        "too_many_connections": "A user may have {limit} connections here",
        "replaced": "A newer connection of yours took the place of this one",
        "cancelled": "The request was cancelled",
        "not_joined": "The room {room} was not joined",
        "already_joined": "The room {room} was joined already",
        "too_many_rooms": "You may be in {limit} rooms at most",
        "unavailable": "Not available at the moment, try again later",
        "bad_gateway": "The server behind this one is not available",
        "in_progress": "The same request is being handled",
        "already_done": "The request was handled, and its reply is not kept",
        "request_id_reused": "The request id was used with another payload: each request needs its own",
        "internal_error": "Internal error {error_id}",
        "http_error": "The request was refused",
        "invalid_position": "{position} is no position in a room's history",
        "invalid_presence": "What others are to be told of the connection cannot be: {problem}",
        "invalid_filter": "The filter cannot be read: {problem}",
        "invalid_topic": "A topic has no wildcards in its name: {topic}",
        "invalid_room": "A room name must have 1 to {limit} printable characters",
        "too_many_errors": "Too many frames that cannot be read",
    },
    "zh": {
        "error": "请求被拒绝",
        "unauthenticated": "身份未验证",
        "token_expired": "令牌已过期，请换新令牌再来",
        "permission_denied": "权限不足",
        "banned": "您已被封禁",
        "origin_denied": "不允许来自 {origin} 的连接",
        "rate_limited": "请求过于频繁，请在 {retry_after} 秒后重试",
        "unknown_action": "操作 {action} 不存在",
        "deprecated": "操作 {action} 已废弃",
        "not_found": "未找到",
        "not_allowed": "不允许的方法",
        "parse_error": "无法解析该消息：{problem}",
        "too_large": "一条消息最多 {limit} 字节",
        "invalid_payload": "参数不符合操作 {action} 的要求",
        "channel_full": "房间已满：最多 {limit} 个",
        "too_many_connections": "同一用户在这里最多可有 {limit} 个连接",
        "replaced": "您的另一个新连接取代了这个连接",
        "cancelled": "请求已取消",
        "not_joined": "尚未加入房间 {room}",
        "already_joined": "已加入房间 {room}",
        "too_many_rooms": "最多可同时在 {limit} 个房间里",
        "unavailable": "服务暂时不可用，请稍后再试",
        "bad_gateway": "后面的服务器不可用",
        "in_progress": "同一个请求正在处理",
        "already_done": "这个请求已处理过，回复没有保留",
        "request_id_reused": "这个请求编号已用在内容不同的请求上：每个请求要有自己的编号",
        "internal_error": "内部错误 {error_id}",
        "http_error": "请求被拒绝",
        "invalid_position": "{position} 不是有效的历史位置",
        "invalid_presence": "无法把这个连接的状态告知他人：{problem}",
        "invalid_filter": "无法解析该订阅过滤器：{problem}",
        "invalid_topic": "主题名里不能有通配符：{topic}",
        "invalid_room": "房间名须为 1 到 {limit} 个可打印字符",
        "too_many_errors": "无法解析的消息过多",
    },
}


def _without_details(template: str) -> str:
    """`template` up to the sentence or the colon that has a placeholder, and without the placeholder where
    there is no such place: an error is told also when nobody knows its details."""
    whole = template[: template.index("{")]
    cut = max(whole.rfind(mark) for mark in ".:：，。")
    if cut > 0:
        return whole[:cut]
    return re.sub(r" ?\{\w+\} ?", " " if template.isascii() else "", template).strip()


def text(error_code: str, language: str, context: Mapping[str, object]) -> str:
    """The text of `error_code` in `language`, in English where the language lacks it."""
    english = TEXTS["en"]
    own = TEXTS.get(language, english)
    template = own.get(error_code) or english.get(error_code) or own.get("error", english["error"])
    try:
        return template.format_map(context)
    except KeyError:
        return _without_details(template)


def choose_language(*wanted: str) -> str:
    """The best language in `TEXTS` for the first Accept-Language value (RFC 9110 section 12.5.4) that
    names any of them, or `"en"`."""
    return next(filter(None, map(_best_language, wanted)), "en")


def _best_language(accept_language: str) -> str:
    best, best_weight = "", 0.0
    for part in accept_language[:1000].split(","):
        tag, _, parameter = part.strip().partition(";")
        language = tag.strip().lower().partition("-")[0]
        weight = 1.0
        if parameter:
            try:
                weight = float(parameter.strip().lower().removeprefix("q="))
            except ValueError:
                continue
        if language in TEXTS and weight > best_weight:
            best, best_weight = language, weight
    return best
