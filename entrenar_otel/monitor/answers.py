"""Answers: what a run says when it is asked, while it goes on and after it has ended."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from entrenar_processors import Summary

from entrenar_otel.errors import NotMeasured
from entrenar_otel.monitor.notebook import SummaryTable
from entrenar_otel.monitor.progress import SHOWN
from entrenar_otel.records import MetricRecord
from entrenar_otel.semconv import is_of_machine

if TYPE_CHECKING:
    import pyarrow as pa
    from entrenar_processors import Series

    from entrenar_otel.lake import Lake
    from entrenar_otel.lake.records.runs import RunRecord
    from entrenar_otel.run.heartbeat import Heartbeat


class Answers:
    """Statistics in memory, and rows of the lake, of one run.

    `heartbeat` and `current_record` are there from the start of the run on; the lake is opened when it is
    first asked.
    """

    def __init__(self, run_id: str, open_lake: Callable[[], Lake]) -> None:
        self._run_id = run_id
        self._open_lake = open_lake
        self.heartbeat: Heartbeat | None = None
        #: Waits for what is still on a device.
        self.settle: Callable[[], object] = lambda: None
        self.current_record: Callable[[], RunRecord | None] = lambda: None

    @cached_property
    def lake(self) -> Lake:
        """See `Monitor.lake`."""
        return self._open_lake()

    @property
    def record(self) -> RunRecord | None:
        """The run's record, from the start of the run on."""
        return self.current_record()

    @property
    def attempt(self) -> int | None:
        """See `Monitor.attempt`."""
        return (self.record.attempt or None) if self.record else None

    def summary(self, metric: str | None = None, **tags: object) -> Any:
        """The statistics of one metric, or of all (a dict by series name).

        With tags: the series that has exactly these, else all that carry them, merged. Raises
        NotMeasured.
        """
        self.settle()
        if metric is None:
            known = sorted(self._current().items(), key=lambda item: is_of_machine(item[0].metric))
            return SummaryTable({str(series): summary for series, summary in known})
        if self.heartbeat is not None:
            with self.heartbeat.sums() as sums:
                if selected := sums.select(str(metric), tags):
                    return _copy_of(selected)
        measured = ", ".join(str(series) for series in self._current()) or "nothing"
        wanted = f"{metric} with {tags}" if tags else str(metric)
        raise NotMeasured(f"{wanted} was not measured; measured so far: {measured}")

    def _current(self) -> dict[Series, Summary]:
        if self.heartbeat is None:
            return {}
        with self.heartbeat.sums() as sums:
            return {series: _copy_of(summary) for series, summary in sums.current().items()}

    def shown(self) -> dict[Series, Summary]:
        """What the progress line shows; asked for at every heartbeat, so nothing is copied."""
        if self.heartbeat is None:
            return {}
        with self.heartbeat.sums() as sums:
            return sums.of(SHOWN)

    def sample_count(self, metric: str | None, **tags: object) -> int:
        """See `Monitor.sample_count`."""
        if self.heartbeat is None:
            return 0
        self.settle()
        wanted = {(key, str(value)) for key, value in tags.items()}
        with self.heartbeat.sums() as sums:
            return sum(
                summary.count
                for series, summary in sums.current().items()
                if metric in (None, series.metric) and wanted <= set(series.tags)
            )

    def curve(self, metric: str, **tags: object) -> pa.Table:
        """One metric of this run in recording order: timestamp, coordinates, tags, value.

        Raises NotMeasured.
        """
        self.settle()
        texts = {key: str(value) for key, value in tags.items()}
        return self.lake.curve(str(metric), self._run_id, texts)

    def query(self, sql: str, parameters: list[Any] | None = None) -> pa.Table:
        """Answer one SELECT over this run up to now. Raises QueryError."""
        self.settle()
        return self.lake.query(sql, parameters, run_id=self._run_id)

    def range(self, start: datetime, end: datetime) -> pa.Table:
        """This run's metrics with start <= timestamp < end, in time order."""
        self.settle()
        return self.lake.range(start, end, run_id=self._run_id)

    def to_records(self) -> list[MetricRecord]:
        """Everything this process recorded, in recording order. Of a long run, ask by `query`."""
        if self.record is None:
            return []
        self.settle()
        owner = self.record.owner
        table = self.lake.query(
            "SELECT * FROM metrics WHERE attempt = ? AND rank = ? ORDER BY seq, metric",
            [owner.attempt, owner.rank],
            run_id=owner.run_id,
        )
        return [MetricRecord(**{**row, "tags": dict(row["tags"])}) for row in table.to_pylist()]


def _copy_of(summary: Summary) -> Summary:
    """A copy that the heartbeat does not change while somebody reads it."""
    twin = Summary()
    twin.merge(summary)
    return twin
