"""The data wait that a view shows: as recorded, live and afterwards, over epochs and attempts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from entrenar_processors import Series
from entrenar_processors.config.models import parse_text
from entrenar_processors.samples import Column

from entrenar_otel import Lake, Monitor
from entrenar_otel.testing import FakeClock
from entrenar_otel.views.data_wait import DataWaits
from entrenar_otel.views.watched import WatchedRun

STEP, WAIT = Series("step_duration"), Series("data_wait")


def rows(values: list[float], *, epochs: list[int] | None = None, first: int = 0) -> Column:
    """As recorded one after the other, in these epochs."""
    seq = first + np.arange(len(values))
    epoch = np.array([0] * len(values) if epochs is None else epochs, np.int32)
    return Column(seq, epoch, seq.astype(np.int32), seq, seq, np.array(values))


def waits_of(*parts: tuple[int, Series, Column]) -> DataWaits:
    waits = DataWaits()
    for attempt, series, column in parts:
        waits.add(attempt, series, column)
    return waits


def test_the_latest_steps_are_those_that_have_both_times() -> None:
    """A first step, of which nobody knows how long it waited, is none of them, nor of its epoch."""
    steps = rows([100.0] + [0.5] * 30, epochs=[0] * 31)
    found = waits_of((1, STEP, steps), (1, WAIT, rows([0.1] * 30, first=1))).now(is_going=False)
    assert found is not None
    assert (found.ratio, found.steps, found.epoch_ratio) == (
        pytest.approx(0.2),
        30,
        pytest.approx(0.2),
    )


@pytest.mark.parametrize("cut", [1, 7, 40, 500])
def test_it_is_the_same_however_the_rows_come(cut: int) -> None:
    """A tick at a time, or a file at once; only the last 200 steps count as the latest."""
    rng = np.random.default_rng(3)
    step, wait = rng.uniform(0.5, 1, 500), rng.uniform(0, 0.5, 500)
    epochs = np.repeat([0, 1, 2, 3], [100, 150, 150, 100])
    waits = DataWaits()
    for low in range(0, 500, cut):
        part = slice(low, low + cut)
        for series, values in ((STEP, step), (WAIT, wait)):
            waits.add(1, series, rows(values[part].tolist(), epochs=epochs[part].tolist(), first=low))
    found = waits.now(0.9, is_going=True)
    assert found is not None
    assert found.ratio == pytest.approx(wait[-200:].sum() / step[-200:].sum())
    assert found.epoch_ratio == pytest.approx(wait[250:400].sum() / step[250:400].sum())
    assert not found.is_much
    over = waits.now(is_going=False)
    assert over is not None
    assert over.epoch_ratio == pytest.approx(wait[400:].sum() / step[400:].sum())


def test_a_later_attempt_counts() -> None:
    """It went through the epoch again: what the one before took is no part of it."""
    waits = waits_of(
        (1, STEP, rows([1.0] * 50)), (1, WAIT, rows([0.9] * 50)),
        (2, STEP, rows([1.0] * 20)), (2, WAIT, rows([0.1] * 20)),
    )  # fmt: skip
    found = waits.now(is_going=False)
    assert found is not None
    assert (found.ratio, found.steps, found.epoch_ratio) == (pytest.approx(0.1), 20, pytest.approx(0.1))


def test_a_few_steps_or_none_tell_nothing() -> None:
    """Nor those of a validation, or of a program that measures no wait."""
    validation = Series.of("data_wait", {"split": "validation"})
    for parts in (
        [(1, STEP, rows([1.0] * 19)), (1, WAIT, rows([0.5] * 19))],
        [(1, STEP, rows([1.0] * 90)), (1, validation, rows([0.5] * 90))],
        [(1, STEP, rows([0.0] * 90)), (1, WAIT, rows([0.0] * 90))],
        [(1, Series("loss"), rows([1.0] * 90))],
    ):
        assert waits_of(*parts).now(is_going=False) is None


def test_what_a_run_waited_is_in_its_view(start: Callable[..., Monitor]) -> None:
    """While it goes on, and when its samples are files; the limit is that of renacer.toml."""
    clock = FakeClock()
    monitor = start(clock=clock)
    config = parse_text("[monitor.data_wait]\nmax_ratio = 0.6\n")
    watched = WatchedRun(Lake("lake"), "r", config)
    for _ in monitor.epochs(2):
        for _ in range(30):
            monitor.begin_step()
            clock.advance(0.5)
            monitor.end_step()
            clock.advance(0.5)
        live = watched.view().data_wait
    monitor.close()
    assert live is not None
    assert (live.ratio, live.max_ratio) == (pytest.approx(0.5, abs=0.01), 0.6)
    for view in (watched.view(), WatchedRun(Lake("lake"), "r", config).view()):
        assert view.data_wait is not None
        assert view.data_wait.epoch_ratio == pytest.approx(0.49, abs=0.02)
        assert not view.data_wait.is_much
