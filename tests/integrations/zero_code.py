"""Programs without a line of ours, under `entrenar-otel run`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import entrenar_otel
from entrenar_otel.lake import Lake

ROOT = Path(entrenar_otel.__file__).parents[1]


def recorded(program: str, *arguments: str, code: int = 0, **environment: str) -> Lake:
    """Run it here with these arguments, and give the lake that it was recorded into."""
    Path("train.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "-m", "entrenar_otel.cli.main", "run", "--", sys.executable, "train.py", *arguments],
        env=os.environ
        | {"PYTHONPATH": f"{ROOT}:{ROOT}/processors:{ROOT}/native", "ENTRENAR_LAKE": "lake"}
        | environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "monitoring failed" not in done.stderr, done.stderr
    assert "is not recorded" not in done.stderr, done.stderr
    return Lake("lake")
