"""Write a small lake with the version of entrenar_otel that is on PYTHONPATH, for tests/data/lakes.

Of an older version, whose commit `git log -- CHANGELOG.md` tells:

    git archive COMMIT entrenar_otel processors | tar x -C /tmp/old
    PYTHONPATH=/tmp/old:/tmp/old/processors python scripts/freeze_lake.py tests/data/lakes/0.1.0

A run `ended`, whose files are in `lake/`, and a run `killed`, whose segment is in `live/`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

_ENDED = """
from entrenar_otel import Monitor
with Monitor("ended", model_id="m", version="1.0.0", config={"lr": 0.5}, lake=LAKE, quiet=True) as monitor:
    for step in range(10):
        monitor.log(loss=step + 0.5, epoch=0, batch=step, step=step)
    monitor.log(loss=7.0, tags={"split": "validation"})
    if hasattr(monitor, "event"):
        monitor.event("hello", {"a": 1})
"""
_KILLED = """
import os, signal
from entrenar_otel import Monitor
from entrenar_otel.recording.segment import Segment
Segment.create.__func__.__defaults__ = (32 << 10,)
monitor = Monitor("killed", lake=LAKE, quiet=True, interval_seconds=60).start()
for step in range(10):
    monitor.log(loss=step + 0.25, accuracy=0.5, epoch=0, batch=step, step=step)
if hasattr(monitor, "event"):
    monitor.event("hello")
os.kill(os.getpid(), signal.SIGKILL)
"""


def main(folder: Path) -> None:
    """Write `folder/lake` and `folder/live`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "ENTRENAR_"))}
    environment = kept | {"ENTRENAR_LIVE": str(folder / "live")}
    for script, code in ((_ENDED, 0), (_KILLED, -signal.SIGKILL)):
        text = script.replace("LAKE", repr(str(folder / "lake")))
        if sys.argv[2:]:  # where the segment was in a version before folders
            text = text.replace("entrenar_otel.recording.segment", sys.argv[2])
        done = subprocess.run([sys.executable, "-c", text], env=environment, cwd=folder, check=False)
        if done.returncode != code:
            raise SystemExit(f"expected {code}, got {done.returncode}")
    for path in (folder / "live").glob(".*.new"):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
