"""A part of a long curve is drawn of all its values, as the lake has them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from entrenar_processors.samples import Floats, Series

from entrenar_otel.lake import Lake
from entrenar_otel.page import full_rate
from entrenar_otel.page.curves import Wanted, lines_of
from entrenar_otel.page.full_rate import FullRate, is_thinned
from entrenar_otel.page.smoothing import smoothed
from entrenar_otel.page.watched_runs import WatchedRuns
from entrenar_otel.page.wire import DrawnLine
from entrenar_otel.views.curve import MAX_POINTS
from entrenar_otel.views.model import Axis, RunView
from tests.page.long_run import values_of, write_long_run

COUNT = 1_000_000


@pytest.fixture
def lake() -> Lake:
    return Lake("lake")


def _view(lake: Lake, run_id: str = "long", rank: int | None = None) -> RunView:
    return WatchedRuns(lake).see(run_id, rank).view


def _line(view: RunView, reader: FullRate, **wanted: Any) -> DrawnLine:
    (line,) = lines_of("long", view, Wanted("loss", **{"columns": 700, **wanted}), reader)
    return line


def _spiked() -> tuple[Floats, list[int]]:
    values = values_of(COUNT)
    spikes = [17, 123_456, 123_458, 777_777, COUNT - 2]
    values[spikes] = [5.0, -7.0, np.nan, np.inf, 9.0]
    return values, spikes


def test_all_values_of_a_part(lake: Lake) -> None:
    """To the bit, where a view has extremes only; of the whole there are those, and each spike."""
    values, spikes = _spiked()
    write_long_run(lake, "long", values)
    view, reader = _view(lake), FullRate(lake)
    assert is_thinned(view, Series("loss"))
    assert len(view.curves[Series("loss")].values) < MAX_POINTS
    whole = _line(view, reader)
    assert whole.of == COUNT
    assert len(whole.x) <= 5 * 700
    assert set(spikes) <= set(whole.x.astype(int))
    part = _line(view, reader, low=123_400, high=123_900)
    assert part.x.tolist() == [*range(123_399, 123_901)]
    assert part.y.tobytes() == values[123_399:123_901].tobytes()
    # more than fit into the columns: their extremes, of all of them
    wide = _line(view, reader, low=120_000, high=140_000, columns=300)
    assert {123_456, 123_458} <= set(wide.x.astype(int))
    assert len(wide.x) <= 5 * 301 + 1
    for low, high in ((-50.0, 3.0), (COUNT - 3.5, COUNT + 9.0)):
        inner = np.arange(max(0, int(low)), min(COUNT, int(high) + 2))
        found = _line(view, reader, low=low, high=high)
        assert set(inner) >= set(found.x.astype(int)) >= set(inner[1:-1])
    assert len(_line(view, reader, low=COUNT + 5.0, high=COUNT + 6.0).x) <= 1


def test_on_every_axis(lake: Lake) -> None:
    """A place among epochs or seconds leads to the same values."""
    values = values_of(COUNT)
    write_long_run(lake, "long", values, batches=1000)
    view, reader = _view(lake), FullRate(lake)
    by_epoch = _line(view, reader, axis=Axis.EPOCH, low=500.1, high=500.2)
    assert 100 <= len(by_epoch.x) <= 104
    first = round((by_epoch.x[0]) * 1000) - 1
    assert by_epoch.y.tobytes() == values[first : first + len(by_epoch.x)].tobytes()
    by_time = _line(view, reader, axis=Axis.TIME, low=250.0, high=250.1)
    assert by_time.y.tobytes() == values[249_999:250_101].tobytes()


def test_without_steps(lake: Lake) -> None:
    """Values are counted, over all of the curve."""
    values = values_of(COUNT)
    write_long_run(lake, "long", values, has_steps=False)
    part = _line(_view(lake), FullRate(lake), low=654_321, high=654_400)
    assert part.x.tolist() == [*range(654_320, 654_401)]
    assert part.y.tobytes() == values[654_320:654_401].tobytes()


def test_a_running_mean_of_a_part(lake: Lake) -> None:
    """Is that of all values, those beside the part among them."""
    values = values_of(COUNT)
    write_long_run(lake, "long", values)
    part = _line(_view(lake), FullRate(lake), low=600_000, high=600_100, window=1001)
    wanted = smoothed(values[599_000:601_200], 1001)[999:1101]
    assert part.x.tolist() == [*range(599_999, 600_101)]
    np.testing.assert_allclose(part.y, wanted, rtol=1e-9)


def test_a_later_attempt_counts(lake: Lake) -> None:
    """Where it went through the same places again, its values are drawn; before that those of the first."""
    first, second = values_of(COUNT), values_of(COUNT) + 100
    write_long_run(lake, "long", first)
    write_long_run(lake, "long", second, first=900_000, attempt=2)
    view, reader = _view(lake), FullRate(lake)
    part = _line(view, reader, low=899_990, high=900_010)
    assert part.x.tolist() == [*range(899_989, 900_011)]
    assert part.y.tolist() == [*first[899_989:900_000], *second[:11]]


def test_a_rank_of_its_own(lake: Lake) -> None:
    for rank in (0, 3):
        write_long_run(lake, "long", values_of(COUNT) + rank, rank=rank)
    reader = FullRate(lake)
    asked: list[tuple[int | None, int]] = [(None, 0), (0, 0), (3, 3), (5, 0)]
    for chosen, shown in asked:
        view = _view(lake, rank=chosen)
        assert (view.rank, view.known_ranks) == (shown, [0, 3])
        part = _line(view, reader, low=500_000, high=500_002)
        assert part.y.tolist() == (values_of(COUNT) + shown)[499_999:500_003].tolist()


def test_what_is_read_is_kept(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """But not without end; and too much is not read at all."""
    write_long_run(lake, "long", values_of(COUNT))
    view, reader = _view(lake), FullRate(lake)
    asked: list[object] = []
    query = Lake.query

    def counted(*args: Any, **more: Any) -> Any:
        asked.append(args)
        return query(*args, **more)

    monkeypatch.setattr(Lake, "query", counted)
    places = ((100_000.0, 100_500.0), (200_000.0, 200_500.0))
    for low, high in (*places, *places):
        assert len(_line(view, reader, low=low, high=high).x) == 502
    assert len(asked) == 2
    monkeypatch.setattr(full_rate, "_CACHE_BYTES", 1)
    for at in (3, 2):
        _line(view, reader, low=at * 100_000.0, high=at * 100_000.0 + 400)
        assert len(reader._parts) == 1
    monkeypatch.setattr(full_rate, "MAX_VALUES", 400)
    assert len(_line(view, reader, low=50_000.0, high=50_500.0).x) < 500
    assert len(asked) == 4
    # the latest values are there until the curve is thinned the next time
    assert len(_line(view, reader, low=COUNT - 500.0, high=COUNT - 10.0).x) == 492
    assert len(asked) == 4


def test_a_short_curve_is_not_read_again(lake: Lake) -> None:
    write_long_run(lake, "long", values_of(5_000))
    view = _view(lake)
    assert not is_thinned(view, Series("loss"))
    assert FullRate(lake).rows(view, Series("loss"), np.arange(5), 700, 0) is None
