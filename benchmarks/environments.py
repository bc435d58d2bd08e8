"""An environment for each system, made when it is first needed and kept in a cache folder."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from .systems import System

ROOT: Final = Path(__file__).parents[1]
CONSTRAINTS: Final = Path(__file__).parent / "constraints"
INSTALL_TIMEOUT: Final = 600


class Unavailable(Exception):
    """What is needed is not here; says what."""


class Environments:
    """The environments in one cache folder."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        cache.mkdir(parents=True, exist_ok=True)

    def bin(self, system: System) -> Path:
        """The folder of the environment's programs; makes it where it is missing or out of date.

        Raises:
            Unavailable: it cannot be made here.
        """
        folder = self.cache / system.environment
        if system.npm:
            self._install_node(folder, system)
            return folder
        stamp = folder / "made-for"
        wanted = self._fingerprint(system)
        if not stamp.exists() or stamp.read_text() != wanted:
            self._install(folder, system)
            stamp.write_text(wanted)
        return folder / "bin"

    def versions(self, system: System) -> dict[str, str]:
        """The pinned versions, by the name of the package."""
        if system.npm:
            return dict(system.npm)
        lines = _constraints(system).read_text().splitlines()
        return dict(line.split("==", 1) for line in lines if "==" in line)

    def _fingerprint(self, system: System) -> str:
        text = "\n".join((*system.packages, sys.version, _constraints(system).read_text()))
        if "-e" in system.packages:
            text += str(ROOT) + (ROOT / "pyproject.toml").read_text()
        return hashlib.sha256(text.encode()).hexdigest()

    def _install(self, folder: Path, system: System) -> None:
        print(f"making the environment of {system.title}: {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(folder))
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        _run(*pip, "--constraint", str(_constraints(system)), *system.packages)

    def _install_node(self, folder: Path, system: System) -> None:
        if not shutil.which("node") or not shutil.which("npm"):
            raise Unavailable("there is no node, or no npm, on PATH")
        packages = [f"{name}@{version}" for name, version in system.npm.items()]
        stamp = folder / "made-for"
        if stamp.exists() and stamp.read_text() == str(packages):
            return
        print(f"making the environment of {system.title}: {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "package.json").write_text("{}")
        _run("npm", "install", "--silent", "--no-audit", "--no-fund", *packages, cwd=folder)
        stamp.write_text(str(packages))


def _constraints(system: System) -> Path:
    return CONSTRAINTS / f"{system.environment}.txt"


def _run(*command: str, cwd: Path = ROOT) -> None:
    try:
        subprocess.run(command, cwd=cwd, check=True, timeout=INSTALL_TIMEOUT, capture_output=True, text=True)
    except subprocess.CalledProcessError as exc:
        raise Unavailable(f"{command[0]} failed: {(exc.stderr or exc.stdout).strip()[-400:]}") from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} took more than {INSTALL_TIMEOUT} s") from None
