"""The tutorial: its pages show the files of example/tutorial, and what else they say is so.

What its frames show is played, with those of the guide, by tests/docs/test_guide.py. Here is what needs a
client that comes back, a second process, or a request by HTTP.
"""

import inspect
import re
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import httpx
import pytest
from fastapi import FastAPI

from example.tutorial import step04, step07, step09, step10
from example.tutorial.step09 import Announced
from fastapi_channels.testing import Site, running, timeless
from tests.docs.test_docs import FENCE, HEADING
from tests.docs.test_guide import fits, values
from tests.support.servers import RedisServer, required

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted((ROOT / "example/tutorial").glob("step*.py"))
PAGES: Final = [ROOT / "docs/tutorial.md", ROOT / "docs/zh/tutorial.md"]
EACH_PAGE: Final = pytest.mark.parametrize("page", PAGES, ids=["en", "zh"])
ADA: Final = {"Authorization": "Bearer ada-secret"}
BOB: Final = {"Authorization": "Bearer bob-secret"}


def section(page: Path, number: int) -> str:
    """What stands under the heading of a step."""
    parts = re.split(rf"^## (?={number}\. |{number + 1}\. )", page.read_text(), flags=re.MULTILINE)
    return re.split(HEADING, parts[1])[0]


def shown(page: Path, number: int, caption: str) -> list[Any]:
    """The frames below a caption that only the source of the page has."""
    source = section(page, number).split(f"<!-- {caption} -->\n")[1]
    found = FENCE.search(source)
    assert found is not None
    return values(found[2])


@EACH_PAGE
def test_each_step_is_shown_as_it_is(page: Path):
    assert [file.name for file in FILES] == [f"step{number:02}.py" for number in range(1, 11)]
    for number, file in enumerate(FILES, 1):
        found = [block[1] for block in FENCE.findall(section(page, number)) if block[0] == "python"]
        assert found == [file.read_text()], f"step {number} of {page} shows something else than {file.name}"


def test_both_languages_show_as_much():
    english, chinese = ([block[0] for block in FENCE.findall(page.read_text())] for page in PAGES)
    assert english == chinese


async def test_nobody_gets_in_without_a_name():
    async with running(step04.app) as site:
        assert (await site.refusal("/rooms/lobby", fluent=False)).reason == "HTTP 403"


@timeless
async def test_whoever_goes_is_told_of():
    async with running(step04.app, within=30) as site:
        ada = await site.client("/rooms/lobby?name=ada")
        async with site.connect("/rooms/lobby?name=bob"):
            [bob] = (await ada.expect_frame(lambda frame: frame.get("joined")))["joined"]
        assert (await ada.expect_frame(lambda frame: frame.get("left")))["left"] == [bob["id"]]


@EACH_PAGE
async def test_what_was_missed_comes_when_a_client_is_back(page: Path):
    say, *wanted = shown(page, 7, "back: ada")
    answer = wanted[-1]["data"]["text"]
    async with running(fresh(step07)) as site:
        async with site.connect("/rooms/lobby", headers=ADA) as ada:
            await ada.call("say", text="Is anybody here?")
            at = (await ada.expect_frame(lambda frame: frame.get("event") == "said"))["position"]
            assert ada.joined is not None
            was = ada.joined["connection"]
        bob = await site.client("/rooms/lobby", headers=BOB)
        await bob.call("say", text=answer)
        back = await site.client(f"/rooms/lobby?since={at}&connection={was}", fluent=False)
        await back.send(say)
        await back.expect(step07.Said, text=answer)
        assert fits(wanted, back.received[: len(wanted)]), back.received


@required(RedisServer)
async def test_two_processes_are_one_chat(shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CHANNELS_URL", shared_redis.url)
    async with running(fresh(step09), within=30) as one, running(fresh(step09), within=30) as two:
        ada, bob = await step10.enter(one, "ada-secret"), await step10.enter(two, "bob-secret")
        assert (await announce(two, ADA)).status_code == 200
        for client in (ada, bob):
            frame = await client.expect_frame(lambda frame: frame.get("event") == "announced")
            for page in PAGES:
                assert fits(shown(page, 9, "two processes: ada"), [frame])
        await bob.call("say", text="Good night", room="room:lobby")
        await ada.expect("said", by="bob", text="Good night")


@pytest.mark.parametrize(("headers", "status"), [({}, 401), (BOB, 403)])
async def test_who_may_not_announce_by_http(headers: dict[str, str], status: int):
    async with running(step09.app) as site:
        bob = await step10.enter(site, "bob-secret")
        assert (await announce(site, headers)).status_code == status
        await bob.expect_nothing(Announced)


async def announce(site: Site, headers: dict[str, str]) -> httpx.Response:
    transport = httpx.ASGITransport(site.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as http:
        return await http.post("/rooms/lobby/announce?text=Closing", headers=headers)


def fresh(step: ModuleType) -> FastAPI:
    """The application of a step as another process has it, with a memory of its own."""
    assert step.__file__ is not None
    spec = spec_from_file_location(f"{step.__name__}_again", step.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    app: FastAPI = module.app
    return app


OWN_TESTS: Final = [
    function for name, function in inspect.getmembers(step10, inspect.isfunction) if name.startswith("test_")
]


@pytest.mark.parametrize("own", OWN_TESTS, ids=lambda own: own.__name__)
async def test_the_tests_of_the_last_step(own: Callable[[], Any]):
    await own()


@EACH_PAGE
def test_the_last_step_counts_its_tests(page: Path):
    assert f"{len(OWN_TESTS)} passed" in section(page, 10)
