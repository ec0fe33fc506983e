"""Watched: one run of a lake, as a view that is up to date each time it is asked for."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from entrenar_processors import Series
from entrenar_processors.budgets.verdicts import Result, evaluate
from entrenar_processors.metric_names import VALIDATION, split_of

from entrenar_otel.errors import NotMeasured, RunError
from entrenar_otel.lake import Lake
from entrenar_otel.lake.budget_facts import facts_of
from entrenar_otel.lake.overview import PAUSED, on_this_host
from entrenar_otel.lake.records.known import KnownRecords
from entrenar_otel.lake.records.pulse import as_seen
from entrenar_otel.lake.records.runs import RUNNING, RunRecord
from entrenar_otel.recording.process.control import is_paused
from entrenar_otel.semconv import is_of_machine
from entrenar_otel.views.data_wait import DataWait
from entrenar_otel.views.feed import Feed
from entrenar_otel.views.model import Finding, RunView, Statistics, Threshold
from entrenar_otel.views.progress import Plan, progress_of
from entrenar_otel.views.told import Told, told_of

if TYPE_CHECKING:
    from entrenar_processors.config.models import Config

_NUMBERS = tuple(field.name for field in fields(Statistics))
_SUMMARIES = "SELECT * REPLACE (coalesce(nonfinite, 0) AS nonfinite) FROM summaries WHERE rank = ?"
#: How often budgets are judged of a run that goes on: all its spans are read for it.
_BUDGET_SECONDS = 30.0
#: A query for findings is followed by a rest of so many times as long, where something happens all the time.
_REST = 150.0


class WatchedRun:
    """Asks the lake about one run.

    Args:
        lake: has it.
        run_id: which one.
        config: the renacer.toml with thresholds and budgets, if there is one.
        rank: whose samples are shown; None is the lowest.
        told: what the lake was asked for before, together with other runs; of a run that had ended then.

    Raises QueryError, LakeError.
    """

    def __init__(
        self,
        lake: Lake,
        run_id: str,
        config: Config | None = None,
        rank: int | None = None,
        told: Told | None = None,
    ) -> None:
        self.lake, self.run_id = lake, run_id
        self._config = config
        self._found = KnownRecords(lake.storage, run_id)
        self._feed = Feed(lake, run_id)
        self._rank = rank
        self._told = told
        self._findings: Sequence[Finding] = ()
        self._budgets: Sequence[Result] = ()
        self._budgets_at: float | None = None
        self._ask_from = 0.0
        self._has_asked = False
        self._was_going = True
        self._records: list[RunRecord] = []
        self._pruned: dict[Series, Statistics] = {}
        self._known: dict[Series, Statistics] = {}

    def choose_rank(self, rank: int) -> None:
        """Show this rank from the next view on; any thread may say so."""
        self._rank = rank

    def check_rank(self) -> None:
        """Raises NotMeasured where the run has no such rank."""
        known = sorted({record.rank for record in self._found.find()})
        if self._rank is not None and known and self._rank not in known:
            ranks = ", ".join(map(str, known))
            raise NotMeasured(f"run {self.run_id} has no rank {self._rank}; it has: {ranks}")

    def view(self) -> RunView:
        """The run as it is now."""
        records = self._found.find()
        self._records = records or self._records  # a run that is removed while it is watched stays in sight
        lowest = min((record.rank for record in self._records), default=0)
        rank = lowest if self._rank is None else self._rank
        if rank != self._feed.rank:  # chosen, or a lower one has begun later
            self._feed, self._pruned, self._known = Feed(self.lake, self.run_id, rank), {}, {}
            self._has_asked = False
        latest = max((record.attempt for record in self._records), default=1)
        ranks = [as_seen(self.lake.storage, r) for r in self._records if r.attempt == latest]
        self._feed.refresh(self._records)
        state, reason = self._state(ranks)
        is_going = state in (RUNNING, PAUSED)
        self._ask_lake(is_going)
        feed = self._feed
        first = next((record for record in ranks if record.rank == feed.rank), None)
        curves = {series: curve.points() for series, curve in feed.curves.items()}
        coarse = {series: curve.coarse() for series, curve in feed.curves.items()}
        # A loop that hangs has taken no step, whatever its machine still tells.
        of_loop = [rows for series, rows in curves.items() if not is_of_machine(series.metric)]
        newest = max((int(rows.time_ns[-1]) for rows in of_loop if len(rows.time_ns)), default=None)
        return RunView(
            run_id=self.run_id,
            state=state,
            reason=reason,
            curves=curves,
            coarse=coarse,
            statistics=self._pruned or self._statistics(),
            model=" ".join(part for part in (first.model_id, first.version) if part) if first else "",
            host=first.host if first else "",
            rank=feed.rank,
            ranks=max(1, len(ranks)),
            known_ranks=sorted({record.rank for record in ranks}),
            attempts=latest,
            seconds=_seconds(ranks, is_going),
            age_seconds=max(0.0, time.time() - newest / 1e9) if newest and is_going else None,
            is_live=feed.is_live,
            is_pruned=feed.is_pruned,
            dropped=sum(record.dropped for record in ranks),
            stepped=frozenset(series for series, curve in feed.curves.items() if curve.has_steps),
            has_epochs=any(curve.has_epochs for curve in feed.curves.values()),
            progress=progress_of(
                coarse,
                Plan.of(first.config if first else "", feed.epochs, feed.batches),
                max(
                    (
                        curve.batches
                        for series, curve in feed.curves.items()
                        if split_of(series) != VALIDATION
                    ),
                    default=0,
                ),
                is_going=state == RUNNING,
            ),
            data_wait=self._data_wait(is_going=is_going),
            findings=self._findings,
            budgets=self._budgets,
            thresholds=thresholds_of(self._config),
        )

    def _data_wait(self, *, is_going: bool) -> DataWait | None:
        config = self._config
        limit = DataWait.max_ratio if config is None else config.monitor.data_wait.max_ratio
        return self._feed.data_waits.now(limit, is_going=is_going)

    def _statistics(self) -> dict[Series, Statistics]:
        """The numbers of each series, made anew of those that have new values."""
        for series, summary in self._feed.summaries.items():
            if (known := self._known.get(series)) is None or known.count != summary.count:
                self._known[series] = _statistics(summary)
        return dict(self._known)

    def _state(self, ranks: list[RunRecord]) -> tuple[str, str | None]:
        order = ("crashed", "unknown", "stopped", "running", "completed")
        worst = min(ranks, key=lambda record: order.index(record.state), default=None)
        if worst is None:
            return "unknown", "the lake has no record of it"
        if worst.state == RUNNING and any(is_paused(r.live, r.process) for r in on_this_host(ranks)):
            return PAUSED, worst.reason
        return worst.state, worst.reason

    def _ask_lake(self, is_going: bool) -> None:
        """What is not in the samples, where it may have changed."""
        feed = self._feed
        has_ended = self._was_going and not is_going
        began = time.monotonic()
        if (feed.has_news and began >= self._ask_from) or has_ended:
            feed.has_news = False
            # once, where the samples come from the process: so does what it plans from then on
            is_unplanned = feed.epochs is None and feed.batches is None
            is_asked = is_unplanned and not (feed.is_live and self._has_asked)
            told, self._told = self._told, None
            if told is None or is_going:
                told = told_of(self.lake, self.run_id, with_plan=is_asked)
            self._findings = told.findings
            self._has_asked = True
            if is_asked:
                feed.epochs, feed.batches = told.epochs, told.batches
            now = time.monotonic()
            self._ask_from = now + min(_BUDGET_SECONDS, _REST * (now - began))
        if feed.is_pruned and not self._pruned:
            self._pruned = _kept(self.lake, self.run_id, feed.rank)
        now = time.monotonic()
        is_due = self._budgets_at is None or (is_going and now - self._budgets_at > _BUDGET_SECONDS)
        if self._config is not None and (is_due or has_ended):
            enabled = [assertion for assertion in self._config.assertion if assertion.enabled]
            if enabled:
                self._budgets = evaluate(enabled, facts_of(self.lake, self.run_id))
            self._budgets_at = now
        self._was_going = is_going


class FirstRun:
    """The first run of a lake that has none yet. Until there is one, a view raises RunError, and says so."""

    def __init__(self, lake: Lake, config: Config | None = None, rank: int | None = None) -> None:
        self._lake, self._config, self._rank = lake, config, rank
        self._run: WatchedRun | None = None

    @property
    def run_id(self) -> str:
        """Its id; empty until there is one."""
        return "" if self._run is None else self._run.run_id

    def choose_rank(self, rank: int) -> None:
        """Show this rank from the next view on."""
        self._rank = rank
        if self._run is not None:
            self._run.choose_rank(rank)

    def view(self) -> RunView:
        """The run as it is now. Raises NotMeasured where it has no such rank."""
        if self._run is None:
            first = min(self._lake.runs(), key=lambda record: record.started_at, default=None)
            if first is None:
                raise RunError(f"waiting for the first run in {self._lake.url} …")
            found = WatchedRun(self._lake, first.run_id, self._config, self._rank)
            found.check_rank()
            self._run = found
        return self._run.view()


def thresholds_of(config: Config | None) -> list[Threshold]:
    """The fixed limits of a renacer.toml."""
    return [
        Threshold(limit.name, limit.metric, limit.tags, limit.min, limit.max)
        for limit in (config.monitor.threshold if config is not None else ())
        if limit.min is not None or limit.max is not None
    ]


def _statistics(summary: Any) -> Statistics:
    return Statistics(**{name: getattr(summary, name) for name in _NUMBERS})


def _kept(lake: Lake, run_id: str, rank: int) -> dict[Series, Statistics]:
    """The statistics of a pruned run: of its curves only the means are left."""
    rows = lake.query(_SUMMARIES, [rank], run_id=run_id).to_pylist()
    return {
        Series.of(row["metric"], dict(row["tags"])): _statistics(
            SimpleNamespace(**{name: math.nan if row[name] is None else row[name] for name in _NUMBERS})
        )
        for row in rows
    }


def _seconds(ranks: list[RunRecord], is_going: bool) -> float | None:
    ends = [record.ended_at for record in ranks]
    if not ranks or (not is_going and not all(ends)):
        return None
    start = min(record.started_at for record in ranks)
    end = datetime.now(UTC) if is_going else max(end for end in ends if end is not None)
    return max(0.0, (end - start).total_seconds())
