"""Catalog: which files of the lake hold a run's rows, and which segments they stand for.

A file is named after what it holds: `PROCESS-000004.parquet` is that process's segment 4,
`PROCESS-000000_000009.parquet` is the compaction of 0 to 9. So one listing says which files to
read, and which segments are already there, without opening any.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from urllib.parse import quote

from entrenar_otel.lake.store.skipped import name_skipped
from entrenar_otel.lake.store.storage import Storage, walk

#: No `*`, `?` or `[` in a process's name: DuckDB would read other files, too.
_FILE = re.compile(r"(?P<process>[\w.-]+)-(?P<first>\d{6,18})(?:_(?P<last>\d{6,18}))?\.parquet")
_MAX_FOLDER = 200
#: As many entries as any file system (32 kB) or object store (1,000) surely lists in one go.
ATOMIC_LISTING = 200
_TRIES = 8


def encode_run(run_id: str) -> str:
    """A run id as a folder name: percent-encoded; a long one is shortened and gets a hash.

    >>> encode_run("../up"), encode_run("digits-7")
    ('%2E%2E%2Fup', 'digits-7')
    """
    text = quote(run_id, safe="", errors="surrogatepass")
    if text.startswith("."):
        text = text.replace(".", "%2E")
    if len(text) > _MAX_FOLDER:
        digest = hashlib.sha256(run_id.encode(errors="surrogatepass")).hexdigest()[:16]
        text = f"{text[: _MAX_FOLDER - 17].rstrip('%')}~{digest}"
    return text


def run_folder(table: str, day: str, run_id: str) -> str:
    """The folder of a run in a table of the lake."""
    return f"{table}/day={day}/run={encode_run(run_id)}"


@dataclass(frozen=True)
class DataFile:
    """A Parquet file of `metrics/`, `events/` or `spans/`, and the segments whose rows it holds."""

    name: str
    process: str
    first: int
    last: int

    def holds(self, process: str, number: int) -> bool:
        return self.process == process and self.first <= number <= self.last


def parse_name(folder: str, base: str) -> DataFile | None:
    """What a file holds, from its name; None if the name is not one of ours."""
    match = _FILE.fullmatch(base)
    if match is None:
        return None
    first = int(match["first"])
    return DataFile(f"{folder}/{base}", match["process"], first, int(match["last"] or first))


def list_folder(storage: Storage, folder: str) -> list[DataFile]:
    """The files of a folder without those that a compaction replaced, in the order of their rows."""
    return _list_both(storage, folder)[0]


def list_replaced(storage: Storage, folder: str) -> list[DataFile]:
    """Files whose rows a compacted file also holds: what a killed compaction left behind."""
    return _list_both(storage, folder)[1]


def _list_both(storage: Storage, folder: str) -> tuple[list[DataFile], list[DataFile]]:
    """Both from one listing: a file that appears between two would seem replaced, and be removed."""
    files = []
    for base in _list_whole(storage, folder):
        if (parsed := parse_name(folder, base)) is not None:
            files.append(parsed)
        elif base.endswith(".parquet"):
            where = storage.location(f"{folder}/{base}")
            name_skipped(where, f"{where} is left out: its name is not one of ours")
    files.sort(key=lambda f: (f.process, f.first, -f.last))
    kept: list[DataFile] = []
    replaced: list[DataFile] = []
    for file in files:
        covered = kept and kept[-1].process == file.process and file.last <= kept[-1].last
        (replaced if covered else kept).append(file)
    return kept, replaced


def _list_whole(storage: Storage, folder: str) -> list[str]:
    """A complete listing.

    A long one comes in pieces. If a compaction adds its file and removes others between two of
    them, all may be missing; then the next listing differs.
    """
    names = storage.list(folder)
    for _ in range(_TRIES if len(names) > ATOMIC_LISTING else 0):
        before, names = names, storage.list(folder)
        if set(before) == set(names):
            break
    return names


def list_files(storage: Storage, table: str, run_id: str | None = None) -> list[DataFile]:
    """The files of a table, of all runs or of one."""
    wanted = None if run_id is None else encode_run(run_id)
    return [
        file
        for day, run in walk(storage, table)
        if wanted in (None, run)
        for file in list_folder(storage, f"{table}/day={day}/run={run}")
    ]


def list_pruned(storage: Storage, day: str, run_id: str) -> list[DataFile]:
    """The files that say which segments of a run were pruned: their summaries.

    A segment that is copied back from elsewhere must not bring its rows back.
    """
    return list_folder(storage, run_folder("summaries", day, run_id))


def list_metrics(storage: Storage, run_id: str | None = None) -> list[DataFile]:
    """The files with full-rate rows, of all runs or of one."""
    return list_files(storage, "metrics", run_id)
