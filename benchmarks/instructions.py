"""Instructions a call, counted by `valgrind --tool=callgrind`: the same on a busy machine as on a quiet one.

A call's count is the difference between a process that makes 20,000 calls and one that makes 2,000,
divided by 18,000. Run it with `python -m benchmarks --instructions`; it is no part of the table.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.harness import BY_HAND, ROOT, Row, started, temporary
from benchmarks.hot_path import bound, five_gauges, log_by_keyword

FEW, MANY = 2_000, 20_000
CONTENDERS = ("gauges", "log", "bind")


def measure() -> Iterator[Row]:
    if shutil.which("valgrind") is None:
        yield Row("instructions a call", None, None, "", "needs valgrind: apt-get install valgrind")
        return
    gauges = 0.0
    for contender in CONTENDERS:
        count = (_instructions(contender, MANY) - _instructions(contender, FEW)) / (MANY - FEW)
        gauges = gauges or count
        what = {"gauges": "five gauges", "log": "`log`, 5 metrics", "bind": "`bind`, 5 metrics"}[contender]
        yield Row(f"instructions a call: {what}", None, count, "", f"{count / gauges:.2f} × five gauges")


def _instructions(contender: str, calls: int) -> int:
    """Instructions of a whole process that makes so many calls."""
    code = "import sys; from benchmarks.instructions import work; work(*sys.argv[1:])"
    count = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={os.devnull}", sys.executable, "-c", code]
    with temporary() as folder:
        done = subprocess.run(
            [*count, contender, str(calls), str(folder)],
            cwd=ROOT,
            env=os.environ | {"PYTHONHASHSEED": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
    collected = re.search(r"Collected : (\d+)", done.stderr)
    assert collected is not None, done.stderr
    return int(collected[1])


def work(contender: str, calls: str, folder: str) -> None:
    """In the counted process."""
    with started(Path(folder), **BY_HAND) as monitor:
        if contender == "gauges":
            five_gauges()(int(calls))
        elif contender == "log":
            log_by_keyword(monitor)(int(calls))
        else:
            bound(monitor)(int(calls))
        os._exit(0)  # leaves out the hand-over, whose size follows the calls
