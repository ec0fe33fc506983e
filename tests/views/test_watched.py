"""A run as it is watched: while it goes on and afterwards, stopped, resumed, pruned, from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from entrenar_processors.config.models import parse_text
from entrenar_processors.samples import Series

from entrenar_otel import AndonStop, Lake, Monitor
from entrenar_otel.errors import NotMeasured
from entrenar_otel.views.model import Axis, Panel, panels_of
from entrenar_otel.views.watched import WatchedRun

LOSS = Series("loss")


def _last(watched: WatchedRun) -> tuple[int, int, float]:
    """How many values, points, and the last one."""
    view = watched.view()
    known = view.statistics[LOSS]
    return known.count, len(view.curves[LOSS].values), known.last


def test_a_run_is_followed_while_it_goes_on(start: Callable[..., Monitor]) -> None:
    """Each look reads what is new: from segments, and when they become files nothing is seen twice."""
    monitor = start()
    watched = WatchedRun(Lake("lake"), "r")
    assert not watched.view().curves
    for step in range(10):
        monitor.log(loss=float(step), step=step)
    assert _last(watched) == (10, 10, 9.0)
    view = watched.view()
    assert (view.state, view.is_live) == ("running", True)
    assert view.age_seconds is not None
    assert view.age_seconds < 1000
    for step in range(10, 15):
        monitor.log(loss=float(step), step=step)
    assert _last(watched) == (15, 15, 14.0)
    monitor.log(loss=15.0, step=15)  # not seen before the segment is a file
    monitor.close()
    assert _last(watched) == (16, 16, 15.0)
    assert (watched.view().state, watched.view().is_live, watched.view().age_seconds) == (
        "completed",
        False,
        None,
    )
    assert _last(WatchedRun(Lake("lake"), "r")) == (16, 16, 15.0)


def test_compaction_shows_nothing_twice(
    start: Callable[..., Monitor], segment_size: Callable[[int], None]
) -> None:
    """Many files become one while the run is watched."""
    segment_size(256 << 10)
    monitor, watched = start(), WatchedRun(Lake("lake"), "r")
    for step in range(12_000):
        monitor.log(loss=float(step), step=step)
        if step % 3_000 == 0:
            watched.view()
    monitor.close()
    assert _last(watched) == (12_000, 12_000, 11_999.0)
    Lake("lake").compact()
    assert _last(watched) == (12_000, 12_000, 11_999.0)


def test_a_resumed_run_is_one_curve(start: Callable[..., Monitor]) -> None:
    """What the first attempt did beyond the second's beginning is not shown; its values count."""
    for attempt, steps in ((1, range(5)), (2, range(3, 6))):
        monitor = start()
        for step in steps:
            monitor.log(loss=float(attempt), step=step)
        monitor.close()
    view = WatchedRun(Lake("lake"), "r").view()
    assert view.attempts == 2
    assert view.curves[LOSS].values.tolist() == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]


def test_a_run_that_went_wrong_shows_what_was_found(start: Callable[..., Monitor]) -> None:
    """The NaN is in the curve, the finding beside it, the reason at the top."""
    monitor = start()
    monitor.log(loss=1.0, step=0)
    with pytest.raises(AndonStop), monitor:
        monitor.log(loss=math.nan, step=1)
    view = WatchedRun(Lake("lake"), "r").view()
    assert view.state == "stopped"
    assert math.isnan(view.curves[LOSS].values[1])
    assert view.statistics[LOSS].nonfinite == 1
    (finding,) = view.findings
    assert (finding.metric, finding.step) == ("loss", 1)


def test_a_run_that_is_pruned_while_it_is_watched_stays_in_sight(start: Callable[..., Monitor]) -> None:
    """Whoever looks later sees the means and statistics that are left."""
    monitor = start()
    for step in range(3000):
        monitor.log(loss=float(step), step=step)
    monitor.close()
    lake = Lake("lake")
    watched = WatchedRun(lake, "r")
    assert _last(watched) == (3000, 3000, 2999.0)
    assert lake.prune(timedelta(0))
    assert _last(watched) == (3000, 3000, 2999.0)
    later = WatchedRun(lake, "r")
    assert _last(later) == (3000, 1000, 2999.0)
    assert later.view().is_pruned


