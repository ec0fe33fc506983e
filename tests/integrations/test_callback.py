"""Training run: what frameworks' callbacks share: which monitor, how it ends, names, forks, copies."""

from __future__ import annotations

import copy
import os
import pickle
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import AndonStop, ConfigError, Monitor
from entrenar_otel.integrations.callback import TrainingRun
from entrenar_otel.integrations.reported import Reported, plain_config
from entrenar_otel.lake import Lake


class Net:
    """A model, as far as its class's name goes."""


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENTRENAR_LIVE", str(tmp_path / "live"))
    monkeypatch.setenv("ENTRENAR_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


def runs(lake: Path) -> list[dict[str, Any]]:
    sql = "SELECT run_id, state, reason, model_id, config FROM runs ORDER BY started_at, run_id"
    return list(Lake(str(lake)).query(sql).to_pylist())


def test_a_run_of_its_own_is_completed(lake: Path) -> None:
    run = TrainingRun(run_id="r", quiet=True)
    run.begin(model=Net(), config={"lr": 0.1, "device": object(), "hub_token": "hf_1234567890"})
    for epoch in range(2):
        run.begin_epoch(epoch, 2)
        for _ in range(3):
            run.begin_step()
            run.log({"loss": 0.5})
            run.end_step(size=4)
        run.end_epoch()
    run.finish()
    (known,) = runs(lake)
    assert (known["state"], known["model_id"]) == ("completed", "Net")
    assert '"lr": 0.1' in known["config"]
    assert "hf_1234567890" not in known["config"]
    assert "device" not in known["config"]
    assert run.monitor is not None
    assert [run.monitor.summary(name).count for name in ("loss", "step_duration", "samples")] == [6, 6, 6]
    spans = run.monitor.query(
        "SELECT attributes['training.epochs'] AS n FROM spans WHERE name = 'training.epoch'"
    )
    assert spans.to_pylist() == [{"n": "2"}] * 2


@pytest.mark.parametrize(
    ("error", "state"), [(ValueError("no data"), "crashed"), (KeyboardInterrupt(), "stopped")]
)
def test_a_run_that_is_left_ends(lake: Path, error: BaseException, state: str) -> None:
    run = TrainingRun(run_id="r", quiet=True)
    run.begin()
    run.begin_epoch(0)
    run.fail(error)
    run.fail(error)
    run.log({"loss": 0.5})  # after the end: nobody hears it
    (known,) = runs(lake)
    assert known["state"] == state
    assert known["reason"].startswith(type(error).__name__)


def test_a_run_that_nobody_ended_ends_with_the_next(lake: Path) -> None:
    run = TrainingRun(quiet=True)
    run.begin()
    run.begin()
    run.finish()
    first, second = runs(lake)
    assert (first["state"], second["state"]) == ("crashed", "completed")
    assert "this training was left, and another one begun" in first["reason"]


def test_the_users_monitor_stays_open(lake: Path) -> None:
    with Monitor("mine", quiet=True) as monitor:
        run = TrainingRun(monitor)
        run.begin(model=Net())
        run.log({"loss": 0.5})
        run.finish()
        assert not monitor.is_closed
        monitor.log(loss=0.25)
    assert monitor.summary("loss").count == 2


def test_an_open_monitor_is_the_one(lake: Path) -> None:
    """A training within `with Monitor()`, or after `configure()`."""
    with Monitor("mine", quiet=True) as monitor:
        for _ in range(2):
            run = TrainingRun()
            run.begin(model=Net())
            assert run.monitor is monitor
            run.finish()
    assert [known["run_id"] for known in runs(lake)] == ["mine"]


def test_two_trainings_at_once_have_two_runs(lake: Path) -> None:
    first, second = TrainingRun(run_id="first", quiet=True), TrainingRun()
    first.begin()
    second.begin()
    first.log({"loss": 1.0})
    second.log({"loss": 2.0})
    second.finish()
    first.finish()
    assert first.monitor is not None
    assert second.monitor is not None
    assert [one.monitor.summary("loss").last for one in (first, second) if one.monitor] == [1.0, 2.0]
    assert {known["run_id"] for known in runs(lake)} == {"first", second.monitor.run_id}


@pytest.mark.parametrize("alone", [False, True])
def test_a_nan_leaves_the_framework(lake: Path, alone: bool) -> None:
    run = TrainingRun(run_id="r", quiet=True)
    run.begin()
    run.begin_step(step=7)
    with pytest.raises(AndonStop) as caught:
        run.log_loss(float("nan")) if alone else run.log({"train_loss": float("nan")})
    assert caught.value.step == 7
    run.fail(caught.value)
    assert runs(lake)[0]["state"] == "stopped"


@pytest.mark.parametrize("alone", [False, True])
def test_a_nan_is_kept_where_the_framework_shall_stop(lake: Path, alone: bool) -> None:
    run = TrainingRun(run_id="r", quiet=True, on_stop="stop")
    run.begin()
    run.begin_step(step=7)
    run.log_loss(float("nan")) if alone else run.log({"loss": float("nan")})
    run.end_step()
    assert run.stopped is not None
    assert run.stopped.step == 7
    run.finish()
    (known,) = runs(lake)
    assert known["state"] == "stopped"
    assert known["reason"].startswith("AndonStop")


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected on_stop to be one of raise, stop, got 'halt'"):
        TrainingRun(on_stop="halt")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a Monitor was given: give it these options itself: lake"):
        TrainingRun(Monitor("r", quiet=True), lake="elsewhere")


def test_a_forked_child_does_nothing(lake: Path) -> None:
    """A worker of a data loader, say, that was forked in the middle of a training."""
    run = TrainingRun(run_id="r", quiet=True)
    run.begin()
    run.begin_epoch(0)
    run.begin_step()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run.begin_step(None, 0, 7)
            run.log({"loss": 9.0})
            run.log_loss(9.0)
            run.end_step(1)
            run.end_epoch()
            run.checkpoint("nowhere")
            run.finish()
            code = int(run.is_on)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    run.log({"loss": 0.5})
    run.end_step(1)
    run.finish()
    assert run.monitor is not None
    assert run.monitor.summary("loss").max == 0.5


@pytest.mark.parametrize("way", [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))])
def test_a_copy_has_not_begun(lake: Path, way: Any) -> None:
    """Of a trainer that is cloned, or sent to a process that is spawned."""
    run = TrainingRun(run_id="r", quiet=True)
    run.begin()
    run.begin_epoch(0)
    other = way(run)
    assert not other.is_on
    other.log({"loss": 9.0})
    other.finish()
    assert run.is_on
    run.finish()


