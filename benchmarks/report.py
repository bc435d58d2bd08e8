"""Tables and the chart, from samples."""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .chart import Bar, Panel, draw
from .scenarios import SCENARIOS, WINDOWS, Sample
from .systems import BASELINE, SYSTEMS

if TYPE_CHECKING:
    from .runs import Bench

BEGIN: Final = "<!-- results: written by python -m benchmarks --publish -->"
END: Final = "<!-- end of the results -->"
CHART: Final = "fanout.svg"


class Figures:
    """The samples of one scenario and window, by system."""

    def __init__(self, samples: Sequence[Sample], scenario: str, window: int) -> None:
        self._value = SCENARIOS[scenario].value
        self.by_system: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            if sample.scenario == scenario and sample.window == window:
                self.by_system[sample.system].append(sample)

    def values(self, system: str) -> list[float]:
        return [self._value(sample) for sample in self.by_system[system]]

    def median(self, system: str) -> float:
        return statistics.median(self.values(system))

    def ratio(self, system: str, baseline: str = BASELINE) -> float | None:
        """The median of the ratios within each round, which no slow spell of the machine distorts."""
        base = {sample.round: self._value(sample) for sample in self.by_system.get(baseline, ())}
        pairs = [
            self._value(sample) / base[sample.round]
            for sample in self.by_system[system]
            if base.get(sample.round)
        ]
        return statistics.median(pairs) if pairs else None

    def ranking(self) -> list[str]:
        """Systems, the best first."""
        less_is_better = self._value is not SCENARIOS["echo"].value
        return sorted(self.by_system, key=self.median, reverse=not less_is_better)


def write(samples: Sequence[Sample], bench: Bench, cache: Path) -> Path:
    """Write `results.md`, `results.json` and the chart; the folder that has them."""
    folder = cache / "results"
    folder.mkdir(exist_ok=True)
    (folder / "results.json").write_text(json.dumps([sample.asdict() for sample in samples], indent=1))
    (folder / "results.md").write_text("\n".join(_document(samples, bench)) + "\n")
    chart = draw(
        "Fan-out to 1,000 members of one room, in one process",
        "deliveries per second, as a multiple of a plain FastAPI loop",
        list(_panels(samples)),
    )
    (folder / CHART).write_text(chart)
    return folder


def publish(folder: Path, docs: Path) -> None:
    """Copy the chart, and put the table between the marks in `performance.md`."""
    (docs / "images").mkdir(exist_ok=True)
    shutil.copy(folder / CHART, docs / "images" / CHART)
    page = docs / "performance.md"
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{(folder / 'results.md').read_text()}\n{END}{after}")


def _document(samples: Sequence[Sample], bench: Bench) -> Iterator[str]:
    yield _machine()
    yield ""
    for name, scenario in SCENARIOS.items():
        for window in scenario.windows:
            figures = Figures(samples, name, window)
            if figures.by_system:
                suffix = f", {window} in flight" if len(scenario.windows) > 1 else ""
                yield from _table(f"{scenario.title}{suffix}", scenario.unit, figures)
    used = [name for name in SYSTEMS if any(sample.system == name for sample in samples)]
    if used:
        yield "### Versions"
        yield ""
        seen: set[str] = set()
        for name in used:
            if SYSTEMS[name].environment not in seen:
                seen.add(SYSTEMS[name].environment)
                versions = bench.environments.versions(SYSTEMS[name])
                text = ", ".join(f"{package} {version}" for package, version in versions.items())
                yield f"- {SYSTEMS[name].environment}: {text}"
        yield ""
    for name, why in bench.missing.items():
        yield f"Left out: {name}: {why}"


def _table(title: str, unit: str, figures: Figures) -> Iterator[str]:
    yield f"### {title}"
    yield ""
    yield f"| system | {unit} (least–most) | ratio | p50 / p99 ms | CPU: server, load | notes |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for system in figures.ranking():
        samples, values = figures.by_system[system], figures.values(system)
        ratio = figures.ratio(system)
        p50, p99 = _median(samples, "p50"), _median(samples, "p99")
        yield " | ".join(
            (
                f"| {SYSTEMS[system].title}",
                f"{_number(statistics.median(values))} ({_number(min(values))}–{_number(max(values))})",
                "" if ratio is None else f"{ratio:.2f}",
                f"{p50:.2f} / {p99:.2f}" if p99 else "",
                f"{_median(samples, 'server_share'):.0%}, {_median(samples, 'load_share'):.0%}",
                f"{_notes(samples)} |",
            )
        )
    yield ""


def _notes(samples: Sequence[Sample]) -> str:
    notes = [
        f"{name} {total:,}"
        for name in ("lost", "duplicates", "reordered", "closed")
        if (total := sum(getattr(sample, name) for sample in samples))
    ]
    if any(sample.stalled for sample in samples):
        notes.append("stalled")
    if max(sample.growth for sample in samples) > 20e6:
        notes.append(f"grew by {max(sample.growth for sample in samples) / 1e6:,.0f} MB")
    if max(sample.foreign_share for sample in samples) > 0.15:
        notes.append("disturbed")
    return ", ".join(notes)


def _median(samples: Sequence[Sample], name: str) -> float:
    return statistics.median(getattr(sample, name) for sample in samples)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _machine() -> str:
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores of {processor}, Linux {platform.release()}, "
        f"Python {platform.python_version()}. The servers have one core, "
        "the load generator and Redis another. Ratios are to the plain loop, medians of the rounds."
    )


def _panels(samples: Sequence[Sample]) -> Iterator[Panel]:
    for window in WINDOWS:
        figures = Figures(samples, "fanout-1000", window)
        bars = [
            Bar(SYSTEMS[system].title.replace("*", ""), ratio, system.startswith("ours"))
            for system in figures.ranking()
            if (ratio := figures.ratio(system)) is not None
        ]
        if bars:
            yield Panel(f"{window} message{'s' if window > 1 else ''} in flight", bars)
