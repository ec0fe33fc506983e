"""Pictures of incidents: drawn beside the training, and nothing waits or fails for them."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from entrenar_otel import AndonStop
from entrenar_otel.andon.pictures import VARIABLE, Pictures
from entrenar_otel.lake import Lake
from entrenar_otel.views.incident_process import COMMAND

PARTS = ["alert.json", "config.json", "environment.json", "window.parquet"]


@pytest.fixture(autouse=True)
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests have them switched off."""
    monkeypatch.delenv(VARIABLE)


@pytest.fixture
def stopped(judged: Any) -> Callable[..., Path]:
    """`stopped()`: the folder of the incident of a run that a NaN has stopped, and that is closed."""

    def run(timeout_seconds: float = 100.0) -> Path:
        with judged() as one:
            for step in range(50):
                one.clock.advance(0.1)
                one.monitor.log(loss=1 / (1 + step), step=step)
            with pytest.raises(AndonStop) as caught:
                one.monitor.log(loss=math.nan, step=50)
            incidents = one.run.pipeline.incidents
            one.advance(60)
            incidents.worker.flush(100)
            incidents.pictures.close(timeout_seconds)
        return Path(str(caught.value.incident))

    return run


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`instead(code)`: what the process that draws imports as matplotlib."""

    def put(code: str) -> None:
        folder = tmp_path / "packages" / "matplotlib"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder.parent))

    return put


def test_an_incident_has_a_picture_of_the_curves(stopped: Any, command: Any) -> None:
    """Beside what it has anyhow; `alerts` names it."""
    folder = stopped()
    assert sorted(path.name for path in folder.iterdir()) == [*PARTS, "window.png"]
    with Image.open(folder / "window.png") as image:
        red = (np.asarray(image.convert("RGB")) == (0xC6, 0x28, 0x28)).all(axis=-1).sum()
    assert red > 20  # the NaN and the finding
    assert f"picture: {os.path.realpath(folder)}/window.png" in command("alerts").stdout
    rows = json.loads(command("alerts", "--json").stdout)
    assert [row["picture"] is not None for row in rows if row["incident"]] == [True]


@pytest.mark.parametrize(
    "code",
    [
        "raise ImportError('no such module')",
        "raise RuntimeError('broken')",
        "import os; os.kill(os.getpid(), 11)",
        "import sys; sys.stdout.write('noise' * 100_000); sys.stdout.flush(); raise SystemExit(0)",
    ],
)
def test_without_a_matplotlib_that_works_nothing_is_said(
    code: str, stopped: Any, instead: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Missing, broken, crashing, or saying something else: the incident is complete."""
    instead(code)
    with caplog.at_level(logging.WARNING):
        folder = stopped()
    assert sorted(path.name for path in folder.iterdir()) == PARTS
    assert not [record for record in caplog.records if "picture" in record.getMessage()]


def test_one_that_hangs_is_ended(stopped: Any, instead: Any, tmp_path: Path, until: Any) -> None:
    """The end of the run waits for it so long, and no longer; it is gone then."""
    told = tmp_path / "pid"
    instead(
        f"import os, time\nopen({str(told)!r}, 'w').write(f'{{os.getpid()}}\\n')\n"
        "while True:\n    time.sleep(1)"
    )
    folder = stopped(timeout_seconds=0.5)
    assert sorted(path.name for path in folder.iterdir()) == PARTS
    if told.exists() and (text := told.read_text().strip()):
        until(lambda: not Path(f"/proc/{text}/stat").exists())


def test_the_process_ends_itself() -> None:
    """When whoever started it is gone, or stuck."""
    code = "import entrenar_otel.views.incident_process as p; p.LIFE_SECONDS = 1; p.main()"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    with process:
        assert process.wait(100) == -signal.SIGALRM


def test_nobody_wants_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where matplotlib is missing, and where it was said: no process is started."""
    storage = Lake(tmp_path / "lake").storage
    assert Pictures(storage).is_wanted
    assert not Pictures(storage, {VARIABLE: "0"}).is_wanted
    for executable in ("/opt/app/train", "", None):  # what Python is embedded in would start again
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", executable)
            assert not Pictures(storage).is_wanted
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not Pictures(storage).is_wanted


def test_the_drawing_process_records_nothing_and_keeps_the_packages(tmp_path: Path, stopped: Any) -> None:
    """It has the training's packages; a module of the working folder is not among them."""
    (tmp_path / "json.py").write_text("raise RuntimeError('not this one')")
    assert "main()" in COMMAND
    assert (stopped() / "window.png").exists()
    assert [record.run_id for record in Lake("lake").runs()] == ["kit"]
