"""The document over HTTP, and by the command."""

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
import yaml
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException

from fastapi_channels import Channel, ConfigurationError, action, add_channel
from fastapi_channels.__main__ import main
from fastapi_channels.contract import serving
from tests.support import forks

ROOT = Path(__file__).parents[2]


class Room(Channel):
    @action()
    async def say(self, text: str) -> str:
        return text


def application(app: FastAPI, **settings: Any) -> FastAPI:
    add_channel(app, **settings)
    Room().mount(app, "/rooms/{channel}")
    return app


async def get(app: FastAPI, path: str = "/asyncapi.json", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        return await http.get(path, headers=headers)


async def test_it_is_served_beside_openapi():
    app = application(FastAPI(title="Talk"))
    answer = await get(app)
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["info"]["title"] == "Talk"
    assert answer.json()["channels"]["Room"]["address"] == "/rooms/{channel}"
    assert "asyncapi" not in str((await get(app, "/openapi.json")).json()["paths"])


async def test_it_is_yaml_too():
    app = application(FastAPI(), asyncapi_url="/docs/asyncapi.json")
    answer = await get(app, "/docs/asyncapi.yaml")
    assert yaml.safe_load(answer.text) == (await get(app, "/docs/asyncapi.json")).json()


@pytest.mark.parametrize("path", ["/asyncapi.json", "/asyncapi.yaml", "/asyncapi", "/asyncapi/files/page.js"])
async def test_who_asks_for_the_headers_alone_gets_them(path: str):
    app = application(FastAPI())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
        head, whole = await http.head(path), await http.get(path)
    assert head.status_code == 200
    assert head.headers["content-length"] == whole.headers["content-length"]
    assert not {"/asyncapi.json", "/asyncapi"} & app.openapi()["paths"].keys()


async def test_it_is_made_once_and_not_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    made: list[str] = []

    def counted(name: str) -> None:
        original = getattr(serving, name)
        monkeypatch.setattr(serving, name, lambda *given: made.append(name) or original(*given))

    counted("document")
    counted("as_yaml")
    app = application(FastAPI())
    assert made == []
    paths = ["/asyncapi.json", "/asyncapi.yaml", "/asyncapi"] * 2
    answers = await asyncio.gather(*(get(app, path) for path in paths))
    assert [each.content for each in answers[:3]] == [each.content for each in answers[3:]]
    assert sorted(made) == ["as_yaml", "document"]


@pytest.mark.parametrize(
    ("app", "settings"), [(FastAPI(), {"asyncapi_url": None}), (FastAPI(openapi_url=None), {})]
)
async def test_it_can_be_turned_off(app: FastAPI, settings: dict[str, Any]):
    application(app, **settings)
    assert (await get(app)).status_code == 404
    assert (await get(app, "/asyncapi.yaml")).status_code == 404


@pytest.mark.parametrize("kind", [list, iter])
async def test_dependencies_protect_it(kind: Callable[[Any], Any]):
    def only_staff(x_staff: Annotated[str, Header()] = "") -> None:
        if not x_staff:
            raise HTTPException(403)

    app = application(FastAPI(), asyncapi_dependencies=kind([Depends(only_staff)]))
    for path in ("/asyncapi.json", "/asyncapi.yaml"):
        assert (await get(app, path)).status_code == 403
        assert (await get(app, path, **{"x-staff": "yes"})).status_code == 200


async def test_the_docs_of_fastapi_link_to_it():
    app = application(FastAPI(openapi_url="/api/openapi.json"), asyncapi_docs_url="/ws/help")
    assert (await get(app, "/api/openapi.json")).json()["externalDocs"]["url"] == "../ws/help"
    app = application(FastAPI(), asyncapi_url="/ws/asyncapi.json", asyncapi_docs_url=None)
    assert (await get(app, "/openapi.json")).json()["externalDocs"]["url"] == "ws/asyncapi.json"
    own = "https://docs.example/"
    app = application(FastAPI(openapi_external_docs={"url": own}))
    assert (await get(app, "/openapi.json")).json()["externalDocs"]["url"] == own
    app = application(FastAPI(), asyncapi_url=None)
    assert "externalDocs" not in (await get(app, "/openapi.json")).json()


@pytest.mark.parametrize(
    "wrong",
    [
        {"asyncapi_url": "asyncapi.json"},
        {"asyncapi_url": ""},
        {"asyncapi_dependencies": [print]},
        {"asyncapi_dependencies": print},
        {"asyncapi_url": "/asyncapi"},
        {"asyncapi_docs_url": "/asyncapi.yaml"},
    ],
)
def test_what_cannot_work_is_told(wrong: dict[str, Any]):
    with pytest.raises(ConfigurationError, match="asyncapi_"):
        add_channel(FastAPI(), **wrong)


async def test_a_router_tells_of_its_own_endpoints():
    app, router = FastAPI(), APIRouter(prefix="/inner")
    add_channel(router)
    Room().mount(router, "/{channel}")
    app.include_router(router, prefix="/outer")
    Room().mount(app, "/not-mine/{channel}")
    found = (await get(app, "/outer/inner/asyncapi.json")).json()
    assert [each["address"] for each in found["channels"].values()] == ["/outer/inner/{channel}"]


def run(*words: str) -> bytes:
    command = [sys.executable, "-m", "fastapi_channels", "asyncapi", *words]
    done = forks.run(command, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.encode()


def test_the_same_program_gives_the_same_bytes(tmp_path: Path):
    printed = run("example.main:app")
    for name in ("it.json", "it.yaml"):
        assert main(["asyncapi", "example.main:app", "-o", str(tmp_path / name)]) == 0
    assert (tmp_path / "it.json").read_bytes() == printed
    assert yaml.safe_load((tmp_path / "it.yaml").read_text()) == json.loads(printed)


@pytest.mark.parametrize(
    ("target", "said"),
    [("no_such:app", "no module"), ("example.main:no", "cannot be found"), ("json:loads", "no FastAPI")],
)
def test_the_command_says_what_it_did_not_find(target: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["asyncapi", target]) == 2
    assert said in capsys.readouterr().err


def test_the_command_shows_where_the_application_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "misspelt_here.py").write_text("from fastapi import FastAPI\n\nFastAPI().add_midleware(1)\n")
    monkeypatch.chdir(tmp_path)
    assert main(["asyncapi", "misspelt_here:app"]) == 2
    said = capsys.readouterr().err
    assert "add_midleware" in said
    assert 'misspelt_here.py", line 3' in said


@pytest.mark.parametrize("command", ["asyncapi", "typescript"])
def test_the_commands_say_where_they_cannot_write(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    place = str(tmp_path / "missing" / "it.json")
    assert main([command, "example.modern:app", "-o", place]) == 2
    assert f"{place!r} cannot be written: No such file or directory" in capsys.readouterr().err


def test_the_commands_say_that_yaml_wants_a_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert main(["asyncapi", "example.modern:app", "-o", str(tmp_path / "it.yaml")]) == 2
    assert "pip install pyyaml" in capsys.readouterr().err
