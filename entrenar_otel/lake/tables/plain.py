"""Plain rows: answers of the lake made of what JSON has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from entrenar_processors.plain import plain


def plain_rows(table: pa.Table) -> Iterator[dict[str, Any]]:
    """The rows of a table, a batch at a time; times are ISO text, and maps (tags) are objects.

    >>> tags = pa.array([[("split", "test")], []], pa.map_(pa.string(), pa.string()))
    >>> list(plain_rows(pa.table({"value": [0.5, float("nan")], "tags": tags})))
    [{'value': 0.5, 'tags': {'split': 'test'}}, {'value': 'NaN', 'tags': {}}]
    """
    readers = {field.name: _reader(field.type) for field in table.schema}
    for batch in table.to_batches(max_chunksize=10_000):
        for row in batch.to_pylist():
            yield {name: readers[name](value) for name, value in row.items()}


def _reader(kind: pa.DataType) -> Callable[[Any], Any]:
    """What makes values of an Arrow type plain: its maps arrive as lists of pairs, whatever they are in."""
    if pa.types.is_map(kind):
        inner = _reader(kind.item_type)

        def read(value: Any) -> Any:
            return {str(key): inner(element) for key, element in value}

    elif pa.types.is_struct(kind):
        fields = {field.name: _reader(field.type) for field in kind}

        def read(value: Any) -> Any:
            return {name: fields[name](element) for name, element in value.items()}

    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        item = _reader(kind.value_type)

        def read(value: Any) -> Any:
            return [item(element) for element in value]

    elif pa.types.is_interval(kind):
        read = interval_text
    else:
        return plain
    return lambda value: None if value is None else read(value)


def interval_text(value: Any) -> str:
    """A span of time, given as months, days and nanoseconds, as DuckDB writes it.

    >>> interval_text((14, 3, 4_500_000_000)), interval_text((0, 0, -60_000_000_000))
    ('1 year 2 months 3 days 00:00:04.5', '-00:01:00')
    """
    months, days, nanoseconds = value
    sign = -1 if months < 0 else 1
    years, months = (sign * part for part in divmod(abs(months), 12))
    parts = [
        f"{number} {name}{'s' * (abs(number) != 1)}"
        for number, name in ((years, "year"), (months, "month"), (days, "day"))
        if number
    ]
    if nanoseconds or not parts:
        seconds, rest = divmod(abs(nanoseconds) // 1000, 1_000_000)
        time = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        fraction = f".{rest:06d}".rstrip("0") if rest else ""
        parts.append(f"{'-' * (nanoseconds < 0)}{time}{fraction}")
    return " ".join(parts)


def without_intervals(table: pa.Table) -> pa.Table:
    """The table with columns of intervals as text: Parquet has no such type as Arrow has."""
    for at, field in enumerate(table.schema):
        if pa.types.is_interval(field.type):
            texts = [
                None if value is None else interval_text(value) for value in table.column(at).to_pylist()
            ]
            table = table.set_column(at, field.name, pa.array(texts, pa.string()))
    return table
