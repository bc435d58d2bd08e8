"""The table of faults names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TABLE = (TESTS / "faults" / "README.md").read_text()
ROWS = re.findall(r"^\| (\d+) \|.*\| (`.*`) \|$", TABLE, re.MULTILINE)


def test_there_are_twenty():
    assert [int(number) for number, _ in ROWS] == [*range(1, 21)]


@pytest.mark.parametrize(("number", "tests"), ROWS)
def test_what_the_table_names_is_there(number: str, tests: str):
    for name in re.findall(r"`(.+?)`", tests):
        path, _, test = name.partition("::")
        found = ast.walk(ast.parse((TESTS / path).read_text()))
        functions = {each.name for each in found if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert test in functions, name
