"""The TypeScript client: its own tests, its types, its size, and what is published."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from fastapi_channels import Channel, Socket, action
from fastapi_channels.contract.document import document
from fastapi_channels.contract.typescript.file import typescript
from tests.docs.test_docs import ROOT, blocks, run
from tests.support.npm import BIN, NODE, installed
from tests.support.typescript import Compiler, wrong_lines

from .driven import TYPESCRIPT
from .served import Room, Said, create_app

VITE: Final = "8.4.0"
PACKAGE: Final = json.loads((TYPESCRIPT / "package.json").read_text())
BUILT: Final = {"index": "fastapi-channels.js", "fallback": "fastapi-channels-fallback.js"}
"""The files for pages, each by the module that it is built from."""
PAGE: Final = {
    "index.html": '<!doctype html><title>A page</title><script type="module" src="/main.js"></script>',
    "main.js": "import { createClient } from 'fastapi-channels'; createClient('/').socket('/desk');",
}
MOST: Final = {"index": 7 * 1024, "fallback": 5 * 1024}
"""Bytes that the whole client may take, minified and compressed; and what only those take who ask for it."""


@pytest.fixture(scope="module")
def tools() -> Path:
    """What the package is built with."""
    try:
        return installed("typescript-client", PACKAGE["devDependencies"]) / "node_modules"
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"npm cannot install what builds the client: {exc}")


def node(*words: str, cwd: Path = TYPESCRIPT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"}
    return subprocess.run(
        [NODE, *words], cwd=cwd, capture_output=True, text=True, timeout=300, env=environment
    )


def own_tests(folder: Path, pattern: str) -> subprocess.CompletedProcess[str]:
    """Its tests, in one process: to start another one for each file costs as much as the tests."""
    return node("--test", "--test-isolation=none", *map(str, sorted(folder.glob(pattern))), cwd=folder)


def bundled(tools: Path, module: str, *options: str) -> bytes:
    words = [f"src/{module}.ts", "--bundle", "--format=esm", "--target=es2022", *options]
    done = node(str(tools / "esbuild/bin/esbuild"), *words)
    assert done.returncode == 0, done.stderr
    return done.stdout.encode()


def test_its_own_tests_pass():
    done = own_tests(TYPESCRIPT, "test/*.test.ts")
    assert done.returncode == 0, done.stdout[-5000:]
    assert int(re.findall(r"^. pass (\d+)", done.stdout, re.MULTILINE)[0]) > 70


def test_its_hooks_hold_in_react_and_vue(tools: Path, tmp_path: Path):
    source = source_with(tools, tmp_path)
    done = own_tests(source, "test/hooks/*.test.ts")
    assert done.returncode == 0, done.stdout[-5000:]


def source_with(tools: Path, folder: Path) -> Path:
    """The package beside what it is built and tested with."""
    source = folder / "source"
    shutil.copytree(TYPESCRIPT, source, ignore=shutil.ignore_patterns("node_modules", "dist"))
    (source / "node_modules").symlink_to(tools)
    return source


@pytest.mark.parametrize("module", BUILT)
def test_the_file_for_pages_is_built_from_the_source(tools: Path, module: str):
    """`npm run build` in clients/typescript writes it anew."""
    assert (TYPESCRIPT / BUILT[module]).read_bytes() == bundled(tools, module)


@pytest.mark.parametrize("module", MOST)
def test_it_is_small(tools: Path, module: str):
    assert len(gzip.compress(bundled(tools, module, "--minify"), 9)) <= MOST[module]


@pytest.mark.fault  # long: it is packed, installed, and bundled by two tools
def test_what_is_published_works_in_a_project_of_its_own(tools: Path, tmp_path: Path):
    source, project = source_with(tools, tmp_path), tmp_path / "project"
    done = node(str(tools / "typescript/bin/tsc"), cwd=source)
    assert (done.returncode, done.stdout) == (0, "")
    npm = str(BIN.parent / "lib/node_modules/npm/bin/npm-cli.js")
    assert node(npm, "pack", "--silent", cwd=source).returncode == 0
    (archive,) = source.glob("*.tgz")
    project.mkdir()
    (project / "package.json").write_text('{"type": "module", "private": true}')
    assert node(npm, "install", "--offline", "--silent", str(archive), cwd=project).returncode == 0
    script = (
        "import { createClient } from 'fastapi-channels'; console.log(typeof createClient('http://a').room)"
    )
    assert node("--input-type=module", "-e", script, cwd=project).stdout == "function\n"
    script = (
        "import { withFallback } from 'fastapi-channels/fallback'; new (withFallback())('ws://a', []).close()"
    )
    assert node("--input-type=module", "-e", script, cwd=project).returncode == 0
    script = "console.log(Object.keys(require('fastapi-channels/browser')).includes('createClient'))"
    assert node("-e", script, cwd=project).stdout == "true\n"
    for name, text in PAGE.items():
        (project / name).write_text(text)
    vite = installed("vite", {"vite": VITE}) / "node_modules/vite/bin/vite.js"
    esbuild = (str(tools / "esbuild/bin/esbuild"), "main.js", "--bundle", "--outdir=dist/assets")
    for words in ((str(vite), "build", "--logLevel", "error"), (*esbuild, "--entry-names=esbuild")):
        done = node(*words, cwd=project)
        assert done.returncode == 0, done.stderr
    scripts = list((project / "dist/assets").glob("*.js"))
    assert len(scripts) == 2
    assert all("fastapi-channels.1" in script.read_text() for script in scripts)
    files = {path.name for path in (project / "node_modules/fastapi-channels").iterdir()}
    assert files == {"dist", *BUILT.values(), "package.json", "README.md"}
    modules = ("fallback", "react", "vue")
    assert {f"{name}{end}" for name in modules for end in (".js", ".d.ts")} <= {
        path.name for path in (project / "node_modules/fastapi-channels/dist").iterdir()
    }


USED: Final = """
import { createClient } from "fastapi-channels";
import type { Channels } from "./channels.ts";

