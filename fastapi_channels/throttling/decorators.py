"""`@limiter`, which only notes a rate on a function."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from fastapi_channels.actions.marks import marks
from fastapi_channels.exceptions import ConfigurationError

from .rates import rate

Handler = TypeVar("Handler", bound=Callable[..., Any])


def limiter(
    times: int = 1,
    milliseconds: float = 0,
    seconds: float = 0,
    minutes: float = 0,
    hours: float = 0,
    identifier: Callable[..., Any] | None = None,
    ws_callback: Callable[..., Any] | None = None,
    use_cache: bool | None = None,
    *,
    cost: int = 1,
    budget: str = "",
) -> Callable[[Handler], Handler]:
    """Limit an action to `times` calls per client and room in any window of the length given.

    It goes above or below `@action`, and several on one action must all pass. The function is returned
    as it came; the channel checks the limits before it calls it.

    Args:
        times: calls in a window; 0 is never. Exact up to 64, above that a call may be let in again
            up to 1/64 of the window late, never early.
        milliseconds, seconds, minutes, hours: the length of the window, as their sum.
        identifier: who is counted, called with the websocket (it may be async); the user, else the
            client's address, unless given.
        ws_callback: called in place of the error, with the websocket and the milliseconds to wait.
        cost: how many of `times` one call uses up.
        budget: actions, channels and routes (`throttled`) that say the same one, of the same size, use up the
            same for one client, in whatever room; empty for a count of its own.
        use_cache: had no effect on the limits and has none.
    """
    if use_cache is not None:
        warnings.warn("limiter(use_cache=) does nothing", FutureWarning, stacklevel=2)
    limit = rate(times, milliseconds, seconds, minutes, hours, identifier, ws_callback, cost, budget)

    def annotate(handler: Handler) -> Handler:
        func = getattr(handler, "__func__", handler)
        if not callable(func) or isinstance(func, type):
            raise ConfigurationError(f"@limiter goes on an action's function, not on {handler!r}")
        marks(func).limits.append(limit)
        return handler

    return annotate
