"""Exports: a run as JSON, CSV, Parquet or Prometheus text."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from entrenar_otel.errors import ConfigError, RunError

if TYPE_CHECKING:
    import pyarrow as pa

    from entrenar_otel.lake.lake import Lake

FORMATS = ("json", "csv", "prometheus", "parquet")


def export_table(table: pa.Table, kind: str, output: Path | None) -> str | None:
    """Write the table as json, csv or parquet to `output`, or return it as text. Raises ConfigError."""
    from entrenar_otel.exporters.text import write_csv, write_json

    if kind == "parquet":
        if output is None:
            raise ConfigError("Parquet is not text: name a file with --output FILE")
        import pyarrow as pa
        import pyarrow.parquet as pq

        from entrenar_otel.lake.tables.plain import without_intervals

        table = without_intervals(table)
        # Statistics leave NaN out: readers that trust them would skip those rows (see lake/schema.py).
        sure = [
            f.name for f in table.schema if not (pa.types.is_floating(f.type) or pa.types.is_nested(f.type))
        ]
        pq.write_table(table, output, write_statistics=sure)
        return None
    write = {"json": write_json, "csv": write_csv}[kind]
    if output is not None:
        with output.open("w", encoding="utf-8", newline="") as stream:
            write(table, stream)
        return None
    text = io.StringIO()
    write(table, text)
    return text.getvalue()


def export_run(lake: Lake, run_id: str, kind: str, output: Path | None = None) -> str | None:
    """All metrics of a run in one of `FORMATS`: to `output`, or as text. Raises RunError, ConfigError."""
    if kind not in FORMATS:
        raise ConfigError(f"expected one of {', '.join(FORMATS)}, got {kind!r}")
    if lake.is_pruned(run_id):
        raise RunError(
            f"the full-rate rows of run {run_id} were pruned; what is left: "
            f"entrenar-otel query --run {run_id} 'SELECT * FROM curves'"
        )
    if kind == "prometheus":
        from entrenar_otel.exporters.prometheus import prometheus_text

        text = prometheus_text(lake, run_id)
        if output is None:
            return text
        output.write_text(text, encoding="utf-8")
        return None
    order = "ORDER BY attempt, rank, seq, metric"
    table = lake.query(f"SELECT * FROM metrics {order}", run_id=run_id)
    return export_table(table, kind, output)
