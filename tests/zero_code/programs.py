"""A program that trains with plain meters, and what is in its lake."""

from __future__ import annotations

from pathlib import Path

from entrenar_otel.lake import Lake

OURS = {"OTEL_PYTHON_METER_PROVIDER": "entrenar"}
TRAIN = """
from opentelemetry import metrics
import os, signal, sys

meter = metrics.get_meter("mine")
loss = meter.create_gauge("training.loss")
seconds = meter.create_histogram("seconds", "s")
seen = meter.create_counter("seen")
for step in range(500):
    loss.set(1 / (1 + step), {"step": step, "split": "train"})
    seconds.record(0.1, {"step": step})
    seen.add(2)
"""
#: What it leaves: metric, number of samples.
EVERY = [("loss", 500), ("seconds", 500), ("seen", 500)]


def counts(folder: Path) -> list[tuple[str, int]]:
    sql = "SELECT metric, count(*) FROM metrics GROUP BY metric ORDER BY metric"
    return [tuple(row.values()) for row in Lake(folder / "lake").query(sql).to_pylist()]
