"""Where a command writes what it makes: into a file, or to the terminal."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fastapi_channels.exceptions import ConfigurationError


def add_output(parser: argparse.ArgumentParser, kinds: str) -> None:
    parser.add_argument("-o", "--output", type=Path, help=f"a file{kinds}; else it is printed")


def write(text: str, path: Path | None) -> None:
    """
    Raises:
        ConfigurationError: the file cannot be written.
    """
    if path is None:
        sys.stdout.write(text)
        return
    try:
        path.write_text(text, encoding="utf-8", newline="\n")
    except OSError as exc:
        raise ConfigurationError(f"{str(path)!r} cannot be written: {exc.strerror or exc}") from None
