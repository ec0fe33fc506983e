"""Queries: `Lake.query` as a user calls it, less DuckDB's own connect, which is reported apart.

One million rows of one run (five metrics, 200,000 steps, one compacted file); the same with one full
16 MB live segment more (another million rows, read and checked from its records, while DuckDB connects);
and "final loss of every run" over 20 runs of a million rows each. Medians.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.harness import BY_HAND, METRICS, Row, median_seconds, started, temporary, training_samples
from benchmarks.storage import write
from entrenar_otel.lake import Lake
from entrenar_otel.lake.sql.limits import Limits
from entrenar_otel.lake.sql.query import connect
from entrenar_otel.lake.tables.schema import Owner
from entrenar_otel.recording.segment import HEADER_BYTES, SEGMENT_BYTES

GROUPING = "SELECT metric, COUNT(*), AVG(value), STDDEV(value) FROM metrics GROUP BY metric"
CURVE = "SELECT step, value FROM metrics WHERE metric = 'loss' ORDER BY seq"
FINAL = "SELECT run_id, arg_max(value, seq) FROM metrics WHERE metric = 'loss' GROUP BY run_id"
STEPS, RUNS = 200_000, 20


def measure() -> Iterator[Row]:
    with temporary() as spill:
        connecting = median_seconds(lambda: connect(Limits.of(), str(spill)).close(), 15)
    yield Row("DuckDB's connect and close, reported apart", None, 1e3 * connecting, "ms")

    def timed(lake: Lake, sql: str, run_id: str | None, repeats: int = 15) -> float:
        return 1e3 * (median_seconds(lambda: lake.query(sql, run_id=run_id), repeats) - connecting)

    with temporary() as folder:
        lake = Lake(folder / "lake", folder / "live")
        write(lake, training_samples(STEPS), 0)
        grouping, curve = timed(lake, GROUPING, "bench"), timed(lake, CURVE, "bench")
        yield Row("grouping, 1 M rows of one run", 30.0, grouping, "ms")
        yield Row("loss curve, 1 M rows of one run", 20.0, curve, "ms")
        with started(folder, **BY_HAND) as monitor:
            rows = _fill_a_segment(monitor.bind(*METRICS))
            more = timed(lake, GROUPING, "bench") - grouping
            yield Row("grouping, one full live segment more", 50.0, more, "ms", f"+{rows:,} rows of 16 MB")
            more = timed(lake, CURVE, "bench") - curve
            yield Row("loss curve, one full live segment more", 50.0, more, "ms", f"+{rows:,} rows of 16 MB")
    with temporary() as folder:
        yield _final_loss(folder, timed)


def _fill_a_segment(log: Callable[..., None]) -> int:
    """Fill a segment to the last kilobytes with 80-byte records; returns its number of rows."""
    calls = (SEGMENT_BYTES - HEADER_BYTES - 1024) // 80
    values = training_samples(calls).blocks[0].values.tolist()
    for step, row in enumerate(values):
        log(*row, epoch=0, batch=step, step=step)
    return calls * len(METRICS)


def _final_loss(folder: Path, timed: Callable[..., float]) -> Row:
    lake = Lake(folder / "lake", folder / "live")
    for run in range(RUNS):
        write(lake, training_samples(STEPS, seed=run), 0, Owner(f"run-{run:02d}", 1, 0))
    return Row('"final loss of every run", 20 M rows in 20 runs', 60.0, timed(lake, FINAL, None, 9), "ms")
