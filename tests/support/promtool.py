"""Prometheus' own judgement of what an application exposes: which of its alert rules fire."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client.parser import text_string_to_metric_families

INTERVAL: Final = 15
"""Seconds between two scrapes. They pass at once."""
CALM: Final = 20
"""How often the first scrape is repeated: minutes in which nothing happened, as rates look back on them."""
MACHINE: Final = "ChannelsLoopLate"
"""The alert that looks at the clock of the machine, where minutes do not pass at once."""


class Prometheus:
    """What was scraped of an application, and what rules say of it."""

    def __init__(self, rules: Path) -> None:
        self._rules = rules
        self._scrapes: list[dict[str, float]] = []

    def take(self, exposition: str, times: int = 1) -> None:
        """One scrape, `INTERVAL` seconds after the one before; so often, if nothing changes."""
        scrape = {
            _series(name, labels): value
            for family in text_string_to_metric_families(exposition)
            for name, labels, value, *_ in family.samples
        }
        self._scrapes.extend([scrape] * times)

    def check(self, folder: Path, *firing: str) -> None:
        """These alerts fire at the last scrape, and no others.

        Raises:
            AssertionError: they do not; carries what promtool says.
        """
        names = sorted(set().union(*self._scrapes))
        scrapes = [*[self._scrapes[0]] * CALM, *self._scrapes]
        series = [
            {"series": name, "values": " ".join(_value(scrape.get(name)) for scrape in scrapes)}
            for name in names
        ]
        wanted = [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in firing]
        case: dict[str, Any] = {
            "interval": f"{INTERVAL}s",
            "input_series": series,
            "promql_expr_test": [
                {
                    "expr": f'max by (alertname) (ALERTS{{alertstate="firing",alertname!="{MACHINE}"}})',
                    "eval_time": f"{INTERVAL * (len(scrapes) - 1)}s",
                    "exp_samples": wanted,
                }
            ],
        }
        told = {"rule_files": [str(self._rules)], "evaluation_interval": f"{INTERVAL}s", "tests": [case]}
        path = folder / "incident.yml"
        path.write_text(yaml.safe_dump(told))
        done = subprocess.run(
            ["promtool", "test", "rules", str(path)],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def _series(name: str, labels: dict[str, str]) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in sorted(labels.items())) + "}"


def _value(figure: float | None) -> str:
    return "_" if figure is None else repr(figure)
