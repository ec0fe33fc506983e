"""Lineage: which version of a model was made from which, recorded as linked spans, and asked questions.

>>> from entrenar_otel.lineage import Lineage
>>> lineage = Lineage.open(tmp_path)
>>> lineage.add_node("digits", "1.0.0", accuracy=0.87)
>>> lineage.add_node("digits", "1.1.0", accuracy=0.82, parents=["digits@1.0.0"], change_type="new_data")
>>> str(lineage.find_regression_source("digits@1.1.0").source)
'digits@1.0.0 → digits@1.1.0 (new_data): accuracy 0.87 → 0.82 (−5.7 %)'
"""

import importlib
import typing

from entrenar_otel.lineage.version_id import VersionId as VersionId

if typing.TYPE_CHECKING:
    from entrenar_otel.lineage.comparison import VersionComparison
    from entrenar_otel.lineage.lineage import Lineage
    from entrenar_otel.lineage.node import LineageEdge, LineageNode
    from entrenar_otel.lineage.regression import Change, RegressionSource

#: Where each name comes from; they load DuckDB and pyarrow, so only when they are asked for.
_PLACES = {
    "Change": "regression",
    "Lineage": "lineage",
    "LineageEdge": "node",
    "LineageNode": "node",
    "RegressionSource": "regression",
    "VersionComparison": "comparison",
}
__all__ = [
    "Change",
    "Lineage",
    "LineageEdge",
    "LineageNode",
    "RegressionSource",
    "VersionComparison",
    "VersionId",
]


def __getattr__(name: str) -> typing.Any:
    if name in _PLACES:
        return getattr(importlib.import_module(f"entrenar_otel.lineage.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
