"""What `add_channel` said, for every channel of the application."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi_channels.permission import ALLOW, BasePermission
from fastapi_channels.stores import Limits


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The arguments of `add_channel`, checked."""

    permission: BasePermission = ALLOW
    throttles: Sequence[Any] = ()
    identifier: Callable[..., Any] | None = None
    ws_callback: Callable[..., Any] | None = None
    allowed_origins: frozenset[str] | None = None
    """None: only the origin that the page was served from."""
    trusted_proxies: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = ()
    user_key: Callable[[Any], Any] | str | None = None
    """What names a user: a function, or an attribute's name; None for one of the usual."""
    namespace: str = ""
    publish_timeout: float = 2.0
    max_connections: int | None = None
    """WebSockets of one process, from their handshakes on; None for any number."""
    per_user: Limits | None = None
    """How many WebSockets a user may have, over all rooms and processes; None for any number."""
    bans: bool = False
    """Whether each handshake asks the store, whether its client is banned."""
    drain_seconds: float = 10.0
    retry_after: float = 1.0
    secret: bytes = field(default_factory=secrets.token_bytes, repr=False)
    """What is signed with it is worth nothing to a process with another one."""
    pagination_class: Callable[..., Any] | None = None
    """Makes the paginator of an action; None for the package's own."""
    view: dict[str, Any] = field(default_factory=dict)
