import functools
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyrate_limiter
import pytest
from fastapi_limiter.depends import WebSocketRateLimiter
from starlette.requests import HTTPConnection

from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.throttling import ForeignLimiter, Rate, limit_key, normalize, rate
from tests.support import forks

HOUR = 3_600_000


class BucketPerKey(pyrate_limiter.BucketFactory):
    """The factory that pyrate-limiter's documentation has its users write."""

    def __init__(self, times: int = 2, wrap_async: bool = False) -> None:
        self.rates = [pyrate_limiter.Rate(times, HOUR)]
        self.buckets: dict[str, pyrate_limiter.InMemoryBucket] = {}
        self.wrap_async = wrap_async

    def wrap_item(self, name, weight=1):
        item = pyrate_limiter.RateItem(name, pyrate_limiter.MonotonicClock().now(), weight=weight)

        async def later():
            return item

        return later() if self.wrap_async else item

    def get(self, item):
        return self.buckets.setdefault(item.name, pyrate_limiter.InMemoryBucket(self.rates))


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def per_key(request: pytest.FixtureRequest) -> Iterator[pyrate_limiter.Limiter]:
    with pyrate_limiter.Limiter(BucketPerKey(wrap_async=request.param)) as limiter:
        yield limiter


@pytest.fixture
def one_bucket() -> Iterator[pyrate_limiter.Limiter]:
    with pyrate_limiter.Limiter(pyrate_limiter.Rate(2, HOUR)) as limiter:
        yield limiter


def only(throttle: Any) -> ForeignLimiter:
    (limit,) = normalize(throttle)
    assert isinstance(limit, ForeignLimiter)
    return limit


async def test_a_pyrate_limiter_counts_by_our_key(per_key: pyrate_limiter.Limiter) -> None:
    limit = only(per_key)
    ada, bob = limit_key("ada", "lobby", "say"), limit_key("bob", "lobby", "say")
    assert [await limit.hit(ada), await limit.hit(ada)] == [0, 0]
    assert 3590 < await limit.hit(ada) <= 3601
    assert await limit.hit(bob) == 0


async def test_a_fastapi_limiter_is_not_keyed_by_a_header_that_a_client_sets(
    per_key: pyrate_limiter.Limiter,
) -> None:
    limit = only(WebSocketRateLimiter(per_key))
    assert (limit.identifier, limit.ws_callback) == (None, None)
    assert [await limit.hit("ada") > 0 for _ in range(3)] == [False, False, True]


async def test_the_users_own_functions_are_kept(per_key: pyrate_limiter.Limiter) -> None:
    async def by_user(websocket: HTTPConnection) -> str:
        return "ada"

    answered: list[object] = []
    limit = only(WebSocketRateLimiter(per_key, by_user, functools.partial(answered.append)))
    assert limit.identifier is by_user
    assert limit.ws_callback is not None
    limit.ws_callback("the websocket", 2500)
    assert answered == ["the websocket"]


async def test_its_part_of_a_key_is_the_same_in_every_process(per_key: pyrate_limiter.Limiter) -> None:
    assert str(only(per_key)) == "foreign"


async def test_no_time_is_made_up_for_a_limiter_that_tells_none() -> None:
    class Silent(pyrate_limiter.InMemoryBucket):
        def waiting(self, item):
            return -1

    class Silence(BucketPerKey):
        def get(self, item):
            return self.buckets.setdefault(item.name, Silent(self.rates))

    with pyrate_limiter.Limiter(Silence(times=1)) as limiter:
        limit = only(limiter)
        assert await limit.hit("ada") == 0
        assert await limit.hit("ada") == math.inf


async def test_one_bucket_for_all_is_warned_of(one_bucket: pyrate_limiter.Limiter) -> None:
    with pytest.warns(UserWarning, match="one bucket for all clients"):
        limit = only(one_bucket)
    assert [await limit.hit("ada"), await limit.hit("bob")] == [0, 0]
    assert await limit.hit("eve") > 0


def test_one_bucket_inside_a_fastapi_limiter_is_warned_of(one_bucket: pyrate_limiter.Limiter) -> None:
    with pytest.warns(UserWarning, match="one bucket for all clients"):
        only(WebSocketRateLimiter(one_bucket))


async def test_a_factory_that_chooses_buckets_is_not_warned_of() -> None:
    class Chooser(pyrate_limiter.SingleBucketFactory):
        def get(self, _):
            return self.bucket

    bucket = pyrate_limiter.InMemoryBucket([pyrate_limiter.Rate(1, HOUR)])
    with pyrate_limiter.Limiter(Chooser(bucket, schedule_leak=False)) as limiter:
        assert await only(limiter).hit("ada") == 0


def test_a_limiter_that_would_wait_is_refused(per_key: pyrate_limiter.Limiter) -> None:
    with pytest.raises(ConfigurationError, match="blocking=True"):
        normalize(WebSocketRateLimiter(per_key, blocking=True))


def test_limits_come_alone_or_in_lists(per_key: pyrate_limiter.Limiter) -> None:
    two, five = rate(2, seconds=1), rate(5, minutes=1)
    foreign = only(per_key)
    assert normalize(None) == normalize([]) == ()
    assert normalize(two) == (two,)
    assert normalize([two, (five, foreign), None]) == (two, five, foreign)


class HasALimiter:
    limiter = identifier = callback = blocking = None


@pytest.mark.parametrize("value", ["5/minute", 5, HasALimiter(), {"times": 5}, lambda: None])
def test_anything_else_is_refused_with_what_is_taken(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"takes rate\(times=\.\.\., seconds=\.\.\.\), .*not "):
        normalize(value)


@pytest.mark.parametrize("cls", [Rate, pyrate_limiter.Limiter])
def test_a_class_is_no_limiter(cls: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"takes instances, not the class {cls.__name__}"):
        normalize([cls])


def test_neither_package_is_imported(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        "import sys\n"
        "from fastapi_channels.throttling import normalize, rate\n"
        "normalize([rate(1, seconds=1)])\n"
        "try: normalize('5/minute')\n"
        "except TypeError: pass\n"
        "print('pyrate_limiter' in sys.modules, 'fastapi_limiter' in sys.modules)\n"
    )
    said = forks.run((sys.executable, "-m", "program"), cwd=tmp_path)
    assert said.stdout.split() == ["False", "False"], said.stderr


def test_a_limiter_of_neither_package_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has their shape is enough, and without them nothing is known of buckets."""

    class Home:
        bucket_factory = None

        async def try_acquire_async(self, name: str, *, blocking: bool) -> bool:
            return True

    monkeypatch.delitem(sys.modules, "pyrate_limiter")
    assert only(Home()).identifier is None
