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
from entrenar_processors.samples import Column

from entrenar_otel.errors import EntrenarError, NotMeasured
from entrenar_otel.lake import Lake
from entrenar_otel.lake.budget_facts import facts_of
from entrenar_otel.lake.overview import PAUSED, TOLD, on_this_host
from entrenar_otel.lake.records.known import KnownRecords
from entrenar_otel.lake.records.pulse import as_seen
from entrenar_otel.lake.records.runs import RUNNING, RunRecord
from entrenar_otel.recording.process.control import is_paused
from entrenar_otel.views.feed import Feed
from entrenar_otel.views.model import Finding, Progress, RunView, Statistics, Threshold

if TYPE_CHECKING:
    from entrenar_processors.config.models import Config

_FINDINGS = f"""
SELECT name, level, summary, metric, state, action, count, started_at, epoch, batch, step, value
FROM alerts WHERE {TOLD} ORDER BY started_at DESC LIMIT 50
"""
_NUMBERS = tuple(field.name for field in fields(Statistics))
_SUMMARIES = "SELECT * REPLACE (coalesce(nonfinite, 0) AS nonfinite) FROM summaries WHERE rank = ?"
_EPOCHS = """
SELECT attributes['training.epochs'] AS epochs FROM spans
WHERE name = 'training.epoch' ORDER BY start_time DESC LIMIT 1
"""
#: How often budgets are judged of a run that goes on: all its spans are read for it.
_BUDGET_SECONDS = 30.0
#: A query for findings is followed by a rest of so many times as long, where something happens all the time.
_REST = 50.0
#: The rate is that of the latest so many steps.
_RATE_STEPS = 200


class WatchedRun:
    """Asks the lake about one run.

    Args:
        lake: has it.
        run_id: which one.
        config: the renacer.toml with thresholds and budgets, if there is one.
        rank: whose samples are shown; None is the lowest.

    Raises QueryError, LakeError.
    """

    def __init__(
        self, lake: Lake, run_id: str, config: Config | None = None, rank: int | None = None
    ) -> None:
        self.lake, self.run_id = lake, run_id
        self._config = config
        self._found = KnownRecords(lake.storage, run_id)
        self._feed = Feed(lake, run_id)
        self._rank = rank
        self._findings: Sequence[Finding] = ()
        self._budgets: Sequence[Result] = ()
        self._budgets_at: float | None = None
        self._ask_from = 0.0
        self._was_going = True
        self._records: list[RunRecord] = []
        self._pruned: dict[Series, Statistics] = {}

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
            self._feed, self._pruned = Feed(self.lake, self.run_id, rank), {}
        latest = max((record.attempt for record in self._records), default=1)
        ranks = [as_seen(self.lake.storage, r) for r in self._records if r.attempt == latest]
        self._feed.refresh(self._records)
        state, reason = self._state(ranks)
        is_going = state in (RUNNING, PAUSED)
        self._ask_lake(is_going)
        feed = self._feed
        first = next((record for record in ranks if record.rank == feed.rank), None)
        curves = {series: curve.points() for series, curve in feed.curves.items()}
        newest = max((int(rows.time_ns[-1]) for rows in curves.values() if len(rows.time_ns)), default=None)
        return RunView(
            run_id=self.run_id,
            state=state,
            reason=reason,
            curves=curves,
            coarse={series: curve.coarse() for series, curve in feed.curves.items()},
            statistics=self._pruned or {s: _statistics(summary) for s, summary in feed.summaries.items()},
            model=" ".join(part for part in (first.model_id, first.version) if part) if first else "",
            host=first.host if first else "",
            rank=feed.rank,
            ranks=sorted({record.rank for record in ranks}) or (feed.rank,),
            attempts=latest,
            seconds=_seconds(ranks, is_going),
            age_seconds=max(0.0, time.time() - newest / 1e9) if newest and is_going else None,
            is_live=feed.is_live,
            is_pruned=feed.is_pruned,
            dropped=sum(record.dropped for record in ranks),
            stepped=frozenset(series for series, curve in feed.curves.items() if curve.has_steps),
            progress=progress_of(curves, feed.epochs, is_going=state == RUNNING),
            findings=self._findings,
            budgets=self._budgets,
            thresholds=thresholds_of(self._config),
        )

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
            self._findings = _findings(self.lake, self.run_id)
            if feed.epochs is None:
                feed.epochs = _epochs(self.lake, self.run_id)
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


def thresholds_of(config: Config | None) -> list[Threshold]:
    """The fixed limits of a renacer.toml."""
    return [
        Threshold(limit.name, limit.metric, limit.tags, limit.min, limit.max)
        for limit in (config.monitor.threshold if config is not None else ())
        if limit.min is not None or limit.max is not None
    ]


def progress_of(curves: dict[Series, Column], epochs: int | None, *, is_going: bool) -> Progress:
    """How far the training is, and how long it will take at the pace of its latest steps."""
    training = [rows for series, rows in curves.items() if split_of(series) != VALIDATION and len(rows.step)]
    rows = max(training, key=lambda r: (int((r.batch >= 0).any()), len(r.step)), default=None)
    if rows is None:
        return Progress(epochs=epochs)
    rate = _rate(rows)
    step = int(rows.step.max())
    epoch = int(rows.epoch.max()) if (rows.epoch >= 0).any() else None
    done = left = None
    if epoch is not None and epochs:
        batches = int(rows.batch.max()) + 1
        in_epoch = rows.batch[rows.epoch == epoch]
        # in the first epoch nobody knows how many batches there will be
        share = (
            (int(in_epoch.max()) + 1) / batches
            if epoch and batches and len(in_epoch)
            else float(not is_going)
        )
        done = min(1.0, (epoch + share) / epochs)
        if is_going and epoch and rate and batches:
            left = (1 - done) * epochs * batches / rate
    return Progress(step, epoch, epochs, done, rate, left)


def _rate(rows: Column) -> float | None:
    """Steps per second."""
    steps, times = rows.step[-_RATE_STEPS:], rows.time_ns[-_RATE_STEPS:]
    seconds = (int(times[-1]) - int(times[0])) / 1e9
    count = int(steps[-1]) - int(steps[0])
    return count / seconds if seconds > 0 and count > 0 else None


def _statistics(summary: Any) -> Statistics:
    return Statistics(**{name: getattr(summary, name) for name in _NUMBERS})


def _findings(lake: Lake, run_id: str) -> list[Finding]:
    rows = lake.query(_FINDINGS, run_id=run_id).to_pylist()
    return [
        Finding(
            row["name"] or "", str(row["level"]), row["summary"] or "", row["metric"], row["state"],
            row["action"] or "", row["count"] or 1, row["started_at"],
            row["epoch"], row["batch"], row["step"], row["value"],
        )
        for row in rows
    ]  # fmt: skip


def _epochs(lake: Lake, run_id: str) -> int | None:
    try:
        values = lake.query(_EPOCHS, run_id=run_id)["epochs"].to_pylist()
        return int(values[0]) if values and values[0] else None
    except (EntrenarError, ValueError):  # a number more: the run is shown without it
        return None


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
