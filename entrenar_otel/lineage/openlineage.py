"""OpenLineage: one event per run that has ended, as <https://openlineage.io> defines them.

A run is a run of the job that its model is; the versions that it started from are its inputs, the one that it
made is its output. A model's ancestors are no parents in OpenLineage's sense, which are the runs that started
this one: they are inputs, and a facet of our own names them with what was changed.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from entrenar_processors.plain import plain

from entrenar_otel._version import __version__
from entrenar_otel.compare.side import version_of
from entrenar_otel.lake.overview import runs_of
from entrenar_otel.lake.records.runs import COMPLETED, CRASHED, STOPPED

if TYPE_CHECKING:
    from entrenar_otel.lineage.lineage import Lineage
    from entrenar_otel.lineage.node import LineageNode

_HOME = "https://github.com/entrenar-otel/entrenar-otel"
PRODUCER = f"{_HOME}/tree/v{__version__}"
NAMESPACE = "entrenar"
_SPECIFICATION = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/"
_FACETS = "https://openlineage.io/spec/facets/1-0-1/"
_EVENTS = {COMPLETED: "COMPLETE", STOPPED: "ABORT", CRASHED: "FAIL"}


def run_uuid(run_id: str) -> str:
    """A run's id as OpenLineage wants it: always the same UUID for the same run (RFC 9562, version 5).

    >>> run_uuid("digits-7")
    '2a5df3ea-65b3-5517-8836-164cfae4584d'
    """
    return str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, _HOME), run_id))


def events_of(
    lineage: Lineage, model: str | None = None, *, namespace: str = NAMESPACE
) -> Iterator[dict[str, Any]]:
    """An event for each run of a model that has ended, oldest first, or for those of all models.

    COMPLETE of a run that completed, ABORT of one that was stopped, FAIL of one that crashed. Raises
    LineageError of a model that is not there, QueryError.
    """
    if model is not None:
        lineage.names(model)
    for run in reversed(runs_of(lineage.lake)):
        if run["model_id"] and run["model_id"] == (model or run["model_id"]) and run["state"] in _EVENTS:
            yield _event(lineage, run, namespace)


def _event(lineage: Lineage, run: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    name = str(version_of(dict(run)))
    node = lineage.graph.node(name) if name in lineage.graph else None
    parents = lineage.graph.parents.get(name, {}) if run["state"] != CRASHED else {}
    facets: dict[str, Any] = {"entrenar_modelVersion": _version_facet(run, node, parents)}
    numbers = {} if node is None else dict(node.metrics)
    if node is not None and node.accuracy is not None:
        numbers["accuracy"] = node.accuracy
    if numbers:
        facets["entrenar_metrics"] = _facet("RunFacet") | {"metrics": plain(numbers)}
    if run["state"] == CRASHED:
        facets["errorMessage"] = {
            "_producer": PRODUCER,
            "_schemaURL": f"{_FACETS}ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet",
            "message": run["reason"] or "crashed",
            "programmingLanguage": "PYTHON",
        }
    made = [name] if run["state"] != CRASHED and node is not None and run["run_id"] in node.run_ids else []
    return {
        "eventTime": _time(run["ended_at"] or run["started_at"]),
        "eventType": _EVENTS[run["state"]],
        "producer": PRODUCER,
        "schemaURL": f"{_SPECIFICATION}RunEvent",
        "run": {"runId": run_uuid(run["run_id"]), "facets": facets},
        "job": {"namespace": namespace, "name": run["model_id"], "facets": {}},
        "inputs": [_dataset(parent, namespace) | {"inputFacets": {}} for parent in parents],
        "outputs": [_dataset(one, namespace) | {"outputFacets": {}} for one in made],
    }


def _facet(kind: str) -> dict[str, Any]:
    """One of our own, whose schema is that of all facets of its kind."""
    return {"_producer": PRODUCER, "_schemaURL": f"{_SPECIFICATION}{kind}"}


def _version_facet(
    run: Mapping[str, Any], node: LineageNode | None, parents: Mapping[str, str | None]
) -> dict[str, Any]:
    known = {
        "modelId": run["model_id"],
        "version": run["version"] or run["run_id"],
        "trainingRunId": run["run_id"],
        "configHash": run["config_hash"],
        "gitCommit": run["git_commit"],
        "parents": [
            {"version": parent} | ({"changeType": change} if change else {})
            for parent, change in parents.items()
        ],
    }
    return _facet("RunFacet") | {key: value for key, value in known.items() if value is not None}


def _dataset(name: str, namespace: str) -> dict[str, Any]:
    """A version of a model as a data set: the model with its version."""
    model_id, _, version = name.rpartition("@")
    facet = {
        "_producer": PRODUCER,
        "_schemaURL": f"{_FACETS}DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet",
        "datasetVersion": version,
    }
    return {"namespace": namespace, "name": model_id, "facets": {"version": facet}}


def _time(value: Any) -> str:
    return value if isinstance(value, str) else str(value.isoformat())