const client = createClient<Channels>("http://example.com");
const room = client.room("/rooms/{channel}", { channel: "lobby" });
client.room("/rooms/{channel}"); // wrong
client.room("/rooms/{channel}", { room: "lobby" }); // wrong
client.room("/desk"); // wrong
const length: number = await room.call("say", { text: "hello" });
const nothing: null = await room.call("nothing");
await room.call("say", { text: 7 }); // wrong
await room.call("say"); // wrong
await room.call("sya", { text: "hello" }); // wrong
const text: string = await room.call("say", { text: "hello" }); // wrong
await room.call("order", { article: "tea" }, { retry: true });
await room.call("say", { text: "hello" }, { retry: true }); // wrong
for await (const number of room.stream("count", { upto: 3 })) number.toFixed();
for await (const number of room.stream("count", { upto: 3 })) number.trim(); // wrong
await room.call("count", { upto: 3 }); // wrong
room.stream("say", { text: "hello" }); // wrong
const reasons = { away: 1, epoch: 2, expired: 3, limit: 4, resync: 5, lagged: 6 };
room.onGap(({ reason }) => reasons[reason].toFixed());
room.onGap(({ reason }) => ({ away: 1, epoch: 2, expired: 3, limit: 4, resync: 5 })[reason]); // wrong
room.on("said", (data) => data.text.trim());
room.on("said", (data) => data.txet); // wrong
room.on("sayd", () => {}); // wrong
room.answer("confirm", ({ question }) => question.length);
room.answer("confirm", async ({ question }) => question.length);
room.answer("confirm", ({ question }) => question); // wrong
for await (const said of room.events("said")) said.text.trim();
for await (const { items, next } of room.history({ limit: 20 })) next?.concat(String(items[0]?.position));
for await (const page of room.history({ limit: "20" })) page.next; // wrong
for await (const page of client.room("/shown/{channel}", { channel: "a" }).history()) page.neXt; // wrong
const shown = client.room("/shown/{channel}", { channel: "lobby" });
const status: string | undefined = shown.presence.people[0]?.devices[0]?.data.trim();
shown.onPresence(({ joined }) => joined[0]?.devices[0]?.data.trim());
const counted: number[] = [...shown.presence.devices.values()].map(({ data }) => data); // wrong
room.presence.people[0]!.devices[0]!.data.trim(); // wrong
const desk = client.socket("/desk");
const other: number = await desk.room("lobby").call("say", { text: "hello" });
desk.room("lobby").call("say", {}); // wrong
client.socket("/rooms/{channel}", { channel: "lobby" }); // wrong
const tickets = client.socket("/tickets");
const taken: string = await tickets.room("ticket:7").call("take", { note: "x" });
await tickets.room("ticket:7").call("say", { text: "hello" }); // wrong
tickets.room("user:ada").on("said", ({ text }) => text.trim());
const heard: number = await tickets.room("lobby").call("say", { text: "hello" });
await tickets.room("lobby").call("take", { note: "x" }); // wrong

