"""Run records: one small Parquet file per attempt and rank, written at the start, replaced at the end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from entrenar_otel.errors import LakeError
from entrenar_otel.lake.catalog import encode_run, run_folder
from entrenar_otel.lake.config import json_config
from entrenar_otel.lake.schema import RUNS, Owner
from entrenar_otel.lake.storage import Storage, walk
from entrenar_otel.redact import arguments_without_secrets, redacted, settings_without_secrets

RUNNING, COMPLETED, STOPPED, CRASHED = "running", "completed", "stopped", "crashed"
#: Of a run that says `running` when neither its life nor its death is seen; in no record.
UNKNOWN = "unknown"


def record_name(day: str, run_id: str, attempt: int, rank: int) -> str:
    """The file of a run's record in the lake."""
    return f"{run_folder('runs', day, run_id)}/attempt-{attempt:04d}-rank-{rank:05d}.parquet"


@dataclass(frozen=True)
class RunRecord:
    """Who ran what, where, and how it ended."""

    run_id: str
    attempt: int
    rank: int
    world_size: int
    started_at: datetime
    day: str
    config: str
    config_hash: str
    process: str = ""
    live: str = ""
    state: str = RUNNING
    reason: str | None = None
    ended_at: datetime | None = None
    model_id: str | None = None
    version: str | None = None
    git_commit: str | None = None
    argv: list[str] = field(default_factory=list)
    host: str = ""
    pid: int = 0
    python: str = ""
    dropped: int = 0

    @property
    def owner(self) -> Owner:
        return Owner(self.run_id, self.attempt, self.rank)

    @property
    def name(self) -> str:
        return record_name(self.day, self.run_id, self.attempt, self.rank)

    def ended(self, state: str, at: datetime, reason: str | None = None, dropped: int = 0) -> RunRecord:
        return replace(self, state=state, ended_at=at, reason=reason and redacted(reason), dropped=dropped)


def describe_config(config: Any) -> tuple[str, str]:
    """The configuration as canonical JSON without secrets, and the hash of that (SHA-256, 16 digits).

    So the hash of a configuration without secrets is the one that it always had, a new key is no new
    configuration, and nobody can try passwords by it.
    """
    text = json.dumps(settings_without_secrets(json_config(config)), sort_keys=True)
    return text, hashlib.sha256(text.encode()).hexdigest()[:16]


def new_record(
    *,
    run_id: str,
    rank: int,
    world_size: int,
    day: str,
    config: Any,
    model_id: str | None,
    version: str | None,
    process: str,
    live: str,
) -> RunRecord:
    """The record of this process, as attempt 1; `claim` finds the real number."""
    text, digest = describe_config(config)
    return RunRecord(
        run_id=run_id,
        attempt=1,
        rank=rank,
        world_size=world_size,
        started_at=datetime.now(UTC),
        day=day,
        config=text,
        config_hash=digest,
        model_id=model_id,
        version=version,
        process=process,
        live=live,
        git_commit=git_commit(),
        argv=[_utf8(one) for one in arguments_without_secrets(sys.argv)],
        host=socket.gethostname(),
        pid=os.getpid(),
        python=platform.python_version(),
    )


def _utf8(text: str) -> str:
    """The text as Arrow takes it: an argument of bytes that are not UTF-8 has lone surrogates."""
    return text.encode(errors="replace").decode()


_git_commits: dict[str, str | None] = {}


def git_commit() -> str | None:
    """The commit checked out in the working folder (`+` if changed), or None; asked once per folder."""
    try:
        folder = os.getcwd()
    except OSError:
        return None
    if folder not in _git_commits:
        _git_commits[folder] = _ask_git()
    return _git_commits[folder]


def _ask_git() -> str | None:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{commit}+" if changed else commit


def write_record(storage: Storage, record: RunRecord, *, exclusive: bool = False) -> None:
    """Write the record durably, replacing an earlier one. `exclusive`: raises FileExistsError instead."""
    row = pa.Table.from_pylist([asdict(record)], schema=RUNS)
    storage.write(record.name, RUNS, row.to_batches(), exclusive=exclusive)


def claim(storage: Storage, record: RunRecord) -> RunRecord:
    """Write the start of the next attempt of this run and rank, and return its record."""
    while True:
        taken = [r.attempt for r in find_records(storage, record.run_id) if r.rank == record.rank]
        record = replace(record, attempt=max(taken, default=0) + 1)
        with contextlib.suppress(FileExistsError):
            write_record(storage, record, exclusive=True)
            return record


def find_records(storage: Storage, run_id: str | None = None) -> list[RunRecord]:
    """The records of all runs, or of one, oldest first."""
    wanted = None if run_id is None else encode_run(run_id)
    records = []
    for day, run in walk(storage, "runs"):
        if wanted in (None, run):
            folder = f"runs/day={day}/run={run}"
            for base in storage.list(folder):
                if base.endswith(".parquet") and (found := read_record(storage, f"{folder}/{base}")):
                    records.append(found)
    return sorted(records, key=lambda r: (r.started_at, r.run_id, r.attempt, r.rank))


def read_record(storage: Storage, name: str) -> RunRecord | None:
    """One record, or None if it is gone. Raises LakeError if it is damaged."""
    try:
        file = pq.ParquetFile(storage.location(name), filesystem=getattr(storage, "filesystem", None))
        with file:
            rows = file.read().to_pylist()
    except FileNotFoundError:
        return None
    except (pa.ArrowInvalid, OSError) as error:
        raise LakeError(f"the run record {storage.location(name)} cannot be read: {error}") from None
    known = RunRecord.__dataclass_fields__.keys()
    return RunRecord(**{key: value for key, value in rows[0].items() if key in known})


def records_table(records: list[RunRecord]) -> pa.Table:
    """The records as a table."""
    return pa.Table.from_pylist([asdict(record) for record in records], schema=RUNS)
