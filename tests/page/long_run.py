"""A run of many samples, written into the lake as its own process would have, a file at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from entrenar_processors import Samples
from entrenar_processors.samples import Block, Floats, Series

from entrenar_otel.lake import Lake
from entrenar_otel.lake.hand_over import file_name
from entrenar_otel.lake.records.runs import COMPLETED, RunRecord, describe_config, write_record
from entrenar_otel.lake.tables.rows import metric_tables
from entrenar_otel.lake.tables.schema import METRICS

#: Values of one file, and of one second.
_ROWS, _RATE = 1 << 20, 1_000
_STARTED_NS = 1_760_000_000 * 10**9


def values_of(count: int) -> Floats:
    """A loss that falls, with ripples so that no two neighbours are equal. `(count,)`"""
    at = np.arange(count)
    values: Floats = 2.0 * np.exp(-at / (count / 4)) + 0.05 * np.sin(at * 1.7) + 0.3
    return values


def write_long_run(
    lake: Lake, run_id: str, values: Floats, *, rank: int = 0, first: int = 0, attempt: int = 1,
    has_steps: bool = True, batches: int = 0, settings: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """One series `loss`, whose steps begin at `first`; with epochs of so many batches."""
    at = datetime.fromtimestamp(_STARTED_NS / 1e9 + 10**6 * (attempt - 1), UTC)
    process = f"long.{attempt}.{rank}"
    config, config_hash = describe_config(dict(settings or {"samples": len(values)}))
    record = RunRecord(
        run_id=run_id, attempt=attempt, rank=rank, world_size=1, started_at=at, day=f"{at:%Y-%m-%d}",
        config=config, config_hash=config_hash, process=process, state=COMPLETED, ended_at=at,
    )  # fmt: skip
    for number, samples in enumerate(
        _pieces(values, first, attempt, has_steps=has_steps, batches=batches), 1
    ):
        name = file_name("metrics", record.day, run_id, process, number)
        lake.storage.write(name, METRICS, metric_tables(samples, record.owner))
    write_record(lake.storage, record)


def _pieces(values: Floats, first: int, attempt: int, *, has_steps: bool, batches: int) -> Iterator[Samples]:
    start_ns = _STARTED_NS + 10**15 * (attempt - 1)
    for at in range(0, len(values), _ROWS):
        rows = np.arange(at, min(at + _ROWS, len(values)))
        step = rows + first
        absent = np.full(len(rows), -1, np.int32)
        epoch, batch = (part.astype(np.int32) for part in np.divmod(step, batches or 1))
        yield Samples(
            [
                Block(
                    (Series("loss"),),
                    start_ns + rows * (10**9 // _RATE),
                    epoch if batches else absent,
                    batch if batches else absent,
                    step if has_steps else absent.astype(np.int64),
                    rows + 1,
                    values[rows, np.newaxis],
                )
            ]
        )
