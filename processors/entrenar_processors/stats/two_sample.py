"""DriftDetector: did a metric get worse, or its distribution change, between two sets of values?"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from entrenar_processors.extras import require_library
from entrenar_processors.samples import Floats

Test = Literal["welch", "mann_whitney"]
Worse = Literal["lower", "higher"]

#: Values are scaled to at most 1; a standard error below this is rounding of the mean.
_FLAT = 1e-14


class Comparison(NamedTuple):
    """The numbers of a test, before anything is decided; see the verdicts."""

    p_value: float
    effect: float
    drop_ratio: float


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What a test found: `p_value`, `effect` and `drop_ratio`, positive when it got worse.

    `effect` is the difference of the means in pooled standard deviations (Cohen's d; NaN where
    nothing varies), for distributions the largest distance of the distribution functions (0 … 1).
    `drop_ratio` is the difference of the means as a share of the baseline's.
    """

    p_value: float
    effect: float = math.nan
    drop_ratio: float = 0.0


class NoDrift(_Verdict):
    """Nothing that chance would not explain."""

    __slots__ = ()


class DriftWarning(_Verdict):
    """Worse by the ratio that is worth a look, whatever the p-value says."""

    __slots__ = ()


class Drift(_Verdict):
    """Chance explains such a difference less often than the threshold."""

    __slots__ = ()


Verdict = NoDrift | DriftWarning | Drift


