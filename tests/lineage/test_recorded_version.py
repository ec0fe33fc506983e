"""Recorded version: a run's span says what it made, from what, and how good it is."""

from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lineage.recorded_version import MAX_METRICS, MAX_PARENTS
from entrenar_otel.testing import recorded_run

Start = Callable[..., Monitor]


def versions() -> list[dict[str, Any]]:
    rows = Lake("lake").query("SELECT * FROM lineage ORDER BY created_at").to_pylist()
    return [row | {"metrics": dict(row["metrics"])} for row in rows]


def parents_of(row: dict[str, Any]) -> list[tuple[str, str | None]]:
    return sorted((parent["parent_id"], parent["change_type"]) for parent in row["parents"])


def spans(name: str) -> list[dict[str, Any]]:
    return Lake("lake").query("SELECT * FROM spans WHERE name = ? ORDER BY start_time", [name]).to_pylist()  # type: ignore[no-any-return]


def make(start: Start, run_id: str, version: str | None, *, accuracy: float = 0.9, **given: Any) -> Monitor:
    monitor = start(run_id, model_id="digits", version=version, **given)
    monitor.log(accuracy=accuracy)
    if monitor.rank == 0:
        assert recorded_run(monitor).version.wait(100)
    monitor.close()
    return monitor


def test_linked_spans(start: Start) -> None:
    """A span below the run's, linked to the parents' contexts, with what was changed on the link."""
    make(start, "r1", "1.0.0")
    make(start, "r2", "1.1.0", parents=["digits@1.0.0"], change="more_data", config={"lr": 0.1})
    first, second = versions()
    assert (first["accuracy"], first["state"], first["parents"]) == (0.9, "completed", [])
    assert parents_of(second) == [("digits@1.0.0", "more_data")]
    ((_, span), (run, _)) = (spans("model.version"), spans("training.run"))
    (link,) = span["links"]
    assert (link["trace_id"], link["span_id"]) == (first["trace_id"], first["span_id"])
    assert dict(link["attributes"]) == {"model.parent": "digits@1.0.0", "change_type": "more_data"}
    assert first["parent_span_id"] == run["span_id"]
    (event,) = (
        Lake("lake").query("SELECT * FROM events WHERE name = 'model.version' AND run_id = 'r2'").to_pylist()
    )
    assert dict(event["attributes"]) == dict(span["attributes"])
    assert dict(event["attributes"])["model.parents"] == '["digits@1.0.0"]'


def test_without_a_model_or_by_another_rank_there_is_none(start: Start) -> None:
    start("r1").close()
    make(start, "r2", "1.0.0", rank=1, world_size=2)
    assert versions() == []


def test_without_a_version_it_is_the_run(start: Start) -> None:
    make(start, "r1", None)
    assert [row["version"] for row in versions()] == ["r1"]


def test_a_crashed_run_makes_none_and_a_stopped_one_does(start: Start) -> None:
    monitor = start("r1", model_id="digits", version="1.0.0")
    monitor.log(accuracy=0.5)
    monitor.close("crashed", "boom")
    monitor = start("r2", model_id="digits", version="1.0.1")
    with pytest.raises(AndonStop):
        monitor.log(loss=math.nan)
    monitor.close()
    make(start, "r3", "1.1.0", parents=["digits@1.0.0"])
    assert [(row["version"], row["state"]) for row in versions()] == [
        ("1.0.1", "stopped"),
        ("1.1.0", "completed"),
    ]


def test_a_resumed_attempt_is_the_same(start: Start) -> None:
    make(start, "r1", "1.0.0", accuracy=0.5)
    make(start, "r1", "1.0.0", accuracy=0.6)
    assert [(row["attempt"], row["accuracy"]) for row in versions()] == [(2, 0.6)]


def test_accuracy_by_any_name_and_split(start: Start) -> None:
    """The last finite one, the validation's first; by hand it wins, and NaN says that there is none."""
    monitor = start("r1", model_id="m", version="1")
    for value in (0.5, 0.6, math.nan):
        monitor.log({"val_acc": value, "accuracy": 0.99})
    monitor.close()
    monitor = start("r2", model_id="m", version="2")
    monitor.log({"acc": math.inf, "train/accuracy": 0.7, "loss": 0.1})
    monitor.close()
    for run_id, version, by_hand in (("r3", "3", 0.25), ("r4", "4", math.nan)):
        monitor = start(run_id, model_id="m", version=version)
        monitor.log(accuracy=0.9)
        monitor.describe_model(accuracy=by_hand, latency=0.1, size=math.nan)
        monitor.close()
    rows = versions()
    assert [row["accuracy"] for row in rows] == [0.6, 0.7, 0.25, None]
    assert rows[0]["metrics"] == {"val_acc": 0.6, "accuracy": 0.99}
    assert rows[1]["metrics"] == {"train/accuracy": 0.7, "loss": 0.1}
    assert rows[3]["metrics"] == {"latency": 0.1, "accuracy": 0.9}


def test_many_metrics(start: Start) -> None:
    """As many as are told apart: those of the validation, accuracy and loss first."""
    monitor = start("r1", model_id="m", version="1")
    monitor.log({f"m{number:04d}": 1.0 for number in range(3_000)} | {"loss": 2.0, "val/loss": 3.0})
    monitor.close()
    (row,) = versions()
    assert len(row["metrics"]) == MAX_METRICS
    assert {"val/loss", "loss", "m0000"} <= row["metrics"].keys()


