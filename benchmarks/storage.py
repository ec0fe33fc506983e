"""Storage: a durable batch against the disk's own fsync, and the size of a row.

10,000 rows (2,000 steps of five metrics) are written as a Parquet file of the lake, in turns with a
raw file of the same bytes, written and fsynced in the same folder. The p99 of 300 each. Size: one
million rows of training metrics in files of 16 MB segments, and the same after compaction.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import numpy as np
from entrenar_processors import Samples

from benchmarks.harness import Row, temporary, training_samples
from entrenar_otel.lake import Lake
from entrenar_otel.lake.tables.rows import metric_tables
from entrenar_otel.lake.tables.schema import METRICS, Owner

BATCHES = 300
OWNER = Owner("bench", 1, 0)
FOLDER = "metrics/day=2026-01-01/run=bench"


def measure() -> Iterator[Row]:
    with temporary() as folder:
        yield _durable_batch(Lake(folder / "lake", folder / "live"))
    with temporary() as folder:
        yield _size(Lake(folder / "lake", folder / "live"))


def _durable_batch(lake: Lake) -> Row:
    samples = training_samples(2_000)
    write(lake, samples, 0)
    name = f"{FOLDER}/p-000000.parquet"
    data = Path(lake.storage.location(name)).read_bytes()
    raw_path = Path(lake.storage.location(f"{FOLDER}/raw"))
    ours, raw = [], []
    for number in range(1, BATCHES + 1):
        start = perf_counter()
        write(lake, samples, number)
        between = perf_counter()
        with raw_path.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        raw.append(perf_counter() - between)
        ours.append(between - start)
    (ours50, ours99), (raw50, raw99) = (1e3 * np.quantile(one, [0.5, 0.99]) for one in (ours, raw))
    return Row(
        "10,000-row batch, durable, p99",
        raw99 + 8.0,
        ours99,
        "ms",
        f"limit: raw fsync p99 {raw99:.1f} ms + 8 ms; medians: ours {ours50:.1f}, raw {raw50:.1f} ms",
    )


def _size(lake: Lake) -> Row:
    steps = 200_000
    write(lake, training_samples(steps), 0)
    size = lake.storage.size_bytes(f"{FOLDER}/p-000000.parquet")
    noise = np.random.default_rng(7).random((5, steps))
    samples = training_samples(steps).blocks[0]
    columns = dict(zip(samples.series, noise, strict=True))
    worst = Samples.from_columns(columns, step=samples.step, time_ns=samples.time_ns)
    write(lake, worst, 1)
    random_size = lake.storage.size_bytes(f"{FOLDER}/p-000001.parquet")
    rows = steps * 5
    return Row(
        "size in Parquet",
        8.0,
        size / rows,
        "B a row",
        f"{rows:,} rows: loss, accuracy, gradient norm, learning rate, throughput; five columns of pure "
        f"float64 noise: {random_size / rows:.1f} B",
    )


def write(lake: Lake, samples: Samples, number: int, owner: Owner = OWNER) -> None:
    """A Parquet file as the heartbeat writes it."""
    folder = f"metrics/day=2026-01-01/run={owner.run_id}"
    name = f"{folder}/p-{number:06d}.parquet"
    lake.storage.write(name, METRICS, metric_tables(samples, owner))
