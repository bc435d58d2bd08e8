"""The pure modules: the tests of each cover all its branches, without help from the tests of others."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PURE = [
    *("actions/spec", "exceptions", "cluster/gate", "cluster/hub", "cluster/orders", "cluster/recovery"),
    *("permission", "texts", "wire/messages", "wire/outbox", "wire/packing", "wire/vocabulary", "wire/words"),
]


@pytest.mark.fault  # long: it runs those tests once more
@pytest.mark.parametrize("module", PURE)
def test_own_tests_reach_every_branch(module: str, tmp_path: Path):
    folder, _, noun = module.rpartition("/")
    tests = str(Path("tests", folder, f"test_{noun}.py"))

    def coverage(command: str, *arguments: str) -> None:
        words = [sys.executable, "-m", "coverage", command, f"--data-file={tmp_path / 'data'}", *arguments]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr

    coverage("run", "-m", "pytest", "-q", "-p", "no:cacheprovider", tests)
    coverage("report", f"--include=fastapi_channels/{module}.py", "--fail-under=100")
