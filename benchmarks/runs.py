"""Measuring: rounds over scenarios over systems, a fresh server for every one."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from .environments import Environments, Unavailable
from .processes import (
    LoadFailed,
    compile_load,
    cpu_seconds,
    drive,
    machine_seconds,
    redis_server,
    resident,
    server,
    tree,
)
from .scenarios import SCENARIOS, Sample, Scenario
from .systems import SYSTEMS, System

FOREIGN: Final = 0.15
"""Cores that others may use during a measurement before it is repeated."""


@dataclass(frozen=True)
class Plan:
    """What to measure."""

    systems: Sequence[str]
    scenarios: Sequence[str]
    rounds: int = 3
    warmup: float = 0.5
    seconds: float = 2.0
    attempts: int = 3
    """How often something is measured in all, while others disturb it."""

    def steps(self) -> Iterator[tuple[int, str, str]]:
        """Round, scenario and system of each measurement: a slow spell of the machine meets everybody."""
        for number in range(self.rounds):
            for scenario in self.scenarios:
                for system in self.systems:
                    wanted = SCENARIOS[scenario].only or SYSTEMS
                    if system in wanted and SCENARIOS[scenario].sends in SYSTEMS[system].sends:
                        yield number, scenario, system


class Bench:
    """Carries out a plan.

    Args:
        cache: the folder of environments, logs and results.
    """

    def __init__(self, cache: Path) -> None:
        self.environments = Environments(cache)
        self.missing: dict[str, str] = {}
        """Why a system was left out."""
        self._load = compile_load(cache)
        self._cache = cache

    def prepare(self, plan: Plan) -> None:
        """Make the environments, so that nothing is installed between measurements."""
        for name in plan.systems:
            try:
                self.environments.bin(SYSTEMS[name])
            except Unavailable as exc:
                self.missing[name] = str(exc)

    def run(self, plan: Plan, *, resume: bool = False) -> list[Sample]:
        """Measure what the plan says.

        Args:
            resume: leave out what a run that was interrupted has measured.
        """
        samples = self._measured() if resume else []
        done = {(sample.round, sample.scenario, sample.system) for sample in samples}
        steps = [step for step in plan.steps() if step[2] not in self.missing and step not in done]
        with ExitStack() as stack, self._journal.open("a" if resume else "w") as journal:
            redis: tuple[int, str] | None = None
            if any(SYSTEMS[system].broker for _, _, system in steps):
                redis = stack.enter_context(redis_server(self._cache))
            for number, (round, scenario, system) in enumerate(steps, 1):
                found = self._best_of(round, scenario, system, plan, redis)
                samples += found
                for sample in found:
                    journal.write(json.dumps(sample.asdict()) + "\n")
                    journal.flush()
                    print(f"{number}/{len(steps)}  {describe(sample)}", flush=True)
        return samples

    @property
    def _journal(self) -> Path:
        return self._cache / "samples.jsonl"

    def _measured(self) -> list[Sample]:
        lines = self._journal.read_text().splitlines() if self._journal.exists() else ()
        return [Sample(**json.loads(line)) for line in lines]

    def _best_of(
        self, round: int, scenario: str, system: str, plan: Plan, redis: tuple[int, str] | None
    ) -> list[Sample]:
        """The first attempt that nobody else disturbed, or the one that was disturbed least."""
        found: list[list[Sample]] = []
        for attempt in range(plan.attempts):
            try:
                samples = self._measure(round, scenario, system, plan, redis)
            except (LoadFailed, Unavailable) as exc:
                print(f"{scenario} {system}: {exc}", flush=True)
                self.missing.setdefault(f"{system}, {scenario}", str(exc))
                break
            found.append([replace(sample, attempt=attempt) for sample in samples])
            if _disturbance(samples) <= FOREIGN:
                break
        return min(found, key=_disturbance, default=[])

    def _measure(
        self, round: int, scenario: str, system: str, plan: Plan, redis: tuple[int, str] | None
    ) -> list[Sample]:
        it, scenario_ = SYSTEMS[system], SCENARIOS[scenario]
        pid, url = redis if redis is not None and it.broker else (None, None)
        with ExitStack() as stack:
            started = [
                stack.enter_context(server(it, self.environments, number=number, redis=url))
                for number in range(scenario_.servers)
            ]
            servers = [member for root, _ in started for member in tree(root)]
            options = options_of(it, scenario_, plan, [port for _, port in started])
            watch = _Watch(servers, pid)
            for event in drive(self._load, options):
                watch.see(event)
            return [
                watch.sample(done, round, scenario, system, int(options["clients"])) for done in watch.done
            ]


class _Watch:
    """Reads the processes' CPU time and memory at the moments that the load generator announces."""

    def __init__(self, servers: Sequence[int], broker: int | None) -> None:
        self._servers = servers
        self._broker = broker
        self._memory_at_start = resident(servers)
        self._memory_when_open = self._memory_at_start
        self._before: dict[str, float] = {}
        self._used: dict[str, float] = {}
        self.done: list[dict[str, Any]] = []

    def see(self, event: dict[str, Any]) -> None:
        if event["event"] == "open":
            self._memory_when_open = resident(self._servers)
        elif event["event"] == "measure":
            self._before = self._times(event["pid"])
        elif event["event"] == "measured":
            after = self._times(event["pid"])
            self._used = {key: after[key] - self._before[key] for key in after}
        else:
            growth = resident(self._servers) - self._memory_when_open
            self.done.append({**event, "used": self._used, "growth": growth})

    def sample(self, done: dict[str, Any], round: int, scenario: str, system: str, clients: int) -> Sample:
        seconds, used = done["seconds"], done["used"]
        count = done["received"] or done["connected"]
        own = used["server"] + used["load"] + used["broker"]
        return Sample(
            round=round,
            system=system,
            scenario=scenario,
            window=done["window"],
            rate=count / seconds,
            cpu=used["server"] / count * 1e6 if count else 0.0,
            server_share=used["server"] / seconds,
            load_share=used["load"] / seconds,
            broker_share=used["broker"] / seconds,
            foreign_share=max(0.0, used["machine"] - own) / seconds,
            memory=(self._memory_when_open - self._memory_at_start) / clients,
            growth=done["growth"],
            p50=done["p50"] / 1000,
            p99=done["p99"] / 1000,
            lost=done["lost"],
            duplicates=done["duplicates"],
            reordered=done["reordered"],
            closed=done["closed_by_server"],
            stalled=done["stalled"],
        )

    def _times(self, load: int) -> dict[str, float]:
        return {
            "server": cpu_seconds(self._servers),
            "load": cpu_seconds((load,)),
            "broker": cpu_seconds((self._broker,)) if self._broker else 0.0,
            "machine": machine_seconds(),
        }


