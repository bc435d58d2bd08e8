import pytest

from fastapi_channels import throttling
from fastapi_channels.throttling import MemoryLimiter, RateLimiter, RedisLimiter


def test_every_public_name_is_there() -> None:
    assert throttling.__all__ == sorted(throttling.__all__, key=lambda name: (name[0].islower(), name))
    assert all(hasattr(throttling, name) for name in throttling.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Throttler'"):
        throttling.Throttler  # noqa: B018


def test_the_stores_keep_the_protocol() -> None:
    stores: list[type[RateLimiter]] = [MemoryLimiter, RedisLimiter]
    assert all(callable(store.hit) and callable(store.close) for store in stores)
