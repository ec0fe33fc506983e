"""Files: what columns the lake's Parquet files have, which several versions may have written.

Every reader takes columns by name (docs/architecture.md, "Versions"). A file that is damaged, or is none
of the table's, is left out and named: it must not keep everybody from all the others.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from entrenar_otel.errors import LakeError
from entrenar_otel.lake.store.skipped import name_skipped
from entrenar_otel.lake.store.storage import Storage, telling_gone

#: A file without it is not one of ours: all tables say whose their rows are.
_NEEDED = "run_id"
#: Requests at once to an object store.
_THREADS = 16
#: The columns of files on this disk that were read before, by where they are and `Storage.mark`.
_known: dict[tuple[str, Hashable], pa.Schema] = {}
#: Of so many, a hundred bytes each; then all are forgotten.
_MOST_KNOWN = 1 << 14


@dataclass(frozen=True)
class Group:
    """Files with the same columns."""

    schema: pa.Schema
    names: list[str] = field(default_factory=list)

    def dataset(self, storage: Storage) -> Any:
        """The files for DuckDB, read by Arrow."""
        import pyarrow.dataset as dataset

        paths = [storage.location(name) for name in self.names]
        filesystem = getattr(storage, "filesystem", None)
        return dataset.dataset(paths, schema=self.schema, format="parquet", filesystem=filesystem)


def by_schema(storage: Storage, names: list[str], schema: pa.Schema) -> list[Group]:
    """The readable files of a table, grouped by their columns. Raises FileNotFoundError, LakeError."""
    groups: dict[tuple[tuple[str, str], ...], Group] = {}
    for name, stored in zip(names, _schemas(storage, names), strict=True):
        if stored is None:
            continue
        key = _differences(stored, schema)
        groups.setdefault(key, Group(stored if key else schema)).names.append(name)
    return list(groups.values())


def _differences(stored: pa.Schema, schema: pa.Schema) -> tuple[tuple[str, str], ...]:
    """Name and type of each column, where they are not those of today in that order; else nothing."""
    if stored.names == schema.names and stored.types == schema.types:
        return ()
    return tuple((column.name, str(column.type)) for column in stored)


def _schemas(storage: Storage, names: list[str]) -> Iterator[pa.Schema | None]:
    if storage.is_local or len(names) < 2:
        yield from (_schema(storage, name) for name in names)
    else:
        with ThreadPoolExecutor(_THREADS) as pool:
            yield from pool.map(lambda name: _schema(storage, name), names)


def _schema(storage: Storage, name: str) -> pa.Schema | None:
    """The columns of a file; None where it is not one of ours. Raises FileNotFoundError, LakeError."""
    where = storage.location(name)
    mark = storage.mark(name)  # first: it may be replaced while it is read
    if mark is not None and (known := _known.get((where, mark))) is not None:
        return known
    try:
        with telling_gone(where):
            schema = pq.read_schema(where, filesystem=getattr(storage, "filesystem", None))
        if _NEEDED in schema.names:
            if mark is not None:
                if len(_known) >= _MOST_KNOWN:
                    _known.clear()
                _known[where, mark] = _interned(schema)
            return schema
        name_skipped(where, f"{where} is left out: it has no column {_NEEDED}, so it is not ours")
        return None
    except FileNotFoundError:
        raise
    except (pa.ArrowException, ValueError, OSError) as error:
        if not storage.is_local and isinstance(error, OSError) and "thrift" not in str(error):
            raise LakeError(f"{where} cannot be read: {error}") from None
        name_skipped(where, f"{where} is left out: it cannot be read: {error}")
        return None


@lru_cache(64)
def _interned(schema: pa.Schema) -> pa.Schema:
    """One schema for all files with these columns."""
    return schema


def is_readable(storage: Storage, name: str) -> bool:
    """Whether a file is one of ours, or gone. Raises LakeError."""
    try:
        return _schema(storage, name) is not None
    except FileNotFoundError:
        return True


def sql_type(kind: pa.DataType) -> str:
    """A type of the lake's schemas, as DuckDB writes it.

    >>> sql_type(pa.list_(pa.struct([("name", pa.string()), ("n", pa.int64())])))
    'STRUCT("name" VARCHAR, "n" BIGINT)[]'
    """
    if pa.types.is_map(kind):
        return f"MAP({sql_type(kind.key_type)}, {sql_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        inner = ", ".join(f'"{column.name}" {sql_type(column.type)}' for column in kind)
        return f"STRUCT({inner})"
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE"
    return {"string": "VARCHAR", "int32": "INTEGER", "int64": "BIGINT", "double": "DOUBLE"}[str(kind)]


def empty_of(kind: pa.DataType) -> str:
    """What stands for a column that a file does not have, in SQL; as `conform` has it."""
    return "MAP {}" if pa.types.is_map(kind) else "[]" if pa.types.is_list(kind) else "NULL"
