"""How often comparisons are wrong where nothing differs: the tables of docs/statistics.md.

    python benchmarks/comparison_rates.py

The error of a rate p of n trials is sqrt(p (1 − p) / n), given after ±.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from entrenar_otel.compare.batch_means import MOST, batch_means
from entrenar_otel.compare.curves import aligned
from entrenar_otel.compare.significance import (
    TestResult,
    benjamini_hochberg,
    bootstrap_interval,
    error_of,
    holm,
    mann_whitney,
    t_test,
    two_proportions,
    welch,
)

ALPHA = 0.05
Random = np.random.Generator


def shown(rate: float, trials: int) -> str:
    return f"{100 * rate:.1f} ± {100 * math.sqrt(rate * (1 - rate) / trials):.1f} %"


def rate(test: Callable[[Random], TestResult], trials: int) -> str:
    random = np.random.default_rng(0)
    return shown(sum(test(random).is_significant(ALPHA) for _ in range(trials)) / trials, trials)


def _of(test: Callable[..., TestResult], n: int, kind: str) -> Callable[[Random], TestResult]:
    return lambda random: test(getattr(random, kind)(size=n), getattr(random, kind)(size=n))


def samples() -> Iterator[tuple[str, str]]:
    """Of independent values."""
    for n in (3, 5, 10):
        yield f"Welch, {n} against {n}, normal", rate(_of(welch, n, "normal"), 10_000)
    yield (
        "Welch, 5 against 12, three times the deviation",
        rate(lambda r: welch(r.normal(0, 1, 5), r.normal(0, 3, 12)), 10_000),
    )
    yield (
        "Welch, 5 against 5, lognormal",
        rate(lambda r: welch(r.lognormal(0, 1, 5), r.lognormal(0, 1, 5)), 10_000),
    )
    yield "one against 5, normal", rate(lambda r: welch(r.normal(size=5), r.normal(size=1)), 10_000)
    for n in (5, 8, 20):
        yield f"Mann–Whitney, {n} against {n}, lognormal", rate(_of(mann_whitney, n, "lognormal"), 4_000)
    yield (
        "two proportions, 30 % of 200 and of 300",
        rate(lambda r: two_proportions(r.binomial(200, 0.3), 200, r.binomial(300, 0.3), 300), 10_000),
    )
    yield (
        "two proportions, 5 % of 50 each (Fisher)",
        rate(lambda r: two_proportions(r.binomial(50, 0.05), 50, r.binomial(50, 0.05), 50), 4_000),
    )
    yield (
        "power: Welch, 5 against 5, two deviations apart",
        rate(lambda r: welch(r.normal(size=5), r.normal(2, 1, 5)), 10_000),
    )


def coverage() -> Iterator[tuple[str, str]]:
    """How often the 95 % interval of a bootstrap holds the truth."""
    for n in (5, 10, 20, 50):
        random, trials, held = np.random.default_rng(1), 2_000, 0
        for _ in range(trials):
            found = bootstrap_interval(random.normal(size=n), random.normal(size=n))
            held += found.low <= 0 <= found.high
        yield f"bootstrap, {n} against {n}, normal: interval holds 0", shown(held / trials, trials)


def many() -> Iterator[tuple[str, str]]:
    """Twenty metrics, none of which differs: how often any is called significant."""
    trials = 10_000
    p = np.random.default_rng(2).uniform(size=(trials, 20))
    for name, correct in (
        ("not corrected", np.asarray),
        ("Holm", holm),
        ("Benjamini–Hochberg", benjamini_hochberg),
    ):
        yield (
            f"any of 20 metrics, {name}",
            shown(float(np.mean([correct(row).min() < ALPHA for row in p])), trials),
        )


def steps() -> Iterator[tuple[str, str, str, str]]:
    """Ends of two runs whose steps are correlated: steps, correlation, taken for independent, batch means."""
    from scipy.signal import lfilter

    trials = 2_000
    for n in (128, 1_000, 10_000):
        for phi in (0.0, 0.5, 0.9, 0.97, 0.99):
            random = np.random.default_rng(3)
            x = []
            for _ in range(2):
                start = random.normal(size=(trials, 1)) * phi / np.sqrt(1 - phi**2)
                x.append(lfilter([1], [1, -phi], random.normal(size=(trials, n)), axis=1, zi=start)[0])
            number = np.arange(n) * MOST // n
            means = [np.stack([y[:, number == at].mean(axis=1) for at in range(MOST)], axis=1) for y in x]
            effect = x[1].mean(axis=1) - x[0].mean(axis=1)
            plain, _ = t_test(effect, *error_of(x[0].var(axis=1, ddof=1), n, x[1].var(axis=1, ddof=1), n))
            a, b = (batch_means(one) for one in means)
            p, _ = t_test(effect, *error_of(a.variance, a.batches, b.variance, b.batches))
            known = (a.batches > 0) & (b.batches > 0)
            tested = float(np.mean(known))
            wrong = float(np.mean(np.where(known, p, 1.0) < ALPHA))
            told = f"{shown(wrong, trials)} (of {100 * tested:.0f} % that were tested)"
            yield f"{n:,}", f"{phi}", shown(float(np.mean(plain < ALPHA)), trials), told


def curves() -> Iterator[tuple[str, str]]:
    """Curves of 64 points that do not differ: how often they are said to part."""
    grid = np.linspace(0, 1_000, 64)
    for runs, between in ((1, 0.0), (3, 0.0), (3, 0.01), (5, 0.01)):
        random, trials, parted = np.random.default_rng(4), 2_000, 0

        def side(runs: int = runs, between: float = between, random: Random = random) -> list:  # type: ignore[type-arg]
            course = 0.3 + 2 * np.exp(-grid / 100)
            return [
                (grid, course + random.normal(0, between) + random.normal(0, 0.01, len(grid)))
                for _ in range(runs)
            ]

        for _ in range(trials):
            found = aligned("x", side(), side())
            parted += found is not None and found.diverges_at is not None
        seeds = "seeds apart as much as steps" if between else "no difference between seeds"
        yield f"curves, {runs} against {runs}, {seeds}", shown(parted / trials, trials)


def main() -> None:
    """Print the tables."""
    for part in (samples, coverage, many, curves):
        for name, told in part():
            print(f"| {name} | {told} |", flush=True)
    for row in steps():
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
