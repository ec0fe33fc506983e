"""Plain: values of the lake as what JSON can hold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pyarrow as pa
from entrenar_processors.finding import plain as plain_number


def plain(value: Any) -> Any:
    """A value as JSON can say it: ISO times, tags as an object, `"NaN"` and `"Infinity"` as text.

    JSON has no number for those, and null would claim that nothing was reported.
    """
    if isinstance(value, float):
        return plain_number(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        if value and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
            return {str(key): plain(one) for key, one in value}
        return [plain(one) for one in value]
    if isinstance(value, int | float | str | bool) or value is None:
        return value
    return str(value)


def rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The table's rows as plain values, a batch at a time; maps (tags) are objects, also empty ones."""
    maps = {field.name for field in table.schema if pa.types.is_map(field.type)}
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield {
                name: plain(dict(value)) if name in maps and value is not None else plain(value)
                for name, value in row.items()
            }
