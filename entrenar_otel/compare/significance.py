"""Significance: whether two samples differ by more than chance, by how much, and how sure that is.

Every test takes the sides in the order *A, B*, and its `effect` is what B has more than A, in the metric's
own unit. Values are taken for independent: runs, users, batches in random order. The steps of one run
are not; `compare/batch_means.py` makes independent values of them. Non-finite values are left out.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from entrenar_processors.extras import require_library
from entrenar_processors.samples import Floats
from numpy.typing import ArrayLike

Statistic = Literal["mean_difference", "median_difference"]

WELCH = "Welch's t-test"
CRAWFORD_HOWELL = "one value against several (Crawford–Howell)"

#: Differences that are rounding of values of this size, as a share of the largest.
_ROUNDING = 1e-13
#: Up to so many pairs, the distribution of U is counted and not approximated.
_EXACT_PAIRS = 2500
#: Up to so many pairs, all their differences are held at once.
_PAIRS_HELD = 1_000_000
#: Resamples of a bootstrap, fewer where the samples are so large that these would take seconds.
_RESAMPLES, _FEWEST_RESAMPLES, _DRAWS = 9_999, 999, 100_000_000
#: The jackknife of BCa takes the square of the number of values.
_MOST_FOR_BCA = 1_000
#: Fewer expected successes or failures than this are counted exactly (Cochran, Biometrics 10, 1954).
_FEWEST_EXPECTED = 5.0


@dataclass(frozen=True, slots=True)
class TestResult:
    """What a test says. A number that there is none of is NaN; `method` says why.

    `effect` is B − A; `low` and `high` bound it with the confidence asked for. An interval without a bound
    on one side has an infinite one: so few values exclude nothing.
    """

    __test__: ClassVar[bool] = False  # not a class of tests, whatever pytest takes it for

    statistic: float
    p_value: float
    effect: float
    low: float
    high: float
    method: str

    def is_significant(self, alpha: float = 0.05) -> bool:
        """Whether chance alone brings this about less often than `alpha`; False where that is unknown."""
        return self.p_value < alpha


def welch(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> TestResult:
    """Welch's t-test of the means of `a` `(n,)` and `b` `(m,)`, two-sided, and its interval.

    t = (mean_b − mean_a) / sqrt(var_a / n + var_b / m), with Welch–Satterthwaite degrees of freedom
    (Welch, Biometrika 34, 1947). One value against several is Crawford and Howell's test (Clin.
    Neuropsychol. 12, 1998), which takes the variance of the several for that of both. One value against
    one has an effect and no p-value. Where nothing varies within either side, p is that of the
    permutation test. Raises MissingExtra without scipy, ValueError on a confidence outside 0..1.

    >>> result = welch([0.86, 0.87, 0.85, 0.86], [0.88, 0.89, 0.88, 0.87])
    >>> round(result.effect, 3), round(result.p_value, 3), round(result.low, 3), round(result.high, 3)
    (0.02, 0.013, 0.006, 0.034)
    >>> welch([0.86], [0.88]).method
    'difference only: one value per side'
    """
    _check(confidence)
    a, b = _finite(a), _finite(b)
    n, m = len(a), len(b)
    if not n or not m:
        return _nothing("no values", n, m)
    shift = float(a[0]) / 2 + float(b[0]) / 2  # the variance of values far from 0 keeps its digits
    a, b = a - shift, b - shift
    effect = float(b.mean() - a.mean())
    if n == m == 1:
        return _only(effect, "difference only: one value per side")
    var_a, var_b = (float(x.var(ddof=1)) if len(x) > 1 else 0.0 for x in (a, b))
    error, freedom = (float(x) for x in error_of(var_a, n, var_b, m))
    scale = max(float(np.abs(a).max()), float(np.abs(b).max()), abs(shift))
    if error <= _ROUNDING * scale:
        return _constant(effect, n, m, scale)
    p, half = t_test(effect, error, freedom, confidence)
    method = WELCH if min(n, m) > 1 else CRAWFORD_HOWELL
    return TestResult(effect / error, float(p), effect, effect - float(half), effect + float(half), method)


def error_of(var_a: ArrayLike, n: ArrayLike, var_b: ArrayLike, m: ArrayLike) -> tuple[Floats, Floats]:
    """The standard error of a difference of means, and its degrees of freedom; of many at once.

    From the variances and numbers of values of both sides, all of one shape. By Welch and Satterthwaite;
    where a side has one value, by Crawford and Howell; where both have, NaN.
    """
    var_a, n, var_b, m = np.broadcast_arrays(*(np.asarray(x, np.float64) for x in (var_a, n, var_b, m)))
    with np.errstate(all="ignore"):
        square = var_a / n + var_b / m
        share_a, share_b = var_a / n / square, var_b / m / square
        freedom = 1 / (share_a**2 / (n - 1) + share_b**2 / (m - 1))
        alone = (n <= 1) | (m <= 1)
        square = np.where(alone, np.where(n > 1, var_a, var_b) * (1 / n + 1 / m), square)
        freedom = np.where(alone, np.maximum(n, m) - 1, freedom)
        none = np.maximum(n, m) <= 1
        return np.where(none, np.nan, np.sqrt(square)), np.where(none, np.nan, freedom)


def t_test(
    effect: ArrayLike, error: ArrayLike, freedom: ArrayLike, confidence: float = 0.95
) -> tuple[Floats, Floats]:
    """Two-sided p-values of Student's t, and half the widths of the intervals; of many at once.

    `error` is the standard error of `effect`, `freedom` its degrees of freedom; all of one shape. With
    scipy.special alone: scipy.stats takes a second to import.
    """
    require_library("scipy", "a comparison")
    from scipy.special import stdtr, stdtrit

    effect, error, freedom = (np.asarray(x, np.float64) for x in (effect, error, freedom))
    p = 2 * stdtr(freedom, -np.abs(effect) / error)
    return np.minimum(p, 1.0), stdtrit(freedom, (1 + confidence) / 2) * error


def mean_interval(values: ArrayLike, *, confidence: float = 0.95) -> tuple[float, float, float]:
    """The mean of `values` `(n,)`, and the bounds of Student's interval of it; NaN of fewer than two.

    >>> [round(x, 3) for x in mean_interval([0.86, 0.87, 0.85, 0.86])]
    [0.86, 0.847, 0.873]
    """
    _check(confidence)
    values = _finite(values)
    if len(values) < 2:
        return (float(values[0]) if len(values) else math.nan), math.nan, math.nan
    mean = float(values.mean())
    error = float((values - mean).std(ddof=1)) / math.sqrt(len(values))
    half = float(t_test(0.0, 1.0, len(values) - 1.0, confidence)[1]) * error
    return mean, mean - half, mean + half


def mann_whitney(a: ArrayLike, b: ArrayLike, *, confidence: float = 0.95) -> TestResult:
    """The Mann–Whitney test of `a` `(n,)` against `b` `(m,)`, two-sided: of order only, outliers do no harm.

    `statistic` is U, the pairs in which B is greater (Mann and Whitney, Ann. Math. Statist. 18, 1947).
    `effect` is Hodges and Lehmann's shift, the median of all differences between the sides (Ann. Math.
    Statist. 34, 1963), with Moses's interval (Hollander, Wolfe and Chicken, 2014, section 4.3), both
    exact up to 2,500 pairs without ties. With three values per side no difference is significant at 5 %.

    >>> result = mann_whitney([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 80.0])
    >>> result.statistic, round(result.p_value, 4), result.effect
    (16.0, 0.0286, 4.0)
    """
    _check(confidence)
    require_library("scipy", "a comparison")
    a, b = _finite(a), _finite(b)
    n, m = len(a), len(b)
    if not n or not m:
        return _nothing("no values", n, m)
    a, b = np.sort(a), np.sort(b)
    if n == m == 1:
        return _only(float(b[0] - a[0]), "difference only: one value per side")
    from scipy.stats import mannwhitneyu

    middle = (_nth_difference(a, b, (n * m - 1) // 2) + _nth_difference(a, b, n * m // 2)) / 2
    if min(a[0], b[0]) == max(a[-1], b[-1]):
        return TestResult(n * m / 2, 1.0, 0.0, math.nan, math.nan, "Mann–Whitney: all values are equal")
    both = np.concatenate([a, b])
    is_exact = n * m <= _EXACT_PAIRS and len(np.unique(both)) == n + m
    found = mannwhitneyu(b, a, alternative="two-sided", method="exact" if is_exact else "asymptotic")
    rank = _interval_rank(n, m, confidence)
    low = _nth_difference(a, b, rank - 1) if rank > 0 else -math.inf
    high = _nth_difference(a, b, n * m - rank) if rank > 0 else math.inf
    method = f"Mann–Whitney, {'exact' if is_exact else 'by the normal distribution'}"
    return TestResult(float(found.statistic), min(1.0, float(found.pvalue)), middle, low, high, method)


def two_proportions(
    successes_a: float, n_a: float, successes_b: float, n_b: float, *, confidence: float = 0.95
) -> TestResult:
    """The difference of two shares: `successes_b / n_b` − `successes_a / n_a`, two-sided.

    z with the pooled variance, whose square is Pearson's chi-square; Fisher's exact test where fewer than
    five successes or failures are to be expected on a side. The interval is Newcombe's, of two Wilson
    scores (Statist. Med. 17, 1998, method 10). Raises ValueError on counts that are none.

    >>> result = two_proportions(80, 100, 92, 100)
    >>> round(result.effect, 2), round(result.p_value, 3), round(result.low, 3), round(result.high, 3)
    (0.12, 0.014, 0.023, 0.217)
    """
    _check(confidence)
    for side, successes, n in (("a", successes_a, n_a), ("b", successes_b, n_b)):
        if not (0 <= successes <= n < math.inf):
            raise ValueError(
                f"expected 0 <= successes_{side} <= n_{side}, got {successes} of {n}: "
                "count the successes among all trials of that side"
            )
    if not n_a or not n_b:
        return _nothing("no trials", n_a, n_b)
    require_library("scipy", "a comparison")
    from scipy.special import ndtr, ndtri

    share_a, share_b = successes_a / n_a, successes_b / n_b
    effect = share_b - share_a
    pooled = (successes_a + successes_b) / (n_a + n_b)
    variance = pooled * (1 - pooled) * (1 / n_a + 1 / n_b)
    z = float(ndtri((1 + confidence) / 2))
    (low_a, high_a), (low_b, high_b) = _wilson(share_a, n_a, z), _wilson(share_b, n_b, z)
    low = effect - math.hypot(share_b - low_b, high_a - share_a)
    high = effect + math.hypot(high_b - share_b, share_a - low_a)
    if not variance > 0:
        return TestResult(0.0, 1.0, 0.0, low, high, "two proportions: all trials ended alike")
    score = effect / math.sqrt(variance)
    if min(n_a, n_b) * min(pooled, 1 - pooled) < _FEWEST_EXPECTED:
        from scipy.stats import fisher_exact

        table = [[successes_b, n_b - successes_b], [successes_a, n_a - successes_a]]
        p = float(fisher_exact(np.array(table, np.int64)).pvalue)
        return TestResult(score, min(1.0, p), effect, low, high, "Fisher's exact test")
    return TestResult(score, 2 * float(ndtr(-abs(score))), effect, low, high, "two proportions, pooled z")


def bootstrap_interval(
    a: ArrayLike,
    b: ArrayLike,
    statistic: Statistic = "mean_difference",
    confidence: float = 0.95,
    seed: int = 0,
) -> TestResult:
    """A bootstrap interval of the difference of `b` `(m,)` from `a` `(n,)`: no distribution is assumed.

    The bias-corrected and accelerated interval (BCa; Efron, J. Am. Statist. Assoc. 82, 1987) by
    `scipy.stats.bootstrap`; the percentile interval beyond 1,000 values, and where BCa is undefined. It is
    too narrow for few values: of five per side it holds the truth 88 % of the time, not 95; use `welch`
    there. No p-value. The same seed gives the same interval.

    >>> result = bootstrap_interval([0.86, 0.87, 0.85, 0.86, 0.84], [0.88, 0.89, 0.88, 0.87, 0.90])
    >>> round(result.effect, 3), 0.015 < result.low < result.effect < result.high < 0.045
    (0.028, True)
    """
    _check(confidence)
    if statistic not in ("mean_difference", "median_difference"):
        raise ValueError(f"expected statistic 'mean_difference' or 'median_difference', got {statistic!r}")
    require_library("scipy", "a comparison")
    a, b = _finite(a), _finite(b)
    n, m = len(a), len(b)
    if not n or not m:
        return _nothing("no values", n, m)
    middle = np.mean if statistic == "mean_difference" else np.median

    def difference(x: Floats, y: Floats, axis: int = -1) -> Floats:
        return np.asarray(middle(y, axis=axis) - middle(x, axis=axis))

    effect = float(difference(a, b))
    if min(n, m) < 2:
        return _only(effect, "difference only: a bootstrap needs two values per side")
    if a.min() == a.max() and b.min() == b.max():
        return _only(effect, "difference only: nothing varies within a side")
    from scipy.stats import bootstrap

    resamples = int(min(_RESAMPLES, max(_FEWEST_RESAMPLES, _DRAWS // (n + m))))

    def interval(method: str) -> tuple[float, float]:
        with np.errstate(all="ignore"):
            found = bootstrap(
                (a, b),
                difference,
                vectorized=True,
                confidence_level=confidence,
                n_resamples=resamples,
                batch=max(1, 10_000_000 // (n + m)),
                method=method,
                random_state=np.random.default_rng(seed),
            ).confidence_interval
        return float(found.low), float(found.high)

    if n + m <= _MOST_FOR_BCA:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scipy's, where BCa is undefined: NaN says so, too
            low, high = interval("BCa")
        if math.isfinite(low) and math.isfinite(high):
            return TestResult(effect, math.nan, effect, low, high, f"bootstrap, BCa, {resamples:,} resamples")
    low, high = interval("percentile")
    return TestResult(effect, math.nan, effect, low, high, f"bootstrap, percentile, {resamples:,} resamples")


def holm(p_values: ArrayLike) -> Floats:
    """P-values `(k,)` corrected for being k: chance brings *any* one below α less often than α.

    Holm's step-down procedure (Scand. J. Statist. 6, 1979), whatever the tests have in common. NaN, a test
    that there was none of, stays NaN and does not count.

    >>> holm([0.01, 0.04, 0.03, float("nan")])
    array([0.03, 0.06, 0.06,  nan])
    """
    p, order = _ascending(p_values)
    k = len(order)
    corrected = np.full(p.shape, np.nan)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(k, 0, -1)))
    return corrected


def benjamini_hochberg(p_values: ArrayLike) -> Floats:
    """P-values `(k,)` corrected so that, of those below α, at most the share α is there by chance.

    Benjamini and Hochberg's step-up procedure (J. R. Statist. Soc. B 57, 1995), for independent or
    positively dependent tests. NaN stays NaN and does not count.

    >>> benjamini_hochberg([0.01, 0.04, 0.03, float("nan")])
    array([0.03, 0.04, 0.04,  nan])
    """
    p, order = _ascending(p_values)
    k = len(order)
    corrected = np.full(p.shape, np.nan)
    scaled = p[order] * k / np.arange(1, k + 1)
    corrected[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return corrected


# -- what the tests share -----------------------------------------------------------------------------


def _check(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"expected confidence between 0 and 1, got {confidence}: 0.95 is 95 %")


def _finite(values: ArrayLike) -> Floats:
    flat = np.asarray(values, np.float64).ravel()
    return flat[np.isfinite(flat)]


def _only(effect: float, method: str) -> TestResult:
    return TestResult(math.nan, math.nan, effect, math.nan, math.nan, method)


def _nothing(what: str, n: float, m: float) -> TestResult:
    where = "either side" if not n and not m else "A" if not n else "B"
    return _only(math.nan, f"{what} on {where}" if where == "either side" else f"{what} in {where}")


def _constant(effect: float, n: int, m: int, scale: float) -> TestResult:
    """Nothing varies within a side: of all ways to divide the values, how many differ as much."""
    if abs(effect) <= _ROUNDING * scale:
        return TestResult(0.0, 1.0, effect, math.nan, math.nan, "no difference: all values are equal")
    p = min(1.0, (2 if n == m else 1) / math.comb(n + m, n))
    return TestResult(
        math.copysign(math.inf, effect),
        p,
        effect,
        math.nan,
        math.nan,
        "permutation test: nothing varies within a side",
    )


def _ascending(p_values: ArrayLike) -> tuple[Floats, np.ndarray]:
    """The p-values, and the places of those that are numbers, least first. Raises ValueError."""
    p = np.asarray(p_values, np.float64).ravel()
    if np.any((p < 0) | (p > 1)):
        raise ValueError(f"expected p-values between 0 and 1, got {p[(p < 0) | (p > 1)][0]}")
    order = np.argsort(p, kind="stable")
    return p, order[: np.count_nonzero(~np.isnan(p))]


def _wilson(share: float, n: float, z: float) -> tuple[float, float]:
    """Wilson's score interval of a share (J. Am. Statist. Assoc. 22, 1927)."""
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def _nth_difference(a: Floats, b: Floats, place: int) -> float:
    """The difference y − x that has `place` smaller ones, of all x in `a` and y in `b`, both ascending."""
    if len(a) * len(b) <= _PAIRS_HELD:
        pairs = np.subtract.outer(b, a).ravel()
        return float(np.partition(pairs, place)[place])
    low, high = float(b[0] - a[-1]), float(b[-1] - a[0])
    for _ in range(200):
        middle = low / 2 + high / 2
        if middle in (low, high):
            break
        # how many differences are at most `middle`
        if int(np.searchsorted(b, a + middle, side="right").sum()) > place:
            high = middle
        else:
            low = middle
    return high


def _interval_rank(n: int, m: int, confidence: float) -> int:
    """The rank, from 1, of the difference that is Moses's lower bound; 0: there is none."""
    tail = (1 - confidence) / 2
    if n * m <= _EXACT_PAIRS:
        return int(np.searchsorted(np.cumsum(_distribution_of_u(n, m)), tail, side="right"))
    from scipy.special import ndtri

    return int(n * m / 2 + float(ndtri(tail)) * math.sqrt(n * m * (n + m + 1) / 12))


def _distribution_of_u(n: int, m: int) -> Floats:
    """P(U = 0), P(U = 1) … where the sides do not differ: the coefficients of Gauss's binomial."""
    counts = np.zeros(n * m + 1)
    counts[0] = 1.0
    for k in range(1, n + 1):  # times (1 − q^(m + k)) / (1 − q^k), in whole numbers up to 2**53
        if m + k <= n * m:
            counts[m + k :] -= counts[: -(m + k)].copy()
        for start in range(k):
            counts[start::k] = np.cumsum(counts[start::k])
    return np.asarray(np.abs(counts) / counts.sum())
