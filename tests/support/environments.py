"""Python environments of a test's own, with what pip installs there; and this one without a package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def environment(folder: Path, *what: str) -> Path:
    """The interpreter of a new environment in `folder`, with `what` pip is told to install. It blocks."""
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    for words in (
        [sys.executable, "-m", "venv", "--without-pip", str(folder)],
        [*pip, "install", "--quiet", *what],
    ):
        subprocess.run(words, check=True, timeout=300)
    return python


def without(package: str, ours: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `package` were not installed, for a module of ours, and those in it, that are imported when they
    are needed; that all others do without it, tests/test_layout.py shows."""
    for name in [*sys.modules, package]:
        if f"{name}.".startswith(f"{package}."):
            monkeypatch.setitem(sys.modules, name, None)
        elif f"{name}.".startswith(f"fastapi_channels.{ours}."):
            monkeypatch.delitem(sys.modules, name)
