"""MLflow: the runs of a tracking server, database or folder, asked for with MLflow's own client."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrenar_processors.extras import require_library

from entrenar_otel.errors import ConfigError
from entrenar_otel.importers.foreign_run import ForeignRun, Watcher, unwatched
from entrenar_otel.lake.records.runs import COMPLETED, CRASHED, STOPPED

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

SOURCE = "mlflow"
_STATES = {
    "FINISHED": (COMPLETED, None),
    "FAILED": (CRASHED, "failed"),
    "KILLED": (STOPPED, "killed"),
}
_UNFINISHED = STOPPED, "was running when it was imported"
_PAGE = 1000
_DATABRICKS = "databricks"


def find_runs(uri: str) -> Iterator[Callable[[Watcher], ForeignRun]]:
    """What reads each run of all experiments of a tracking URI, those that were deleted left out.

    Raises MissingExtra without MLflow, ConfigError where nothing is there, and MLflow's own errors where the
    place does not answer.
    """
    require_library(SOURCE, f"importing from {SOURCE}")
    from mlflow.entities import ViewType
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=address_of(uri))
    for experiment in _pages(lambda token: client.search_experiments(page_token=token)):
        ids = [experiment.experiment_id]
        search = partial(client.search_runs, ids, "", ViewType.ACTIVE_ONLY, _PAGE)
        for found in _pages(lambda token: search(page_token=token)):  # noqa: B023 - used within the turn
            yield partial(_read, client, found, experiment.name)


def address_of(place: str) -> str:
    """The tracking URI of a place: of a database's file the one that MLflow wants, all else as it is.

    A folder is only read here, but MLflow opens none unless this is allowed. Raises ConfigError where nothing
    is there.
    """
    if "://" in place or place == _DATABRICKS or place.startswith(f"{_DATABRICKS}-"):
        return place
    path = Path(place.removeprefix("file:"))
    if path.is_dir():
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        return place
    if path.is_file():
        return f"sqlite:///{path.absolute()}"
    raise ConfigError(
        f"{place} is not there: name a tracking server (http://…), a database (mlflow.db) or a folder "
        "(mlruns)"
    )


def _pages(page_of: Callable[[str | None], Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = page_of(token)
        yield from page
        if not (token := page.token):
            return


def _read(client: MlflowClient, found: Any, experiment: str, watch: Watcher = unwatched) -> ForeignRun:
    info, data = found.info, found.data
    run = ForeignRun(SOURCE, info.run_id, info.run_name or info.run_id)
    run.config = {name: _value(text) for name, text in data.params.items()}
    run.state, run.reason = _STATES.get(info.status, _UNFINISHED)
    run.started_ns = info.start_time and info.start_time * 10**6
    run.ended_ns = info.end_time and info.end_time * 10**6
    tags = {key: value for key, value in data.tags.items() if not key.startswith("mlflow.")}
    run.git_commit = data.tags.get("mlflow.source.git.commit")
    if program := data.tags.get("mlflow.source.name"):
        run.argv = [program]
    run.labels |= {"project": experiment, "tags": tags, "notes": data.tags.get("mlflow.note.content")}
    for number, metric in enumerate(sorted(data.metrics)):
        watch(number / len(data.metrics))
        for entry in client.get_metric_history(info.run_id, metric):
            run.add(metric, entry.value, time_ns=entry.timestamp * 10**6, step=entry.step, epoch=None)
    if artifacts := _count_artifacts(client, info.run_id):
        run.left_out["artifacts"] += artifacts
    return run


def _value(text: str) -> Any:
    """A parameter, of which MLflow keeps the text: a number where it is one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"True": True, "False": False, "None": None}.get(text, text)


def _count_artifacts(client: MlflowClient, run_id: str) -> int:
    """Files of a run; 0 where their place does not answer: it is not what is imported."""
    waiting, count = [None], 0
    try:
        while waiting:
            for entry in client.list_artifacts(run_id, waiting.pop()):
                if entry.is_dir:
                    waiting.append(entry.path)
                else:
                    count += 1
    except Exception:  # a bucket without rights, a server that is gone
        return count
    return count
