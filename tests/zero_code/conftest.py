"""Programs without a line of ours, started as people start them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import entrenar_otel

ROOT = Path(entrenar_otel.__file__).parents[1]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH in which the package has the entry points that its pyproject.toml has now."""
    folder = tmp_path_factory.mktemp("installed")
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()  # ROOT may be site-packages
    project = tomllib.loads(text)["project"]
    info = folder / "entrenar_otel-0.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: entrenar-otel\nVersion: 0.0.0\n")
    sections = [
        "\n".join([f"[{group}]", *(f"{name} = {value}" for name, value in points.items())])
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(sections))
    return folder


@pytest.fixture
def program(tmp_path: Path, installed: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `train.py` with this text, after the words in `launcher`, with a lake in `lake`."""

    def run(
        text: str, *arguments: str, launcher: tuple[str, ...] = (), code: int = 0, **environment: str
    ) -> Any:
        script = tmp_path / "train.py"
        script.write_text(textwrap.dedent(text))
        places = [str(ROOT), str(ROOT / "processors"), str(installed)]
        env = os.environ | {"ENTRENAR_LAKE": str(tmp_path / "lake"), "PYTHONPATH": os.pathsep.join(places)}
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
    pytest.importorskip("opentelemetry.distro")
    return (str(Path(sys.executable).with_name("opentelemetry-instrument")),)
