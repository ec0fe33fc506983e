"""Statements: the rows of the view `lineage` as columns, however many there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from entrenar_processors.metric_names import TRAIN, VALIDATION, known_as
from entrenar_processors.samples import Floats

from entrenar_otel.errors import LineageError
from entrenar_otel.lake.tables.schema import LINEAGE, conform

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake
    from entrenar_otel.lineage.by_hand import Statement

ACCURACY = "accuracy"
#: In which order series of different splits speak for a version.
_SPLITS = (VALIDATION, None, TRAIN)


class Link(NamedTuple):
    """What a statement says of one parent: its name, or the ids of a span of it."""

    row: int
    parent_id: str | None
    change_type: str | None
    span: tuple[str, str] | None


class Statements:
    """All that was said, a row each; `ids` are their versions as `MODEL@VERSION`."""

    def __init__(self, table: pa.Table) -> None:
        self._table = conform(table, LINEAGE)
        self._numbers: dict[str, Floats] = {}
        self.ids: list[str] = self._ids_of(self._table)

    @classmethod
    def read(cls, lake: Lake) -> Statements:
        """Those of a lake. Raises QueryError."""
        return cls(lake.query(f"SELECT {', '.join(LINEAGE.names)} FROM lineage"))

    @staticmethod
    def _ids_of(table: pa.Table) -> list[str]:
        return pc.binary_join_element_wise(table["model_id"], table["version"], "@").to_pylist()  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self.ids)

    def append(self, statements: Sequence[Statement]) -> None:
        """Add what was said by hand."""
        more = conform(pa.Table.from_pylist([one.row() for one in statements], schema=LINEAGE), LINEAGE)
        self._table = pa.concat_tables([self._table, more])
        self.ids += self._ids_of(more)
        self._numbers.clear()

    def row(self, at: int) -> dict[str, Any]:
        """One of them, whole."""
        row: dict[str, Any] = self._table.slice(at, 1).to_pylist()[0]
        return row | {"metrics": dict(row["metrics"])}

    def column(self, name: str) -> list[Any]:
        """One column as Python has it."""
        return self._table[name].to_pylist()  # type: ignore[no-any-return]

    @property
    def is_by_hand(self) -> np.ndarray:
        """Of each row `(n,)`, whether a person said it and no run."""
        return np.asarray(pc.equal(self._table["source"], "hand"))

    @property
    def order(self) -> np.ndarray:
        """The rows `(n,)` in the order in which later ones are believed: runs, then people; each by time."""
        times = np.asarray(self._table["created_at"].cast(pa.int64()))
        return np.lexsort((times, self.is_by_hand))

    def links(self, start: int = 0) -> Iterator[Link]:
        """All links of the rows from `start` on, in the order of the rows."""
        parents = self._table["parents"].slice(start).combine_chunks()
        flat = pc.list_flatten(parents)
        columns = [flat.field(at).to_pylist() for at in range(4)] if len(flat) else [[]] * 4
        rows = (np.asarray(pc.list_parent_indices(parents)) + start).tolist()
        for row, parent, change, trace_id, span_id in zip(rows, *columns, strict=True):
            yield Link(row, parent, change, (trace_id, span_id) if trace_id and span_id else None)

    # -- numbers ----------------------------------------------------------------------------------

    def numbers(self, metric: str) -> Floats:
        """The values of a metric `(n,)`; NaN where a row has none. The metric's name is as it is stored."""
        if metric not in self._numbers:
            self._numbers[metric] = self._of_accuracy() if metric == ACCURACY else self._of_map(metric)
        return self._numbers[metric]

    def _of_accuracy(self) -> Floats:
        filled = pc.fill_null(self._table["accuracy"], float("nan"))
        return np.array(filled, np.float64)

    def _of_map(self, metric: str) -> Floats:
        values = np.full(len(self), np.nan)
        rows, keys, items = self._entries()
        hits = np.asarray(pc.equal(keys, metric))
        values[rows[hits]] = np.asarray(pc.fill_null(items, float("nan")), np.float64)[hits]
        return values

    def _entries(self) -> tuple[np.ndarray, pa.Array, pa.Array]:
        """All entries of the maps: their rows, their keys, their values."""
        maps = self._table["metrics"].combine_chunks()
        lists = maps.cast(pa.list_(pa.struct([("key", pa.string()), ("value", pa.float64())])))
        flat = pc.list_flatten(lists)
        return np.asarray(pc.list_parent_indices(lists)), flat.field(0), flat.field(1)

    def metric_names(self) -> list[str]:
        """The names of all metrics beside the accuracy."""
        return sorted(pc.unique(self._entries()[1]).to_pylist())

    def find_metric(self, metric: str) -> str:
        """The stored name of a metric that may be called as it is known. Raises LineageError.

        `loss` finds `val_loss`, the validation's before the training's.
        """
        if metric == ACCURACY:
            return metric
        names = self.metric_names()
        if metric in names:
            return metric
        known, split = known_as(metric)
        same = [(known_as(name), name) for name in names]
        found = [(its, name) for (other, its), name in same if other == known and split in (None, its)]
        if found:
            return min(found, key=lambda one: (_SPLITS.index(one[0]), one[1]))[1]
        names = [ACCURACY, *names]
        close = difflib.get_close_matches(metric, names, n=5, cutoff=0.5)
        told = f"close to it: {', '.join(close)}" if close else f"known: {', '.join(names[:10])}"
        raise LineageError(f"no version has a metric {metric!r}; {told}")
