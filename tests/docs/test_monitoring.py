"""The dashboard and the alert rules ask for what there is."""

import json
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from fastapi_channels.operations.families import FAMILIES, PREFIX, PROCESS, sample_names
from tests.support.npm import NodeServer, installed

DOCS: Final = Path(__file__).parents[2] / "docs"
FOLDER: Final = DOCS / "monitoring"
RULES: Final[list[dict[str, Any]]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
PANELS: Final[list[dict[str, Any]]] = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
QUERIES: Final = [
    *((rule["alert"], rule["expr"]) for rule in RULES),
    *((panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", ())),
]
NAME: Final = re.compile(rf"\b{PREFIX}\w+")
MATCHERS: Final = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
GROUPED: Final = re.compile(r"\b(?:by|without)\s*\(([^)]*)\)")


def labels_of(sample: str) -> set[str]:
    name = sample.removeprefix(PREFIX)
    family = FAMILIES.get(name) or FAMILIES[re.sub("_(total|bucket|sum|count)$", "", name)]
    return {PROCESS, *family.labels, *(("le",) if name.endswith("_bucket") else ())}


@pytest.mark.parametrize(("title", "query"), QUERIES)
def test_a_query_asks_for_what_there_is(title: str, query: str):
    names = set(NAME.findall(query))
    assert names
    assert names <= sample_names()
    for name, matched in re.findall(rf"({PREFIX}\w+)\{{([^}}]*)\}}", query):
        assert set(MATCHERS.findall(matched)) <= labels_of(name)
    for grouped in GROUPED.findall(query):
        assert {label.strip() for label in grouped.split(",")} <= set.union(*map(labels_of, names))
    assert query.count("(") == query.count(")")


PARSER: Final = {"@prometheus-io/lezer-promql": "0.315.0", "@lezer/common": "1.5.2", "@lezer/lr": "1.4.10"}
FAULTS: Final = """
  const answer = asked.map(query => {
    const faults = [];
    parser.parse(query).iterate({ enter(node) { if (node.type.isError) faults.push(node.from); } });
    return faults;
  });
"""


def test_prometheus_own_grammar_reads_every_query():
    try:
        folder = installed("promql", PARSER)
    except (OSError, subprocess.SubprocessError) as exc:
        pytest.skip(f"npm, or its registry, is not there: {exc}")
    with NodeServer(folder, 'import { parser } from "@prometheus-io/lezer-promql";', FAULTS) as program:
        # Grafana puts its variables in before.
        queries = [query.replace("$__rate_interval", "5m") for _, query in QUERIES]
        assert program.ask([*queries, "sum by (rate("]) == [[]] * len(queries) + [[12, 13]]


def test_the_test_above_can_fail():
    with pytest.raises(AssertionError):
        test_a_query_asks_for_what_there_is("", f"sum({PREFIX}invented)")
    with pytest.raises(AssertionError):
        test_a_query_asks_for_what_there_is("", f'{PREFIX}connections{{room="x"}}')


def test_every_metric_is_on_the_dashboard():
    shown = {name for _, query in QUERIES[len(RULES) :] for name in NAME.findall(query)}
    for name in FAMILIES:
        assert any(each.startswith(PREFIX + name) for each in shown), name


def test_the_dashboard_is_the_one_that_is_made():
    made = runpy.run_path(str(FOLDER / "make_dashboard.py"))
    text = (FOLDER / "dashboard.json").read_text()
    assert text == made["text"](), "run docs/monitoring/make_dashboard.py"
    places = [panel["gridPos"] for panel in PANELS]
    cells = [
        (x, y)
        for at in places
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells)), "no panel lies on another"
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("folder", [DOCS, DOCS / "zh"], ids=["en", "zh"])
def test_the_page_names_every_metric_and_every_alert(folder: Path):
    page = (folder / "guide" / "metrics.md").read_text()
    for name, family in FAMILIES.items():
        assert f"`{name}{'_total' * (family.kind == 'counter')}`" in page, name
    for rule in RULES:
        assert f"`{rule['alert']}`" in page
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("warning", "critical")
