"""The command line: `fastapi-channels`, or `python -m fastapi_channels`."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence
from typing import Final

from .commands import (
    asyncapi,
    asyncapi_diff,
    ban,
    bench,
    connect,
    doctor,
    jobs,
    kick,
    listen,
    members,
    publish,
    rooms,
    top,
    typescript,
)
from .exceptions import ChannelsError

COMMANDS: Final = (
    *(publish, listen, connect, bench, doctor, top, rooms, members, kick, ban, jobs),
    *(asyncapi, asyncapi_diff, typescript),
)
FAILED: Final = 2
"""The exit status of a command that cannot do its work, as of words that the parser does not know."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    parser = argparse.ArgumentParser("fastapi-channels", description="Channels for FastAPI WebSockets.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    given = parser.parse_args(arguments)
    try:
        status: int | None = given.run(given)
    except ChannelsError as exc:
        print(f"fastapi-channels: {exc}", file=sys.stderr)
        return FAILED
    except Exception:  # of the application, most likely: where it is, Python says
        traceback.print_exc()
        return FAILED
    return status or 0


if __name__ == "__main__":
    sys.exit(main())
