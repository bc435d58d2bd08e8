"""What is public: the names of the package and of its folders, and upstream's import paths."""

import importlib
import inspect
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = [
    ".".join(path.parent.relative_to(ROOT).parts)
    for path in sorted((ROOT / "fastapi_channels").rglob("__init__.py"))
    if "__all__" in path.read_text()
]
"""The other folders are ours alone."""

UPSTREAM = {
    "fastapi_channels": ["add_channel"],
    "fastapi_channels.api": ["FastAPIChannel", "add_channel"],
    "fastapi_channels.channels": ["BaseChannel", "Channel"],
    "fastapi_channels.decorators": ["action"],
    "fastapi_channels.exceptions": [
        *("ActionIsDeprecated", "ActionNotExist", "MethodNotAllowed", "NotFound", "ParseError"),
        *("PermissionDenied", "RateLimitExceeded", "WebSocketException"),
    ],
    "fastapi_channels.permission": ["AllowAny", "BasePermission", "IsAuthenticated"],
    "fastapi_channels.throttling": ["limiter"],
    "fastapi_channels.used": ["GroupChannel", "PersonChannel"],
}


@pytest.fixture(params=PACKAGES)
def package(request: pytest.FixtureRequest) -> ModuleType:
    return importlib.import_module(request.param)


def home(value: object) -> str:
    """The module that a class or function was written in; empty for anything else."""
    return value.__module__ if inspect.isroutine(value) or inspect.isclass(value) else ""


def test_all_names_everything_public(package: ModuleType):
    """That it is sorted is ruff's to say (RUF022)."""
    bound = {name for name, value in vars(package).items() if home(value).startswith(package.__name__)}
    assert {name for name in bound if not name.startswith("_")} <= set(package.__all__)
    assert len(package.__all__) == len(set(package.__all__))


def test_every_name_is_there_and_ours(package: ModuleType):
    homes = {name: home(getattr(package, name)) or "fastapi_channels" for name in package.__all__}
    assert {name: where for name, where in homes.items() if not where.startswith("fastapi_channels")} == {}


def test_every_name_is_documented(package: ModuleType):
    """By its own docstring, or by that of the class it inherits from."""
    assert [name for name in package.__all__ if not inspect.getdoc(getattr(package, name))] == []


@pytest.mark.parametrize("module", UPSTREAM)
def test_what_upstream_users_import(module: str):
    found = importlib.import_module(module)
    assert [name for name in UPSTREAM[module] if not hasattr(found, name)] == []
