"""The pages as a site: what is laid out for MkDocs, which `make docs` then builds without a warning."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

SITE = Path(__file__).parents[2] / "docs" / "site"
LINK = re.compile(r"""(\]\(|(?:src|srcset|href)=")([^)"#\s]+)""")


@pytest.fixture(scope="module")
def arrange() -> ModuleType:
    spec = importlib.util.spec_from_file_location("arrange", SITE / "arrange.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def layout(arrange: ModuleType) -> dict[str, bytes]:
    found: dict[str, bytes] = arrange.layout()
    return found


def in_nav(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for each in entry.values() if isinstance(entry, dict) else entry:
            yield from in_nav(each)


def test_every_link_leads_somewhere(arrange: ModuleType, layout: dict[str, bytes]):
    """To a page in the same language, or to the English one that stands in for it; or to another language."""
    addresses = {arrange.address(name).rstrip("/") for name in layout if name.endswith(".md")}
    for name, content in layout.items():
        if not name.endswith(".md"):
            continue
        for part in arrange.FENCE.split(content.decode()):
            if part.startswith("```"):
                continue
            for before, to in LINK.findall(part):
                if re.match(r"[a-z]+:", to):
                    continue
                target = os.path.normpath(Path(name).parent / to)
                if to.endswith("/") or before != "](":
                    shown = os.path.normpath(Path(arrange.address(name)) / to).removeprefix(".")
                    found = shown in (addresses if to.endswith("/") else layout)
                else:
                    found = target in layout or target.replace("zh/", "en/", 1) in layout
                assert found, (name, to)


def test_every_page_is_in_the_navigation(layout: dict[str, bytes]):
    nav = set(in_nav(yaml.safe_load((SITE / "mkdocs.yml").read_text())["nav"]))
    written = {
        name.removeprefix("en/")
        for name in layout
        if name.startswith("en/") and name.endswith(".md") and not name.startswith(("en/api/", "en/project/"))
    }
    assert written <= nav
    assert {f"en/{page}" for page in nav} <= layout.keys()


def test_a_language_is_left_by_the_address_of_the_other(arrange: ModuleType):
    wanted: set[str] = set()
    assert arrange.arranged("README.md", "[中文](README_zh.md)", wanted) == "[中文](zh/)"
    assert (
        arrange.arranged("docs/zh/index.md", "[English](../index.md)", wanted) == "[English](../../contents/)"
    )
    assert (
        arrange.arranged("docs/zh/index.md", "[架构](../architecture.md)", wanted)
        == "[架构](architecture.md)"
    )
    assert wanted == {"README_zh.md", "docs/index.md", "docs/architecture.md"}


def test_the_search_tells_words_apart():
    """Those of Chinese too: the plugin puts U+200B between them, which is no white space to a browser."""
    plugins = yaml.safe_load((SITE / "mkdocs.yml").read_text())["plugins"]
    separator = plugins[0]["search"]["separator"]
    for text, words in (
        ("关闭\u200b代码", ["关闭", "代码"]),
        ("A client (slow), or `max_rooms=7`", ["A", "client", "slow", "or", "max_rooms", "7"]),
        ("fastapi_channels.layers in 0.1.2", ["fastapi_channels", "layers", "in", "0.1.2"]),
    ):
        assert [word for word in re.split(separator, text) if word] == words


def test_a_page_that_stands_in_leads_to_english_headings(arrange: ModuleType):
    text = "[a](brokers.md) [b](brokers.md#the-store) [c](architecture.md#x)"
    assert arrange.arranged("docs/performance.md", text, set(), "zh") == (
        "[a](brokers.md) [b](../../brokers/#the-store) [c](architecture.md#x)"
    )


def test_html_leads_from_where_the_browser_is(arrange: ModuleType):
    assert arrange.arranged("README.md", '<img src="docs/images/demo.png">', set()) == (
        '<img src="images/demo.png">'
    )


@pytest.mark.parametrize("link", ["gone/", "there/#gone", "../there/", "/there/", "gone.png"])
def test_a_dead_link_of_the_built_site_is_found(link: str, tmp_path: Path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "index.html").write_text('<h1 id="一">1</h1>')
    home = tmp_path / "index.html"
    alive = '<a href="there/#%E4%B8%80"></a><a href="https://example.com/x"></a><img src="a.png">'
    (tmp_path / "a.png").write_bytes(b"")
    home.write_text(alive)
    command = [sys.executable, str(SITE / "links.py"), str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 0
    home.write_text(f'{alive}<a href="{link}"></a>')
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stdout == f"index.html leads to {link}, which is not there\n"


def test_files_and_pages_of_other_folders_come_along(arrange: ModuleType):
    wanted: set[str] = set()
    text = "[a](../example/main.py) [b](../SECURITY.md#top) <https://example.com>"
    assert arrange.arranged("docs/index.md", text, wanted) == (
        "[a](../files/example/main.py) [b](project/security.md#top) <https://example.com>"
    )
    assert wanted == {"example/main.py", "SECURITY.md"}
    assert arrange.arranged("docs/index.md", "```sh\n[c](nowhere.md)\n```", wanted).count("nowhere.md") == 1


def test_a_link_to_nothing_is_an_error(arrange: ModuleType):
    with pytest.raises(arrange.Missing, match=r"docs/index.md leads to nowhere.md"):
        arrange.arranged("docs/index.md", "[x](nowhere.md)", set())


def test_the_reference_has_every_public_name(arrange: ModuleType, layout: dict[str, bytes]):
    names = arrange.exported()["fastapi_channels"]
    assert {"Channel", "action", "add_channel"} <= set(names)
    page = layout["en/api/fastapi_channels.md"].decode()
    assert all(f"::: fastapi_channels.{name}\n" in page for name in names)


def test_what_has_not_changed_is_not_written_again(arrange: ModuleType, tmp_path: Path):
    stale = tmp_path / "en" / "gone.md"
    stale.parent.mkdir()
    stale.write_text("")
    arrange.on_pre_build({"docs_dir": str(tmp_path)})
    assert not stale.exists()
    home = tmp_path / "en" / "index.md"
    before = home.stat().st_mtime_ns
    arrange.on_pre_build({"docs_dir": str(tmp_path)})
    assert home.stat().st_mtime_ns == before
