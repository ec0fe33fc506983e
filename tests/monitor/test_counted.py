"""Counted: epochs and steps with a length, at the speed of a generator."""

from __future__ import annotations

import io
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from entrenar_otel import Monitor
from entrenar_otel.monitor.counted import Counted
from entrenar_otel.monitor.progress import Progress


@pytest.fixture(params=[True, False])
def monitor(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Monitor]:
    if not request.param:
        monkeypatch.setenv("ENTRENAR_DISABLED", "1")
    with Monitor("r", lake=tmp_path / "lake", live=tmp_path / "live", quiet=True) as monitor:
        yield monitor


def endless() -> Iterator[int]:
    yield from iter(int, 1)


def test_lengths(monitor: Monitor) -> None:
    """Recorded or not: of the epochs that are left, of the batches; a bar has its total."""
    assert len(monitor.epochs(10, start=3)) == 7
    assert len(monitor.epochs(2, start=3)) == 0
    assert len(monitor.steps([1, 2, 3])) == 3
    assert len(monitor.steps([1, 2, 3], split="validation")) == 3
    assert tqdm(monitor.steps([1, 2, 3]), file=io.StringIO()).total == 3
    with pytest.raises(TypeError, match="number of batches is not known"):
        len(monitor.steps(endless()))


def test_they_are_iterators_still(monitor: Monitor) -> None:
    """`for`, `next`, `list`, truth, and a loop that is left early."""
    steps = monitor.steps(iter([1, 2, 3]))
    assert steps
    assert next(steps) == 1
    assert list(steps) == [2, 3]
    assert list(steps) == []
    assert bool(monitor.steps([])) is True
    for epoch in monitor.epochs(3):
        assert epoch == 0
        break
    early = monitor.steps([1, 2])
    next(early)
    early.close()
    assert list(early) == []


def test_a_loop_runs_the_generator_itself(tmp_path: Path) -> None:
    """So a step costs nothing more."""
    with Monitor("r", lake=tmp_path / "lake", live=tmp_path / "live", quiet=True) as monitor:
        assert isinstance(iter(monitor.steps([1])), types.GeneratorType)
        assert isinstance(iter(monitor.epochs(1)), types.GeneratorType)
    assert list(Counted(iter([1]), lambda: 1)) == [1]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_of_tqdms(capsys: pytest.CaptureFixture[str]) -> None:
    """While one is open, our line is not drawn over it; what was drawn is taken away."""
    terminal: Any = Terminal()
    progress = Progress(dict, terminal)
    progress.begin()
    progress.draw()
    assert "epoch 1" in terminal.getvalue()
    with tqdm(range(3), file=io.StringIO()):
        terminal.seek(0)
        terminal.truncate()
        progress.draw()
        assert terminal.getvalue() == "\r\x1b[2K"
        progress.draw()
        assert terminal.getvalue() == "\r\x1b[2K"
    with tqdm(range(3), disable=True):
        progress.draw()
        assert "epoch 1" in terminal.getvalue()
