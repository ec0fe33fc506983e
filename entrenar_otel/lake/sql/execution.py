"""Execution: one statement on a thread of its own, so that limits hold and Ctrl-C is Ctrl-C.

DuckDB turns a signal that comes while it works into a RuntimeError, and what the signal's handler raised is
gone. So the caller's thread only waits, where Python's handlers run as everywhere, and interrupts the
statement when it leaves.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from entrenar_processors.durations import text_of

from entrenar_otel.delivery.exit_gate import gate
from entrenar_otel.delivery.promise import Promise
from entrenar_otel.errors import QueryError
from entrenar_otel.lake.sql.limits import MEMORY, SPILL, TIMEOUT, Limits, resident_bytes, size_text
from entrenar_otel.lake.tables.schema import ROW_GROUP

#: How often the memory is looked at.
_LOOK_SECONDS = 0.1
#: How long an interrupted statement may take to end; one that hangs is left behind.
_END_SECONDS = 5.0
#: A folder that is as new may not be locked yet.
_FRESH_SECONDS = 60.0
_FOLDER = f"entrenar-query-{os.getuid()}-"


class Execution:
    """A statement that is being answered. `close` ends it, and its connection."""

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any], limits: Limits
    ) -> None:
        self._connection, self._sql, self._parameters = connection, sql, parameters
        self._limits = limits
        self._stop = False
        self._is_closed = False
        self._answer: Promise[pa.Table] | None = None

    def result(self, deadline: float) -> pa.Table:
        """The answer; `deadline` by `time.monotonic`. Raises QueryError, and what DuckDB raises."""
        self._answer = Promise("entrenar-query", self._run)
        self._wait(self._answer, deadline)
        return self._answer.result()

    def close(self) -> None:
        """End the statement if it still runs, and close the connection as soon as it has ended."""
        self._stop = True
        answer, end = self._answer, time.monotonic() + _END_SECONDS
        while answer is not None and not answer.is_done and time.monotonic() < end:
            self._connection.interrupt()  # again: one that had not begun yet did not notice
            answer.wait(_LOOK_SECONDS)
        self._is_closed = True
        if answer is None or answer.is_done:
            self._connection.close()

    def _wait(self, answer: Promise[pa.Table], deadline: float) -> None:
        before, allowed = resident_bytes(), 2 * self._limits.memory_bytes
        while not answer.wait(max(0.0, min(_LOOK_SECONDS, deadline - time.monotonic()))):
            gate.check()
            if time.monotonic() >= deadline:
                raise QueryError(
                    f"the query took longer than {text_of(self._limits.seconds)}, its limit: narrow it, or "
                    f"allow more with {_by(TIMEOUT)}"
                )
            # What functions make in single values is not in DuckDB's own count
            if resident_bytes() - before > allowed:
                raise QueryError(out_of_memory("the process grew by twice as much", self._limits))

    def _run(self) -> pa.Table:
        try:
            return self._read()
        except MemoryError as error:
            raise QueryError(out_of_memory(str(error), self._limits)) from None
        finally:
            if self._is_closed:  # nobody waits any more
                self._connection.close()

    def _read(self) -> pa.Table:
        """The answer in pieces, as long as it is no larger than the limit."""
        reader = self._connection.sql(self._sql, params=self._parameters).to_arrow_reader(ROW_GROUP)
        batches, size = [], 0
        while not self._stop and (batch := self._next(reader)) is not None:
            batches.append(batch)
            size += batch.nbytes
            if size > self._limits.memory_bytes:
                raise QueryError(
                    f"the answer is larger than {size_text(self._limits.memory_bytes)}, the limit of a "
                    f"query's memory: narrow it, or allow more with {_by(MEMORY)}"
                )
        return pa.Table.from_batches(batches, schema=reader.schema)

    def _next(self, reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
        """The next piece; what DuckDB says meanwhile arrives as an error of Arrow's."""
        try:
            return reader.read_next_batch()
        except StopIteration:
            return None
        except (pa.ArrowException, OSError) as error:
            if "Out of Memory Error" in str(error):
                raise QueryError(out_of_memory(str(error), self._limits)) from None
            raise duckdb.IOException(str(error)) from None


def out_of_memory(what: str, limits: Limits) -> str:
    """What to say of a query that needs more than it may have."""
    return (
        f"the query needs more than {size_text(limits.memory_bytes)} of memory and "
        f"{size_text(limits.spill_bytes)} of temporary files, its limits: narrow it, or allow more by "
        f"{_by(MEMORY)} and {_by(SPILL)} ({what.partition(chr(10))[0]})"
    )


def _by(names: tuple[str, str]) -> str:
    return f"{names[0]} (`{names[1]}` of the command, `{names[1].lstrip('-')}=` of Lake.query)"


@contextlib.contextmanager
def spill_folder() -> Iterator[str]:
    """A folder of this query alone for what its memory does not hold; none where none can be made."""
    try:
        _remove_left()
        folder = tempfile.mkdtemp(prefix=_FOLDER)
    except OSError:  # a full disk: an answer that needs no such folder does not fail for it
        yield ""
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # where the file system has no locks
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(fd)


@cache
def _remove_left() -> None:
    """Remove such folders of killed processes, once per process."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*"):
        with contextlib.suppress(OSError):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                state = os.fstat(fd)
                if state.st_uid == os.getuid() and time.time() - state.st_mtime > _FRESH_SECONDS:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(fd)
