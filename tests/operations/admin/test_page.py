"""The page for operators, as it is served: `tests/e2e/test_admin.py` uses it."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Cookie, Depends, FastAPI, HTTPException

from fastapi_channels import Admin, Channel, Event, add_channel
from fastapi_channels.contract.assets import FOLDER as SHARED
from fastapi_channels.contract.templates import texts_of
from fastapi_channels.operations.admin.page import FOLDER
from fastapi_channels.testing.asgi import living
from tests.support.environments import without

HOSTILE = "</script><script>window.hit=1</script>"


class Placed(Event):
    """</script><b>"""

    number: int


class Shop(Channel):
    event_types = (Placed,)
    scope = "shop"


def staff(session: Annotated[str, Cookie()] = "") -> None:
    if session != "right":
        raise HTTPException(401)


def application(**admin: Any) -> FastAPI:
    app = FastAPI(title=HOSTILE, openapi_url=None)
    add_channel(app)
    Shop().mount(app, "/shop/{channel}")
    Admin(app, dependencies=[Depends(staff)], **admin)
    return app


async def get(app: FastAPI, path: str = "/admin/", session: str = "right", **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        return await http.get(path, headers={"cookie": f"session={session}", **headers})


async def test_it_is_for_those_alone_who_are_let_in():
    app = application()
    for path in ("/admin/", "/admin/files/admin.js", "/admin/files/page.css"):
        assert (await get(app, path)).status_code == 200, path
        assert (await get(app, path, session="stale")).status_code == 401, path
    assert (await get(app, "/admin")).headers["location"] == "http://here/admin/"
    evil = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert (await get(app, "/admin/files/admin.js", **evil)).status_code == 403
    led = await get(app, **{"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"})
    assert led.status_code == 200, "a link of another site may lead there"


async def test_nothing_in_it_runs_but_its_files():
    answer = await get(application(), **{"accept-language": "zh"})
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert '<html lang="zh-CN"' in answer.text
    assert HOSTILE not in answer.text
    assert " style=" not in answer.text
    assert not re.search(r" on\w+=", answer.text)
    assert re.findall(r'<script[^>]*src="([^"]*)"', answer.text) == ["files/theme.js", "files/admin.js"]
    for folder in (FOLDER, SHARED):
        for path in folder.iterdir():
            assert "https://" not in path.read_text(), path
            assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write", path.read_text()), path


async def test_it_knows_what_its_forms_are_made_from():
    for read_only in (True, False):
        body = (await get(application(read_only=read_only))).text
        found = re.search(r'<script type="application/json" id="admin">(.*?)</script>', body)
        assert found is not None
        said = json.loads(found[1])
        assert said["readOnly"] is read_only
        (channel,) = said["forms"]["channels"]
        assert (channel["name"], channel["scope"], channel["events"]) == ("Shop", "shop", ["placed"])
        assert channel["forms"]["placed"]["payload"] == {"$ref": "#/components/schemas/Placed"}
        assert said["forms"]["schemas"]["Placed"]["required"] == ["number"]


async def test_its_files_are_those_of_its_folder_and_of_the_other_page():
    app = application()
    for name in ("admin.html", "texts.json", "no.js", "..%2fpage.py", "%2e%2e"):
        assert (await get(app, f"/admin/files/{name}")).status_code == 404
    names = [path.name for path in FOLDER.iterdir() if path.suffix in (".js", ".css")]
    assert not {*names} & {path.name for path in SHARED.iterdir()}, "one would hide the other"


def test_both_languages_say_everything_that_is_shown():
    own, shared = texts_of(FOLDER), texts_of(FOLDER, SHARED)
    assert own["en"].keys() == own["zh"].keys()
    assert [key for key, text in own["zh"].items() if text == own["en"][key]] == []
    scripts = "".join(path.read_text() for path in FOLDER.glob("*.js"))
    named = re.findall(r'(?:say\("[a-z0-9]+", |button\(|card\(|label: |empty: |key: )"(\w+)"', scripts)
    named += re.findall(r'data-text(?:-label)?="(\w+)"', (FOLDER / "admin.html").read_text())
    named += re.findall(r'\["(\w+)", \{', scripts)
    assert len(named) > 60
    assert {*named} - shared["en"].keys() == set()
    unused = [
        key for key in own["en"] if not re.search(rf'"{key}"', scripts + (FOLDER / "admin.html").read_text())
    ]
    assert unused == []


async def test_without_jinja_there_are_the_routes_alone(monkeypatch: pytest.MonkeyPatch):
    without("jinja2", "contract.templates", monkeypatch)
    app = FastAPI()
    add_channel(app)
    Admin(app, allow_anybody=True)
    async with living(app):
        answers = [await get(app, path) for path in ("/admin/", "/admin/nodes")]
    assert [answer.status_code for answer in answers] == [404, 200]