def options_of(system: System, scenario: Scenario, plan: Plan, ports: Sequence[int]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "port": ",".join(map(str, ports)),
        "path": system.path,
        "publish": system.sends[scenario.sends],
        "join": system.join,
        "awaited": system.awaited,
        "heartbeat": int(system.heartbeat),
        "window": ",".join(map(str, scenario.windows)),
        "warmup": plan.warmup,
        "seconds": plan.seconds,
        **scenario.options,
    }
    if scenario.joins:
        options.update(join=system.sends["join"], awaited=1)
    return options


def _disturbance(samples: Sequence[Sample]) -> float:
    return max((sample.foreign_share for sample in samples), default=0.0)


@contextlib.contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Use a cache folder alone.

    Raises:
        Unavailable: another benchmark is running; each would measure the other.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Unavailable("another benchmark is running") from None
        yield


def describe(sample: Sample) -> str:
    faults = [
        f"{name} {value}"
        for name in ("lost", "duplicates", "reordered", "closed", "stalled")
        if (value := getattr(sample, name))
    ]
    return (
        f"{sample.scenario:12} {sample.system:15} W={sample.window:<2} {sample.rate:10,.0f}/s  "
        f"{sample.cpu:8.2f} µs  server {sample.server_share:4.0%}  load {sample.load_share:4.0%}  "
        f"others {sample.foreign_share:4.0%}  {sample.memory / 1000:6.1f} kB  {' '.join(faults)}"
    )
