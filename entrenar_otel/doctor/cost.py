"""Cost: what a monitor takes of a loop with steps of a millisecond, on this machine; some 5 seconds.

In a process of its own, with the defaults: no variable of ours or of OpenTelemetry's reaches it, and its lake
is a temporary folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from entrenar_processors.durations import text_of

from entrenar_otel.doctor.check import Check, note

COMMAND = (sys.executable, "-P", "-m", "entrenar_otel.doctor.loop")
#: Some 8 seconds on a quiet machine, starting included; it is stopped then.
LIMIT_SECONDS = 60.0
#: Libraries of linear algebra that would take all cores for a small network.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_NAME = "a step"
#: What is told of each part: its name, its key, what it does.
PARTS = (
    ("log", "log_us", "five metrics, on the loop's thread"),
    ("steps()", "steps_us", "places and times, likewise"),
    ("heartbeat", "heartbeat_us", "drains, judges, sums up, syncs"),
    ("the rest", "other_us", "the lake, the machine's readings"),
)


def measure(command: Sequence[str] = COMMAND, limit_seconds: float = LIMIT_SECONDS) -> Iterator[Check]:
    """Run the loop, and say what it cost; where it cannot be run, say so."""
    try:
        with tempfile.TemporaryDirectory(prefix="entrenar-doctor-", ignore_cleanup_errors=True) as folder:
            done = subprocess.run(
                command,
                check=False,
                cwd=folder,
                env=environment(os.environ),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit_seconds,
            )
    except subprocess.TimeoutExpired:
        yield _unmeasured(f"the loop was not done within {limit_seconds:g} s")
        return
    except OSError as error:
        yield _unmeasured(f"{error.filename or 'no temporary folder'}: {error.strerror or error}")
        return
    try:
        found = json.loads(done.stdout)
    except ValueError:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        yield _unmeasured(f"the loop failed: {last[0]}")
        return
    yield from told(found)


def _unmeasured(why: str) -> Check:
    return note(
        _NAME,
        f"not measured: {why}",
        "entrenar-otel doctor --no-cost leaves it out; TMPDIR says where it lies",
    )


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """That of the process: without settings of ours and OpenTelemetry's, and with the same modules."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("ENTRENAR_", "OTEL_"))}
    native = {"ENTRENAR_NATIVE": environ["ENTRENAR_NATIVE"]} if "ENTRENAR_NATIVE" in environ else {}
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    return kept | native | _ONE_THREAD | {"PYTHONPATH": paths}


def told(found: Mapping[str, Any]) -> Iterator[Check]:
    """The checks for what the loop printed."""
    total = sum(float(found[name]) for name in ("loop_us", "heartbeat_us", "other_us"))
    background = total - found["loop_us"]
    step = float(found["step_us"])
    percent, low, high = (
        100 * us / step for us in (total, found["low_us"] + background, found["high_us"] + background)
    )
    text = (
        f"{total:.1f} µs of CPU in all threads: {percent:.2f} % of one that takes {text_of(step / 1e6)} "
        f"(95 %: {low:.2f} to {high:.2f} %), {total / 100:.2g} % of 10 ms"
    )
    facts = {name: value for name, value in found.items() if name != "load"}
    facts |= {"total_us": total, "percent": percent, "low_percent": low, "high_percent": high}
    load, cores = float(found.get("load", 0.0)), os.cpu_count() or 1
    if load > cores:
        advice = f"others keep this machine busy (load {load:.1f} on {cores} cores): measure again later"
        yield note(_NAME, text, advice, **facts)
    else:
        yield Check(_NAME, text, facts=facts)
    for name, key, what in PARTS:
        yield Check(
            name, f"{found[key]:.1f} µs: {what}", facts={"us": float(found[key]), "share": found[key] / total}
        )
    start, end = (text_of(found[name] / 1e3) for name in ("start_ms", "end_ms"))
    yield Check("a run", f"{start} of CPU at its start, {end} at its end, once")
