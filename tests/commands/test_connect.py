"""`fastapi-channels connect`, as somebody types it."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
import termios
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from fastapi_channels.__main__ import main
from fastapi_channels.commands.connect import actions, completion, fields
from fastapi_channels.contract.document import document
from fastapi_channels.exceptions import ConfigurationError
from tests.client.served import create_app
from tests.support.live import DEADLINE, serving
from tests.support.programs import Running, program
from tests.support.servers import free_port


def connecting(url: str, **how: Any) -> AbstractAsyncContextManager[Running]:
    words = (sys.executable, "-m", "fastapi_channels", "connect", url)
    return program(*words, env={"no_proxy": "127.0.0.1", "TERM": "dumb"}, **how)


async def typed(url: str, *lines: str) -> tuple[str, str, int | None]:
    reads, writes = os.pipe()
    os.write(writes, "".join(f"{line}\n" for line in lines).encode())
    os.close(writes)
    async with connecting(url, stdin=reads) as it:
        os.close(reads)
        out, err = await asyncio.gather(it.stdout.read(), it.stderr.read())
        return out.decode(), err.decode(), await it.wait()


async def test_actions_are_called_and_what_is_told_is_shown():
    async with serving(create_app()) as site:
        url = f"ws://127.0.0.1:{site.port}/rooms/lobby"
        lines = [
            "say text='hello you'",
            "say text=don't",
            "/stream count upto=2",
            "refused",
            "say",
            "oops wrong",
            "/help",
            "/leave",
            "say",
        ]
        out, err, status = await typed(url, *lines)
        assert out.splitlines()[:2] in (
            ['said {"text": "hello you"}', "ok 9"],
            ["ok 9", 'said {"text": "hello you"}'],
        )
        assert out.splitlines()[2:5] == ["count 0", "count 1", 'permission_denied "Permission Denied"']
        assert out.splitlines()[5].startswith("invalid_payload ")
        assert len(out.splitlines()) == 6  # no command is taken for an action
        assert err.count("/leave  ") == 2
        assert "joined" in err
        assert "expected name=value, got 'wrong'" in err
        assert "No closing quotation" in err
        assert status == 0
        out, err, status = await typed(url.replace("lobby", "closed"))
        assert (out, status) == ("", 2)
        assert "refuses: permission_denied" in err


async def test_a_server_that_is_not_there_is_told_of():
    async with connecting(f"ws://127.0.0.1:{free_port()}/") as it, asyncio.timeout(DEADLINE):
        said = await it.stderr.readuntil(b"no connection: it is tried again\n")
        assert said.startswith(b"no connection")


def test_values_are_json_or_texts():
    words = ["a=1", "b=[1, 2]", "c=hello", "d=a=b", 'e="1"', "f="]
    assert fields(words) == {"a": 1, "b": [1, 2], "c": "hello", "d": "a=b", "e": "1", "f": ""}
    with pytest.raises(ConfigurationError, match="expected name=value, got 'x'"):
        fields(["x"])


async def test_on_a_terminal_it_ends_while_it_asks():
    ours, theirs = pty.openpty()
    before = termios.tcgetattr(theirs)
    async with serving(create_app()) as site:
        url = f"ws://127.0.0.1:{site.port}/rooms/lobby"
        async with connecting(url, stdin=theirs, stdout=theirs) as it, asyncio.timeout(30):
            os.write(ours, b"say text=hello\n")
            out = b""
            while b"ok 5" not in out:
                out += await asyncio.to_thread(os.read, ours, 1000)
            while termios.tcgetattr(theirs) == before:  # until it asks for the next line
                await asyncio.sleep(0.01)
            it.process.send_signal(signal.SIGINT)
            err = await it.stderr.read()
            assert (await it.wait(), b"Traceback" in err) == (0, False), err
        assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def test_names_of_actions():
    names = actions(document(create_app()))
    assert {"say", "count", "sure"} <= set(names)
    assert "cancel" not in names
    assert [completion(names, "s", number) for number in range(3)] == ["say", "sure", None]


def test_a_header_is_a_name_and_a_value(capsys: pytest.CaptureFixture[str]):
    assert main(["connect", "ws://127.0.0.1:1", "--header", "nothing"]) == 2
    assert "expected name:value, got 'nothing'" in capsys.readouterr().err
