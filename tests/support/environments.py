"""Python environments of a test's own, with what pip installs there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


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