const anything = createClient("/").room("/rooms/{channel}", { channel: "lobby" });
const reply: unknown = await anything.call("whatever", { any: "thing" });
anything.on("whatever", (data: unknown) => data);
createClient("/").socket("/desk").room("any").call("whatever", {}, { retry: true });
for await (const { complete } of anything.history({ limit: 20, reverse: false })) complete.valueOf();
"""


def faults(compiler: Compiler, folder: Path, *uses: tuple[Any, str]) -> dict[tuple[str, int], str]:
    """What the compiler finds wrong in texts, each with the types of an application: `0/used`, `1/used`
    and so on."""
    shutil.copytree(TYPESCRIPT / "src", folder / "src")
    for number, (app, used) in enumerate(uses):
        (folder / str(number)).mkdir()
        (folder / str(number) / "channels.ts").write_text(typescript(document(app)))
        (folder / str(number) / "used.ts").write_text(used)
    settings = json.loads((TYPESCRIPT / "tsconfig.json").read_text())
    settings["compilerOptions"] |= {
        "noEmit": True,
        "rootDir": ".",
        "module": "esnext",
        "moduleResolution": "bundler",
        "paths": {
            "fastapi-channels": ["./src/index.ts"],
            "fastapi-channels/fallback": ["./src/fallback.ts"],
        },
    }
    (folder / "tsconfig.json").write_text(json.dumps({**settings, "include": ["*/used.ts"]}))
    return compiler.faults_in(folder)


class Notices(Channel):
    room_pattern = "user:{name}"
    event_types = (Said,)


class Ticket(Channel):
    room_pattern = "ticket:{number:int}"

    @action()
    async def take(self, note: str) -> str: ...


def test_it_is_typed_by_what_the_server_says(compiler: Compiler, tmp_path: Path):
    app = create_app()
    Socket(Notices(), Ticket(), Room()).mount(app, "/tickets")
    found = faults(compiler, tmp_path, (app, USED))
    assert found.keys() == wrong_lines("0/used", USED), found


def test_the_examples_of_the_pages_are_right(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each with the types of the application that was declared last."""
    examples: list[tuple[Any, str]] = []
    for page in ("docs/guide/clients.md", "docs/zh/guide/clients.md"):
        for block in blocks((ROOT / page).read_text()):
            if block.language == "python" and block.runs:
                run([block], "an_example", page, monkeypatch)
                examples.append((vars(sys.modules["an_example"])["app"], ""))
            elif block.language == "ts":
                app, used = examples.pop()
                examples.append((app, used + block.source.strip() + "\n"))
    assert all(used for _, used in examples)
    assert faults(compiler, tmp_path, *examples) == {}
