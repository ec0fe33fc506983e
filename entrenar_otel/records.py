"""MetricRecord, and the protocols through which samples come in, go out and are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from entrenar_processors import Samples

if TYPE_CHECKING:
    import pyarrow as pa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MetricRecord(NamedTuple):
    """One value of one metric: a row of the lake, in its column order."""

    timestamp: datetime
    run_id: str
    epoch: int | None
    batch: int | None
    metric: str
    value: float
    tags: dict[str, str]
    step: int | None = None
    rank: int = 0
    attempt: int = 1
    seq: int = 0


@runtime_checkable
class MetricsEmitter(Protocol):
    """Somewhere that samples go, called by the heartbeat, never by the loop's thread."""

    def emit(self, record: MetricRecord) -> None:
        """Take one record."""

    def emit_batch(self, records: Sequence[MetricRecord]) -> None:
        """Take the records of a tick."""

    def flush(self) -> None:
        """Pass on whatever is held back; called at the end of the run."""


@runtime_checkable
class MetricsStore(Protocol):
    """Somewhere that keeps records and answers about them; `entrenar_otel.lake.Lake` is one."""

    def write(self, records: Sequence[MetricRecord]) -> None:
        """Keep the records durably."""

    def query(self, sql: str) -> pa.Table:
        """Answer one SELECT over `metrics`, `runs`, `events` and `spans`."""

    def range(self, start: datetime, end: datetime) -> pa.Table:
        """The metrics with start <= timestamp < end, in time order."""


def records_of(samples: Samples, *, run_id: str, rank: int, attempt: int) -> Iterator[MetricRecord]:
    """The samples as records, series by series."""

    def known(value: int) -> int | None:
        return None if value < 0 else value

    for series, column in samples.columns():
        tags = dict(series.tags)
        rows: Any = zip(*(array.tolist() for array in column), strict=True)
        for time_ns, epoch, batch, step, seq, value in rows:
            yield MetricRecord(
                _EPOCH + timedelta(microseconds=time_ns // 1000),
                run_id,
                known(epoch),
                known(batch),
                series.metric,
                value,
                tags,
                known(step),
                rank,
                attempt,
                seq,
            )
