"""What is said of an application that does not run: its versions, its settings and its channels."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from typing import Any, Final, Literal, NamedTuple

from fastapi_channels.channels.base import BaseChannel
from fastapi_channels.channels.socket import Socket
from fastapi_channels.cluster.node import Node
from fastapi_channels.contract.served import Endpoint, endpoints
from fastapi_channels.exceptions import ConfigurationError
from fastapi_channels.operations.jobs.job import jobs_of
from fastapi_channels.permission import ALLOW

PACKAGE: Final = "fastapi-channels"
NAMED: Final = ("fastapi", "starlette", "pydantic", "uvicorn", "websockets", "redis")
"""The packages whose versions are told also where they are right."""
REQUIREMENT: Final = re.compile(
    r"""([\w.-]+) (?:\[.*?\])? [\s(]* >= \s* ([\d.]+) .*? (?:;.*extra\s*==\s*["']([\w-]+)["'])?\s*""",
    re.VERBOSE,
)
WORKERS: Final = "WEB_CONCURRENCY"
"""In the environment: how many workers uvicorn and gunicorn start, unless they are told."""


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        state: `ok`; `look` for what may be meant, or not; `wrong` for what cannot be.
        about: what it is.
        text: what was found and, where it is not `ok`, what to do.
    """

    state: Literal["ok", "look", "wrong"]
    about: str
    text: str


def examine(app: Any) -> Iterator[Finding]:
    """All that can be said of `app` without starting it."""
    yield from _versions()
    node = Node.attached(app)
    if node is None:
        yield Finding("wrong", "application", "it has no channels yet: call add_channel(app)")
        return
    found = list(endpoints(app))
    yield _origins(node)
    yield _broker(node)
    yield _store(node)
    yield from _tried("jobs", partial(_jobs, node, app))
    yield _bans(node)
    yield _shutdown(node)
    if not found:
        yield Finding("look", "channels", "none is mounted: Room().mount(app, '/rooms/{channel}')")
    for endpoint in found:
        yield from _channel(node, endpoint)


def _versions() -> Iterator[Finding]:
    needed = str(metadata(PACKAGE)["Requires-Python"]).removeprefix(">=")
    yield _compared("python", ".".join(map(str, sys.version_info[:3])), needed)
    lowest: dict[str, str] = {}
    extras: dict[str, list[str]] = {}
    for line in requires(PACKAGE) or ():
        if (match := REQUIREMENT.fullmatch(line)) is not None:
            name, bound, extra = match.groups()
            lowest[name] = max(bound, lowest.get(name, bound), key=_numbers)
            if extra not in (None, "all", "demo"):
                extras.setdefault(extra, []).append(name)
    installed = {name: _installed(name) for name in lowest}
    for name, bound in lowest.items():
        if (has := installed[name]) is not None:
            compared = _compared(name, has, bound)
            if name in NAMED or compared.state != "ok":
                yield compared
    yield _extras(extras, installed)


def _compared(name: str, has: str, bound: str) -> Finding:
    if _numbers(has) >= _numbers(bound):
        return Finding("ok", name, f"{has}, {bound} or later is needed")
    what = "run a later one" if name == "python" else f'pip install --upgrade "{name}>={bound}"'
    return Finding("wrong", name, f"{has} is too old: {what}")


def _numbers(text: str) -> list[int]:
    return [int(each) for each in re.findall(r"\d+", text)[:3]]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _extras(extras: Mapping[str, list[str]], installed: Mapping[str, str | None]) -> Finding:
    missing = [extra for extra, names in extras.items() if any(installed[name] is None for name in names)]
    there = ", ".join(extra for extra in extras if extra not in missing) or "none"
    if not missing:
        return Finding("ok", "extras", there)
    install = f'pip install "{PACKAGE}[{missing[0]}]" for one that is needed'
    return Finding("ok", "extras", f"{there}; not installed: {', '.join(missing)}: {install}")


def _origins(node: Node) -> Finding:
    allowed = node.settings.allowed_origins
    if allowed is None:
        return Finding("ok", "origins", "pages of the server's own origin alone")
    if "*" in allowed:
        return Finding(
            "look",
            "origins",
            "a page of anybody may connect as whoever looks at it: name yours, allowed_origins=['https://…']",
        )
    return Finding("ok", "origins", ", ".join(sorted(allowed)) or "none")


def _broker(node: Node) -> Finding:
    if not node.broker.local:
        return Finding("ok", "broker", "all processes share it; --url asks whether it answers")
    workers = os.environ.get(WORKERS, "1")
    if workers.isdecimal() and int(workers) > 1:
        return Finding(
            "wrong",
            "broker",
            f"memory:// with {WORKERS}={workers}: each worker is an island: "
            "give url='redis://…', or serve with one",
        )
    return Finding("look", "broker", "memory:// serves one process alone: for more give url='redis://…'")


def _store(node: Node) -> Finding:
    if node.store is None:
        return Finding(
            "look", "store", "none, so nobody counts over processes: give store_url='redis://…' for that"
        )
    return Finding("ok", "store", "all processes share it" if node.store.shared else "that of this process")


def _jobs(node: Node, app: Any) -> None:
    """
    Raises:
        ConfigurationError: those of the channels cannot be run.
    """
    for job in jobs_of(app, ()):
        node.rooms.check_store(f"the job {job.name!r}")


def _tried(about: str, what: Callable[[], None]) -> Iterator[Finding]:
    """What the start of the application, or a first connection, would fail with."""
    try:
        what()
    except ConfigurationError as exc:
        yield Finding("wrong", about, str(exc))


def _bans(node: Node) -> Finding:
    if node.settings.bans:
        return Finding("ok", "bans", "each handshake asks for them")
    return Finding("ok", "bans", "off: `ban` refuses nobody without add_channel(bans=True)")


def _shutdown(node: Node) -> Finding:
    seconds = node.settings.drain_seconds
    if seconds:
        return Finding("ok", "shutdown", f"clients are let go over at most {seconds:g} s")
    return Finding(
        "look", "shutdown", "all clients come back at once after a deploy: leave drain_seconds above 0"
    )


def _channels_of(endpoint: Endpoint) -> list[BaseChannel]:
    owner = endpoint.owner
    return list(owner.channels) if isinstance(owner, Socket) else [owner]


def _channel(node: Node, endpoint: Endpoint) -> Iterator[Finding]:
    """Who may enter, as far as that can be read."""
    is_asked = endpoint.owner.authenticator is not None or endpoint.dependant.dependencies
    for channel in _channels_of(endpoint):
        plan, where = channel._plan, endpoint.address
        yield from _tried(plan.name, partial(BaseChannel._claim, channel, node))
        if is_asked or any(
            each is not ALLOW for each in (node.settings.permission, plan._permission, plan._entry)
        ):
            yield Finding("ok", plan.name, f"{where}: not everybody may enter, as it seems")
        else:
            yield Finding(
                "look",
                plan.name,
                f"{where}: everybody may enter: give it an authenticator, permission_classes or authorize()",
            )
