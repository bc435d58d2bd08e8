"""Read by mypy and pyright, never run: what they must infer, and what they must refuse.

A line that must be refused carries `type: ignore`, which is itself an error as soon as it is not needed.
"""

from typing import Any, assert_type

from fastapi_channels.exceptions import (
    ChannelsError,
    CloseCode,
    ConfigurationError,
    InvalidPayload,
    ParseError,
    RateLimitExceeded,
    WebSocketException,
)

refused = WebSocketException(CloseCode.POLICY_VIOLATION, "no", close=False, data={"why": 1}, hint="log in")
assert_type(refused.code, int)
assert_type(refused.reason, str)
assert_type(refused.status, str | int)
assert_type(refused.extra, dict[str, Any])
assert_type(RateLimitExceeded(retry_after=2.5).retry_after, float | None)

base: type[ChannelsError] = ConfigurationError
unreadable: ParseError = InvalidPayload()

WebSocketException("1008")  # type: ignore[arg-type]
WebSocketException(1008, "no", False)  # type: ignore[call-arg]
