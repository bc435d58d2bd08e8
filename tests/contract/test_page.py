"""The page over HTTP: where it is, who may see it, what it may load."""

import json
import logging
import re
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from fastapi.security import HTTPBearer
from starlette.routing import Route

from fastapi_channels import Channel, ConfigurationError, Socket, action, add_channel
from fastapi_channels.auth import Authenticator
from fastapi_channels.contract import assets
from fastapi_channels.contract.templates import texts_of
from tests.support.environments import without

from .test_serving import application, get

HOSTILE = "</script><script>alert(1)</script><!--"


async def test_it_is_served_beside_the_docs_of_fastapi():
    answer = await get(application(FastAPI(title="Talk")), "/asyncapi")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "<h1>Talk" in answer.text
    assert 'id="operation/Room.say"' in answer.text
    assert 'href="docs"' in answer.text


class Ticket(Channel):
    room_pattern = "ticket:{number:int}"

    @action()
    async def take(self, note: str) -> str: ...

    @action()
    async def drop(self) -> None: ...


class Desk(Channel):
    @action()
    async def take(self) -> None: ...


async def test_what_is_alike_in_name_has_its_channel():
    app = application(FastAPI())
    Socket(Ticket(), Desk()).mount(app, "/desk")
    body = (await get(app, "/asyncapi")).text
    nav, _, main = body.partition("<main")
    for of in ("Ticket", "Desk"):
        assert f'take <span class="of">· {of}</span></a>' in nav
        assert f'any event</span> <span class="of">· {of}</span></a>' in nav
        assert re.search(rf'<code class="name">take</code>\s*<span class="of">· {of}</span>', main)
    assert "drop</a>" in nav
    (told,) = re.findall(r'id="contract">(.*?)</script>', body, re.DOTALL)
    (desk,) = [each for each in json.loads(told)["channels"] if each["address"] == "/desk"]
    actions = [(each["name"], each["of"]) for each in desk["operations"] if each["kind"] == "action"]
    assert actions == [("take", "Ticket"), ("drop", ""), ("take", "Desk")]
    assert "any event</span></a>" in nav  # of the channel that is alone at its address


async def test_it_is_in_the_language_that_is_asked_for():
    app = application(FastAPI())
    for wanted, lang in (({"accept-language": "zh-TW,en;q=0.5"}, "zh-CN"), ({}, "en")):
        assert f'<html lang="{lang}"' in (await get(app, "/asyncapi", **wanted)).text
    assert '<html lang="zh-CN"' in (await get(app, "/asyncapi?lang=zh")).text
    assert '<html lang="en"' in (await get(app, "/asyncapi?lang=xx")).text


async def test_both_languages_say_everything():
    english, chinese = texts_of(assets.FOLDER)["en"], texts_of(assets.FOLDER)["zh"]
    assert english.keys() == chinese.keys()
    assert [key for key, text in chinese.items() if text == english[key] and key != "otherLanguage"] == []


