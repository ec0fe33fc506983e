"""Watched runs: those that somebody looks at, kept up to date, and as many as fit into memory."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from entrenar_otel.lake import Lake
from entrenar_otel.views.model import RunView
from entrenar_otel.views.watched import WatchedRun

if TYPE_CHECKING:
    from entrenar_processors.config.models import Config

#: A run is asked again after that long, and one that has ended more rarely: a resume may follow.
_FRESH_SECONDS, _ENDED_SECONDS = 1.0, 15.0
#: Of the curves of all of them together; the one asked for longest ago goes first.
MAX_BYTES = 1 << 30


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
    """Views of the runs of a lake, one reader each, for any thread."""

    def __init__(self, lake: Lake, config: Config | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        self._lake, self._config, self._max_bytes = lake, config, max_bytes
        self._runs: OrderedDict[str, _Watched] = OrderedDict()
        self._lock = threading.Lock()

    def see(self, run_id: str) -> Seen:
        """The run as it was a second ago at most. Raises QueryError, LakeError."""
        with self._lock:
            one = self._runs.get(run_id)
            if one is None:
                one = self._runs[run_id] = _Watched(WatchedRun(self._lake, run_id, self._config))
            self._runs.move_to_end(run_id)
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
