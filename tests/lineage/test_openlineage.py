"""OpenLineage: what openlineage-python's own classes serialise, for runs that ended in each way."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attr
import pytest
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import RunFacet, dataset_version_dataset, error_message_run
from openlineage.client.serde import Serde

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.errors import LineageError
from entrenar_otel.lineage import Lineage
from entrenar_otel.lineage.openlineage import PRODUCER, events_of, run_uuid
from entrenar_otel.testing import recorded_run


@attr.define
class ModelVersion(RunFacet):
    modelId: str
    version: str
    trainingRunId: str
    configHash: str
    gitCommit: str | None
    parents: list[dict[str, Any]]


@attr.define
class Metrics(RunFacet):
    metrics: dict[str, float]


@pytest.fixture
def events(start: Callable[..., Monitor]) -> list[dict[str, Any]]:
    """Of a run that completed, one that was stopped, one that crashed, and none of one that goes on."""
    with start("r1", model_id="digits", version="1.0.0") as monitor:
        monitor.log(accuracy=0.9)
    monitor = start("r2", model_id="digits", version="1.1.0", parents=["digits@1.0.0"], change="more_data")
    assert recorded_run(monitor).version.wait(100)
    with pytest.raises(AndonStop):
        monitor.log(loss=math.nan)
    monitor.close()
    start("r3", model_id="digits", version="1.2.0").close("crashed", "ValueError: boom")
    start("r4", model_id="digits", version="1.3.0")
    start("r5").close()
    return list(events_of(Lineage.open("lake"), "digits"))


def test_as_their_own_classes_say_it(events: list[dict[str, Any]]) -> None:
    completed, stopped, crashed = events
    assert [event["eventType"] for event in events] == ["COMPLETE", "ABORT", "FAIL"]
    for event, run_id in zip(events, ("r1", "r2", "r3"), strict=True):
        known = event["run"]["facets"]["entrenar_modelVersion"]
        facets: dict[str, RunFacet] = {
            "entrenar_modelVersion": ModelVersion(
                modelId="digits",
                version=known["version"],
                trainingRunId=run_id,
                configHash=known["configHash"],
                gitCommit=known.get("gitCommit"),
                parents=[{"version": "digits@1.0.0", "changeType": "more_data"}] if event is stopped else [],
                producer=PRODUCER,
            )
        }
        if event is completed:
            numbers = {"accuracy": 0.9}
            facets["entrenar_metrics"] = Metrics(metrics=numbers, producer=PRODUCER)
        if event is crashed:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
                message="ValueError: boom",
                programmingLanguage="PYTHON",
                producer=PRODUCER,
            )
        theirs = RunEvent(
            eventTime=event["eventTime"],
            producer=PRODUCER,
            eventType=RunState(event["eventType"]),
            run=Run(run_uuid(run_id), facets),
            job=Job("entrenar", "digits"),
            inputs=[InputDataset("entrenar", "digits", facets=_version("1.0.0"))] if event is stopped else [],
            outputs=[]
            if event is crashed
            else [OutputDataset("entrenar", "digits", facets=_version(known["version"]))],
        )
        assert event == Serde.to_dict(theirs)


def _version(version: str) -> dict[str, Any]:
    make: Any = dataset_version_dataset.DatasetVersionDatasetFacet
    return {"version": make(datasetVersion=version, producer=PRODUCER)}


def test_of_an_unknown_model(events: list[dict[str, Any]]) -> None:
    with pytest.raises(LineageError, match="no versions of a model 'nope'"):
        list(events_of(Lineage.open("lake"), "nope"))
