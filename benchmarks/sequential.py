"""Sequential test: how often it is wrong when looked at 1,000 times, and what that costs.

Seeded experiments of two arms without a difference: 20,000 values, 1,000 looks from 100 values in an arm
on, with the p-value of `always_valid` at each. The share of experiments in which any look has p < 0.05 is to
be 5 % at most, within two standard errors of the simulation; beside it the same of a z-test at 1.96. Then
users with several outcomes each; a sample-ratio check at each look; and power and run length against a
test that is planned for 80 % power and looks once. What it says stands in docs/statistics.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from benchmarks.harness import Row
from entrenar_otel.compare.sequential import MIN_VALUES, PLANNED, Moments, always_valid, log_p_values

ALPHA, LOOKS, VALUES = 0.05, 1000, 20_000
EXPERIMENTS, OF_USERS, OF_POWER = 4000, 400, 1000
CHUNK = 100

Random = np.random.Generator
Draw = Callable[[Random, tuple[int, int]], NDArray[np.floating[Any]]]
KINDS: dict[str, tuple[float, Draw]] = {
    "normal": (0.5, lambda random, shape: random.normal(0, 1, shape)),
    "proportion of 50 %": (0.5, lambda random, shape: (random.random(shape) < 0.5) * 1.0),
    "proportion of 5 %": (0.5, lambda random, shape: (random.random(shape) < 0.05) * 1.0),
    "proportion of 1 %": (0.5, lambda random, shape: (random.random(shape) < 0.01) * 1.0),
    "proportion of 5 %, a tenth in B": (0.1, lambda random, shape: (random.random(shape) < 0.05) * 1.0),
    "exponential": (0.5, lambda random, shape: random.exponential(1, shape)),
    "log-normal, σ = 1, a tenth in B": (0.1, lambda random, shape: random.lognormal(0, 1, shape)),
    "log-normal, σ = 2": (0.5, lambda random, shape: random.lognormal(0, 2, shape)),
    "Pareto, α = 2.5": (0.5, lambda random, shape: random.pareto(2.5, shape)),
}


def measure() -> Iterator[Row]:
    for name, (share, draw) in KINDS.items():
        false, naive = false_positives(draw, share, np.random.default_rng(2026))
        note = f"± {_error(false, EXPERIMENTS):.2f}; z-test at every look {100 * naive:.0f} %"
        yield Row(f"false positives, 1,000 looks, {name}", _limit(EXPERIMENTS), 100 * false, "%", note)
    by_user, by_outcome = of_users(np.random.default_rng(2027))
    note = f"± {_error(by_user, OF_USERS):.2f}; outcomes as if independent {100 * by_outcome:.0f} %"
    yield Row(
        "false positives, 1,000 looks, 20 outcomes per user", _limit(OF_USERS), 100 * by_user, "%", note
    )
    alarms = sample_ratio_alarms(np.random.default_rng(2028))
    note = f"± {_error(alarms, 100_000):.2f}; at one look 0.1"
    yield Row("sample ratio, false alarms at 0.001, 1,000 looks", None, 100 * alarms, "%", note)
    for effect in (0.05, 0.1, 0.2):
        yield from power(effect, 0.1, np.random.default_rng(2029))


def _limit(experiments: int) -> float:
    return 100 * ALPHA + 2 * _error(ALPHA, experiments)


def _error(share: float, experiments: int) -> float:
    """The standard error of a share, in per cent."""
    return 100 * math.sqrt(max(share, 1 / experiments) * (1 - share) / experiments)


def false_positives(draw: Draw, share: float, random: Random) -> tuple[float, float]:
    """The share of experiments in which any look says that there is a difference; and of a z-test."""
    at = looks_at(share)
    false = naive = 0
    for _ in range(EXPERIMENTS // CHUNK):
        a, b = (running(draw(random, (CHUNK, int(n[-1]))), n) for n in at)
        effect, variance = b[0] - a[0], a[1] / at[0] + b[1] / at[1]
        false += int(is_found(effect, variance, *at).any(1).sum())
        naive += int((np.abs(effect) > 1.96 * np.sqrt(variance)).any(1).sum())
    return false / EXPERIMENTS, naive / EXPERIMENTS


def is_found(
    effect: NDArray[Any], variance: NDArray[Any], n_a: NDArray[Any], n_b: NDArray[Any], planned: int = PLANNED
) -> NDArray[np.bool_]:
    """At which looks p is below α; where nothing varies yet, at none."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p = log_p_values(effect, variance, n_a, n_b, alpha=ALPHA, planned=planned)
    return np.asarray((p < math.log(ALPHA)) & (variance > 0))


