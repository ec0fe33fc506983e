"""Programs without a line of ours, started as people start them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def program(tmp_path: Path, installed: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `train.py` with this text, after the words in `launcher`, with a lake in `lake`."""

    def run(
        text: str, *arguments: str, launcher: tuple[str, ...] = (), code: int = 0, **environment: str
    ) -> Any:
        script = tmp_path / "train.py"
        script.write_text(textwrap.dedent(text))
        env = os.environ | {"ENTRENAR_LAKE": str(tmp_path / "lake"), "PYTHONPATH": installed}
        env = {name: value for name, value in (env | environment).items() if value}
        done = subprocess.run(
            [*launcher, sys.executable, str(script), *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=env,
            timeout=300,
        )
        assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def instrumented() -> tuple[str, ...]:
    """`opentelemetry-instrument`, where it is installed."""
    pytest.importorskip("opentelemetry.distro", reason="NOT TESTED HERE: opentelemetry-instrument is missing")
    return (str(Path(sys.executable).with_name("opentelemetry-instrument")),)
