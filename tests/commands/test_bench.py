"""`fastapi-channels bench`, against a server in this process."""

from __future__ import annotations

import asyncio
import os
import re
from contextlib import redirect_stderr, suppress

import pytest
from fastapi import FastAPI

from fastapi_channels import Channel, Connection, action, add_channel, limiter
from fastapi_channels.__main__ import main
from fastapi_channels.commands.bench import PATIENCE, WIDTH
from tests.support.live import serving


class Room(Channel):
    max_connection = 3

    @action()
    async def say(self, text: str, connection: Connection) -> str:
        await self.broadcast(connection.room, "said", text)
        return text

    @action()
    async def never(self) -> None:
        await asyncio.Event().wait()

    @limiter(times=1, hours=1)
    @action()
    async def rarely(self) -> str:
        return "ok"


class Kept(Channel):
    history = 10


def application() -> FastAPI:
    app = FastAPI()
    add_channel(app)
    Kept().mount(app, "/kept/{channel}")
    Room().mount(app, "/rooms/{channel}")
    return app


async def measured(capsys: pytest.CaptureFixture[str], path: str, *words: str) -> tuple[int, list[str]]:
    async with serving(application()) as site:
        url = f"ws://127.0.0.1:{site.port}{path}"
        status = await asyncio.to_thread(main, ["bench", url, *words, "--seconds", "0.2"])
    out, err = capsys.readouterr()
    assert err == "", "there is no bar where there is no terminal"
    return status, out.splitlines()


async def test_pings_are_round_trips(capsys: pytest.CaptureFixture[str]):
    status, lines = await measured(capsys, "/rooms/a", "--connections", "2")
    assert status == 0
    opened, trips, latency = lines
    assert re.fullmatch(r"connections: 2 of 2 opened in \d+\.\d\d s", opened)
    assert re.fullmatch(r"round trips: [\d,]+ in \d+\.\d s, [\d,]+ a second", trips)
    figures = re.fullmatch(r"latency: (\S+) ms half, (\S+) ms all but a hundredth, (\S+) ms longest", latency)
    assert figures is not None
    half, most, longest = map(float, figures.groups())
    assert 0 < half <= most <= longest


async def test_an_action_is_called_and_what_else_comes_is_counted(capsys: pytest.CaptureFixture[str]):
    status, lines = await measured(capsys, "/rooms/a", "say", "text=hello", "--connections", "2")
    assert status == 0
    trips, events = (int(re.sub(r"\D", "", lines[place].split(" ")[at])) for place, at in ((1, 2), (3, 1)))
    assert events >= trips, "each of them hears both"
    status, lines = await measured(capsys, "/rooms/a", "rarely", "--connections", "1")
    assert status == 0
    assert re.fullmatch(r"answered with rate_limited: [\d,]+", lines[3])


@pytest.mark.parametrize(
    ("name", "trips", "codes"), [("never", 0, []), ("nevver", 20, ["answered with unknown_action: 20"])]
)
async def test_what_is_not_answered_ends_with_its_time(
    name: str, trips: int, codes: list[str], capsys: pytest.CaptureFixture[str]
):
    """A client that is mistaken too often is answered no more."""
    async with asyncio.timeout(PATIENCE):
        status, lines = await measured(capsys, "/rooms/a", name, "--connections", "1")
    assert status == 1
    assert lines[1].startswith(f"round trips: {trips} in ")
    assert lines[-1 - len(codes) :] == [*codes, "not answered: 1"]


async def test_a_room_with_a_history_is_joined_before_its_welcome(capsys: pytest.CaptureFixture[str]):
    status, lines = await measured(capsys, "/kept/a", "--connections", "2")
    assert status == 0
    assert lines[0].startswith("connections: 2 of 2 opened")


async def test_who_is_refused_is_told(capsys: pytest.CaptureFixture[str]):
    status, lines = await measured(capsys, "/rooms/a", "--connections", "5")
    assert status == 1
    assert lines[0].startswith("connections: 3 of 5 opened")
    assert lines[3] == "refused: channel_full: 2"
    status, lines = await measured(capsys, "/nowhere", "--connections", "1")
    assert (status, lines[1].split(" in ")[0]) == (1, "round trips: 0")
    assert lines[2].startswith("refused: HTTP 40")


@pytest.mark.parametrize(
    "words", [("--connections", "0"), ("--connections", "60000"), ("--seconds", "0"), ("--seconds", "nan")]
)
def test_there_are_bounds(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["bench", "ws://127.0.0.1:1/", *words])
    assert f"argument {words[0]}: " in capsys.readouterr().err


def in_terminal(*words: str) -> tuple[int, str]:
    """The exit status, and what a terminal that is standard error has been written."""
    keyboard, screen = os.openpty()
    written = b""
    with open(keyboard, "rb", buffering=0) as seen:
        with open(screen, "w") as terminal, redirect_stderr(terminal):
            status = main([*words])
        with suppress(OSError):  # in place of an end, once the other side is closed
            while part := seen.read(65536):
                written += part
    return status, written.decode()


async def test_a_terminal_shows_how_much_is_done_and_then_nothing_of_it():
    async with serving(application()) as site:
        words = ("bench", f"ws://127.0.0.1:{site.port}/rooms/a", "--connections", "2", "--seconds", "0.7")
        status, written = await asyncio.to_thread(in_terminal, *words)
    assert status == 0
    bars = re.findall(r"\r\[(#*)(\.*)\] ([\d,]+) round trips ", written)
    assert len(bars) >= 3
    assert {len(done) + len(rest) for done, rest, _ in bars} == {WIDTH}
    trips = [int(number.replace(",", "")) for *_, number in bars]
    assert trips == sorted(trips)
    assert trips[-1] > 0
    # That of the connections comes first: it begins anew for the round trips.
    measuring = [len(done) for (done, *_), number in zip(bars, trips, strict=True) if number]
    assert measuring == sorted(measuring)
    assert 0 < measuring[-1] < WIDTH
    assert written.endswith("\r\x1b[K"), "the line is empty again for what comes after it"