def test_a_checkpoint_is_an_event_and_has_a_sidecar(lake: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.pt"
    checkpoint.write_bytes(b"weights")
    run = TrainingRun(run_id="r", quiet=True)
    run.begin(model=Net())
    run.begin_step(step=3)
    run.end_step()
    run.checkpoint(checkpoint, step=3)
    run.finish()
    assert run.monitor is not None
    events = run.monitor.query(
        "SELECT attributes['step'] AS step FROM events WHERE name = 'training.checkpoint'"
    )
    assert events.to_pylist() == [{"step": "3"}]
    assert '"model_id": "Net"' in (tmp_path / "model.pt.entrenar.json").read_text(encoding="utf-8")


def test_two_names_that_would_be_one_stay_two() -> None:
    reported, values = Reported(), {"train_loss_step": 1.0, "train_loss_epoch": 2.0}
    (group,) = reported.groups(values)
    assert group.tags == {"split": "train"}
    assert group.metrics(values, reported.added) == {"loss": 1.0, "train_loss_epoch": 2.0}


def test_totals_are_differenced(caplog: pytest.LogCaptureFixture) -> None:
    reported = Reported()
    reported.totals["num_input_tokens_seen"] = 100
    added = [
        group.metrics(values, reported.added)
        for total in (150, 150, 20, 30)
        for values in [{"num_input_tokens_seen": total}]
        for group in reported.groups(values)
    ]
    assert added == [{"tokens": value} for value in (50.0, 0.0, 0.0, 10.0)]
    assert caplog.text.count("num_input_tokens_seen fell by 130") == 1


def test_hyper_parameters_are_plain() -> None:
    class Strategy(Enum):
        STEPS = "steps"

    config = {"strategy": Strategy.STEPS, "net": Net(), "betas": (0.9, Net(), 0.99), 1: None}
    assert plain_config(config) == {"strategy": "steps", "betas": [0.9, 0.99], "1": None}