class DriftDetector:
    """Tests two sets of values against each other; the error of a `Drift` is at most `threshold`.

    Performance: the one-sided Welch test, `t = (mean_b - mean_c) / sqrt(var_b / n_b + var_c / n_c)`
    with Welch–Satterthwaite degrees of freedom (Biometrika 34, 1947), or the one-sided Mann–Whitney
    test (Ann. Math. Statist. 18, 1947), which asks for order only and does not mind outliers. And a
    `DriftWarning` whenever the mean got worse by `max_drop_ratio` of the baseline's. Distribution: the
    two-sample Kolmogorov–Smirnov test.

    The p-values hold for independent values, as batches are; for repeated looks at one stream use
    `DriftMonitor`, which takes windows of `window_size` from it. Non-finite values are left out.
    Where nothing varies, p is that of the permutation test: the share of all ways to deal out the
    values that look at least as bad. With fewer than two values a side it is 1.

    >>> random = np.random.default_rng(0)
    >>> detector = DriftDetector()
    >>> before, now = random.normal(0.90, 0.02, 100), random.normal(0.88, 0.02, 100)
    >>> verdict = detector.detect_performance_drift(before, now)
    >>> type(verdict).__name__, verdict.p_value < 1e-6, round(verdict.drop_ratio, 2)
    ('Drift', True, 0.03)
    >>> detector.detect_performance_drift([0.80], [0.75])
    DriftWarning(p_value=1.0, effect=nan, drop_ratio=0.0625)
    """

    def __init__(
        self,
        window_size: int = 100,
        threshold: float = 0.05,
        *,
        test: Test = "welch",
        worse: Worse = "lower",
        max_drop_ratio: float = 0.05,
    ) -> None:
        if window_size < 2:
            raise ValueError(f"expected window_size of at least 2 values, got {window_size}")
        if not 0 < threshold < 1:
            raise ValueError(f"expected threshold between 0 and 1 (a probability), got {threshold}")
        if test not in ("welch", "mann_whitney"):
            raise ValueError(f"expected test 'welch' or 'mann_whitney', got {test!r}")
        if worse not in ("lower", "higher"):
            raise ValueError(f"expected worse 'lower' (accuracy) or 'higher' (loss), got {worse!r}")
        if not max_drop_ratio > 0:
            raise ValueError(f"expected max_drop_ratio above 0, got {max_drop_ratio}: 0.05 is 5 %")
        require_library("scipy", "DriftDetector")
        self.window_size = window_size
        self.threshold = threshold
        self.test: Test = test
        self.worse: Worse = worse
        self.max_drop_ratio = max_drop_ratio

    def detect_performance_drift(self, baseline: ArrayLike, current: ArrayLike) -> Verdict:
        """Whether `current` `(m,)` is worse than `baseline` `(n,)`."""
        found = self.compare(baseline, current)
        if found.p_value < self.threshold:
            return Drift(*found)
        # The tolerance is for 0.95 of 0.9, which is not 0.855 in floating point.
        if found.drop_ratio >= self.max_drop_ratio - 1e-9:
            return DriftWarning(*found)
        return NoDrift(*found)

    def detect_distribution_drift(self, baseline: ArrayLike, current: ArrayLike) -> NoDrift | Drift:
        """Whether `current` `(m,)` comes from another distribution than `baseline` `(n,)`."""
        from scipy.stats import ks_2samp

        b, c = _scaled(baseline, current)
        if min(len(b), len(c)) < 2:
            return NoDrift(1.0)
        with warnings.catch_warnings():
            # Where the exact p-value cannot be computed it takes the asymptotic one, and says so.
            warnings.simplefilter("ignore", RuntimeWarning)
            result = ks_2samp(b, c)
        found = Comparison(_p(result.pvalue), float(result.statistic), self._drop_ratio(b, c))
        return Drift(*found) if found.p_value < self.threshold else NoDrift(*found)

    def compare(self, baseline: ArrayLike, current: ArrayLike) -> Comparison:
        """The performance test's numbers without a verdict."""
        b, c = _scaled(baseline, current)
        if not len(b) or not len(c):
            return Comparison(1.0, math.nan, 0.0)
        sign = 1.0 if self.worse == "lower" else -1.0
        drop, ratio = sign * float(b.mean() - c.mean()), self._drop_ratio(b, c)
        n, m = len(b), len(c)
        if min(n, m) < 2:
            return Comparison(1.0, math.nan, ratio)
        var_b, var_c = float(b.var(ddof=1)), float(c.var(ddof=1))
        if math.sqrt(var_b / n + var_c / m) <= _FLAT:
            # All of one side are alike, and so are the others: only their order can be counted.
            return Comparison(1 / math.comb(n + m, m) if drop > 1e-12 else 1.0, math.nan, ratio)
        pooled = math.sqrt(((n - 1) * var_b + (m - 1) * var_c) / (n + m - 2))
        if self.test == "welch":
            p = _welch(drop, var_b / n, var_c / m, n, m)
        else:
            from scipy.stats import mannwhitneyu

            p = _p(mannwhitneyu(sign * b, sign * c, alternative="greater").pvalue)
        return Comparison(p, drop / pooled, ratio)

    def _drop_ratio(self, b: Floats, c: Floats) -> float:
        """How much worse the mean is, as a share of the baseline's; 0 where that is 0."""
        if not len(b) or not len(c):
            return 0.0
        base = float(b.mean())
        drop = base - float(c.mean())
        if not abs(base) > _FLAT:
            return 0.0
        return (drop if self.worse == "lower" else -drop) / abs(base)


def _welch(drop: float, se2_b: float, se2_c: float, n: int, m: int) -> float:
    """P(T >= t) of Student's t; scipy.special alone, since scipy.stats takes a second to import."""
    from scipy.special import stdtr

    se2 = se2_b + se2_c
    # In shares of se2, whose own square could underflow.
    freedom = 1 / ((se2_b / se2) ** 2 / (n - 1) + (se2_c / se2) ** 2 / (m - 1))
    return _p(stdtr(freedom, -drop / math.sqrt(se2)))


def _scaled(baseline: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    """The finite values of both, divided by the largest: squares of 1e308 are then numbers too."""
    b, c = (np.asarray(one, np.float64).ravel() for one in (baseline, current))
    b, c = b[np.isfinite(b)], c[np.isfinite(c)]
    scale = max((float(abs(one).max()) for one in (b, c) if len(one)), default=0.0)
    if scale > 0:
        b, c = b / scale, c / scale
    return b, c


def _p(value: object) -> float:
    """A probability as a plain number."""
    return min(max(float(value), 0.0), 1.0)  # type: ignore[arg-type]
