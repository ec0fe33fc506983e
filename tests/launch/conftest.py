"""`entrenar-otel run` as a process, with the package's entry points as they are now."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: The command itself.
RUN = (sys.executable, "-m", "entrenar_otel.cli.main", "run")


@pytest.fixture
def environ(tmp_path: Path, installed: str) -> dict[str, str]:
    """The environment in which the package is installed, and records into `lake`."""
    return os.environ | {"ENTRENAR_LAKE": str(tmp_path / "lake"), "PYTHONPATH": installed}


@pytest.fixture
def run(environ: dict[str, str]) -> Callable[..., Any]:
    """Runs a command under `entrenar-otel run` to its end."""

    def call(*command: str, options: tuple[str, ...] = (), **environment: str) -> Any:
        return subprocess.run(
            [*RUN, *options, "--", *command],
            env=environ | environment,
            capture_output=True,
            text=True,
            timeout=400,
        )

    return call
