"""What a feed reads of a run that goes on: what is new, and no more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from entrenar_processors.samples import Column, Series
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel import Lake, Monitor
from entrenar_otel.views.feed import Feed
from entrenar_otel.views.model import Axis, Places, RunView
from entrenar_otel.views.stored import read_samples

LOSS = Series("loss")


def _files_read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The files that are read from now on."""
    read: list[Any] = []

    def noted(source: Any, *arguments: Any, **more: Any) -> Any:
        read.append(source)
        return read_samples(source, *arguments, **more)

    monkeypatch.setattr("entrenar_otel.views.feed.read_samples", noted)
    return read


@pytest.mark.parametrize("is_seen", [True, False], ids=["all of it was seen", "not all was seen"])
def test_a_file_is_read_for_what_no_segment_showed(
    is_seen: bool, start: Callable[..., Monitor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A segment that becomes a file brings no row that its tail had."""
    read = _files_read(monkeypatch)
    monitor, lake = start(), Lake("lake")
    feed = Feed(lake, "r")
    for step in range(10):
        monitor.log(loss=float(step), accuracy=0.5, step=step)
    feed.refresh(lake.runs())
    if not is_seen:
        monitor.log(loss=10.0, step=10)
    monitor.close()
    feed.refresh(lake.runs())
    assert len(read) == (0 if is_seen else 1)
    assert feed.curves[LOSS].points().values.tolist() == [float(at) for at in range(10 if is_seen else 11)]
    again = Feed(lake, "r")
    again.refresh(lake.runs())
    assert feed.summaries[LOSS].as_dict() == again.summaries[LOSS].as_dict()


@pytest.mark.parametrize("is_alert", [True, False], ids=["alert", "other"])
def test_events_of_a_file_are_news_where_they_tell_of_alerts(
    is_alert: bool, start: Callable[..., Monitor], segment_size: Callable[[int], None],
    wait_until: Callable[..., None],
) -> None:  # fmt: skip
    """A segment of the live run is handed over after the feed has looked at it for the last time."""
    segment_size(256 << 10)
    monitor, lake = start(interval_seconds=0.05), Lake("lake")
    feed = Feed(lake, "r")
    monitor.log(loss=1.0, step=0)
    feed.refresh(lake.runs())
    files = len(feed._events)
    feed.has_news = False
    monitor.event("training.alert" if is_alert else "lunch", {"state": "firing", "episode": "1"})
    for step in range(1, 12_000):
        monitor.log(loss=1.0, step=step)
    events = lambda: list(feed._list("events", lake.runs()[0].day))  # noqa: E731
    wait_until(lambda: len(events()) > files)
    feed._tails = dict.fromkeys(feed._tails)  # it has not seen the note itself
    feed.refresh(lake.runs())
    assert feed.is_live
    assert feed.has_news == is_alert
    monitor.close()


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=60),
    st.lists(st.integers(-5, 50), min_size=1, max_size=8),
)
def test_a_series_without_steps_stands_where_all_points_of_another_say(
    known: list[int], asked: list[int]
) -> None:
    """Only what is beside its few points is looked at, and the places are the same to the last bit."""
    times = np.sort(np.array(known)) * 1_000_003
    steps = np.cumsum(np.arange(len(times)) % 7)
    none = np.full(len(times), -1)
    reference = Column(times, none, none, steps, np.arange(len(times)), np.zeros(len(times)))
    rows = Column(*(np.array(asked) * 1_000_003,) * 5, np.zeros(len(asked)))
    view = RunView("r", "running", {LOSS: reference, Series("x"): rows}, stepped=frozenset([LOSS]))
    whole = np.interp(rows.time_ns, times, steps.astype(float))
    assert Places(view, Axis.STEP).of(Series("x")).tolist() == whole.tolist()
