"""Together: several runs as one view, each metric's curves side by side."""

from __future__ import annotations

from collections.abc import Sequence

from entrenar_processors.samples import Series

from entrenar_otel.views.model import RunView


def together(views: Sequence[RunView]) -> RunView:
    """One view with the curves of all, told apart by the tag `run`; times count from each run's own start.

    Limits are those of the first; findings are left out, since a mark would not say whose it is.
    """
    if len(views) == 1:
        return views[0]
    names = short_names([view.run_id for view in views])
    curves, statistics, stepped = {}, {}, set()
    for view, name in zip(views, names, strict=True):
        start = min((int(rows.time_ns[0]) for rows in view.curves.values() if len(rows.time_ns)), default=0)
        for series, rows in view.curves.items():
            ours = Series.of(series.metric, {**dict(series.tags), "run": name})
            curves[ours] = rows._replace(time_ns=rows.time_ns - start)
            if series in view.stepped:
                stepped.add(ours)
            if (known := view.statistics.get(series)) is not None:
                statistics[ours] = known
    return RunView(
        run_id=", ".join(view.run_id for view in views),
        runs=names,
        state="",
        curves=curves,
        statistics=statistics,
        stepped=frozenset(stepped),
        thresholds=views[0].thresholds,
    )


def short_names(run_ids: Sequence[str]) -> list[str]:
    """What tells the runs apart: their ids without the part that all of them begin with.

    >>> short_names(["20261129-0930-calm-d387a0", "20261129-0945-amber-6c017e"])
    ['0930-calm-d387a0', '0945-amber-6c017e']
    >>> short_names(["digits", "digits-2"])
    ['digits', 'digits-2']
    """
    parts = [run_id.split("-") for run_id in run_ids]
    shared = 0
    while all(len(part) > shared + 1 and part[shared] == parts[0][shared] for part in parts):
        shared += 1
    return ["-".join(part[shared:]) for part in parts]
