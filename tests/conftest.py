"""What holds for every test."""

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, TypeVar

import pytest
from hypothesis import settings

from fastapi_channels.wire import writer
from tests.support import forks, live, servers

HERE = Path(__file__).parent

gc.disable()  # until all is collected, when it has nothing to find

if find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]  # httpx looks for it in all folders, at each step

# How long one example takes says more about the machine than about the code; pytest-timeout bounds the whole.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

pytest_plugins = [f"tests.support.{name}" for name in ("asyncapi", "others", "redis", "typescript")]

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

NO_SKIPS = os.environ.get("FASTAPI_CHANNELS_REQUIRE_SERVERS") == "1"
"""Set where every server and browser is installed, so that what a test misses is a failure."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _unskipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _unskipped((yield))


def _unskipped(report: Report) -> Report:
    """`report`, failed if it was skipped where nothing may be."""
    if NO_SKIPS and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but nothing may be skipped here: {report.longreprtext}"
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--asgi",
        action="store_true",
        help="send every frame through ASGI, as on a server whose transport is not known",
    )
    parser.addoption(
        "--protocol",
        action="store_true",
        help="serve with fastapi_channels.uvicorn:Protocol where a test does not say with what, "
        "and leave out those that serve nothing; with --uvloop, those that start no server at all",
    )
    parser.addoption("--uvloop", action="store_true", help="run the event loop of each test on uvloop")


def pytest_configure(config: pytest.Config) -> None:
    if forks.PLACE not in os.environ:
        config.add_cleanup(forks.begin())
    if config.getoption("--protocol"):
        os.environ[live.CHOSEN] = live.PROTOCOL
    if config.getoption("--uvloop"):
        config.pluginmanager.register(_OnUvloop())
    if config.getoption("--asgi"):
        config.pluginmanager.register(_ThroughAsgi())


class _OnUvloop:
    """Servers in processes of their own have it anyway: uvicorn takes it where it is installed."""

    def pytest_asyncio_loop_factories(self) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
        import uvloop

        return {"uvloop": uvloop.new_event_loop}


class _ThroughAsgi:
    """Registered where it is asked for: a fixture of every test takes a sixth of what pytest needs for it."""

    @pytest.fixture(autouse=True)
    def _way_out(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        if request.node.get_closest_marker("direct") is None:
            _through_asgi(monkeypatch)


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """In a fresh clone the workers rewrite the asserts of all modules: each begins with a part of them, and
    finds those of the others rewritten."""
    worker: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if worker is None or session.config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return
    modules = sorted(path.relative_to(HERE.parent) for path in HERE.rglob("test_*.py"))
    begin = len(modules) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for module in modules[begin:] + modules[:begin]:
        with suppress(Exception, pytest.skip.Exception):  # which collecting it is going to tell
            import_module(".".join(module.with_suffix("").parts))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--protocol"):
        # Brokers and stores are on the event loop too.
        wanted = servers.__name__ if config.getoption("--uvloop") else live.__name__
        functions = [item for item in items if isinstance(item, pytest.Function)]
        others = [item for item in functions if not _has(item.module, wanted)]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in set(others)]


def pytest_collection_finish() -> None:
    """Thousands of tests are no garbage: collections need not look at them each time."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)  # each test makes an application: a tenth of the time went into looking


@cache
def _has(module: ModuleType, wanted: str) -> bool:
    """Whether a module has something of the module `wanted`, itself or by another of the tests."""
    # By their types: some pretend to be of another.
    parts = [
        part for part in vars(module).values() if issubclass(type(part), ModuleType | FunctionType | type)
    ]
    names = {part.__name__ if isinstance(part, ModuleType) else part.__module__ for part in parts}
    return wanted in names or any(
        _has(sys.modules[name], wanted) for name in names - {module.__name__} if name.startswith("tests.")
    )


@pytest.fixture(params=["direct", "asgi"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames go straight to the server's transport, or all of them through ASGI."""
    if request.param == "asgi":
        _through_asgi(monkeypatch)


def _through_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "port_of", lambda send, receive, is_new: None)
