"""Lays the pages of this repository out for MkDocs, which calls it before each build.

Each language gets a folder, and the code a reference. The pages stay where they are read in the repository.
Here they are copied, and their links are made to lead to where each went: a page to a page, and any
other file to a copy of it. A link to what is not there is an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
LANGUAGES: Final = ("en", "zh")
HOMES: Final = {"README.md": "en/index.md", "README_zh.md": "zh/index.md"}
NAMED: Final = HOMES | {
    "docs/index.md": "en/contents.md",
    "docs/zh/index.md": "zh/contents.md",
    "SECURITY.md": "en/project/security.md",
    "docs/zh/security.md": "zh/project/security.md",
}
"""The pages that are called after what they are here."""
CHINESE: Final = "docs/zh/"
LINK: Final = re.compile(r"""(?P<before>\]\(|(?:src|srcset|href)=")(?P<to>[^)"#\s]*)(?P<after>[#)"])""")
FENCE: Final = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
ABSOLUTE: Final = re.compile(r"[a-z]+:|$")
EXPORTED: Final = re.compile(r"^(?:# (?P<module>\S+)|(?:class |async )?(?P<name>\w+)\b.*)$", re.MULTILINE)
"""The lines of docs/public.txt that begin a module, or one of its names."""
REFERENCE: Final = {
    "en": "# Reference of the code\n\nEvery public name, by the module that it is imported from. Most is in "
    "[`Channel`](fastapi_channels.md#fastapi_channels.Channel), with methods such as "
    "[`broadcast`](fastapi_channels.md#fastapi_channels.Channel.broadcast).\n\n",
    "zh": "# 代码参考\n\n所有公开的名字，按导入它的模块分页；说明是代码里的英文文档字符串。最常用的是 "
    "[`Channel`](fastapi_channels.md#fastapi_channels.Channel) 和它的方法，例如 "
    "[`broadcast`](fastapi_channels.md#fastapi_channels.Channel.broadcast)。\n\n",
}


class Missing(Exception):
    """A link leads to no file."""


def place(source: str, language: str = "en") -> str:
    """Where the file `source` of the repository is, for a page in `language`.

    What is there in one language only is found in its own folder: MkDocs shows it in the other.
    """
    if source in NAMED:
        return NAMED[source]
    if source.startswith("docs/images/"):
        return source.removeprefix("docs/")
    if source.startswith(CHINESE):
        return "zh/" + source.removeprefix(CHINESE)
    if not source.endswith(".md"):
        return f"files/{source}"
    if source.startswith("docs/"):
        return f"{language}/" + source.removeprefix("docs/")
    return f"{language}/project/" + source.replace("/", "-").lower()


def language_of(page: str) -> str:
    return "zh" if page.startswith(CHINESE) or page == "README_zh.md" else "en"


def is_abroad(target: str, language: str) -> bool:
    """Whether that page is there in its own language for itself, which is not `language`."""
    if not target.endswith(".md") or language_of(target) == language:
        return False
    if language == "en" or target in NAMED:
        return True
    return (ROOT / CHINESE / target.removeprefix("docs/")).is_file()


def address(placed: str) -> str:
    """Where a browser finds a page: English is at the top."""
    path = placed.removeprefix("en/").removesuffix(".md")
    return path.removesuffix("index") if path.split("/")[-1] == "index" else path + "/"


def arranged(page: str, text: str, wanted: set[str], language: str = "") -> str:
    """The text of `page` with links to where things went; `wanted` gets what they lead to.

    For a `language` that the page is not written in it stands in there: it leads to pages of that language,
    but to English ones where it names a heading.
    """
    own = language_of(page)
    language = language or own
    placed = place(page, language)
    here = Path(placed).parent

    def led(found: re.Match[str]) -> str:
        to = found["to"]
        if ABSOLUTE.match(to):
            return found[0]
        target = os.path.normpath(Path(page).parent / to)
        if (ROOT / target).is_dir():
            target = f"{target}/README.md"
        if not (ROOT / target).is_file():
            raise Missing(f"{page} leads to {to}, which is not there")
        wanted.add(target)
        there = place(target, language)
        abroad = is_abroad(target, language) and (language == own or found["after"] == "#" or target in NAMED)
        if abroad:
            there = place(target)
        elif found["before"] == "](":
            return found["before"] + os.path.relpath(there, here) + found["after"]
        # MkDocs builds each language for itself and knows no pages of another, and it leaves HTML as it is.
        is_page = there.endswith(".md")
        to = os.path.relpath((address(there) if is_page else there) or ".", address(placed) or ".")
        return found["before"] + to + "/" * is_page + found["after"]

    parts = FENCE.split(text)
    return "".join(part if FENCE.match(part) else LINK.sub(led, part) for part in parts)


def pages() -> Iterator[str]:
    """What people read: the pages of docs/, and the two homes."""
    yield from HOMES
    for path in sorted((ROOT / "docs").rglob("*.md")):
        yield str(path.relative_to(ROOT))


def exported() -> dict[str, list[str]]:
    """The public names of each module that has any."""
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in EXPORTED.finditer((ROOT / "docs" / "public.txt").read_text()):
        if line["module"]:
            names = found[line["module"]] = []
        else:
            names.append(line["name"])
    return found


def reference() -> Iterator[tuple[str, str]]:
    """The pages that mkdocstrings fills: one for each module that has public names."""
    modules = exported()
    for language, head in REFERENCE.items():
        for module, names in modules.items():
            said = f"::: {module}\n    options: {{members: false, show_root_heading: false}}\n\n"
            own = "".join(f"::: {module}.{name}\n\n" for name in names)
            yield f"{language}/api/{module}.md", f"# `{module}`\n\n{said}{own}"
        links = "".join(
            f"- [`{module}`]({module}.md): {', '.join(names)}\n" for module, names in modules.items()
        )
        yield f"{language}/api/index.md", head + links


def layout() -> dict[str, bytes]:
    """What is where.

    Raises:
        Missing: a link leads to no file.
    """
    found = {name: text.encode() for name, text in reference()}
    found["site.css"] = (Path(__file__).parent / "site.css").read_bytes()
    waiting, done = set(pages()), set[str]()
    while waiting:
        page = waiting.pop()
        done.add(page)
        wanted: set[str] = set()
        content = (ROOT / page).read_bytes()
        if page.endswith(".md"):
            text = content.decode()
            found[place(page)] = arranged(page, text, wanted).encode()
            if language_of(page) == "en" and not is_abroad(page, "zh"):
                found[place(page, "zh")] = arranged(page, text, wanted, "zh").encode()
        else:
            found[place(page)] = content
        waiting |= wanted - done
    return found


def on_config(config: Any) -> None:
    """Headings in Chinese have their words for an address, as on GitHub: without, each is a number."""
    from markdown.extensions.toc import slugify_unicode  # pyright: ignore[reportMissingModuleSource]

    config["mdx_configs"]["toc"]["slugify"] = slugify_unicode


def on_pre_build(config: Any) -> None:
    """Make the folder of the pages what it is to be. What has not changed is left: it may be watched."""
    folder = Path(config["docs_dir"])
    wanted = layout()
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in wanted:
            path.unlink()
    for name, content in wanted.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
