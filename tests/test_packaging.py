"""What is uploaded, what it declares, and what is pinned."""

import asyncio
import re
import subprocess
import sys
import tarfile
import tomllib
from itertools import chain
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml

from fastapi_channels import __version__
from tests.docs.test_docs import blocks
from tests.support.environments import environment
from tests.support.live import process

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


def test_who_cites_names_this_version():
    """CITATION.cff, by the Citation File Format 1.2.0: `message`, `title` and `authors` are required."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = PROJECT["project"]
    assert cited["cff-version"] == "1.2.0"
    assert cited["message"]
    assert [cited[name] for name in ("title", "version", "license")] == [
        project["name"],
        __version__,
        project["license"],
    ]
    assert cited["authors"] == project["authors"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    words = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> ZipFile:
    return ZipFile(one(built, "*.whl"))


def one(folder: Path, pattern: str) -> Path:
    return next(folder.glob(pattern))


def test_the_source_is_what_a_clone_holds(built: Path):
    with tarfile.open(one(built, "*.tar.gz")) as source:
        names = {Path(*Path(name).parts[1:]) for name in source.getnames()}
    assert {name.parts[0] for name in names} >= {
        "Makefile",
        "LICENSE",
        "SECURITY.md",
        "CITATION.cff",
        "fastapi_channels",
        "tests",
        ".ci",
    }
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


@pytest.mark.fault  # long: it installs what the package needs
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
async def test_the_application_of_the_readme_runs_in_a_fresh_environment(
    built: Path, tmp_path: Path, kind: str
):
    pinned = ("--constraint", str(ROOT / "constraints.txt"), "uvicorn[standard]")
    python = await asyncio.to_thread(environment, tmp_path / "env", *pinned, str(one(built, kind)))
    program = next(block for block in blocks((ROOT / "README.md").read_text()) if block.language == "python")
    (tmp_path / "app.py").write_text(program.source)
    server = process("app:app", python=python, folder=tmp_path)
    async with server as served, served.site.connect("/rooms/lobby") as client:
        heard = await client.call("say", text="hello")
    assert (heard["event"], heard["channel"], heard["data"]["text"]) == ("said", "lobby", "hello")


def metadata_of(wheel: ZipFile) -> str:
    return wheel.read(next(name for name in wheel.namelist() if name.endswith("METADATA"))).decode()


def test_the_wheel_tells_where_the_releases_before_it_come_from(wheel: ZipFile):
    upstream = "https://github.com/YGuang233/fastapi-channels"
    assert re.findall("^Project-URL: (.+)$", metadata_of(wheel), re.MULTILINE) == [f"Upstream, {upstream}"]


def test_the_wheel_tells_its_extras(wheel: ZipFile):
    metadata = metadata_of(wheel)
    extras = set(re.findall(r"^Provides-Extra: (.+)$", metadata, re.MULTILINE))
    assert extras == {
        "redis",
        "postgres",
        "nats",
        "rabbitmq",
        "encryption",
        "fastapi-limiter",
        "client",
        "jwt",
        "metrics",
        "tracing",
        "cron",
        "page",
        "demo",
        "django",
        "all",
    }


@pytest.mark.parametrize("page", ["README.md", "README_zh.md"])
def test_the_readme_names_every_extra(page: str):
    _, _, table = (ROOT / page).read_text().partition("| extra |")
    cells = [row.split("|")[1] for row in table.partition("\n\n")[0].splitlines()[2:]]
    named = re.findall(r"`([\w-]+)`", "".join(cells))
    assert sorted(named) == sorted(PROJECT["project"]["optional-dependencies"])


@pytest.mark.parametrize("page", ["README.md", "README_zh.md"])
def test_the_readme_says_which_versions_were_measured(page: str):
    chanx, socketio = (pins(f"benchmarks/constraints/{name}.txt") for name in ("chanx", "socketio"))
    versions = {f"Chanx {chanx['chanx']}", f"python-socketio {socketio['python-socketio']}"}
    text = (ROOT / page).read_text()
    assert {version for version in versions if version not in text} == set()


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
