"""The guide's examples for Celery and Django, in a real worker and a real request handler."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from django.conf import settings
from django.test import RequestFactory
from fastapi import WebSocket

from fastapi_channels import Channel
from tests.channels.test_publisher import listening
from tests.docs.test_docs import blocks, run
from tests.support.live import ROOT, application, serving
from tests.support.servers import RedisServer

CELERY, DJANGO = 2, 3
"""Which section of the page is about it."""
each_language = pytest.mark.parametrize(
    "page", [ROOT / "docs" / folder / "publishing.md" for folder in ("guide", "zh/guide")], ids=["en", "zh"]
)


def example(page: Path, section: int) -> Any:
    """The Python block under one of the headings of the page."""
    python = [block for block in blocks(page.read_text()) if block.language == "python"]
    return python[section]


@contextmanager
def worker(folder: Path, url: str) -> Iterator[None]:
    """A Celery worker that forks two processes."""
    words = ("--app", "tasks", "worker", "--pool", "prefork", "--concurrency", "2", "--loglevel", "warning")
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "celery", *words],
            cwd=folder,
            env={**os.environ, "CHANNELS_URL": url, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        yield
        process.terminate()
        assert process.wait(20) == 0, (folder / "log").read_text()


@pytest.mark.fault  # long: Celery starts three processes
@each_language
async def test_a_task_in_a_forked_worker_speaks_to_a_user(
    page: Path, tmp_path: Path, mortal_redis: RedisServer
):
    class Room(Channel): ...

    room = Room()
    app = application(room, url=mortal_redis.url)

    @app.websocket("/as/{user}")
    async def endpoint(websocket: WebSocket, user: str) -> None:
        await room.connect(websocket, "lobby", user=user)

    (tmp_path / "tasks.py").write_text(example(page, CELERY).source)
    queue = Celery("tasks", broker=mortal_redis.url)
    async with serving(app) as site, site.connect("/as/ada") as ada:
        await listening(site.node)
        with worker(tmp_path, mortal_redis.url):
            for number in range(10):
                await asyncio.to_thread(queue.send_task, "tasks.finish_report", ("ada", number))
            frames = [await ada.receive(within=40) for _ in range(10)]
            await asyncio.to_thread(queue.close)
    assert sorted(frame["data"]["number"] for frame in frames) == list(range(10))
    assert {frame["event"] for frame in frames} == {"report_ready"}


@each_language
async def test_a_view_speaks_to_a_room(
    page: Path, monkeypatch: pytest.MonkeyPatch, shared_redis: RedisServer
):
    if not settings.configured:
        settings.configure()
    settings.ALLOWED_HOSTS = ["*"]
    block = example(page, DJANGO)
    block = block._replace(source=block.source.replace("redis://localhost:6379", shared_redis.url))
    run([block], "a_view", str(page), monkeypatch)
    view = sys.modules["a_view"]
    request: Any = RequestFactory().post("/tickets/7/close")
    request.user = "ada"
    async with (
        serving(application(Channel(), url=shared_redis.url)) as site,
        site.connect("/ticket:7") as client,
    ):
        response = await asyncio.to_thread(view.close_ticket, request, 7)
        assert response.status_code == 204
        assert (await client.receive())["data"] == {"by": "ada"}
    view.publisher.close()