def looks_at(share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many values each arm has at each look, from the time on at which both have enough."""
    first = MIN_VALUES / min(share, 1 - share) / VALUES
    parts = np.linspace(first, 1, LOOKS)
    a, b = ((parts * VALUES * s).round().astype(np.int64) for s in (1 - share, share))
    return a, b


def running(values: NDArray[np.floating[Any]], at: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and variance of the first `at` values, `(experiments, looks)`; of 0 and 1 as `Moments` has it."""
    sums = np.cumsum(values, 1)[:, at - 1]
    mean = sums / at
    if np.isin(values[:1], (0.0, 1.0)).all():
        rate = (sums + 1) / (at + 2)
        return mean, rate * (1 - rate)
    return mean, (np.cumsum(values**2, 1)[:, at - 1] - sums * mean) / (at - 1)


def of_users(random: Random) -> tuple[float, float]:
    """1,000 users with a rate of their own come 20 times each, in any order: by user, and by outcome."""
    users, events = 1000, VALUES
    at = np.linspace(events // 10, events, LOOKS).round().astype(int)
    false = naive = 0
    for _ in range(OF_USERS):
        who = random.integers(0, users, events)
        rate, in_b = random.beta(0.5, 0.5, users), random.random(users) < 0.5
        outcome = random.random(events) < rate[who]
        count, total = np.zeros(users), np.zeros(users)
        seen, is_false, is_naive = 0, False, False
        for look in at.tolist():
            new = slice(seen, look)
            count += np.bincount(who[new], minlength=users)
            total += np.bincount(who[new], outcome[new], minlength=users)
            seen = look
            arms = [(~in_b) & (count > 0), in_b & (count > 0)]
            by_user = [Moments.of(total[arm] / count[arm]) for arm in arms]
            by_outcome = [Moments.of_proportion(int(total[arm].sum()), int(count[arm].sum())) for arm in arms]
            is_false |= always_valid(*by_user).p_value < ALPHA
            is_naive |= always_valid(*by_outcome).p_value < ALPHA
        false, naive = false + is_false, naive + is_naive
    return false / OF_USERS, naive / OF_USERS


def sample_ratio_alarms(random: Random) -> float:
    """How often a fair split looks unfair at any of 1,000 looks, at the threshold of 0.001 for one."""
    at = np.linspace(2 * MIN_VALUES, VALUES, LOOKS).round().astype(int)
    z = float(-ndtri(0.001 / 2))
    alarms = 0
    for _ in range(1000):
        in_b = np.cumsum(random.random((100, VALUES)) < 0.5, 1)[:, at - 1]
        alarms += int((np.abs(in_b - at / 2) / np.sqrt(at / 4) > z).any(1).sum())
    return alarms / 100_000


def power(effect: float, planned_for: float, random: Random) -> Iterator[Row]:
    """Normal arms that differ by `effect` standard deviations; the fixed test is planned for another."""
    n = math.ceil(2 * float(ndtri(1 - ALPHA / 2) + ndtri(0.8)) ** 2 / planned_for**2)  # per arm
    at = np.unique(np.linspace(MIN_VALUES, 4 * n, LOOKS).round().astype(np.int64))
    stops, fixed, once = np.empty(0), 0, int(np.searchsorted(at, n))
    for _ in range(OF_POWER // CHUNK):
        a = running(random.normal(0, 1, (CHUNK, 4 * n)), at)
        b = running(random.normal(effect, 1, (CHUNK, 4 * n)), at)
        difference, variance = b[0] - a[0], (a[1] + b[1]) / at
        fixed += int((difference[:, once] > 1.96 * np.sqrt(variance[:, once])).sum())
        found = is_found(difference, variance, at, at, planned=2 * n)
        stops = np.append(stops, np.where(found.any(1), at[found.argmax(1)], 4 * n + 1))
    name = f"effect {effect} σ, fixed test of {2 * n:,} for {planned_for} σ"
    note = f"the fixed test {100 * fixed / OF_POWER:.0f} %"
    yield Row(f"power at that size, {name}", None, 100 * float((stops <= n).mean()), "%", note)
    within = float((stops <= 4 * n).mean())
    note = f"of the fixed size; mean {stops.clip(max=4 * n).mean() / n:.2f}, cut at 4, where power is "
    note += f"{100 * within:.0f} %"
    if within > 0.8:
        note += f"; 80 % by {np.quantile(stops, 0.8) / n:.2f}"
    yield Row(f"median run length, {name}", None, float(np.median(stops)) / n, "×", note)