async def test_its_files_come_from_the_package_and_nothing_else_does():
    app = application(FastAPI())
    script = await get(app, "/asyncapi/files/page.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert script.headers["x-content-type-options"] == "nosniff"
    again = await get(app, "/asyncapi/files/page.js", **{"if-none-match": script.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    for name in ("page.html", "texts.json", "no.js", "..%2fpage.py", "%2e%2e", "page.js%00"):
        assert (await get(app, f"/asyncapi/files/{name}")).status_code == 404


async def test_nothing_is_loaded_from_elsewhere():
    body = (await get(application(FastAPI()), "/asyncapi")).text
    files = [path.read_text() for path in assets.FOLDER.iterdir()]
    assert [text for text in (body, *files) if "https://" in text or "//cdn" in text] == []
    assert " style=" not in body
    assert " onclick=" not in body


async def test_the_policy_names_the_servers_of_the_document():
    servers = [{"url": "https://api.example/v1"}]
    policy = (await get(application(FastAPI(servers=servers)), "/asyncapi")).headers[
        "content-security-policy"
    ]
    assert "connect-src 'self' wss://api.example;" in policy
    assert "script-src 'self';" in policy


async def test_the_component_of_asyncapi_may_stand_in_its_place():
    hosted = "https://cdn.example/@asyncapi/react-component@3.2.1/"
    shown = await get(application(FastAPI(title="A<b>"), asyncapi_component_url=hosted), "/asyncapi")
    assert "<title>A&lt;b&gt; ·" in shown.text
    assert f'src="{hosted}browser/standalone/index.js"' in shown.text
    assert 'data-document="asyncapi.json"' in shown.text
    policy = shown.headers["content-security-policy"]
    assert "script-src 'self' https://cdn.example 'unsafe-eval';" in policy
    assert "connect-src 'self';" in policy
    own = await get(application(FastAPI(), asyncapi_component_url="/static/component"), "/asyncapi")
    assert "script-src 'self' 'unsafe-eval';" in own.headers["content-security-policy"]


@pytest.mark.parametrize("url", ["", "component", "ftp://a/b", "https://", "//a/b", "javascript:1", 7])
async def test_what_is_no_address_of_the_component_is_refused(url: Any):
    with pytest.raises(ConfigurationError, match="asyncapi_component_url must be the address of @asyncapi"):
        add_channel(FastAPI(), asyncapi_component_url=url)


@pytest.mark.parametrize(
    ("app", "settings"),
    [
        (FastAPI(), {"asyncapi_docs_url": None}),
        (FastAPI(), {"asyncapi_url": None}),
        (FastAPI(openapi_url=None), {}),
    ],
)
async def test_it_can_be_turned_off(app: FastAPI, settings: dict[str, Any]):
    application(app, **settings)
    assert (await get(app, "/asyncapi")).status_code == 404
    assert (await get(app, "/asyncapi/files/page.js")).status_code == 404


async def test_dependencies_protect_it():
    def only_staff(x_staff: Annotated[str, Header()] = "") -> None:
        if not x_staff:
            raise HTTPException(403)

    app = application(FastAPI(), asyncapi_dependencies=[Depends(only_staff)])
    assert (await get(app, "/asyncapi")).status_code == 403
    assert (await get(app, "/asyncapi", **{"x-staff": "yes"})).status_code == 200
    assert (await get(app, "/asyncapi")).status_code == 403


@pytest.mark.parametrize("wrong", ["asyncapi", "", 5])
def test_what_is_no_path_is_told(wrong: Any):
    with pytest.raises(ConfigurationError, match="asyncapi_docs_url"):
        add_channel(FastAPI(), asyncapi_docs_url=wrong)


async def test_what_stands_in_the_path_and_who_may_sign_in_is_read():
    class Guarded(Channel):
        authenticator = Authenticator(lambda token, connection: None, required=False, sources=[HTTPBearer()])

    app = FastAPI()
    add_channel(app)
    Guarded().mount(app, "/{channel:int}")
    body = (await get(app, "/asyncapi")).text
    assert "In the path" in body
    assert '<span data-text="mayBring">May sign in by</span> <code>HTTPBearer</code>' in body
    assert 'data-text="security"' not in body


async def test_names_cannot_end_the_script_that_carries_them():
    class Hostile(Channel):
        __doc__ = HOSTILE

        @action(HOSTILE, summary=HOSTILE, tags=[HOSTILE])
        async def it(self, text: str = HOSTILE) -> str:
            return text

    app = FastAPI(title=HOSTILE, description=HOSTILE)
    add_channel(app)
    Hostile().mount(app, "/{channel}")
    body = (await get(app, "/asyncapi")).text
    assert "<script>alert" not in body
    assert "<!--" not in body


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_its_links_hold_behind_a_prefix(prefix: str):
    inner = application(FastAPI(), asyncapi_docs_url="/help/ws")
    outer = FastAPI()
    outer.mount(prefix, inner)
    body = (await get(outer, f"{prefix}/help/ws")).text
    assert 'data-root=".."' in body
    assert 'href="../asyncapi.json"' in body
    assert 'href="../docs"' in body
    assert 'src="ws/files/page.js"' in body


async def test_a_prefix_is_one_of_whole_names():
    app = application(FastAPI(), asyncapi_docs_url="/api-docs")
    transport = httpx.ASGITransport(app, root_path="/api")
    async with httpx.AsyncClient(transport=transport, base_url="http://here") as http:
        body = (await http.get("/api-docs")).text
    assert 'data-root="."' in body
    assert 'src="api-docs/files/page.js"' in body


async def test_a_router_shows_its_own_endpoints():
    app, router = FastAPI(), APIRouter(prefix="/inner")
    add_channel(router)

    class Mine(Channel):
        pass

    Mine().mount(router, "/{channel}")
    for prefix in ("/outer", "/much/deeper"):
        app.include_router(router, prefix=prefix)
    body = (await get(app, "/outer/inner/asyncapi")).text
    assert "/outer/inner/{channel}" in body
    assert 'data-root="../.."' in body
    assert 'data-root="../../.."' in (await get(app, "/much/deeper/inner/asyncapi")).text
    assert (await get(app, "/outer/inner/asyncapi/files/page.css")).status_code == 200


async def test_at_the_root_it_takes_no_other_path():
    app = FastAPI()
    add_channel(app, asyncapi_docs_url="/")

    @app.get("/other")
    async def other() -> str:
        return "other"

    assert (await get(app, "/other")).json() == "other"
    body = (await get(app, "/")).text
    assert 'src="files/page.js"' in body


def test_without_jinja2_there_is_no_page_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    without("jinja2", "contract.templates", monkeypatch)
    caplog.set_level(logging.INFO)
    app = add_channel(FastAPI())
    paths = [route.path for route in app.routes if isinstance(route, Route) and "asyncapi" in route.path]
    assert paths == ["/asyncapi.json", "/asyncapi.yaml"]
    assert "no page at /asyncapi: it needs Jinja2" in caplog.text


async def test_an_application_without_channels_has_a_page():
    app = FastAPI()
    add_channel(app)
    answer = await get(app, "/asyncapi")
    assert isinstance(answer, httpx.Response)
    assert "serves no channels" in answer.text