def test_a_run_of_another_host_is_read_from_the_lake(
    start: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without its live segments: as old as its latest file says."""
    monitor = start()
    monitor.log(loss=1.0, step=0)
    monitor.flush()
    here = WatchedRun(Lake("lake"), "r")
    assert _last(here) == (1, 1, 1.0)
    there = WatchedRun(Lake("lake", live=tmp_path / "elsewhere"), "r").view()
    assert (there.is_live, dict(there.curves)) == (False, {})
    monitor.close()
    there = WatchedRun(Lake("lake", live=tmp_path / "elsewhere"), "r").view()
    assert there.curves[LOSS].values.tolist() == [1.0]


def test_progress_knows_how_many_epochs_there_will_be(start: Callable[..., Monitor]) -> None:
    """From the loop itself, and how many batches: a share of all and the time left, in the first one too."""
    monitor = start()
    watched = WatchedRun(Lake("lake"), "r")
    for epoch in monitor.epochs(4):
        for batch in monitor.steps(range(10)):
            monitor.log(loss=1.0)
            if (epoch, batch) == (0, 4):
                first = watched.view().progress
            if (epoch, batch) == (2, 4):
                progress = watched.view().progress
    assert (first.epochs, first.epoch, first.done_ratio) == (4, 0, 0.5 / 4)
    assert first.left_seconds is not None
    assert (progress.epochs, progress.epoch, progress.step) == (4, 2, 24)
    assert progress.done_ratio == pytest.approx(2.5 / 4)
    assert progress.left_seconds is not None
    monitor.close()
    assert WatchedRun(Lake("lake"), "r").view().progress.done_ratio == 1.0


@pytest.mark.parametrize("is_batches_known", [True, False])
def test_what_is_left_of_a_loop_without_epochs(is_batches_known: bool, start: Callable[..., Monitor]) -> None:
    """By the length of its loader, or by `max_steps` of its configuration, here and from another host."""
    monitor = start(config={} if is_batches_known else {"trainer": {"max_steps": 40}})
    for step in monitor.steps(range(40) if is_batches_known else iter(range(40))):
        monitor.log(loss=1.0)
        if step == 9:
            progress = WatchedRun(Lake("lake"), "r").view().progress
    assert (progress.steps, progress.done_ratio) == (40, 0.25)
    assert progress.left_seconds is not None


def test_a_rank_is_chosen(start: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch) -> None:
    """By default the lowest; another one while the run is watched, and one that is not there is refused."""
    monitors = []
    for rank in (0, 1):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", "2")
        monitors.append(start())
        monitors[-1].log(loss=float(rank), step=0)
        monitors[-1].flush()
    watched = WatchedRun(Lake("lake"), "r")
    view = watched.view()
    assert (view.rank, view.ranks, view.known_ranks) == (0, 2, [0, 1])
    assert view.curves[LOSS].values.tolist() == [0.0]
    watched.choose_rank(1)
    assert (watched.view().rank, watched.view().curves[LOSS].values.tolist()) == (1, [1.0])
    with pytest.raises(NotMeasured, match="run r has no rank 5; it has: 0, 1"):
        WatchedRun(Lake("lake"), "r", rank=5).check_rank()
    for monitor in monitors:
        monitor.close()
    assert WatchedRun(Lake("lake"), "r", rank=1).view().curves[LOSS].values.tolist() == [1.0]


def test_budgets_and_limits_come_from_the_settings(start: Callable[..., Monitor]) -> None:
    """Judged once the run is over, in the same words as `ci`."""
    monitor = start()
    monitor.log(loss=1.0, accuracy=0.5)
    monitor.close()
    config = parse_text(
        """
        [[assertion]]
        name = "low"
        type = "custom"
        expression = "max(loss) < 0.5"
        [[monitor.threshold]]
        name = "floor"
        metric = "accuracy"
        min = 0.8
        """
    )
    view = WatchedRun(Lake("lake"), "r", config).view()
    assert [(result.budget, str(result.outcome)) for result in view.budgets] == [("low", "violated")]
    assert Panel("accuracy").thresholds(view) == [("floor", 0.8)]
    assert Panel("loss").thresholds(view) == []


def test_splits_are_told_apart_by_whatever_names(start: Callable[..., Monitor]) -> None:
    """One panel a metric, training first; a validation without steps stands where its time is."""
    monitor = start()
    for step in range(10):
        monitor.log(
            {"train/loss": 1.0, "val_acc": 0.5, "zeta": 1.0}, step=step, epoch=step // 5, batch=step % 5
        )
    monitor.log({"eval_loss": 2.0})
    view = WatchedRun(Lake("lake"), "r").view()
    assert [panel.metric for panel in panels_of(view)] == ["loss", "accuracy", "zeta"]
    lines = Panel("loss").lines(view)
    assert [line.label for line in lines] == ["train", "validation"]
    assert lines[1].x.tolist() == [9.0]
    assert Panel("loss").lines(view, Axis.EPOCH)[0].x.tolist()[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [line.label for line in Panel("loss", series=["validation"]).lines(view)] == ["validation"]


def test_junk_beside_the_segments_hides_nothing(start: Callable[..., Monitor], tmp_path: Path) -> None:
    """A file that is no segment, and one that cannot be read, are left out."""
    monitor = start()
    monitor.log(loss=1.0)
    (monitor_segment,) = (tmp_path / "live").glob("*-000000.seg")
    junk: Any = monitor_segment.with_name(monitor_segment.name.replace("-000000.seg", "-000001.seg"))
    junk.write_bytes(b"junk" * 10_000)
    assert _last(WatchedRun(Lake("lake"), "r")) == (1, 1, 1.0)
    junk.unlink()
