"""Database: what is stored already, in the sink's state folder; one transaction for each file of the log.

It is a memory, not a store: where it is lost, damaged or was thinned out, all of it is read again from the
lake (storing/recall.py).
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from entrenar_otel.console import logger
from entrenar_otel.sink.decoding.sender import Process
from entrenar_otel.sink.known.intervals import Intervals

#: Of the file in the state folder.
NAME = "known.sqlite"
_VERSION = 2
#: For so many files of the log it is remembered that they are done; no file waits as long.
_REMEMBERED = 100_000
_SCHEMA = f"""
CREATE TABLE rolled (number INTEGER PRIMARY KEY);
CREATE TABLE processes (
    id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, rank INTEGER NOT NULL, process TEXT NOT NULL,
    stem TEXT NOT NULL, day TEXT NOT NULL, attempt INTEGER NOT NULL, heard_ns INTEGER NOT NULL,
    is_going INTEGER NOT NULL, is_settled INTEGER NOT NULL, samples TEXT NOT NULL, recall TEXT NOT NULL,
    files INTEGER NOT NULL,
    UNIQUE (run_id, rank, process)
);
CREATE INDEX going ON processes (is_going, heard_ns);
CREATE INDEX settled ON processes (is_settled);
CREATE TABLE intervals (
    process INTEGER, low INTEGER, high INTEGER, PRIMARY KEY (process, low)
) WITHOUT ROWID;
CREATE TABLE chunks (
    process INTEGER, part TEXT, chunk INTEGER, bits BLOB, PRIMARY KEY (process, part, chunk)
) WITHOUT ROWID;
CREATE TABLE events (process INTEGER, digest BLOB, PRIMARY KEY (process, digest)) WITHOUT ROWID;
CREATE TABLE spans (
    process INTEGER, digest BLOB, end_ns INTEGER, number INTEGER, PRIMARY KEY (process, digest)
) WITHOUT ROWID;
CREATE TABLE foreign_files (
    day TEXT, run_id TEXT, stem TEXT, files INTEGER, PRIMARY KEY (day, run_id, stem)
) WITHOUT ROWID;
CREATE TABLE requests (digest BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""
#: Added later: a sink before it leaves the table alone, and this one makes it where it is not there.
_ADDED = """
CREATE TABLE IF NOT EXISTS crashes (
    run_id TEXT, rank INTEGER, model_id TEXT, attempt INTEGER, at REAL, PRIMARY KEY (run_id, rank)
) WITHOUT ROWID;
"""
_COLUMNS = (
    "id, run_id, rank, process, stem, day, attempt, heard_ns, is_going, is_settled, samples, recall, files"
)


class Recall(StrEnum):
    """What the lake knows of a process and this database does not."""

    NOTHING = "nothing"
    PENDING = "pending"
    DONE = "done"


@dataclass
class KnownProcess:
    """A process as it is remembered."""

    process: Process
    #: Its name in the names of files.
    stem: str
    #: Of its run's record and files in the lake.
    day: str
    attempt: int
    #: When it last said something, by the sink's clock.
    heard_ns: int
    is_going: bool = True
    #: Whether all that is to be done after its end is done.
    is_settled: bool = False
    #: How its samples leave: `blocks`, `events`, `off`, or empty where it has not said.
    samples: str = ""
    #: Whether what it has stored must be read from the lake, or was: then its events are known by content.
    recall: Recall = Recall.NOTHING
    #: Files of the log that brought rows of it, since its files were last merged.
    files: int = 0
    id: int = 0
    #: Of blocks, of which a record comes whole or not at all; for wide events see `chunk`.
    seqs: Intervals = field(default_factory=Intervals)


class Crash(NamedTuple):
    """The latest attempt of a run's rank has crashed, and no other has begun since."""

    run_id: str
    rank: int
    model_id: str
    attempt: int
    #: When it was last heard of, in seconds since 1970 by the sink's clock.
    at: float


class Database:
    """Opened by one sink at a time; the request log locks the folder. Raises OSError, sqlite3.Error."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / NAME
        try:
            self._connection = self._open()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                raise  # a full disk, say
            logger.warning(
                "%s cannot be read (%s): it is made anew from the lake, and the old one kept as %s",
                self._path,
                error,
                self._path.with_suffix(".damaged"),
            )
            with contextlib.suppress(OSError):
                self._path.replace(self._path.with_suffix(".damaged"))
            self._path.with_name(f"{self._path.name}-journal").unlink(missing_ok=True)
            self._connection = self._open()

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA trusted_schema = OFF")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
            elif version != _VERSION:
                raise sqlite3.DatabaseError(f"it has version {version}, this sink writes {_VERSION}")
            connection.execute("SELECT count(*) FROM rolled").fetchone()
            connection.executescript(_ADDED)
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is changed within, or nothing."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # on a full disk SQLite has rolled back by itself
                self._connection.execute("ROLLBACK")
            raise

    # -- files of the log -------------------------------------------------------------------------

    @property
    def is_new(self) -> bool:
        """Whether no file of the log is known to be in the lake."""
        return not self._exists("SELECT 1 FROM rolled", [])

    def is_rolled(self, number: int) -> bool:
        """Whether the rows of this file of the log are in the lake."""
        return self._exists("SELECT 1 FROM rolled WHERE number = ?", [number])

    def set_rolled(self, number: int) -> None:
        """They are."""
        self._connection.execute("INSERT OR IGNORE INTO rolled VALUES (?)", [number])
        self._connection.execute("DELETE FROM rolled WHERE number < ?", [number - _REMEMBERED])

    # -- processes --------------------------------------------------------------------------------

    def find(self, process: Process) -> KnownProcess | None:
        """A process, with the numbers of its samples."""
        found = self._processes("run_id = ? AND rank = ? AND process = ?", [*process])
        if not found:
            return None
        (known,) = found
        rows = self._connection.execute(
            "SELECT low, high FROM intervals WHERE process = ? ORDER BY low", [known.id]
        )
        known.seqs = Intervals(rows)
        return known

    def has(self, process: Process) -> bool:
        """Whether a process is known."""
        return self._exists(
            "SELECT 1 FROM processes WHERE run_id = ? AND rank = ? AND process = ?", [*process]
        )

    def put(self, known: KnownProcess, *, with_seqs: bool = True) -> None:
        """Remember a process as it is now."""
        values = [
            *known.process,
            known.stem,
            known.day,
            known.attempt,
            known.heard_ns,
            known.is_going,
            known.is_settled,
            known.samples,
            known.recall,
            known.files,
        ]
        if known.id:
            self._connection.execute(
                "UPDATE processes SET run_id = ?, rank = ?, process = ?, stem = ?, day = ?, attempt = ?, "
                "heard_ns = ?, is_going = ?, is_settled = ?, samples = ?, recall = ?, files = ? WHERE id = ?",
                [*values, known.id],
            )
        else:
            names = _COLUMNS.removeprefix("id, ")
            done = self._connection.execute(
                f"INSERT INTO processes ({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", values
            )
            known.id = int(done.lastrowid or 0)
        if with_seqs:
            self._connection.execute("DELETE FROM intervals WHERE process = ?", [known.id])
            self._connection.executemany(
                "INSERT INTO intervals VALUES (?, ?, ?)", ((known.id, *pair) for pair in known.seqs)
            )

    def is_taken(self, run_id: str, stem: str) -> bool:
        """Whether another process of a run has this name in the names of files."""
        return self._exists("SELECT 1 FROM processes WHERE run_id = ? AND stem = ?", [run_id, stem])

    def going(self, heard_before_ns: int) -> list[KnownProcess]:
        """Processes that have not ended, of which nothing was heard since."""
        return self._processes("is_going AND heard_ns < ? ORDER BY heard_ns", [heard_before_ns])

    def unsettled(self) -> list[KnownProcess]:
        """Those that are over, and whose files are not merged yet."""
        return self._processes("NOT is_going AND NOT is_settled", [])

    def with_files(self, least: int) -> list[KnownProcess]:
        """Those that go on, with so many files that are not merged."""
        return self._processes("is_going AND files >= ?", [least])

    def count_going(self) -> int:
        """How many have not ended."""
        return int(self._connection.execute("SELECT count(*) FROM processes WHERE is_going").fetchone()[0])

    def forget(self, heard_before_ns: int) -> None:
        """Forget processes that are over and were not heard of since; should they speak, the lake knows."""
        for known in self._processes("is_settled AND heard_ns < ? LIMIT 1000", [heard_before_ns]):
            with self.transaction():
                for table in ("intervals", "chunks", "events", "spans"):
                    self._connection.execute(f"DELETE FROM {table} WHERE process = ?", [known.id])
                self._connection.execute("DELETE FROM processes WHERE id = ?", [known.id])

    # -- crashes ----------------------------------------------------------------------------------

    def add_crash(self, crash: Crash) -> None:
        """It has crashed, unless a later attempt has."""
        self._connection.execute(
            "INSERT INTO crashes VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET model_id = "
            "excluded.model_id, attempt = excluded.attempt, at = excluded.at "
            "WHERE excluded.attempt >= attempt",
            crash,
        )

    def end_crash(self, run_id: str, rank: int, attempt: int) -> None:
        """This attempt goes on, or has ended well: what crashed before it is no matter any more."""
        self._connection.execute(
            "DELETE FROM crashes WHERE run_id = ? AND rank = ? AND attempt <= ?", [run_id, rank, attempt]
        )

    def crashes(self, since: float, most: int) -> list[Crash]:
        """The newest since then; the others are forgotten."""
        self._connection.execute("DELETE FROM crashes WHERE at < ?", [since])
        rows = self._connection.execute("SELECT * FROM crashes ORDER BY at DESC LIMIT ?", [most])
        return [Crash(*row) for row in rows.fetchall()]

    def _processes(self, where: str, values: list[Any]) -> list[KnownProcess]:
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM processes WHERE {where}", values).fetchall()
        return [_known(row) for row in rows]

    def _exists(self, sql: str, values: list[object]) -> bool:
        return self._connection.execute(sql, values).fetchone() is not None

    # -- wide events: the numbers of those with one set of tags, a part --

    def has_part(self, process: int, part: str, others: int) -> bool:
        """Whether a part is known, or there is room for one more: fewer than so many."""
        if self._exists("SELECT 1 FROM chunks WHERE process = ? AND part = ?", [process, part]):
            return True
        sql = "SELECT count(DISTINCT part) FROM chunks WHERE process = ?"
        return int(self._connection.execute(sql, [process]).fetchone()[0]) < others

    def chunk(self, process: int, part: str, chunk: int) -> bytes | None:
        """A chunk of a part's bitmaps."""
        row = self._connection.execute(
            "SELECT bits FROM chunks WHERE process = ? AND part = ? AND chunk = ?", [process, part, chunk]
        ).fetchone()
        return None if row is None else bytes(row[0])

    def put_chunks(self, process: int, part: str, chunks: Iterable[tuple[int, bytes]]) -> None:
        """Remember these."""
        rows = ((process, part, *pair) for pair in chunks)
        self._connection.executemany("INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?)", rows)

    # -- events, spans, requests ------------------------------------------------------------------

    def has_event(self, process: int, digest: bytes) -> bool:
        """Whether an event of a process is stored."""
        return self._exists("SELECT 1 FROM events WHERE process = ? AND digest = ?", [process, digest])

    def add_events(self, process: int, digests: Iterable[bytes]) -> None:
        """These are stored now."""
        rows = ((process, digest) for digest in digests)
        self._connection.executemany("INSERT OR IGNORE INTO events VALUES (?, ?)", rows)

    def span(self, process: int, digest: bytes) -> tuple[int, int] | None:
        """When a span that is stored ends, and the number of the file that it is in."""
        row = self._connection.execute(
            "SELECT end_ns, number FROM spans WHERE process = ? AND digest = ?", [process, digest]
        ).fetchone()
        return None if row is None else (int(row[0]), int(row[1]))

    def add_spans(self, process: int, spans: Iterable[tuple[bytes, int, int]]) -> None:
        """These are stored now: digest, end, number of the file."""
        rows = ((process, *span) for span in spans)
        self._connection.executemany("INSERT OR REPLACE INTO spans VALUES (?, ?, ?, ?)", rows)

    def add_foreign(self, day: str, run_id: str, stem: str) -> None:
        """There is one more file of a foreign client."""
        self._connection.execute(
            "INSERT INTO foreign_files VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET files = files + 1",
            [day, run_id, stem],
        )

    def foreign(self, files: int, before_day: str) -> list[tuple[str, str, str]]:
        """Day, run id and stem of foreign clients with so many files, or with several of an earlier day."""
        rows = self._connection.execute(
            "SELECT day, run_id, stem FROM foreign_files WHERE files >= ? OR day < ?", [files, before_day]
        )
        return [tuple(row) for row in rows.fetchall()]

    def set_merged(self, day: str, run_id: str, stem: str, *, is_over: bool) -> None:
        """The files of a foreign client are one now; `is_over`: no others will come."""
        sql = "DELETE FROM foreign_files" if is_over else "UPDATE foreign_files SET files = 1"
        self._connection.execute(f"{sql} WHERE day = ? AND run_id = ? AND stem = ?", [day, run_id, stem])

    def has_request(self, digest: bytes) -> bool:
        """Whether a foreign client's request is stored."""
        return self._exists("SELECT 1 FROM requests WHERE digest = ?", [digest])

    def add_requests(self, digests: Iterable[bytes], number: int, keep: int) -> None:
        """These are stored now; those of files of the log that are `keep` older are forgotten."""
        self._connection.executemany(
            "INSERT OR IGNORE INTO requests VALUES (?, ?)", ((digest, number) for digest in digests)
        )
        self._connection.execute("DELETE FROM requests WHERE number < ?", [number - keep])


def _known(row: tuple[Any, ...]) -> KnownProcess:
    number, run_id, rank, process, stem, day, attempt, heard_ns, going, settled, samples, recall, files = row
    return KnownProcess(
        process=Process(run_id, rank, process),
        stem=stem,
        day=day,
        attempt=attempt,
        heard_ns=heard_ns,
        is_going=bool(going),
        is_settled=bool(settled),
        samples=samples,
        recall=Recall(recall),
        files=files,
        id=number,
    )
