"""Who is behind the WebSockets of this process."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Generic

from .hub import R


class Users(Generic[R]):
    """User → the WebSockets that are the user's, each once however often it was added."""

    __slots__ = ("_recipients",)

    def __init__(self) -> None:
        self._recipients: dict[str, dict[R, int]] = {}

    def __len__(self) -> int:
        return len(self._recipients)

    def add(self, user: Any, recipient: R) -> None:
        """Take note of whose `recipient` is, once more; nothing where there is no user."""
        key = user_key(user)
        if key is not None:
            recipients = self._recipients.setdefault(key, {})
            recipients[recipient] = recipients.get(recipient, 0) + 1

    def discard(self, user: Any, recipient: R) -> None:
        """Undo one `add` with the same arguments."""
        key = user_key(user)
        recipients = self._recipients.get(key, {}) if key is not None else {}
        if key is None or recipient not in recipients:
            return
        recipients[recipient] -= 1
        if not recipients[recipient]:
            del recipients[recipient]
        if not recipients:
            del self._recipients[key]

    def recipients(self, key: str) -> Collection[R]:
        return list(self._recipients.get(key, ()))


def user_key(user: Any) -> str | None:
    """The text that names `user`: its `id`, its `identity`, a value of its mapping, or itself."""
    if user is None or isinstance(user, str):
        return user or None
    for name in ("id", "identity", "username"):
        try:
            value = user[name] if isinstance(user, dict) else getattr(user, name, None)
        except (KeyError, NotImplementedError):
            continue
        if value is not None and str(value):
            return str(value)
    return str(user) if isinstance(user, int) else None
