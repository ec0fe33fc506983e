"""A killed run's spans end in the lake, and leave through the exporters of the process that recovers it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from entrenar_otel.lake import Lake

KILLED = """
    import os, signal
    from entrenar_otel import Monitor
    monitor = Monitor("dead", quiet=True, model_id="m").start()
    for epoch in monitor.epochs(3):
        monitor.log(loss=0.5)
        if epoch == 1:
            with monitor.span("evaluate", split="test"):
                os.kill(os.getpid(), signal.SIGKILL)
"""
NEXT = """
    import time
    from entrenar_otel import Monitor
    with Monitor("next", quiet=True, interval_seconds=0.05) as monitor:
        for _ in range(1000):
            monitor.log(loss=0.5)
            time.sleep(0.01)
            if any(run.run_id == "dead" and run.state == "crashed" for run in monitor.lake.runs()):
                time.sleep(1.0)  # the spans are exported once the lake has them
                break
"""


def run(folder: Path, program: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder,
        env={**os.environ, "ENTRENAR_LIVE": str(folder / "live"), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )


def printed(text: str) -> list[dict[str, Any]]:
    """The spans that the SDK's console exporter printed."""
    found, decoder, at = [], json.JSONDecoder(), 0
    while (at := text.find("{", at)) >= 0:
        span, at = decoder.raw_decode(text, at)
        found.append(span)
    return found


def test_a_killed_run_ends_for_exporters_too(tmp_path: Path) -> None:
    """Same ids as its start was noted with, status ERROR, the dead run's resource."""
    assert run(tmp_path, KILLED).returncode == -signal.SIGKILL
    lake = Lake(tmp_path / "entrenar-lake", tmp_path / "live")
    sql = "SELECT name, span_id, trace_id, status FROM spans WHERE status = 'ERROR' ORDER BY start_time"
    before = lake.query(sql, run_id="dead").to_pylist()
    assert [row["name"] for row in before] == ["training.run", "training.epoch", "evaluate"]
    done = run(tmp_path, NEXT, OTEL_TRACES_EXPORTER="console")
    assert done.returncode == 0, done.stderr
    after = lake.query(sql, run_id="dead").to_pylist()
    assert after == before
    left = [
        span for span in printed(done.stdout) if span["resource"]["attributes"]["training.run.id"] == "dead"
    ]
    assert sorted(
        (span["name"], span["context"]["span_id"], span["context"]["trace_id"]) for span in left
    ) == (sorted((row["name"], f"0x{row['span_id']}", f"0x{row['trace_id']}") for row in before))
    for span in left:
        assert span["status"]["status_code"] == "ERROR"
        assert span["status"]["description"] == "the process ended without closing its run"
        assert span["end_time"] is not None
