"""`fastapi-channels doctor --app`: what is said of an application that does not run."""

from __future__ import annotations

import sys

import pytest

from fastapi_channels.__main__ import main
from fastapi_channels.commands import examination
from tests.commands import sites

SITES = sites.__name__


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHANNELS_URL", examination.WORKERS):
        monkeypatch.delenv(name, raising=False)


def told(capsys: pytest.CaptureFixture[str], app: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit status, and what is found, by what it is about."""
    status = main(["doctor", "--app", f"{SITES}:{app}"])
    out, err = capsys.readouterr()
    assert err == ""
    rows = [line.split(maxsplit=2) for line in out.splitlines()]
    found: dict[str, tuple[str, str]] = {}
    for state, about, text in rows:
        found.setdefault(about, (state, text))
    return status, found


def test_nothing_is_wrong(capsys: pytest.CaptureFixture[str]):
    status, found = told(capsys, "sound")
    assert status == 0
    assert {state for state, _ in found.values()} == {"ok"}
    assert found["python"][1].startswith(".".join(map(str, sys.version_info[:3])))
    assert {"fastapi", "starlette", "uvicorn", "websockets", "redis", "extras"} <= found.keys()
    assert found["origins"][1] == "https://chat.example"


def test_what_may_be_meant_is_asked_about(capsys: pytest.CaptureFixture[str]):
    status, found = told(capsys, "doubtful")
    assert status == 0
    doubts = {about: text for about, (state, text) in found.items() if state == "look"}
    assert doubts.keys() == {"origins", "broker", "shutdown", "Open"}
    assert "allowed_origins=" in doubts["origins"]
    assert "url=" in doubts["broker"]
    assert "authenticator" in doubts["Open"]


def test_an_island_for_each_worker_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(examination.WORKERS, "4")
    status, found = told(capsys, "doubtful")
    assert status == 1
    assert found["broker"][0] == "wrong"


def test_what_is_there_and_does_not_fit_is_wrong(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    has = {"fastapi": "0.9.1", "redis": None, "aiormq": "6.0"}
    monkeypatch.setattr(examination, "_installed", lambda name: has.get(name, "99.0"))
    status, found = told(capsys, "sound")
    assert status == 1
    assert {about for about, (state, _) in found.items() if state == "wrong"} == {"fastapi", "aiormq"}
    assert 'pip install --upgrade "fastapi>=' in found["fastapi"][1]
    assert "not installed: django, redis: pip install " in found["extras"][1]


def test_what_fails_with_its_first_connection_is_said_before(capsys: pytest.CaptureFixture[str]):
    status, found = told(capsys, "without")
    assert (status, found["store"][0], found["Kept"][0]) == (1, "look", "wrong")
    assert "store_url=" in found["Kept"][1]


def test_an_application_without_channels_is_told_how(capsys: pytest.CaptureFixture[str]):
    status, found = told(capsys, "empty")
    assert (status, found["application"][0]) == (1, "wrong")
    assert "add_channel(app)" in found["application"][1]
