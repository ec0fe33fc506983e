"""`entrenar-otel run` as a process, with the package's entry points as they are now."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import entrenar_otel

ROOT = Path(entrenar_otel.__file__).parents[1]
#: The command itself.
RUN = (sys.executable, "-m", "entrenar_otel.cli.main", "run")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment in which the package is installed, and records into `lake`."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    info = tmp_path / "installed" / "entrenar_otel-0.0.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: entrenar-otel\nVersion: 0.0.0\n")
    sections = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items())])
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(sections))
    places = [str(ROOT), str(ROOT / "processors"), str(info.parent)]
    return os.environ | {"ENTRENAR_LAKE": str(tmp_path / "lake"), "PYTHONPATH": os.pathsep.join(places)}


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
