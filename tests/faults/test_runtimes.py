"""The TypeScript client where it is not tested all the time: Deno, Bun and Hermes, as npm brings them; and
the cache that a browser has for the way back."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import async_playwright

from fastapi_channels.client import Client
from tests.client import test_alike
from tests.client.driven import TYPESCRIPT, Driven, bundled, driven
from tests.e2e.conftest import CHROMIUM, QUIET
from tests.support.live import process
from tests.support.npm import NODE, installed

SERVED: Final = ("tests.client.served:create_app", "--factory")
RUNTIMES: Final = {
    "deno": ("@deno/linux-x64-glibc", "2.9.6", "deno", "run", "--allow-net", "--allow-read"),
    "bun": ("@oven/bun-linux-x64", "1.4.5", "bin/bun", "run"),
}

HERMES: Final = {
    "@babel/core": "7.29.16",
    "@react-native/babel-preset": "0.88.1",
    "esbuild": "0.28.2",
    "hermes-compiler": "260318099.0.6",
    "hermes-engine-cli": "0.12.0",
    "react-native-url-polyfill": "4.0.0",
}
"""An engine of React Native of 2022, the last that npm has by itself; and the compiler of one of 2026."""
HERMESC: Final = "hermes-compiler/hermesc/linux64-bin/hermesc"
TRANSFORM: Final = """
import { transformSync } from "@babel/core";
import preset from "@react-native/babel-preset";
import { readFileSync, writeFileSync } from "node:fs";
const [from, to, profile] = process.argv.slice(2);
const options = { enableBabelRuntime: false, disableImportExportTransform: true };
const presets = [[preset, { ...options, unstable_transformProfile: profile }]];
const given = { presets, configFile: false, babelrc: false, sourceType: "script", filename: from };
writeFileSync(to, transformSync(readFileSync(from, "utf8"), given).code);
"""


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_all_that_passes_passes_there_too(runtime: str):
    package, version, path, *words = RUNTIMES[runtime]
    try:
        folder = await asyncio.to_thread(installed, runtime, {package: version})
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"npm cannot install {runtime}: {exc}")
    program = folder / "node_modules" / package / path

    @asynccontextmanager
    async def there(url: str) -> AsyncIterator[Driven]:
        program.chmod(0o755)
        async with driven(str(program), *words, "test/driver.ts", url, folder=TYPESCRIPT) as client:
            yield client

    await test_alike.test_all_that_passes_between_the_two(there)


def test_it_passes_in_the_engine_of_react_native(tmp_path: Path):
    """As Metro does: through the Babel of React Native. A current engine gets less of that, and compiles."""
    try:
        folder = installed("hermes", HERMES)
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"npm cannot install hermes: {exc}")
    packages = folder / "node_modules"

    def run(program: str | Path, *words: str | Path) -> str:
        done = subprocess.run(
            [program, *words], cwd=folder, capture_output=True, text=True, timeout=300, check=True
        )
        return done.stdout

    native, transform, bundle = tmp_path / "native.js", folder / "transform.mjs", tmp_path / "bundle.js"
    native.write_text("export const NativeModules = {};")
    transform.write_text(TRANSFORM)
    how = ("--bundle", "--format=iife", "--target=es2022", f"--alias:react-native={native}")
    paths = {**os.environ, "NODE_PATH": str(packages)}
    words = [NODE, packages / "esbuild/bin/esbuild", "test/hermes.ts", *how, f"--outfile={bundle}"]
    subprocess.run(words, cwd=TYPESCRIPT, env=paths, check=True, capture_output=True, timeout=300)
    engine, compiler = packages / "hermes-engine-cli/linux64-bin/hermes", packages / HERMESC
    for profile in ("default", "hermes-stable"):
        run(NODE, transform, bundle, tmp_path / f"{profile}.js", profile)
    for program in (engine, compiler):
        program.chmod(0o755)
    told = run(engine, tmp_path / "default.js")
    code = tmp_path / "code.hbc"
    run(compiler, "-w", "-emit-binary", "-out", code, tmp_path / "hermes-stable.js")
    assert json.loads(told) == [
        *("joined", "ws://example.com/app/rooms/l%C3%B6bby", ["fastapi-channels.1", "bearer.t"]),
        *(5, 0, 1, "hi", "joined", "e:1", 2, "left"),
    ]
    assert code.stat().st_size > 0


async def test_a_page_comes_back_from_the_cache_of_the_browser_with_what_it_missed():
    bundle = await asyncio.to_thread(bundled)
    async with process(*SERVED) as server, async_playwright() as playwright:
        # The one without windows keeps no page.
        path = next(filter(None, map(shutil.which, CHROMIUM[1:])), None)
        if path is None:
            pytest.skip("no Chromium on PATH")
        browser = await playwright.chromium.launch(
            executable_path=path,
            args=[*QUIET, "--headless=new"],
            ignore_default_args=["--disable-back-forward-cache"],
        )
        page, url = await browser.new_page(), server.site.http
        await page.goto(f"{url}/page")
        await page.add_script_tag(content=bundle)
        await page.evaluate(
            "(url) => { window.told = []; window.run = clients.driven(url, (it) => told.push(it)); }", url
        )
        room = {"do": "room", "id": "a", "address": "/rooms/{channel}", "parameters": {"channel": "lobby"}}
        await page.evaluate("(room) => run(room)", room)
        await page.wait_for_function("told.some(({ state }) => state === 'joined')")
        await page.goto(f"{url}/page?other")
        async with Client(url, proxy=None) as client:
            await client.room("/rooms/{channel}", channel="lobby").call("say", {"text": "meanwhile"})
        await page.go_back(wait_until="commit")  # it is not loaded
        if not await page.evaluate("'told' in window"):
            pytest.skip("this browser keeps no page")
        await page.wait_for_function("told.some(({ said }) => said?.text === 'meanwhile')")
        states = await page.evaluate("told.flatMap(({ state, gap, fault }) => state ?? gap ?? fault ?? [])")
        assert states == ["joined", "joining", "joined"], "and no gap, and no fault"
        await browser.close()
