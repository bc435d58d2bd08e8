"""The document over HTTP, and by the command."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
import yaml
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException

from fastapi_channels import Channel, ConfigurationError, action, add_channel
from fastapi_channels.__main__ import main
from fastapi_channels.contract import serving

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


async def test_it_is_made_once_and_not_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    made: list[object] = []
    original = serving.document
    monkeypatch.setattr(serving, "document", lambda *given: made.append(given) or original(*given))
    app = application(FastAPI())
    assert made == []
    first = await get(app)
    assert (await asyncio.gather(get(app), get(app)))[0].content == first.content
    assert len(made) == 1


@pytest.mark.parametrize(
    ("app", "settings"), [(FastAPI(), {"asyncapi_url": None}), (FastAPI(openapi_url=None), {})]
)
async def test_it_can_be_turned_off(app: FastAPI, settings: dict[str, Any]):
    application(app, **settings)
    assert (await get(app)).status_code == 404
    assert (await get(app, "/asyncapi.yaml")).status_code == 404


async def test_dependencies_protect_it():
    def only_staff(x_staff: Annotated[str, Header()] = "") -> None:
        if not x_staff:
            raise HTTPException(403)

    app = application(FastAPI(), asyncapi_dependencies=[Depends(only_staff)])
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
    [{"asyncapi_url": "asyncapi.json"}, {"asyncapi_url": ""}, {"asyncapi_dependencies": [print]}],
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
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=30).stdout


def test_the_same_program_gives_the_same_bytes(tmp_path: Path):
    printed = run("example.main:app")
    run("example.main:app", "-o", str(tmp_path / "it.json"))
    assert (tmp_path / "it.json").read_bytes() == printed
    run("example.main:app", "-o", str(tmp_path / "it.yaml"))
    assert yaml.safe_load((tmp_path / "it.yaml").read_text()) == json.loads(printed)


@pytest.mark.parametrize(
    ("target", "said"),
    [("no_such:app", "no module"), ("example.main:no", "cannot be found"), ("json:loads", "no FastAPI")],
)
def test_the_command_says_what_it_did_not_find(target: str, said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["asyncapi", target]) == 2
    assert said in capsys.readouterr().err
