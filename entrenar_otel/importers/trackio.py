"""Trackio: its local projects, read with its own storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

from entrenar_processors.extras import require_library

from entrenar_otel.errors import ConfigError
from entrenar_otel.importers.foreign_run import ForeignRun, Watcher, epoch_in, unwatched

SOURCE = "trackio"
#: Between two looks at how far it is.
_ROWS = 1000
_TIME, _STEP = "timestamp", "step"


def find_runs(project: str | None = None) -> Iterator[Callable[[Watcher], ForeignRun]]:
    """What reads each run of a project, or of all projects of this machine (`TRACKIO_DIR`).

    Raises MissingExtra without Trackio, ConfigError where there is no such project.
    """
    require_library(SOURCE, f"importing from {SOURCE}")
    from trackio.sqlite_storage import SQLiteStorage
    from trackio.utils import TRACKIO_DIR

    known = SQLiteStorage.get_projects()
    if project is not None and project not in known:
        there = ", ".join(sorted(known)[:20]) or "none"
        raise ConfigError(f"Trackio has no project {project!r} in {TRACKIO_DIR}; there are: {there}")
    chosen = sorted(known) if project is None else [project]
    if not chosen:
        raise ConfigError(f"Trackio has no projects in {TRACKIO_DIR}; another folder is named by TRACKIO_DIR")
    for name in chosen:
        for record in SQLiteStorage.get_run_records(name):
            yield partial(_read, name, record)


def _read(project: str, record: dict[str, Any], watch: Watcher = unwatched) -> ForeignRun:
    from trackio.sqlite_storage import SQLiteStorage

    name, run_id = str(record.get("name") or record.get("run_id")), record.get("run_id")
    run = ForeignRun(SOURCE, f"{project}/{run_id or name}", name)
    run.labels["project"] = project
    config = SQLiteStorage.get_run_config(project, name, run_id=run_id) or {}
    run.config = {key: value for key, value in config.items() if not key.startswith("_")}
    if (created := config.get("_Created")) is not None:
        run.started_ns = _time(created)
    if group := config.get("_Group"):
        run.labels["group"] = group
    rows = SQLiteStorage.get_logs(project, name, run_id=run_id)
    for number, row in enumerate(rows):
        if number % _ROWS == 0:
            watch(number / len(rows))
        _add(run, row, "")
    for row in SQLiteStorage.get_system_logs(project, name, run_id=run_id):
        _add(run, row, "system/")
    alerts = SQLiteStorage.get_alerts(project, run_name=name)
    if alerts:
        run.left_out["alerts"] += len(alerts)
    return run


def _add(run: ForeignRun, row: dict[str, Any], prefix: str) -> None:
    time_ns, step, epoch = _time(row.get(_TIME)), row.get(_STEP), epoch_in(row)
    for name, value in row.items():
        if name not in (_TIME, _STEP):
            run.add(f"{prefix}{name}", value, time_ns=time_ns, step=step, epoch=epoch)


def _time(value: Any) -> int:
    """An ISO 8601 text, in UTC where it says nothing else, in nanoseconds; 0 for what is none."""
    try:
        time = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return 0
    time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    since = time - datetime(1970, 1, 1, tzinfo=UTC)
    return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1000
