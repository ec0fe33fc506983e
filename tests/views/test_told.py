"""Told: what was found in several runs by one query is what is found in each by its own."""

from __future__ import annotations

import pytest

from entrenar_otel import Monitor
from entrenar_otel.errors import QueryError
from entrenar_otel.lake import Lake
from entrenar_otel.views.told import Told, told_of, told_of_many
from entrenar_otel.views.watched import WatchedRun


def _record(run_id: str, *, bad: int, epochs: int | None = None) -> None:
    with Monitor(run_id, lake="lake", quiet=True, processors=[]) as monitor:
        for epoch in monitor.epochs(epochs) if epochs else ():
            monitor.log(epoch=epoch, loss=1.0)
        for at in range(bad):
            monitor.log(**{f"other_{at}": 1.0})
            monitor.log(**{f"other_{at}": float("inf")})


def test_many_are_as_each() -> None:
    _record("bad", bad=3)
    _record("planned", bad=1, epochs=4)
    _record("good", bad=0)
    lake = Lake("lake")
    names = ["planned", "good", "bad", "nobody"]
    many = told_of_many(lake, names)
    assert [*many] == names
    assert many == {name: told_of(lake, name, with_plan=True) for name in names}
    assert [len(many[name].findings) for name in names] == [1, 0, 3, 0]
    assert (many["planned"].epochs, many["good"].epochs) == (4, None)
    assert told_of(lake, "planned", with_plan=False) == Told(many["planned"].findings)


def test_a_run_that_was_asked_for_with_others_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for one that goes on: more may have been found since."""
    _record("bad", bad=2)
    lake = Lake("lake")
    told = told_of_many(lake, ["bad"])["bad"]

    def refuse(*_: object, **__: object) -> None:
        raise QueryError("it was asked again")

    monkeypatch.setattr(Lake, "query", refuse)
    view = WatchedRun(lake, "bad", told=told).view()
    assert view.findings == told.findings
    assert len(view.findings) == 2
    with pytest.raises(QueryError, match="asked again"):
        WatchedRun(lake, "bad").view()
    going = Monitor("going", lake="lake", quiet=True, processors=[]).start()
    try:
        with pytest.raises(QueryError, match="asked again"):
            WatchedRun(lake, "going", told=Told()).view()
    finally:
        going.close()
