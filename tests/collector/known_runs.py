"""What the panels of runs are known to show of the trainers in trainers.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .dashboards import Known, Table, answer
from .prometheus import Prometheus

#: Of a bucket from 0.2 to 0.5 s, in which the steps of both ranks are.
P50, P90, P99 = (0.2 + 0.3 * quantile for quantile in (0.5, 0.9, 0.99))
_STEPS = 'rate(training_step_duration_seconds_count{run_id="r"}[10m])'
_LAST_VALIDATION = 0.5 + 199 / 1e4
#: The clock of a trainer, its sample and Prometheus's.
_CLOCK_SECONDS = 0.1


@dataclass(frozen=True)
class Facts:
    """When all began, between which times the last step of `r` was, and how many samples `full` dropped."""

    began: float
    last_step: tuple[float, float]
    dropped: float


def between(low: float, high: float) -> Callable[[float], bool]:
    return lambda value: low <= value <= high


def _ranks(first: float, second: float | None = None) -> Known:
    """The same of both ranks of `r`, or another of the second."""
    return {"0 r": first, "1 r": first if second is None else second}


def _heat(found: dict[str, float]) -> bool:
    """All in one bucket."""
    counts = {float(bound): value for bound, value in found.items()}
    below = {value for bound, value in counts.items() if bound <= 0.2}
    above = [value for bound, value in counts.items() if bound >= 0.5]
    return below == {0} and min(above) > 0 and math.isclose(min(above), max(above))


def _failed(found: dict[str, float]) -> bool:
    """Spans, to where nobody is; others too where the machine is too busy to answer in time."""
    of_spans = [found.get(f"OTLPSpanExporter {rank}", 0) for rank in "01"]
    return min(of_spans) >= 2 and all(name.startswith("OTLP") for name in found)


def table_of_runs(asked: Prometheus, facts: Facts, at: float) -> Table:
    """By the run `r`, to which `done` comes where runs are compared, and all where it is the fleet."""
    steps = answer(asked, f"sum({_STEPS})", at).get("", 0)
    # of both ranks the last half at least, or both, extrapolated by a scrape at both ends
    assert 2 * 100 / 600 <= steps <= 2.2 * 2 * 200 / 600
    since = between(at - facts.last_step[1] - _CLOCK_SECONDS, at - facts.last_step[0] + _CLOCK_SECONDS)
    known = _of_run(facts, at, steps, since) | _compared(steps) | _of_fleet(at, facts, since)
    known |= _of_machine(answer(asked, f"sum by (rank) ({_STEPS})", at))
    runs: dict[object, str] = {"run": "r", "compare": "r|done", "fleet": ".*"}
    runs["run", "Lost by monitoring", "A"] = "full"
    return Table(known, runs)


def table_of_other_names() -> Table:
    """The same panels by the run `done`, whose metrics have the names that other loggers give them."""
    known: dict[tuple[str, str], dict[str, Known]] = {
        ("run", "Loss"): {"A": {"0 done": 0.25}, "B": {"0 done": 0.375}},
        ("run", "Accuracy"): {"A": {"0 done": 0.625}, "B": {"0 done": 0.5}},
        ("run", "Loss by step"): {"B": {"done": 0.25}, "C": {"done": 0.375}},
    }
    return Table(known, {"run": "done"})


def table_after_kills() -> Table:
    """Of `full` and `scraped`, which were killed; of the first the sink knows that it crashed."""
    counts = {"Running": 1, "Stalled": 1, "Lost": 1, "Crashed today": 2}
    return Table({("fleet", title): {"A": {"": count}} for title, count in counts.items()}, {"fleet": ".*"})


def _of_run(
    facts: Facts, at: float, steps: float, since: Callable[[float], bool]
) -> dict[tuple[str, str], dict[str, Known]]:
    active = {
        f"WARNING {name} {rank}": 1.0 for name in ("drift", "memory", "nonfinite_other") for rank in "01"
    }
    found = {f"{one} {rank}": 1.0 for one in ("budget.memory budget", "drift accuracy", "nonfinite.other odd")
             for rank in "01"}  # fmt: skip
    memory, overhead = between(2e7, 2e9), between(0, 1)
    panels: dict[str, dict[str, Known]] = {
        "State": {"A": {"": 1}},
        "Step": {"A": {"": 199}},
        "Since the last step": {"A": {"": since}},
        "Epoch": {"A": {"": 1}},
        "Running for": {"A": {"": between(at - facts.last_step[0], at - facts.began)}},
        "Active alerts": {"A": {"": 6}},
        "Loss": {"A": _ranks(0.5), "B": _ranks(0.75)},
        "Accuracy": {"A": _ranks(0.9375), "B": _ranks(_LAST_VALIDATION)},
        "Loss by step": {"A": {"r": 199}, "B": {"r": 0.5}, "C": {"r": 0.75}},
        "Learning rate": {"A": {"0": 0.125, "1": 0.125}},
        "Gradient norm": {"A": {"0": 2, "1": 2}},
        "Step time": {"A": _heat},
        "Step time, quantiles": {"A": {"r": P50}, "B": {"r": P90}, "C": {"r": P99}},
        "Step time by rank": {"A": _ranks(0.25, 0.4)},
        "Throughput": {"A": {"r": 32 * steps}, "B": {"r": 64 * steps}},
        "Data wait": {"A": _ranks(0.05, 0.08)},
        "Alerts": {"A": active},
        "Anomalies": {"A": found},
        "Drift, p-value": {"A": {f"accuracy {rank}": between(0, 1e-9) for rank in "01"}},
        "Budgets used": {"A": {"memory 0": memory, "memory 1": memory, "spans 0": 0.5, "spans 1": 0.5}},
        "Not finite": {"A": {"odd 0": 2, "odd 1": 2}},
        "State by rank": {"A": {"0": 1, "1": 1}},
        "Monitoring overhead": {"A": {"0 r": overhead, "1 r": overhead}},
        "Heartbeat": {"A": {"0 r": between(0, 10), "1 r": between(0, 10)}},
        "Lost by monitoring": {
            "A": {"0 full": facts.dropped},
            "B": {f"{rank} values recorder (refused)": 2 for rank in "01"},
            "C": _failed,
        },
    }
    return {("run", title): known for title, known in panels.items()}


def _of_machine(steps: dict[str, float]) -> dict[tuple[str, str], dict[str, Known]]:
    """As the trainers told it: of a counter so much with each step, of which there are so many per second."""

    def so_many(added: float, per_second: float) -> Callable[[float], bool]:
        one = 2 / 600  # the first export may fall between what is logged at a step
        return between(added * (per_second - one), added * (per_second + one))

    def by_direction(**added: float) -> Known:
        return {
            f"{way} {rank} r": so_many(each, steps.get(rank, 0))
            for way, each in added.items()
            for rank in "01"
        }

    def of_gpu(value: float) -> Known:
        return {f"gpu0 {rank} r": value for rank in "01"}

    panels: dict[str, dict[str, Known]] = {
        "CPU": {"A": _ranks(0.5), "B": _ranks(0.375), "C": _ranks(0.0625)},
        "Memory": {"A": _ranks(1e9), "B": _ranks(4e9), "C": _ranks(2e9), "D": _ranks(3e9)},
        "Disk": {"A": by_direction(read=16, write=8), "B": by_direction(read=48, write=24)},
        "Network": {"A": by_direction(receive=96, transmit=72)},
        "GPU utilisation": {"A": of_gpu(0.75)},
        "GPU memory": {"A": of_gpu(0.375)},
        "GPU power": {"A": of_gpu(300)},
        "GPU temperature": {"A": of_gpu(65)},
    }
    return {("run", title): known for title, known in panels.items()}


def _compared(steps: float) -> dict[tuple[str, str], dict[str, Known]]:
    memory, overhead = between(2e7, 2e9), between(0, 1)
    panels: dict[str, dict[str, Known]] = {
        "Loss": {"A": {**_both(0.5), "0 done": 0.25}, "B": {**_both(0.75), "0 done": 0.375}},
        "Loss by step": {"A": {"r": 199, "done": 5}, "B": {"r": 0.5, "done": 0.25}},
        "Accuracy": {
            "A": {**_both(0.9375), "0 done": 0.625},
            "B": {**_both(_LAST_VALIDATION), "0 done": 0.5},
        },
        "Learning rate": {"A": _both(0.125)},
        "Gradient norm": {"A": _both(2)},
        "Step time, quantiles": {"A": {"r": P50}, "B": {"r": P90}, "C": {"r": P99}},
        "Step time by rank": {"A": _ranks(0.25, 0.4)},
        "Samples": {"A": {"r": 32 * steps}},
        "Tokens": {"A": {"r": 64 * steps}},
        "Data wait": {"A": _ranks(0.05, 0.08)},
        "States": {"A": {"r": 1, "done": 4}},
        "Active alerts": {"A": {"r": 6, "done": 0}},
        "Anomalies": {
            "A": {"budget.memory r": 2, "drift r": 2, "nonfinite.other r": 2, "budget.memory done": 1}
        },
        "Drift, p-value": {"A": {"accuracy r": between(0, 1e-9)}},
        "Not finite": {"A": {"odd r": 4}},
        "Budgets used": {"A": {"memory r": memory, "spans r": 0.5, "memory done": memory, "spans done": 0}},
        "Monitoring overhead": {"A": {"0 r": overhead, "1 r": overhead, "0 done": overhead}},
    }
    return {("compare", title): known for title, known in panels.items()}


def _both(value: float) -> dict[str, float]:
    return {"0 r": value, "1 r": value}


def _of_fleet(
    at: float, facts: Facts, since: Callable[[float], bool]
) -> dict[tuple[str, str], dict[str, Known]]:
    """All runs; of `bad` the exception was after its fifth step."""
    states = {"r": 1, "full": 1, "scraped": 1, "paused": 2, "stopped": 3, "done": 4, "bad": 5}
    models = {run: f"digits {run}" for run in states}
    steps = {"r": 199, "paused": 1, "scraped": 0, "stopped": 5, "done": 5, "bad": 5}
    losses = {"r": 0.5, "full": 0.5, "scraped": 1, "paused": 20, "done": 0.25, "bad": 0.25}
    active = dict.fromkeys(states, 0) | {"r": 6, "paused": 2, "full": 1, "scraped": 1}
    panels: dict[str, dict[str, Known]] = {
        "Running": {"A": {"": 3}},
        "Paused": {"A": {"": 1}},
        "Stalled": {"A": {"": 3}},
        "Crashed today": {"A": {"": 1}},
        "Active alerts": {"A": {"": 10}},
        "Stopped": {"A": {"": 1}},
        "Completed": {"A": {"": 1}},
        "Runs": {
            "A": {models[run]: state for run, state in states.items()},
            "B": {models["r"]: 1},
            "C": {models[run]: step for run, step in steps.items()} | {models["full"]: between(1e5, 1e7)},
            "D": {models[run]: between(0, at - facts.began) for run in states} | {models["r"]: since},
            "E": {models[run]: loss for run, loss in losses.items()} | {models["stopped"]: math.isnan},
            "F": {models[run]: count for run, count in active.items()},
        },
        "States": {"A": states},
        "Slowest ranks": {"A": _ranks(0.2, 0.32)},
    }
    return {("fleet", title): known for title, known in panels.items()}
