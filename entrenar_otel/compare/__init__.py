"""Compare: whether two runs, versions or configurations differ, by how much, and how sure that is.

>>> from entrenar_otel.compare import welch
>>> welch([0.86, 0.87, 0.85, 0.86], [0.88, 0.89, 0.88, 0.87]).is_significant()
True
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from entrenar_otel.compare.groups import GroupComparison, compare_groups
    from entrenar_otel.compare.metrics import MetricDifference, Verdict
    from entrenar_otel.compare.runs import Comparison, compare_runs
    from entrenar_otel.compare.significance import (
        TestResult,
        benjamini_hochberg,
        bootstrap_interval,
        holm,
        mann_whitney,
        mean_interval,
        two_proportions,
        welch,
    )
    from entrenar_otel.compare.skew import SkewComparison, compare_serving

#: Where each name comes from; they load numpy, DuckDB and pyarrow, so only when they are asked for.
_PLACES = {
    "Comparison": "runs",
    "GroupComparison": "groups",
    "MetricDifference": "metrics",
    "SkewComparison": "skew",
    "TestResult": "significance",
    "Verdict": "metrics",
    "benjamini_hochberg": "significance",
    "bootstrap_interval": "significance",
    "compare_groups": "groups",
    "compare_runs": "runs",
    "compare_serving": "skew",
    "holm": "significance",
    "mann_whitney": "significance",
    "mean_interval": "significance",
    "two_proportions": "significance",
    "welch": "significance",
}
__all__ = [
    "Comparison",
    "GroupComparison",
    "MetricDifference",
    "SkewComparison",
    "TestResult",
    "Verdict",
    "benjamini_hochberg",
    "bootstrap_interval",
    "compare_groups",
    "compare_runs",
    "compare_serving",
    "holm",
    "mann_whitney",
    "mean_interval",
    "two_proportions",
    "welch",
]


def __getattr__(name: str) -> typing.Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"entrenar_otel.compare.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
