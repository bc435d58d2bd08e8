"""The table of faults names tests that exist."""

import re
from pathlib import Path

TESTS = Path(__file__).parent
TABLE = (TESTS / "faults" / "README.md").read_text()
ROWS = re.findall(r"^\| (\d+) \|.*\| (`.*`) \|$", TABLE, re.MULTILINE)


def test_there_are_twenty():
    assert [int(number) for number, _ in ROWS] == [*range(1, 21)]


def test_what_the_table_names_is_there():
    for _, tests in ROWS:
        for name in re.findall(r"`(.+?)`", tests):
            path, _, test = name.partition("::")
            assert re.search(rf"^ *(async )?def {test}\(", (TESTS / path).read_text(), re.MULTILINE), name
