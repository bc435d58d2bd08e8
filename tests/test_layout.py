"""The map of the package: who may import whom, how long a module gets, what the core does without."""

import ast
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

from fastapi_channels.client.connection import comes_back
from fastapi_channels.exceptions import CloseCode

PACKAGE = "fastapi_channels"
ROOT = Path(__file__).parents[1]

MAP = ROOT / "docs" / "architecture.md"
ROW = re.compile(r"^\| ((?:`[\w/]+` ?)+)\|(.*)", re.MULTILINE)
ROWS = ROW.findall(MAP.read_text().split("## The map")[1].split("\n## ")[0])
"""Those of the map in the architecture document, from the ground up: what each is of, and what it says."""


def names(cell: str) -> set[str]:
    """The folders and modules that are named in a cell of the map."""
    return {name.strip("/") for name in re.findall(r"`([\w/]+)`", cell)}


LAYERS = [names(of) for of, _ in ROWS]
SERVERS = {"memory", "nats", "postgres", "rabbitmq", "redis"}
"""Modules and folders that the map names together, in its rows of brokers and stores."""

CORE = {"fastapi", "starlette", "pydantic", "pydantic_core", "broadcaster", "typing_extensions"}
"""What every module may import; pydantic_core is pydantic's own."""

ON_REDIS = ("addresses", "cluster", "link", "masters", "pubsub", "sentinel", "server", "slots", "streams")
EXTRAS = {
    **{f"brokers.redis.{module}": {"redis"} for module in ON_REDIS},
    "brokers.redis.link": {"hiredis", "redis"},
    **{f"stores.redis.{module}": {"redis"} for module in ("connections", "server")},
    **{f"auth.{module}": {"jwt"} for module in ("jwks", "jwt")},
    "api": {"prometheus_client"},
    "brokers": {"redis"},
    "brokers.nats": {"nats"},
    "brokers.postgres": {"asyncpg"},
    "brokers.rabbitmq": {"aiormq", "pamqp"},
    "client.sockets": {"websockets"},
    "proxying.upstream": {"websockets"},
    "layers.django": {"cryptography", "msgpack"},
    "encryption.cipher": {"cryptography"},
    "contract.templates": {"jinja2", "markupsafe"},
    "contract.serving": {"yaml"},
    "operations.exposition": {"prometheus_client"},
    "operations.jobs.schedules": {"cronsim"},
    **{f"operations.{module}": {"opentelemetry"} for module in ("spans", "tracing")},
    "stores.postgres": {"asyncpg"},
    "testing.plugin": {"pytest", "pytest_asyncio"},
    "testing.site": {"uvicorn"},
    "throttling.redis": {"redis"},
    **{f"uvicorn.{module}": {"uvicorn", "websockets"} for module in ("protocol", "server")},
    "uvicorn.deflate": {"uvicorn"},
    "uvicorn.handshake": {"websockets"},
    "uvicorn.opening": {"uvicorn"},
}
"""What a module may import besides: when it is asked for it, or because nobody else imports the module."""

ABSENT = (
    *(
        "aiokafka",
        "aiormq",
        "asyncpg",
        "cronsim",
        "cryptography",
        "fastapi_limiter",
        "hiredis",
        "jinja2",
        "jwt",
        "limits",
    ),
    *(
        "markupsafe",
        "msgpack",
        "nats",
        "orjson",
        "prometheus_client",
        "pyrate_limiter",
        "redis",
        "uvicorn",
        "uvloop",
        "watchfiles",
        "websockets",
        "yaml",
    ),
)
"""What may be missing where the core is imported."""

MAX_LINES = 420
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class Import(NamedTuple):
    target: str
    """A dotted name; within this package, that of a module in it: `throttling.redis`."""
    own: bool


@cache
def modules() -> dict[str, Path]:
    """Each module of the package, under its dotted name in it."""
    folder = ROOT / PACKAGE
    return {_name(path.relative_to(folder)): path for path in sorted(folder.rglob("*.py"))}


def _name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@cache
def imports(module: str) -> tuple[Import, ...]:
    path = modules()[module]
    return tuple(read(path.read_text(), path.relative_to(ROOT).parts))


def read(source: str, path: tuple[str, ...]) -> Iterator[Import]:
    """The imports in `source`, whose file is at `path`, wherever in it they are."""
    for statement in _statements(ast.parse(source)):
        for name in _targets(statement, path):
            own = name.split(".")[0] == PACKAGE
            yield Import(_module(name) if own else name, own)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Those in `node`, at any depth: what they consist of are no statements, and ten times as many."""
    for block in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(node, block, ()):
            yield inner
            yield from _statements(inner)


def _targets(node: ast.AST, path: tuple[str, ...]) -> Iterator[str]:
    """The absolute dotted name of everything that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = [*path[: -node.level]] if node.level else []
        base += [node.module] if node.module else []
        yield from (".".join([*base, alias.name]) for alias in node.names)


def _module(name: str) -> str:
    """The module of this package that `name` is, or is in."""
    own = name.split(".")[1:]
    while own and ".".join(own) not in modules():
        own.pop()
    return ".".join(own) or "__init__"


def layer(module: str) -> int:
    noun = module.split(".")[0]
    return next((index for index, row in enumerate(LAYERS) if noun in row), len(LAYERS))


def test_every_folder_has_one_row():
    nouns = {module.split(".")[0] for module in modules()}
    listed = [noun for row in LAYERS for noun in row]
    assert nouns == set(listed), "give a folder its row in the map of docs/architecture.md, at its height"
    assert len(listed) == len(set(listed)), "a folder has one row in the map of docs/architecture.md"


