"""Run records: one small Parquet file per attempt and rank, written at the start, replaced at the end."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from entrenar_otel.delivery.promise import Promise
from entrenar_otel.errors import LakeError, describe
from entrenar_otel.lake.records.config import json_config
from entrenar_otel.lake.store.catalog import encode_run, run_folder
from entrenar_otel.lake.store.skipped import name_skipped
from entrenar_otel.lake.store.storage import Storage, days, walk
from entrenar_otel.lake.tables.schema import RUNS, RUNS_WITH_DAY, Owner, conform
from entrenar_otel.recording.header import is_day, is_process_name
from entrenar_otel.redact import arguments_without_secrets, redacted, settings_without_secrets

RUNNING, COMPLETED, STOPPED, CRASHED = "running", "completed", "stopped", "crashed"
STATES = (RUNNING, COMPLETED, STOPPED, CRASHED)
#: Of a run that says `running` when neither its life nor its death is seen; in no record.
UNKNOWN = "unknown"
#: In place of a live folder in the record of a run that a sink has heard of: nothing can lie below it.
ELSEWHERE = "/dev/null"
#: Version of the record's format; one without is 1. A later one is left alone. In 1 the day was a column
#: beside the key of the folder, of the same name, which pandas and pyarrow refuse.
FORMAT = 2
_NAME = re.compile(r"runs/day=([\d-]{10})/run=[^/]{1,255}/attempt-(\d{4,10})-rank-(\d{5,10})\.parquet")
#: A record holds a configuration and a command line: a larger file is not one of ours.
_MAX_RECORD_BYTES = 64 << 20


def record_name(day: str, run_id: str, attempt: int, rank: int) -> str:
    """The file of a run's record in the lake."""
    return f"{run_folder('runs', day, run_id)}/attempt-{attempt:04d}-rank-{rank:05d}.parquet"


def attempt_in(name: str) -> int:
    """The attempt that a record is of, by its name; 0 where it is no name of a record."""
    return 0 if (parsed := _NAME.fullmatch(name)) is None else int(parsed[2])


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
    #: Version of the record's format (docs/architecture.md, "Versions").
    format: int = FORMAT

    @property
    def owner(self) -> Owner:
        return Owner(self.run_id, self.attempt, self.rank)

    @property
    def name(self) -> str:
        return record_name(self.day, self.run_id, self.attempt, self.rank)

    @property
    def is_claimed(self) -> bool:
        """Whether the lake knows of it: an attempt has a number from 1 on."""
        return self.attempt > 0

    def ended(self, state: str, at: datetime, reason: str | None = None, dropped: int = 0) -> RunRecord:
        return replace(self, state=state, ended_at=at, reason=reason and redacted(reason), dropped=dropped)


def describe_config(config: Any) -> tuple[str, str]:
    """The configuration as canonical JSON without secrets, and the hash of that (SHA-256, 16 digits).

    So the hash of a configuration without secrets is the one that it always had, a new key is no new
    configuration, and nobody can try passwords by it.
    """
    text = json.dumps(settings_without_secrets(json_config(config)), sort_keys=True)
    return text, hashlib.sha256(text.encode()).hexdigest()[:16]


