import math
from typing import Any

import pytest

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.throttling.rates import MAX_WINDOW, Rate, rate


@pytest.mark.parametrize(
    ("lengths", "window"),
    [
        ({"milliseconds": 250}, 0.25),
        ({"seconds": 3}, 3.0),
        ({"minutes": 2}, 120.0),
        ({"hours": 1}, 3600.0),
        ({"milliseconds": 500, "seconds": 1, "minutes": 1, "hours": 1}, 3661.5),
        ({"seconds": 0.5}, 0.5),
    ],
)
def test_the_lengths_are_added_up(lengths: dict[str, Any], window: float) -> None:
    assert rate(2, **lengths) == Rate(2, window)


def test_the_callbacks_are_kept() -> None:
    by_user, answer = lambda websocket: "ada", lambda websocket, milliseconds: None
    limit = rate(1, seconds=1, identifier=by_user, ws_callback=answer)
    assert (limit.identifier, limit.ws_callback) == (by_user, answer)


@pytest.mark.parametrize("times", [0, 1, 10**12])
def test_any_whole_number_of_times(times: int) -> None:
    assert rate(times, seconds=1).times == times


@pytest.mark.parametrize("times", [-1, 1.0, "2", None, True])
def test_other_times_are_refused(times: object) -> None:
    with pytest.raises(ConfigurationError, match=r"times must be a whole number of 0 or more, not"):
        rate(times, seconds=1)  # type: ignore[arg-type]


def test_a_decorator_without_arguments_is_told_so() -> None:
    with pytest.raises(ConfigurationError, match=r"@limiter\(times=5, seconds=10\)"):
        rate(lambda: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["milliseconds", "seconds", "minutes", "hours"])
@pytest.mark.parametrize("length", [-1, math.nan, math.inf, "1", None, True])
def test_a_wrong_length_is_named(name: str, length: object) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{name} must "):
        rate(1, **{name: length})  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [0, -1, MAX_WINDOW + 1])
def test_a_wrong_window_is_refused(window: float) -> None:
    with pytest.raises(ConfigurationError, match=r"window must be more than 0 .*milliseconds, seconds"):
        Rate(1, window)


def test_a_rate_needs_a_length() -> None:
    with pytest.raises(ConfigurationError, match="give one of milliseconds, seconds, minutes, hours"):
        rate(5)


@pytest.mark.parametrize("name", ["identifier", "ws_callback"])
def test_callbacks_must_be_callable(name: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"{name} must be a function, not 'user'"):
        rate(1, seconds=1, **{name: "user"})  # type: ignore[arg-type]


def test_two_rates_differ_as_parts_of_a_key() -> None:
    rates = [Rate(1, 60.0), Rate(1, 6.0), Rate(16, 0.5), Rate(1, 1234567.8), Rate(1, 1234567.9)]
    assert len(set(map(str, rates))) == len(rates)
