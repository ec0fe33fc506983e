"""Reader: answers of SQL about some runs of a lake, by the way that opens the fewest files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

#: A query costs about as much as the files of so many runs, whichever it opens.
_RUNS_PER_QUERY = 8


class RunReader:
    """Asks about some of the runs of a lake, of which there are `runs_in_lake`."""

    def __init__(self, lake: Lake, runs_in_lake: int) -> None:
        self.lake = lake
        self._runs_in_lake = runs_in_lake

    def ask(self, sql: str, parameters: Sequence[Any], run_ids: Sequence[str]) -> pa.Table:
        """The rows for these runs of a SELECT with a column `run_id`.

        Its first parameter, which is added, is the list of their ids: `list_contains(?, run_id)`.
        Raises QueryError.
        """
        ids = list(run_ids)
        if len(ids) > 1 and self._runs_in_lake <= _RUNS_PER_QUERY * len(ids):
            return self.lake.query(sql, [ids, *parameters])
        tables = [self.lake.query(sql, [[run_id], *parameters], run_id=run_id) for run_id in ids]
        return pa.concat_tables(tables)
