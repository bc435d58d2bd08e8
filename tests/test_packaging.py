"""What is uploaded, what it declares, and what is pinned."""

import re
import subprocess
import sys
import tarfile
import tomllib
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
BROWSER = ROOT / "fastapi_channels" / "contract" / "browser"
"""What the page at /asyncapi is made of."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?(?:>=([\d.]+))?")


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def pins(filename: str) -> dict[str, str]:
    lines = [line for line in (ROOT / filename).read_text().splitlines() if not line.startswith("#")]
    return {normal(name): version for name, _, version in (line.partition("==") for line in lines)}


def bounds() -> dict[str, str | None]:
    """The lowest version of everything that users install with the package."""
    extras = {**PROJECT["project"]["optional-dependencies"], "all": []}
    found = map(REQUIREMENT.match, chain(PROJECT["project"]["dependencies"], *extras.values()))
    return {normal(match[1]): match[2] for match in found if match}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    words = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> ZipFile:
    return ZipFile(next(built.glob("*.whl")))


def test_the_source_is_what_a_clone_holds(built: Path):
    with tarfile.open(next(built.glob("*.tar.gz"))) as source:
        names = {Path(*Path(name).parts[1:]) for name in source.getnames()}
    assert {name.parts[0] for name in names} >= {"Makefile", "LICENSE", "fastapi_channels", "tests", ".ci"}
    assert [name for name in names if name.parts[0].startswith(".venv") or "__pycache__" in name.parts] == []


def test_the_wheel_holds_the_package_and_nothing_else(wheel: ZipFile):
    names = wheel.namelist()
    source = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fastapi_channels").rglob("*.py")}
    assert {name for name in names if name.endswith(".py")} == source
    assert {name.split("/")[0].split("-")[0] for name in names} == {"fastapi_channels"}
    assert "fastapi_channels/py.typed" in names
    browser = {path.relative_to(ROOT).as_posix() for path in BROWSER.iterdir()}
    assert browser <= set(names)
    assert {Path(name).suffix for name in browser} == {".html", ".css", ".js", ".json"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_tells_its_extras(wheel: ZipFile):
    metadata = wheel.read(next(name for name in wheel.namelist() if name.endswith("METADATA"))).decode()
    extras = set(re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE))
    assert extras == {
        "redis",
        "postgres",
        "nats",
        "rabbitmq",
        "fastapi-limiter",
        "page",
        "demo",
        "all",
    }


def test_all_is_every_extra():
    (everything,) = PROJECT["project"]["optional-dependencies"]["all"]
    names = set(re.findall(r"\[(.+)\]", everything)[0].split(","))
    assert names == set(PROJECT["project"]["optional-dependencies"]) - {"all"}


def test_the_lowest_versions_declared_are_the_lowest_tested():
    lowest = pins("constraints-lowest.txt")
    assert {name: lowest.get(name) for name in bounds()} == bounds()


@pytest.mark.parametrize("filename", ["constraints.txt", "constraints-lowest.txt"])
def test_pins_are_versions_and_say_nothing_of_where_they_came_from(filename: str):
    lines = (ROOT / filename).read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"#.*|[\w.-]+==[\w.]+", line)] == []
    assert "://" not in "".join(lines)


def test_everything_that_is_declared_is_pinned():
    assert set(bounds()) - set(pins("constraints.txt")) == set()
