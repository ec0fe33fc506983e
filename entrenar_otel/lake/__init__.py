"""The lake: segments become Parquet, and DuckDB queries both."""

from entrenar_otel.lake.lake import DEFAULT_LAKE, Lake
from entrenar_otel.lake.prune import Prunable
from entrenar_otel.lake.records.runs import RunRecord
from entrenar_otel.lake.recover import Recovered

__all__ = ["DEFAULT_LAKE", "Lake", "Prunable", "Recovered", "RunRecord"]
