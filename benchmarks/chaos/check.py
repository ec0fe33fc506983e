"""Check: what a query says of a run, against what its writer acknowledged before and had tried after it."""

from __future__ import annotations

import numpy as np

from benchmarks.chaos.acks import ACKNOWLEDGED, STREAMS, Acks, Bytes
from benchmarks.chaos.place import Place
from benchmarks.chaos.writer import NAMES, WIDTH
from entrenar_otel.lake import Lake
from entrenar_otel.lake.store.catalog import list_metrics

_SQL = "SELECT epoch, step, seq, CAST(substr(metric, 2) AS INTEGER), value FROM metrics"


def check(place: Place, lake: Lake, run_id: str) -> int:
    """Tell of what is lost, doubled or wrong; returns the rows that were looked at."""
    acks = Acks(place.acks / run_id)
    before = acks.copy()
    columns = lake.query(_SQL, run_id=run_id).columns
    if (place.pruned / run_id).exists():  # since when, nobody knows
        return 0
    after = acks.copy()
    stream, step, seq, metric, value = (column.to_numpy() for column in columns)
    if wrong := int(np.count_nonzero(value != stream * 1e9 + step + metric / 64)):
        place.tell("wrong", wrong, f"run {run_id}: {wrong} values are wrong")
    for one in range(STREAMS):
        mine = stream == one
        _check_stream(place, run_id, one, step[mine], metric[mine], before[one], after[one])
    records = np.unique(np.stack([seq, stream, step]), axis=1)
    if len(np.unique(records[0])) != records.shape[1]:
        place.tell("wrong", 1, f"run {run_id}: a seq has two records")
    return len(value)


def _check_stream(
    place: Place,
    run_id: str,
    stream: int,
    step: np.ndarray[tuple[int], np.dtype[np.int64]],
    metric: np.ndarray[tuple[int], np.dtype[np.int64]],
    before: Bytes,
    after: Bytes,
) -> None:
    rows = np.bincount(step * WIDTH + metric, minlength=len(before) * WIDTH).reshape(-1, WIDTH)
    where = f"run {run_id}, stream {stream}"
    if doubled := int(np.count_nonzero(rows > 1)):
        place.tell("doubled", doubled, f"{where}: {doubled} samples are doubled, from {first(rows > 1)} on")
    whole = rows.min(axis=1) > 0
    if parts := int(np.count_nonzero((rows.max(axis=1) > 0) & ~whole)):
        place.tell("wrong", parts, f"{where}: {parts} records are there in part")
    lost = (before == ACKNOWLEDGED) & ~whole
    if count := int(np.count_nonzero(lost)):
        place.tell("lost", count, f"{where}: {count} acknowledged records are lost, from {first(lost)} on")
    if made_up := int(np.count_nonzero(whole & (after == 0))):
        place.tell("wrong", made_up, f"{where}: {made_up} records that nobody wrote")


def check_pruned(place: Place, lake: Lake, run_id: str) -> None:
    """What is left of a pruned run counts what was in it, also where it is pruned in part, or not at all.

    By a clock that ran ahead it may have ended in the future, once its record was closed.
    """
    expected = int((place.pruned / run_id).read_text())
    table = lake.query("SELECT sum(count)::BIGINT FROM summaries", run_id=run_id)
    found = table.column(0)[0].as_py()
    if list_metrics(lake.storage, run_id):
        place.tell("pruned in part, or not")
    if found != expected:
        place.tell("lost", 1, f"run {run_id}: {expected} rows were to be pruned, its summaries count {found}")


def first(where: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> int:
    return int(np.argmax(where.any(axis=1) if where.ndim == 2 else where))


assert len(NAMES) == WIDTH