def config_group(config_text: str) -> str:
    """The hash of a configuration without the keys of its seeds: runs that differ by chance only share it.

    Takes the JSON text of `describe_config`. Of runs without seeds it is the configuration's own hash.

    >>> config_group('{"lr": 0.1, "seed": 1}') == config_group('{"data": {"split_seed": 7}, "lr": 0.1}')
    False
    >>> config_group('{"lr": 0.1, "seed": 1}') == config_group('{"lr": 0.1, "seed": 2}')
    True
    """
    text = json.dumps(without_seeds(json.loads(config_text)), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_seeds(config: Any) -> Any:
    """A configuration without `seed`, `random_seed`, `random_state` and `…_seed`, at any depth.

    >>> without_seeds({"lr": 0.1, "seed": 3, "data": {"shuffle_seed": 1, "size": 5}})
    {'lr': 0.1, 'data': {'size': 5}}
    """
    if isinstance(config, list):
        return [without_seeds(item) for item in config]
    if not isinstance(config, dict):
        return config
    return {key: without_seeds(value) for key, value in config.items() if not is_seed(key)}


def is_seed(key: str) -> bool:
    """Whether a setting of this name is a seed.

    >>> [is_seed(name) for name in ("seed", "data-seed", "PYTHONHASHSEED", "random_state", "seeds")]
    [True, True, True, True, False]
    """
    word = key.lower().replace("-", "_")
    return word.endswith(("_seed", "hashseed")) or word in ("seed", "random_state")


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
    """The record of this process, as attempt 0: `claim` finds its number."""
    text, digest = describe_config(config)
    return RunRecord(
        run_id=run_id,
        attempt=0,
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
        argv=[_utf8(argument) for argument in arguments_without_secrets(sys.argv)],
        host=socket.gethostname(),
        pid=os.getpid(),
        python=platform.python_version(),
    )


def _utf8(text: str) -> str:
    """The text as Arrow takes it: an argument of bytes that are not UTF-8 has lone surrogates."""
    return text.encode(errors="replace").decode()


_git_commits: dict[str, str | None] = {}
#: For all that git is asked.
_GIT_SECONDS = 5.0


def git_commit() -> str | None:
    """The commit checked out in the working folder (`+` if changed), or None; asked once per folder."""
    try:
        folder = os.getcwd()
    except OSError:
        return None
    if folder not in _git_commits:
        # A command never seems to end where another thread forked as it began (the child has its pipes), or
        # where the file system hangs.
        asked = Promise("entrenar-git", _ask_git)
        _git_commits[folder] = asked.result() if asked.wait(_GIT_SECONDS) else None
    return _git_commits[folder]


def _ask_git() -> str | None:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
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
    storage.write(record.name, RUNS, record_row(record).to_batches(), exclusive=exclusive)


def claim(storage: Storage, record: RunRecord) -> RunRecord:
    """Write the start of the next attempt of this run and rank, and return its record.

    A process has one: where an earlier try seemed to fail and arrived nevertheless, or recovery claims for a
    process that died in between, it is that one.
    """
    last = 0
    while True:
        last = max(last, _last_attempt(storage, record.run_id, record.rank)) + 1
        # Again after each failure, and after the numbers were looked up: of two that claim for one dead
        # process, the second finds the first's, whenever that came, or has the same number in mind.
        if (own := _claimed_by(storage, record.run_id, record.rank, record.process)) is not None:
            return own
        record = replace(record, attempt=last)
        with contextlib.suppress(FileExistsError):  # another process's, or something odd of that name
            write_record(storage, record, exclusive=True)
            return record


def attempt_of(storage: Storage, run_id: str, rank: int, process: str) -> int:
    """The attempt that this process has claimed, or else would get now."""
    own = _claimed_by(storage, run_id, rank, process)
    return _last_attempt(storage, run_id, rank) + 1 if own is None else own.attempt


def _claimed_by(storage: Storage, run_id: str, rank: int, process: str) -> RunRecord | None:
    records = find_records(storage, run_id) if process else []
    return next((record for record in records if (record.rank, record.process) == (rank, process)), None)


def _last_attempt(storage: Storage, run_id: str, rank: int) -> int:
    """The number of the last attempt, by the records' names: one that cannot be read is taken, too."""
    matches = [_NAME.fullmatch(name) for name in record_names(storage, run_id)]
    return max((int(match[2]) for match in matches if match is not None and int(match[3]) == rank), default=0)


def find_records(storage: Storage, run_id: str | None = None) -> list[RunRecord]:
    """The records of all runs, or of one, oldest first."""
    readings = (read_record(storage, name) for name in record_names(storage, run_id))
    records = [record for record in readings if record is not None]
    return sorted(records, key=lambda r: (r.started_at, r.run_id, r.attempt, r.rank))


def record_names(storage: Storage, run_id: str | None, since: str = "") -> Iterator[str]:
    """The names of the records of all runs, or of one; with `since` those of a day, or later, alone."""
    if run_id is None:
        places = walk(storage, "runs")
    else:  # a day may have thousands of others
        places = ((day, encode_run(run_id)) for day in days(storage, "runs") if day >= since)
    for day, run in places:
        folder = f"runs/day={day}/run={run}"
        for base in storage.list(folder):
            if base.endswith(".parquet"):
                yield f"{folder}/{base}"


def read_record(storage: Storage, name: str) -> RunRecord | None:
    """One record, or None if it is gone, is none or is of a later version; the latter two are named.

    Raises LakeError where the lake does not answer.
    """
    if (parsed := _NAME.fullmatch(name)) is None:
        return None
    where = storage.location(name)
    try:
        data = storage.read_bytes(name, _MAX_RECORD_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        if not storage.is_local:
            raise LakeError(f"the run record {where} cannot be read: {error}") from None
        name_skipped(where, f"the run record {where} cannot be read and is left out: {error.strerror}")
        return None
    try:
        # Without threads: one of Arrow's that lets go of Python's bytes last aborts a process that ends then.
        with pq.ParquetFile(pa.BufferReader(data), pre_buffer=False) as file:
            if file.metadata.num_rows != 1:
                raise ValueError(f"expected one row, found {file.metadata.num_rows}")
            table = file.read(use_threads=False)
            (row,) = conform(table, RUNS).to_pylist()
        row["day"] = table["day"][0].as_py() if "day" in table.column_names else parsed[1]
        if (row["format"] or 1) > FORMAT:
            name_skipped(
                where,
                f"the run record {where} was written by a later version of entrenar-otel (format "
                f"{row['format']}; this one reads {FORMAT}) and is left alone: update entrenar-otel",
            )
            return None
        return _checked(row, name)
    except Exception as error:  # untrusted: whatever it is, it is the file's fault
        name_skipped(where, f"the run record {where} is damaged or not ours, and is left out: {error}")
        return None


_KINDS: dict[str, type] = {"str": str, "int": int, "datetime": datetime, "list[str]": list}


def _checked(row: dict[str, Any], name: str) -> RunRecord:
    """The record of a row, where it is what we would have written under this name. Raises ValueError."""
    given: dict[str, Any] = {"world_size": 1, "config": "{}", "config_hash": ""}  # an old one may be without
    for column in fields(RunRecord):
        value, kind = row[column.name], _KINDS[str(column.type).removesuffix(" | None")]
        if value is not None:
            if type(value) is not kind:
                raise ValueError(f"{column.name} is {describe(value)}")
            given[column.name] = value
    record = RunRecord(**given)
    json.loads(record.config)
    if record.name != name or not is_day(record.day):
        raise ValueError(f"it says that it is {record.name}")
    if record.process and not is_process_name(record.process):
        raise ValueError(f"process is {describe(record.process)}")
    if record.state not in STATES:
        raise ValueError(f"state is {describe(record.state)}")
    return record


def document_of(record: RunRecord) -> dict[str, Any]:
    """A record as JSON: the statement of a process that has claimed no attempt yet."""
    return asdict(record) | {"started_at": record.started_at.isoformat(), "ended_at": None}


def record_from(document: Any) -> RunRecord | None:
    """What `document_of` made, or None: whatever lies in a folder may have been put there by anybody."""
    try:
        given = {name: value for name, value in document.items() if name in RunRecord.__dataclass_fields__}
        started = datetime.fromisoformat(given["started_at"])
        record = RunRecord(**{**given, "started_at": started, "attempt": 0})
        (row,) = records_table([record]).to_pylist()
        return _checked(row, record.name)
    except (AttributeError, KeyError, TypeError, ValueError, pa.ArrowException):
        return None


def record_row(record: RunRecord) -> pa.Table:
    """The record as it is written, a table of one row; its day is in its name."""
    return pa.Table.from_pylist([asdict(record) | {"format": FORMAT}], schema=RUNS)


def records_table(records: list[RunRecord]) -> pa.Table:
    """The records as a table, each with its day."""
    return pa.Table.from_pylist([asdict(record) for record in records], schema=RUNS_WITH_DAY)
