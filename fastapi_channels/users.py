"""Who is behind the connections of this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .connection import Connection


class Users:
    """User → connections, by the user's key."""

    __slots__ = ("_connections",)

    def __init__(self) -> None:
        self._connections: dict[str, set[Connection]] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> None:
        """Take note of a connection; nothing where it has no user."""
        key = user_key(connection.user)
        if key is not None:
            self._connections.setdefault(key, set()).add(connection)

    def discard(self, connection: Connection) -> None:
        """Forget a connection; its user must be the one that it was added with."""
        key = user_key(connection.user)
        connections = self._connections.get(key) if key is not None else None
        if connections is not None and key is not None:
            connections.discard(connection)
            if not connections:
                del self._connections[key]

    def connections(self, key: str) -> list[Connection]:
        return list(self._connections.get(key, ()))


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
