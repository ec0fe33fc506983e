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

    else:
        return plain
    return lambda value: None if value is None else read(value)
