"""The physical files are the contract that other engines read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as dataset
import pyarrow.parquet as pq

from entrenar_otel import Monitor

COLUMNS = {
    "timestamp": pa.timestamp("us", tz="UTC"),
    "run_id": pa.string(),
    "epoch": pa.int32(),
    "batch": pa.int32(),
    "metric": pa.string(),
    "value": pa.float64(),
    "tags": pa.map_(pa.string(), pa.string()),
    "step": pa.int64(),
    "rank": pa.int32(),
    "attempt": pa.int32(),
    "seq": pa.int64(),
}


def record(lake: Path, run_id: str = "007") -> Path:
    with Monitor(run_id, lake=lake, quiet=True) as monitor:
        for step in range(100):
            monitor.log(loss=1 / (step + 1), accuracy=0.5, epoch=0, batch=step, step=step)
        monitor.log(accuracy=0.25, tags={"split": "validation", "fold": "3"})
    (file,) = lake.glob("metrics/day=*/run=*/*.parquet")
    return file


def test_columns_order_and_types(tmp_path: Path) -> None:
    """They are exactly those of the contract, also without a schema hidden in the metadata."""
    file = record(tmp_path / "lake")
    schema = pq.ParquetFile(file).schema_arrow
    assert dict(zip(schema.names, schema.types, strict=True)) == COLUMNS
    assert schema.names == list(COLUMNS)
    assert pq.ParquetFile(file).metadata.metadata is None


def test_rows_are_sorted_and_encoded_as_measured(tmp_path: Path) -> None:
    """By metric, tags, recording order; delta for integers and time, byte-stream-split for values."""
    file = pq.ParquetFile(record(tmp_path / "lake"))
    rows = file.read().to_pylist()
    keys = [(row["metric"], len(row["tags"]), row["seq"]) for row in rows]
    assert keys == sorted(keys)
    group = file.metadata.row_group(0)
    encodings = {group.column(i).path_in_schema: set(group.column(i).encodings) for i in range(12)}
    assert "DELTA_BINARY_PACKED" in encodings["timestamp"] & encodings["seq"] & encodings["step"]
    assert "BYTE_STREAM_SPLIT" in encodings["value"]
    assert {group.column(i).compression for i in range(12)} == {"ZSTD"}


def test_partition_keys_do_not_clash_with_columns(tmp_path: Path) -> None:
    """pyarrow reads the Hive folders of a run named 007, which a `run_id=` key would break."""
    record(tmp_path / "lake", "007")
    table = dataset.dataset(tmp_path / "lake" / "metrics", partitioning="hive").to_table()
    assert table.num_rows == 201
    assert set(table.column("run_id").to_pylist()) == {"007"}
    assert {"day", "run"} <= set(table.column_names)


def test_run_record(tmp_path: Path) -> None:
    """One row: what ran, on what, how it ended."""
    with Monitor(
        "one", model_id="m", version="1.0.0", config={"lr": 0.1}, lake=tmp_path / "lake", quiet=True
    ):
        (file,) = (tmp_path / "lake").glob("runs/day=*/run=one/*.parquet")
        assert pq.read_table(file, partitioning=None).to_pylist()[0]["state"] == "running"
    (row,) = pq.read_table(file, partitioning=None).to_pylist()
    assert (row["state"], row["model_id"], row["version"], row["config"]) == (
        "completed", "m", "1.0.0", '{"lr": 0.1}',
    )  # fmt: skip
    assert row["started_at"] <= row["ended_at"]
    assert len(row["config_hash"]) == 16
    assert row["argv"]
