"""Writes: files of the lake that are written side by side, since each waits for the disk or the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType

import pyarrow as pa

from entrenar_otel.lake.store.storage import Rows, Storage

#: At a time: rows of so many files are in memory.
WRITES = 8


class Writes:
    """Used as a context by one thread; at its end, come what may, nothing is being written any more."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._threads = ThreadPoolExecutor(WRITES, thread_name_prefix="entrenar-sink-write")
        self._going: dict[Future[None], Callable[[BaseException], bool]] = {}

    def __enter__(self) -> Writes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=error is not None)

    def put(
        self,
        name: str,
        schema: pa.Schema,
        batches: Iterable[Rows],
        is_known: Callable[[BaseException], bool],
    ) -> None:
        """Write a file as soon as there is room; what fails is raised here or by `finish`, but for what
        `is_known`, which then has seen to it.
        """
        while len(self._going) >= WRITES:
            self._settle(*wait(self._going, return_when=FIRST_COMPLETED).done)
        self._going[self._threads.submit(self._storage.write, name, schema, batches)] = is_known

    def finish(self) -> None:
        """Return when all is written. Raises what a write has raised."""
        self._settle(*wait(self._going).done)

    def _settle(self, *done: Future[None]) -> None:
        known = [(future, self._going.pop(future)) for future in done]
        for future, is_known in known:
            error = future.exception()
            if error is not None and not is_known(error):
                raise error
