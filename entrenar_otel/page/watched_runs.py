"""Watched runs: those that somebody looks at, kept up to date, and as many as fit into memory.

To ask the lake what was found in a run takes ten times as long as to read its samples: of many runs that are
looked at for the first time it is asked once for all.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

from entrenar_otel.lake import Lake
from entrenar_otel.views.model import RunView
from entrenar_otel.views.told import Told, told_of_many
from entrenar_otel.views.watched import WatchedRun

if TYPE_CHECKING:
    from entrenar_processors.config.models import Config

#: A run is asked again after that long, and one that has ended more rarely: a resume may follow.
_FRESH_SECONDS, _ENDED_SECONDS = 1.0, 15.0
#: Of the curves of all of them together; the one asked for longest ago goes first.
MAX_BYTES = 1 << 30
#: One query over a lake of so many runs takes as long as one for a single run.
_RUNS_PER_QUERY = 100


class Seen(NamedTuple):
    """A run at one moment; `version` is another number wherever something has changed."""

    view: RunView
    version: str


class _Watched:
    def __init__(self, run: WatchedRun) -> None:
        self.run = run
        self.lock = threading.Lock()
        self.seen: Seen | None = None
        self.due = 0.0
        self.bytes = 0


class WatchedRuns:
    """Views of the runs of a lake, a reader for each run and rank, for any thread."""

    def __init__(self, lake: Lake, config: Config | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        self._lake, self._max_bytes = lake, max_bytes
        # budgets, which the page does not show, take a query per run
        self._config = config and config.model_copy(update={"assertion": ()})
        self._runs: OrderedDict[tuple[str, int | None], _Watched] = OrderedDict()
        self._lock = threading.Lock()

    def see_all(
        self, run_ids: Sequence[str], rank: int | None = None, *, ended: Collection[str] = (), of: int = 1
    ) -> list[Seen]:
        """Several runs; `ended` are those of the lake that had, `of` is how many it has."""
        with self._lock:
            new = [run_id for run_id in run_ids if (run_id, None) not in self._runs and run_id in ended]
        told = told_of_many(self._lake, new) if len(new) * _RUNS_PER_QUERY > max(of, _RUNS_PER_QUERY) else {}
        return [self.see(run_id, rank, told.get(run_id)) for run_id in run_ids]

    def see(self, run_id: str, rank: int | None = None, told: Told | None = None) -> Seen:
        """The run as it was a second ago at most; of a rank, or of its lowest where it has no such.

        Raises QueryError, LakeError.
        """
        if rank is not None:
            lowest = self.see(run_id, told=told)
            if rank == lowest.view.rank or rank not in lowest.view.known_ranks:
                return lowest
        key = run_id, rank
        with self._lock:
            one = self._runs.get(key)
            if one is None:
                one = self._runs[key] = _Watched(WatchedRun(self._lake, run_id, self._config, rank, told))
            self._runs.move_to_end(key)
        with one.lock:
            if one.seen is None or time.monotonic() >= one.due:
                view = one.run.view()
                one.seen = Seen(view, _version(view))
                one.due = time.monotonic() + (_FRESH_SECONDS if view.is_going else _ENDED_SECONDS)
                one.bytes = sum(array.nbytes for rows in view.curves.values() for array in rows)
            seen = one.seen
        self._drop()
        return seen

    def _drop(self) -> None:
        """Forget the runs that do not fit, but for the latest."""
        with self._lock:
            total = sum(one.bytes for one in self._runs.values())
            while total > self._max_bytes and len(self._runs) > 1:
                total -= self._runs.popitem(last=False)[1].bytes


def _version(view: RunView) -> str:
    """Made of what changes: values, findings, the state."""
    counted = sum(statistics.count for statistics in view.statistics.values())
    told = [(finding.at, finding.name, finding.state, finding.count) for finding in view.findings]
    number = hash((view.state, view.attempts, view.rank, counted, len(view.curves), tuple(told)))
    return f"{number % (1 << 64):x}"
