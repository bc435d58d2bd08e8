"""Who is behind the WebSockets of this process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from inspect import iscoroutinefunction
from types import NoneType
from typing import Any, Final, Generic, TypeAlias, TypeVar
from uuid import UUID

from typing_extensions import TypedDict

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.wire.log import Once

logger = logging.getLogger("fastapi_channels")

KEYS: Final = ("id", "identity", "username", "sub")
"""Attributes of a user, or keys of its mapping, that may name it; `sub` is that of a JWT."""
UNUSABLE: Final = (NoneType, bool, float, bytes, list, tuple, dict, set)
"""What names nobody: it has no one text, or is the mistake of who made it."""
R = TypeVar("R")
UserKey: TypeAlias = Callable[[Any], Any] | str | None


class Member(TypedDict):
    """Who is in a room: the id of a connection, and its user's key, if it has a user."""

    id: str
    user: str | None


class Users(Generic[R]):
    """User → the WebSockets that are the user's, each once however often it was added."""

    __slots__ = ("_key_of", "_recipients")

    def __init__(self, key_of: Callable[[Any], str | None] | None = None) -> None:
        self._key_of = key_of or UserKeys()
        self._recipients: dict[str, dict[R, int]] = {}

    def __len__(self) -> int:
        return len(self._recipients)

    def add(self, user: Any, recipient: R) -> None:
        """Take note of whose `recipient` is, once more; nothing where there is no user."""
        key = self._key_of(user)
        if key is not None:
            recipients = self._recipients.setdefault(key, {})
            recipients[recipient] = recipients.get(recipient, 0) + 1

    def discard(self, user: Any, recipient: R) -> None:
        """Undo one `add` with the same arguments."""
        key = self._key_of(user)
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


class UserKeys:
    """What names the users of one application.

    Args:
        key: what `add_channel(user_key=)` got: a function of the user, or the name of an attribute.

    Raises:
        ConfigurationError: it is neither.
    """

    __slots__ = ("_key", "_names", "_unnamed")

    def __init__(self, key: UserKey = None) -> None:
        if not (key is None or callable(key) or (isinstance(key, str) and key)) or iscoroutinefunction(key):
            raise ConfigurationError(
                f"user_key= takes a plain function of the user, or the name of an attribute, got {key!r}"
            )
        self._key = key if callable(key) else None
        self._names = (key,) if isinstance(key, str) else KEYS
        self._unnamed = Once("kinds of users without a key")

    def __call__(self, user: Any) -> str | None:
        """The text that names `user`; None for nobody, and, with a warning, for a user without a key."""
        if user is None or isinstance(user, str):
            return user or None
        key = self._find(user)
        # A user that says it is none, as Starlette's UnauthenticatedUser does, needs no key.
        if key is None and getattr(user, "is_authenticated", True) is not False:
            self._warn_of(type(user))
        return key

    def named(self, user: Any) -> str:
        """The same, where somebody must be meant.

        Raises:
            ConfigurationError: `user` is nobody, or has no key.
        """
        key = user if user is None or isinstance(user, str) else self._find(user)
        if not key:
            raise ConfigurationError(
                f"a user is its key, a text, or an object with one ({self._wanted}), not {_shown(user)}"
            )
        return key

    @property
    def _wanted(self) -> str:
        return "as user_key= gives it" if self._key is not None else " or ".join(self._names)

    def _find(self, user: Any) -> str | None:
        read = _item if isinstance(user, Mapping) else _attribute
        found = (read(user, name) for name in self._names) if self._key is None else (self._key(user),)
        for value in found:
            if not isinstance(value, UNUSABLE) and str(value):
                return str(value)
        is_key = self._key is None and isinstance(user, int | UUID) and not isinstance(user, bool)
        return str(user) if is_key else None

    def _warn_of(self, kind: type) -> None:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if self._unnamed.is_new(name):
            logger.warning(
                "a user of type %s has no key, and counts as nobody: looked for %s; "
                "give it one, or say what names it: user_key= of add_channel() takes an attribute's name, "
                "or a function of the user",
                name,
                self._wanted,
            )


def _item(user: Mapping[Any, Any], name: str) -> Any:
    return user.get(name)


def _attribute(user: Any, name: str) -> Any:
    try:
        return getattr(user, name, None)
    except NotImplementedError:  # such as `identity` of Starlette's BaseUser
        return None


def _shown(user: Any) -> str:
    return repr(user) if user is None or user == "" else f"a {type(user).__qualname__} without one"
