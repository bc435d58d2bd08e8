"""Ten thousand clients that connect, and never say who they are."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from fastapi_channels.auth.authenticator import MAX_WAITING
from tests.support.live import RawClient, Site, process

CLIENTS: Final = 10_000
AT_ONCE: Final = 100
MOST: Final = 200 * 1024
"""Kilobytes that the server may grow by beyond its first thousand clients. Each that was told to go, and is
not gone yet, takes 17 for a while: 153 MB where the machine is fast. If all waited, it would be 240."""


@asynccontextmanager
async def many_files() -> AsyncIterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = CLIENTS + 1000
    if before[1] != resource.RLIM_INFINITY and before[1] < wanted:
        pytest.skip(f"this machine gives a process {before[1]} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before[0], wanted), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def kilobytes(pid: int) -> int:
    """What a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0])


async def come(site: Site) -> RawClient:
    client = RawClient()
    await client.send_handshake(site, "/tea")
    assert (await client.read_head()).startswith("HTTP/1.1 101 ")
    return client


async def test_they_are_bounded_and_others_unharmed():
    headers = {"additional_headers": {"Authorization": "Bearer ada"}}
    async with many_files(), process("tests.faults.silent:app") as server:
        site = server.site
        assert server._process is not None
        silent: list[RawClient] = []
        try:
            async with site.connect("/tea", **headers) as ada:
                sizes: list[int] = []
                while len(silent) < CLIENTS:
                    silent += await asyncio.gather(*(come(site) for _ in range(AT_ONCE)))
                    assert (await ada.call("quick"))["data"] == "quick"
                    if len(silent) in (MAX_WAITING, CLIENTS):
                        sizes.append(kilobytes(server._process.pid))
                assert (await silent[0].closed()).code == 4501
                assert (await silent[CLIENTS - MAX_WAITING - 1].closed()).code == 4501
                async with site.connect("/tea") as bob:
                    await bob.send({"type": "auth", "token": "bob"})
                    assert (await bob.receive())["type"] == "authenticated"
                assert sizes[1] - sizes[0] < MOST, sizes
        finally:
            for client in silent:
                client.close()
