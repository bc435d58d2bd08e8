"""`fastapi-channels connect`: talks to a channel by hand."""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from threading import Thread
from typing import Any, Final, TextIO
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

from fastapi_channels.client import ActionError, Client, ClientError, Gap, Refused, Room
from fastapi_channels.contract.parsed import Parsed, role
from fastapi_channels.exceptions import ConfigurationError

HELP: Final = """\
action name=value …   calls an action; a value is JSON, else a text
/stream action …      reads an action that streams
/leave                ends it, as Ctrl-D and Ctrl-C do"""
PATIENCE: Final = 2.0
"""Seconds that the names of the actions may take: they are a help, and may be missing."""


def add(commands: Any) -> None:
    """Tell the parser's `commands` of this one."""
    parser = commands.add_parser("connect", help="talk to a channel: call actions, see what is told")
    parser.add_argument("url", help="of the WebSocket: ws://127.0.0.1:8000/rooms/lobby")
    add_headers(parser)
    parser.add_argument("--since", default="", help="a position: what came after it is told first")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> None:
    with suppress(KeyboardInterrupt), _terminal():
        asyncio.run(_talk(given.url, headers_of(given), given.since))


def add_headers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME:VALUE", help="of the handshake"
    )


def headers_of(given: argparse.Namespace) -> dict[str, str]:
    """
    Raises:
        ConfigurationError: one is none.
    """
    return dict(_pair(each, ":") for each in given.header)


async def _talk(url: str, headers: dict[str, str], since: str) -> None:
    async with Client(url, headers=headers) as client:
        room = client.room("", since=since)
        room.on_any(lambda data, about: _show(about.event, data))
        room.on_frame(lambda frame: _show("frame", frame))
        room.on_gap(lambda gap: _note(_gap(gap)))
        room.on_state(lambda state: _note(_state(room)))
        try:
            await room.ready()
        except Refused as exc:
            raise ClientError(f"{url} refuses: {exc}") from exc
        _note(HELP)
        read = _input().readline
        if sys.stdin.isatty() and sys.stdout.isatty():
            read = partial(_ask, await asyncio.to_thread(_actions, url))
        await _listen(room, read)


async def _listen(room: Room, read: Callable[[], str]) -> None:
    """Carry out what is typed, line by line, until there is no more."""
    while line := await _apart(read):
        try:
            words = shlex.split(line)
            if words == ["/leave"]:
                return
            if words[:1] == ["/stream"]:
                async with room.stream(words[1], fields(words[2:])) as items:
                    async for item in items:
                        _show(words[1], item)
            elif words and words[0].startswith("/"):
                _note(HELP)
            elif words:
                _show("ok", await room.call(words[0], fields(words[1:])))
        except ActionError as exc:
            _show(exc.code, exc.errors)
        except IndexError:  # /stream alone
            _note(HELP)
        except (ClientError, ConfigurationError, ValueError) as exc:
            _note(str(exc))
        if room.state == "refused":
            return


async def _apart(read: Callable[[], str]) -> str:
    """What is read in a thread that nobody waits for at the end: Ctrl-C has no line."""
    line: Future[str] = Future()
    line.set_running_or_notify_cancel()

    def work() -> None:
        try:
            line.set_result(read())
        except BaseException as exc:
            line.set_exception(exc)

    Thread(target=work, daemon=True).start()
    return await asyncio.wrap_future(line)


@contextmanager
def _terminal() -> Iterator[None]:
    """Leaves a terminal as it was, also where a line was asked for and did not come."""
    try:
        import termios
    except ImportError:  # not everywhere
        yield
        return
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _input() -> TextIO:
    """The standard input once more: when Python ends it locks sys.stdin, which a thread may hold."""
    given = sys.stdin
    return open(given.fileno(), encoding=given.encoding, errors=given.errors, closefd=False)


def _ask(names: Sequence[str]) -> str:
    """A line of a terminal; the tab key completes names of actions."""
    with suppress(ImportError):  # not everywhere
        import readline

        readline.set_completer(partial(completion, names))
        readline.parse_and_bind("tab: complete")
    try:
        return input() + "\n"
    except EOFError:
        return ""


def completion(names: Sequence[str], text: str, number: int) -> str | None:
    """The name of that number among those that begin with a text; None beyond them."""
    found = [name for name in names if name.startswith(text)]
    return found[number] if number < len(found) else None


def _actions(url: str) -> list[str]:
    """The names of the actions in the application's AsyncAPI document, where that is served."""
    parts = urlsplit(url)
    place = urlunsplit((parts.scheme.replace("ws", "http", 1), parts.netloc, "/asyncapi.json", "", ""))
    try:
        with urlopen(place, timeout=PATIENCE) as response:  # noqa: S310 - http, or https
            return actions(json.load(response))
    except (OSError, ValueError, KeyError):
        return []


def actions(document: Mapping[str, Any]) -> list[str]:
    """The names of all actions in an AsyncAPI document."""
    operations = Parsed(document).whole["operations"].values()
    return sorted({each["title"] for each in operations if role(each["messages"][0]) == "request"})


def fields(words: Iterable[str]) -> dict[str, Any]:
    """The fields that `name=value` words say.

    Raises:
        ConfigurationError: a word is none.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, text = _pair(word, "=")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _pair(word: str, sign: str) -> tuple[str, str]:
    name, found, text = word.partition(sign)
    if not found or not name:
        raise ConfigurationError(f"expected name{sign}value, got {word!r}")
    return name, text.strip()


def _state(room: Room) -> str:
    if room.refusal is None and room.line == "waiting":
        return "no connection: it is tried again"
    return str(room.refusal or room.state)


def _gap(gap: Gap) -> str:
    return f"something may be missing: {gap.reason}" + (f", {gap.dropped} frames" if gap.dropped else "")


def _show(what: str, data: Any) -> None:
    print(what, json.dumps(data, ensure_ascii=False), flush=True)


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
