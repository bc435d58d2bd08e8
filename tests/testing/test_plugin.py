"""The plugin, as a project of its own has it; and the tests on the page about testing, which are one."""

from __future__ import annotations

import re
import sys
from itertools import groupby
from pathlib import Path

import pytest

from tests.docs.test_docs import ROOT, blocks
from tests.support import forks

pytest_plugins = ["pytester"]
PAGES = ("docs/guide/testing.md", "docs/zh/guide/testing.md")

TESTS = """
import pytest
from tests.testing.app import Said, create_app

pytestmark = pytest.mark.asyncio


async def test_said(channels_app):
    site = await channels_app(create_app())
    ann, bob = await site.client("/rooms/lobby"), await site.client("/rooms/lobby")
    await ann.call("say", text="hello")
    assert (await bob.expect(Said)).text == "hello"


async def test_fails(channels_app):
    site = await channels_app(create_app())
    ann = await site.client("/rooms/lobby")
    await ann.expect("said", within=0.05)


async def test_served(channels_server):
    site = await channels_server(create_app())
    assert await (await site.client("/rooms/lobby")).call("say", text="hello") == 5


async def test_doubles(channels_app, channels_broker, channels_store):
    await channels_app(create_app(backend=channels_broker.backend(), store=channels_store))
"""


def files_of(page: Path) -> dict[str, str]:
    python = [block for block in blocks(page.read_text()) if block.language == "python"]
    sections = groupby(python, key=lambda block: block.section)
    return {
        f"test_{number}": "".join(each.source for each in found) for number, (_, found) in enumerate(sections)
    }


def test_both_pages_have_the_same_tests():
    english, chinese = (
        [re.sub(r"  # .*|\n+(?=\n)", "", text).strip() for text in files_of(ROOT / page).values()]
        for page in PAGES
    )
    assert english == chinese


def test_its_fixtures_and_the_tests_of_the_page(pytester: pytest.Pytester):
    files = files_of(ROOT / PAGES[0])
    pytester.makepyfile(test_own=TESTS, **files)
    count = sum(len(re.findall(r"^(?:async )?def test_", text, re.MULTILINE)) for text in files.values())
    words = "--basetemp=folders -p no:cacheprovider -o asyncio_mode=auto --channels-within 10"
    ran = forks.run((sys.executable, "-m", "pytest", *words.split()), cwd=pytester.path)
    done = pytest.RunResult(ran.returncode, ran.stdout.splitlines(), ran.stderr.splitlines(), 0)
    done.assert_outcomes(passed=3 + count, failed=1)
    done.stdout.fnmatch_lines(["*no event 'said' within 0.05 s*"])
