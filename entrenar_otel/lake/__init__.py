"""The lake: segments become Parquet, and DuckDB queries both."""

from entrenar_otel.lake.lake import DEFAULT_LAKE, Lake
from entrenar_otel.lake.prune import Prunable
from entrenar_otel.lake.recover import Recovered
from entrenar_otel.lake.runs import RunRecord

__all__ = ["DEFAULT_LAKE", "Lake", "Prunable", "Recovered", "RunRecord"]
