import pytest

from fastapi_channels.actions.marks import marks
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.throttling import Rate, limiter


def test_the_function_comes_back_as_it_was() -> None:
    async def say() -> None: ...

    assert limiter(times=2, seconds=3)(say) is say
    assert marks(say).limits == [Rate(2, 3.0)]


def test_several_limits_add_up() -> None:
    @limiter(times=5, seconds=10)
    @limiter(1, 500)
    async def say() -> None: ...

    assert marks(say).limits == [Rate(1, 0.5), Rate(5, 10.0)]


def test_what_another_decorator_noted_stays() -> None:
    async def say() -> None: ...

    marks(say).action = "say"
    limiter(times=1, seconds=1)(say)
    assert marks(say).action == "say"


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_it_marks_the_function_in_a_static_or_class_method(kind: type) -> None:
    async def say() -> None: ...

    method = kind(say)
    assert limiter(times=1, seconds=1)(method) is method
    assert marks(say).limits == [Rate(1, 1.0)]


def test_two_functions_do_not_share_their_limits() -> None:
    one_a_second = limiter(times=1, seconds=1)

    @one_a_second
    async def say() -> None: ...

    @one_a_second
    @one_a_second
    async def shout() -> None: ...

    assert (len(marks(say).limits), len(marks(shout).limits)) == (1, 2)


def test_use_cache_is_accepted_and_deprecated() -> None:
    with pytest.deprecated_call(match="use_cache"):
        annotate = limiter(times=1, seconds=1, use_cache=True)

    @annotate
    async def say() -> None: ...

    assert marks(say).limits == [Rate(1, 1.0)]


def test_without_arguments_it_is_refused() -> None:
    async def say() -> None: ...

    with pytest.raises(ConfigurationError, match="needs arguments"):
        limiter(say)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["say", object])
def test_only_functions_can_be_limited(target: object) -> None:
    with pytest.raises(ConfigurationError, match="goes on an action's function"):
        limiter(times=1, seconds=1)(target)  # type: ignore[type-var]
