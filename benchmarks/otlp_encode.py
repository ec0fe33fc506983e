"""OTLP: what it costs to put samples into requests, and what a loop pays for having it on.

The records of a segment with steps of five values are read and encoded as the exporter does it, into blocks
and into wide events: CPU time and bytes a sample. Then two loops in processes of their own take turns, one
with an endpoint that takes everything and one without: the CPU time of all threads of the process a step,
which is the loop, the heartbeat and the exporter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import numpy as np

from benchmarks.endpoint import endpoint
from benchmarks.harness import METRICS, ROOT, Row, temporary
from entrenar_otel.otel.otlp.segment_reader import SegmentReader
from entrenar_otel.recording.recorder import Recorder
from entrenar_otel.recording.segment_log import no_op

STEPS, REPEATS, ROUNDS, LOOP_STEPS = 100_000, 7, 5, 60_000

LOOP = """
import json, sys, time
from entrenar_otel import Monitor
from entrenar_otel.testing import open_run
with Monitor("b", lake=sys.argv[1], quiet=True) as monitor:
    log = monitor.bind("loss", "accuracy", "grad_norm", "learning_rate", "throughput")
    monitor.log(loss=0.0)
    time.sleep(1.5)
    before = time.process_time()
    for step in range(int(sys.argv[2])):
        log(0.5, 0.5, 0.5, 0.5, 0.5)
        if step % 1000 == 0:
            time.sleep(0.05)
    open_run(monitor).flush(5.0)
    time.sleep(1.5)
    spent = time.process_time() - before
print(json.dumps(spent))
"""


def measure() -> Iterator[Row]:
    with temporary() as folder:
        for mode, limit, most in (("blocks", 0.02, 17.0), ("events", 0.2, 45.0)):
            seconds, size = _encode(folder / mode, mode)
            yield Row(
                f"OTLP, encode a sample, {mode}", limit, 1e6 * seconds, "µs", "read, scanned, in a request"
            )
            yield Row(f"OTLP, a sample on the wire, {mode}", most, size, "B", "without gzip")
    with temporary() as folder:
        yield _loop(folder)


def _encode(folder: Path, mode: str) -> tuple[float, float]:
    """CPU seconds and bytes a sample, the best of some."""
    folder.mkdir()
    header = {"lake": "x", "run_id": "b", "attempt": 1, "rank": 0, "day": "2026-01-01"}
    recorder = Recorder(begin=no_op, on_bad_loss=no_op, on_held=no_op)
    recorder.open(folder, {**header, "otlp": {"samples": mode, "resource": {"service.name": "b"}}})
    log = recorder.bind(METRICS, None)
    for _ in range(STEPS):
        log(0.5, 0.5, 0.5, 0.5, 0.5)
    recorder.end("done")
    segment = recorder.segments[0]
    times, size, values = [], 0, 1
    for _ in range(REPEATS):
        began = process_time()
        reader = SegmentReader(segment.path, is_trusted=True)
        pieces = list(reader.read(segment.end).pieces())
        size = sum(len(piece.encode()[0]) for piece in pieces)
        values = sum(piece.values for piece in pieces)
        times.append((process_time() - began) / values)
    return min(times), size / values


def _loop(folder: Path) -> Row:
    """What OTLP adds to a step."""
    added = []
    with endpoint() as url:
        on = {"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": url, "ENTRENAR_OTLP_SAMPLES": "blocks"}
        for number in range(ROUNDS):
            with_it, without = (
                _seconds(folder / f"{number}-{name}", environment)
                for name, environment in (("on", on), ("off", {}))
            )
            added.append(1e6 * (with_it - without) / LOOP_STEPS)
    return Row(
        "OTLP on, added to a step of 5 values, CPU of all threads",
        3.0,
        float(np.median(added)),
        "µs",
        f"median of {ROUNDS}, {min(added):.2f} to {max(added):.2f}",
    )


def _seconds(folder: Path, environment: dict[str, str]) -> float:
    done = subprocess.run(
        [sys.executable, "-c", LOOP, str(folder), str(LOOP_STEPS)],
        env=os.environ | environment | {"ENTRENAR_LIVE": f"{folder}-live"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout))
