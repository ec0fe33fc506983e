"""MLflow: values are those that its own client gives, of a database that it wrote."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Lake
from entrenar_otel.importers.mlflow import address_of
from tests.conftest import Answer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import mlflow
    from mlflow.tracking import MlflowClient

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a database with one run that ended, one that failed and one that goes on."""
    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(uri)
    experiment = client.create_experiment("digits", artifact_location=(folder / "artifacts").as_uri())
    for name, state in (("first run", "FINISHED"), ("second", "FAILED"), ("third", None)):
        run_id = client.create_run(experiment, run_name=name, tags={"team": "x"}).info.run_id
        client.log_param(run_id, "lr", 0.1)
        client.log_param(run_id, "optimizer", "adam")
        for step in range(1100 if state == "FINISHED" else 3):
            client.log_metric(run_id, "loss", 1 / (step + 1), timestamp=1_700_000_000_000 + step, step=step)
        client.log_metric(run_id, "other", float("nan"), timestamp=1_700_000_000_000, step=1)
        client.log_text(run_id, "x", "notes/a.txt")
        if state is not None:
            client.set_terminated(run_id, state)
    yield uri
    mlflow.set_tracking_uri(None)


def test_curves_are_those_of_its_own_client(
    database: str, cli: Callable[..., Answer], curve: Callable[..., list[Any]]
) -> None:
    answer = cli("import", "mlflow", database)
    assert answer.code == 0, answer.err
    assert "3 runs of mlflow, 1,109 values" in answer.out
    assert "3 × artifacts" in answer.out
    client = MlflowClient(database)
    (found,) = client.search_runs(["1"], "attributes.run_name = 'first run'")
    theirs = [
        (m.step, m.timestamp * 1000, m.value) for m in client.get_metric_history(found.info.run_id, "loss")
    ]
    assert curve("loss", "mlflow-first-run-%") == sorted(theirs)
    assert len(theirs) == 1100
    records = Lake("lake").query("SELECT state, reason, config FROM runs ORDER BY run_id").to_pylist()
    assert [(record["state"], record["reason"]) for record in records] == [
        ("completed", None),
        ("crashed", "failed"),
        ("stopped", "was running when it was imported"),
    ]
    assert json.loads(records[0]["config"]) == {"lr": 0.1, "optimizer": "adam"}
    assert "3 there already" in cli("import", "mlflow", database).out


def test_a_dry_run_of_it_writes_nothing(database: str, cli: Callable[..., Answer]) -> None:
    answer = cli("import", "mlflow", database, "--dry-run")
    assert "would be in" in answer.out
    assert not Path("lake").exists()


def test_a_server_that_does_not_answer(cli: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    answer = cli("import", "mlflow", "http://127.0.0.1:9")
    assert answer.code == 2
    assert answer.err.startswith("error: mlflow cannot read http://127.0.0.1:9: ")


def test_a_place_by_its_path(database: str, tmp_path: Path, cli: Callable[..., Answer]) -> None:
    """A database's file and an old folder need no URI; what is not there is said with what may be named."""
    assert "3 runs of mlflow" in cli("import", "mlflow", database.removeprefix("sqlite:///"), "--dry-run").out
    folder = tmp_path / "mlruns"
    folder.mkdir()
    assert "0 runs of mlflow" in cli("import", "mlflow", str(folder), "--dry-run").out
    none = cli("import", "mlflow", "nothing.db")
    assert (none.code, none.err.startswith("error: nothing.db is not there: name a tracking server")) == (
        2,
        True,
    )


@pytest.mark.parametrize("place", ["http://127.0.0.1:5000", "databricks", "databricks-uc", "sqlite:///x.db"])
def test_an_address_is_left_as_it_is(place: str) -> None:
    assert address_of(place) == place