def test_every_module_is_in_the_row_of_its_folder():
    said = {folder.strip("`/ "): names(holds) for folder, holds in ROWS}
    said["brokers"] |= SERVERS
    said["stores"] |= SERVERS
    there = {tuple(module.split(".")[:2]) for module in modules() if "." in module}
    missing = {f"{of}/{noun}" for of, noun in there if of != "commands" and noun not in said.get(of, set())}
    assert missing == set(), "name each in the row of its folder, in the map of docs/architecture.md"


def test_every_folder_is_tested_in_one_of_its_name():
    """But for uvicorn: a type checker would take a `tests/uvicorn` for what the tests import by that name."""
    folders = {module.split(".")[0] for module in modules() if "." in module} - {"uvicorn"} | {"protocol"}
    untested = {folder for folder in folders if not (ROOT / "tests" / folder / "__init__.py").exists()}
    assert untested == set(), "put its tests into a package of its name in tests/"


def test_a_folder_imports_only_from_those_above_it():
    """References for types are no exception."""
    down = {
        (module, use.target)
        for module in modules()
        for use in imports(module)
        if use.own and layer(use.target) > layer(module)
    }
    assert down == set(), (
        "each imports only from the rows above its own, in the map of docs/architecture.md: have it handed "
        "in, describe what is used of it by a Protocol beside its user, or move what is needed up"
    )


def test_no_module_imports_itself_through_others():
    graph = {module: {use.target for use in imports(module) if use.own} for module in modules()}
    TopologicalSorter(graph).prepare()


def test_only_declared_packages_are_imported():
    foreign = {
        module: {use.target.split(".")[0] for use in imports(module) if not use.own}
        - sys.stdlib_module_names
        - CORE
        for module in modules()
    }
    assert {module: names for module, names in foreign.items() if names} == EXTRAS, (
        "write down in EXTRAS which module imports what the core does without"
    )


def test_the_picture_is_that_of_the_map():
    """`python docs/images/make_house.py` draws it anew."""
    images = MAP.parent / "images"
    draw = runpy.run_path(str(images / "make_house.py"))["draw"]
    assert (images / "house.svg").read_text() == draw()


def test_the_path_of_a_message_is_as_it_is_told():
    """Each of its files has the functions that are named there."""
    section = MAP.read_text().split("## The path of a message")[1].split("\n## ")[0]
    told = re.findall(r"^\| `(\w+)/(\w+)` \| (.+) \|$", section, re.MULTILINE)
    assert [folder for folder, _, _ in told] == [
        *("sessions", "sessions", "actions"),
        *("cluster", "brokers", "cluster", "cluster"),
    ]
    nouns = {module.split(".")[-1] for module in modules()}
    for folder, noun, does in told:
        tree = ast.parse(modules()[f"{folder}.{noun}"].read_text())
        defined = {node.name for node in ast.walk(tree) if isinstance(node, FUNCTIONS)}
        assert set(re.findall(r"`([a-z_]+)`", does)) - nouns <= defined, noun


def test_what_is_named_of_a_class_is_there():
    told = set(re.findall(r"`([A-Z]\w+)\.([a-z_]+)`", MAP.read_text()))
    assert len(told) > 20
    classes = [
        node
        for path in modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    there = {
        (each.name, getattr(inner, "name", getattr(inner, "attr", getattr(inner, "id", ""))))
        for each in classes
        for inner in ast.walk(each)
    }
    assert told - there == set()


def test_who_ends_a_connection_is_as_it_is_told():
    """Each is where the table says, and its code says to clients what stands there."""
    section = MAP.read_text().split("### Who ends it")[1].split("\n## ")[0]
    told = re.findall(r"^\| .+ \| `(\w+)/(\w+)` \| ([\d, ]+) \| (yes|no) \|$", section, re.MULTILINE)
    assert len(told) >= 12
    assert {f"{folder}.{noun}" for folder, noun, _, _ in told} <= modules().keys()
    codes = {CloseCode(int(code)): back for *_, each, back in told for code in each.split(", ")}
    assert codes == {code: "yes" if comes_back(code) else "no" for code in codes}


def test_the_listing_is_short():
    """Whoever opens the package sees where a frame comes in, an action is run, a broadcast goes out."""
    assert len({module.split(".")[0] for module in modules()}) <= 29


def test_modules_are_short():
    lines = {module: len(path.read_text().splitlines()) for module, path in modules().items()}
    assert {module: count for module, count in lines.items() if count > MAX_LINES} == {}, "cut it in two"
    assert f"at most {MAX_LINES} lines" in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_core_imports_without_any_extra():
    """All but what is in a folder, which the folder imports where it can, and what uvicorn alone imports."""
    core = [module for module in modules() if "." not in module and module != "uvicorn"]
    wanted = [f"{PACKAGE}.{module}".removesuffix(".__init__") for module in core]
    script = f"""
import importlib, sys
for name in {ABSENT}:
    sys.modules[name] = None
for name in {wanted}:
    importlib.import_module(name)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import fastapi_channels.texts",
        "import fastapi_channels.texts as t",
        "from fastapi_channels import texts",
        "from fastapi_channels.texts import text",
        "from .. import texts",
        "from ..texts import text",
        "def later():\n    from ..texts import text",
        "class Later:\n    from ..texts import text",
        "if TYPE_CHECKING:\n    from ..texts import text",
        "if typing.TYPE_CHECKING:\n    pass\nelse:\n    from ..texts import text",
        "try:\n    pass\nexcept ImportError:\n    from ..texts import text",
        "try:\n    pass\nfinally:\n    from ..texts import text",
        "with suppress(ImportError):\n    from ..texts import text",
        "match texts:\n    case None:\n        from ..texts import text",
    ],
)
def test_every_way_of_importing_is_seen(statement: str):
    assert list(read(statement, (PACKAGE, "brokers", "new.py"))) == [Import("texts", own=True)]
