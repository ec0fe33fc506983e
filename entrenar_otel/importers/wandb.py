"""W&B: offline runs, read from their files; no account is needed, and nothing is asked of a server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from entrenar_processors.extras import require_library

from entrenar_otel.errors import ConfigError
from entrenar_otel.importers.foreign_run import ForeignRun, Watcher, epoch_in, unwatched
from entrenar_otel.lake.records.runs import COMPLETED, CRASHED, STOPPED

SOURCE = "wandb"
#: Of a history row: coordinates, and what W&B measures itself.
_STEP, _TIMESTAMP = "_step", "_timestamp"
_OWN = frozenset([_STEP, _TIMESTAMP, "_runtime", "_wandb"])


def find_runs(folder: str) -> Iterator[Callable[[Watcher], ForeignRun]]:
    """What reads each run below a folder (`wandb/`), or that of one `.wandb` file.

    Raises MissingExtra without W&B, ConfigError where there is no such file.
    """
    require_library(SOURCE, f"importing from {SOURCE}")
    root = Path(folder)
    found = [root] if root.is_file() else sorted(root.rglob("*.wandb"))
    files = list(dict.fromkeys(path.resolve() for path in found))  # `latest-run` is a link to one of them
    if not files:
        raise ConfigError(f"{root} has no runs of W&B (*.wandb): name the folder `wandb`, or one such file")
    for file in files:
        yield partial(_read, file)


def _read(path: Path, watch: Watcher = unwatched) -> ForeignRun:
    from entrenar_otel.importers.wandb_log import read_records

    run = ForeignRun(SOURCE, path.stem, path.stem)
    run.state, run.reason = STOPPED, "its file has no end: it was killed, or was running when it was imported"
    step = -1
    last_ns = 0
    for record in read_records(path, watch):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            _describe(run, record.run)
        elif kind == "history":
            step, last_ns = _add_row(run, record.history, step, last_ns)
        elif kind == "config":
            _configure(run, record.config)
        elif kind == "environment":
            _surroundings(run, record.environment)
        elif kind == "stats":
            _add_stats(run, record.stats)
        elif kind == "exit":
            code = record.exit.exit_code
            run.state, run.reason = (COMPLETED, None) if code == 0 else (CRASHED, f"exit code {code}")
            if run.started_ns is not None and record.exit.runtime:
                run.ended_ns = run.started_ns + record.exit.runtime * 10**9
        elif kind == "summary":
            _summarise(run, record.summary)
        elif kind in ("artifact", "use_artifact"):
            run.left_out["artifacts"] += 1
        elif kind in ("output", "output_raw", "output_logger"):
            run.left_out["lines of output"] += 1
        elif kind == "alert":
            run.left_out["alerts"] += 1
        elif kind == "files":
            run.left_out["files"] += len(record.files.files)
    _forget_last_values(run)
    return run


def _describe(run: ForeignRun, record: Any) -> None:
    run.source_id = "/".join((record.entity, record.project, record.run_id))
    run.name = record.display_name or record.run_id or run.name
    run.host = record.host or run.host
    if record.HasField("start_time"):
        run.started_ns = record.start_time.ToNanoseconds()
    run.git_commit = record.git.commit or run.git_commit
    _configure(run, record.config)
    run.labels |= {
        "project": record.project,
        "group": record.run_group,
        "job_type": record.job_type,
        "tags": list(record.tags),
        "notes": record.notes,
    }


def _configure(run: ForeignRun, record: Any) -> None:
    for item in record.update:
        path = list(item.nested_key) or [item.key]
        if path[0] != "_wandb":
            _put(run.config, path, _json(item.value_json))
    for item in record.remove:
        run.config.pop(item.key, None)


def _put(table: dict[str, Any], path: list[str], value: Any) -> None:
    *outer, last = path
    for key in outer:
        if not isinstance(table.get(key), dict):
            table[key] = {}
        table = table[key]
    table[last] = value


def _summarise(run: ForeignRun, record: Any) -> None:
    """What a program says of the run as a whole, among the last values of all that was logged."""
    summary = run.labels.setdefault("summary", {})
    for item in record.update:
        path = list(item.nested_key) or [item.key]
        if path[0] not in _OWN:
            _put(summary, path, _json(item.value_json))


def _forget_last_values(run: ForeignRun) -> None:
    """Of the summary, keep what no row of the history had."""
    summary = run.labels.get("summary", {})
    for name in [name for name in summary if name in run.names]:
        del summary[name]


def _surroundings(run: ForeignRun, record: Any) -> None:
    run.host = record.host or run.host
    run.python = record.python or run.python
    run.git_commit = record.git.commit or run.git_commit
    run.argv = [record.program, *record.args] if record.program else run.argv


def _add_row(run: ForeignRun, record: Any, step: int, last_ns: int) -> tuple[int, int]:
    """Add a row of history; returns its step and its time."""
    row: dict[str, Any] = {}
    for item in record.item:
        _put(row, list(item.nested_key) or [item.key], _json(item.value_json))
    step = record.step.num if record.HasField("step") else int(row.get(_STEP, step + 1))
    seconds = row.get(_TIMESTAMP)
    time_ns = round(seconds * 1e6) * 1000 if isinstance(seconds, int | float) else last_ns
    epoch = epoch_in(row)
    for name, value in row.items():
        if name not in _OWN:
            run.add(name, value, time_ns=time_ns, step=step, epoch=epoch)
    return step, time_ns


def _add_stats(run: ForeignRun, record: Any) -> None:
    """What W&B has measured of the machine, under names of its own."""
    time_ns = record.timestamp.ToNanoseconds()
    for item in record.item:
        run.add(f"system/{item.key}", _json(item.value_json), time_ns=time_ns, step=None, epoch=None)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
