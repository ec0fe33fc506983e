"""Reports of stops: written beside the training, and nothing waits or fails for them."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import AndonStop, Monitor, errors
from entrenar_otel.andon.reports import VARIABLE
from entrenar_otel.testing import open_run


@pytest.fixture(autouse=True)
def wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests have them switched off."""
    monkeypatch.delenv(VARIABLE)


@pytest.fixture
def stopped(tmp_path: Path) -> Callable[..., Path]:
    """`stopped()`: the folder of the incident of a run that a NaN has stopped, and that is closed."""

    def run(*, waits: bool = True) -> Path:
        with Monitor("nan-run", lake=tmp_path / "lake", live=tmp_path / "live", quiet=True) as monitor:
            for step in range(60):
                monitor.log(loss=1 / (1 + step), step=step)
            with pytest.raises(AndonStop) as caught:
                monitor.log(loss=math.nan, step=60)
            pipeline = open_run(monitor).pipeline
            assert pipeline is not None
            reports = pipeline.incidents.reports
        if waits:
            assert not reports.is_wanted or reports.worker.join(100)
        return Path(str(caught.value.incident))

    return run


def test_a_stop_has_a_report(stopped: Callable[..., Path]) -> None:
    """In the folder of its incident, with what happened, why probably, and what to do."""
    text = (stopped() / "report.md").read_text()
    assert text.startswith("# Post-mortem of run nan-run\n\nRun nan-run was stopped at step 60")
    assert "### The loss became NaN (very likely)" in text
    assert "What to do: look at the batch of that step" in text


def test_it_can_be_switched_off(stopped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment."""
    monkeypatch.setenv(VARIABLE, "0")
    assert not (stopped() / "report.md").exists()


def test_an_alert_that_stops_nothing_has_none(tmp_path: Path) -> None:
    """Only what was stopped needs a post-mortem at once."""
    with Monitor("told", lake=tmp_path / "lake", live=tmp_path / "live", quiet=True) as monitor:
        for step in range(60):
            monitor.log(loss=1 / (1 + step), other=math.nan if step > 50 else 1.0, step=step)
    assert list((tmp_path / "lake").rglob("alert.json"))
    assert not list((tmp_path / "lake").rglob("report.md"))


def test_one_that_fails_is_counted(stopped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is stopped all the same, and its incident is whole."""

    def broken(*_: Any) -> None:
        raise RuntimeError("no report today")

    monkeypatch.setattr("entrenar_otel.report.post_mortem.facts_of_run", broken)
    errors.set_strict(False)
    before = errors.failures["report"]
    folder = stopped()
    assert errors.failures["report"] == before + 1
    assert (folder / "window.parquet").exists()
    assert not (folder / "report.md").exists()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_that_hangs_delays_no_stop(stopped: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The stop is raised while it hangs, and the end of the run gives up on it."""
    let_go, is_asked = threading.Event(), threading.Event()

    def hanging(*_: Any) -> None:
        is_asked.set()
        let_go.wait(100)
        raise RuntimeError("too late")

    monkeypatch.setattr("entrenar_otel.report.post_mortem.facts_of_run", hanging)
    monkeypatch.setattr("entrenar_otel.andon.reports.END_SECONDS", 0.2)
    errors.set_strict(False)
    try:
        folder = stopped(waits=False)
        assert is_asked.wait(100)
        assert not (folder / "report.md").exists()
    finally:
        let_go.set()