def test_a_checkpoint_with_a_sidecar_is_a_parent(start: Start) -> None:
    """Its run's span is linked where the lake is another one, and its version where it is this one."""
    monitor = start("r1", model_id="digits", version="1.0.0", lake="other")
    monitor.log(accuracy=0.5, epoch=3, step=7)
    assert monitor.save_sidecar("model.pt") == Path("model.pt.entrenar.json")
    monitor.close()
    (run,) = Lake("other").query("SELECT * FROM spans WHERE name = 'training.run'").to_pylist()
    make(start, "r2", "1.1.0", parents=[Path("model.pt")])
    (row,) = versions()
    (parent,) = row["parents"]
    assert (parent["parent_id"], parent["change_type"]) == ("digits@1.0.0", None)
    assert (parent["trace_id"], parent["span_id"]) == (run["trace_id"], run["span_id"])


def test_what_cannot_be_a_parent_costs_nothing(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    given: Any = ["digits", Path("no.pt"), 5, "", ".", "/", "a\0b@1", "digits@1.0.0", "other@7"]
    make(start, "r1", "1.0.0", parents=given)
    (row,) = versions()
    assert parents_of(row) == [("other@7", None)]
    told = "\n".join(caplog.messages)
    for words in (
        "expected MODEL@VERSION, such as digits@1.2.0, got 'digits'",
        "no.pt has no sidecar",
        "expected a parent as MODEL@VERSION or a checkpoint's path, got 5",
        "digits@1.0.0 cannot be its own parent",
        "the parent other@7 is not in",
    ):
        assert words in told


def test_one_parent_alone_and_many(start: Start) -> None:
    make(start, "r1", "1.0.0", parents="digits@0.9")
    monitor = start("r2", model_id="digits", version="1.1.0", parents=[f"p@{n}" for n in range(150)])
    monitor.close()
    first, second = versions()
    assert parents_of(first) == [("digits@0.9", None)]
    assert len(second["parents"]) == MAX_PARENTS


def test_a_parent_named_again_has_the_later_change(start: Start) -> None:
    monitor = start("r1", model_id="digits", version="1.0.0", parents=["digits@0.9"], change="data")
    monitor.add_parent("digits@0.9", "arch")
    monitor.close()
    assert [parents_of(row) for row in versions()] == [[("digits@0.9", "arch")]]


def test_a_parent_named_while_the_run_goes_on_is_found(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a checkpoint that a framework resumes from, also while the first question is open."""
    caplog.set_level(logging.WARNING)
    make(start, "r1", "1.0.0")
    for number, waits in enumerate((True, False)):
        monitor = start(f"r{number + 2}", model_id="digits", version=f"1.{number + 1}.0")
        version: Any = monitor._run.version
        if waits:
            assert version.wait(60)
        monitor.add_parent("digits@1.0.0", "resume")
        assert version.wait(60)
        monitor.close()
    first, *others = versions()
    for row in others:
        (parent,) = row["parents"]
        assert (parent["parent_id"], parent["change_type"]) == ("digits@1.0.0", "resume")
        assert (parent["trace_id"], parent["span_id"]) == (first["trace_id"], first["span_id"])
    assert "is not in" not in caplog.text


def test_two_configurations_of_one_version_are_named(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """The run goes on; one that differs by its seed only is the same configuration."""
    caplog.set_level(logging.WARNING)
    make(start, "r1", "1.0.0", config={"lr": 0.1, "seed": 1})
    make(start, "r2", "1.0.0", config={"lr": 0.1, "seed": 2})
    assert "with another configuration" not in caplog.text
    make(start, "r3", "1.0.0", config={"lr": 0.2, "seed": 1})
    assert "digits@1.0.0 was made by run r1 with another configuration" in caplog.text
    assert len(versions()) == 3


def test_a_sidecar_that_cannot_be_written(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    monitor = start("r1", model_id="digits", version="1.0.0")
    assert monitor.save_sidecar("missing/folder/model.pt") is None
    assert "no sidecar for 'missing/folder/model.pt'" in caplog.text
    monitor.close()
    monitor = start("r2")
    assert monitor.save_sidecar("model.pt") is None
    assert "give Monitor a model_id" in caplog.text
    monitor.close()


def test_odd_measurements_by_hand(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    monitor = start("r1", model_id="digits", version="1.0.0")
    odd: Any = "fast"
    monitor.describe_model(accuracy=odd, latency=odd, size=3)
    monitor.close()
    (row,) = versions()
    assert (row["accuracy"], row["metrics"]) == (None, {"size": 3.0})
    assert "latency of the model: expected a number, got 'fast'" in caplog.text


def test_a_disabled_monitor_makes_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTRENAR_DISABLED", "1")
    with Monitor(model_id="digits", version="1.0.0", parents=["digits@0.9"]) as monitor:
        monitor.add_parent("digits@0.8")
        monitor.describe_model(accuracy=0.5)
        assert monitor.save_sidecar("model.pt") is None
    assert not Path("model.pt.entrenar.json").exists()


def test_whatever_the_sampler_of_others(tmp_path: Path) -> None:
    """The environment's sampler switches users' spans off, not these."""
    program = """
from entrenar_otel import Monitor
for version, parents in (("1.0.0", []), ("1.1.0", ["digits@1.0.0"])):
    with Monitor(model_id="digits", version=version, parents=parents, lake="lake") as monitor:
        monitor.log(accuracy=0.5)
"""
    environ = {**os.environ, "OTEL_TRACES_SAMPLER": "always_off"}
    subprocess.run([sys.executable, "-c", program], env=environ, check=True)
    assert [(row["version"], len(row["parents"])) for row in versions()] == [("1.0.0", 0), ("1.1.0", 1)]
