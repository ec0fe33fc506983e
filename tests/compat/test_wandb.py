"""W&B's calls: what scripts make of them, and what is in the lake then."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from entrenar_otel import AndonStop, Lake
from entrenar_otel.compat import wandb
from entrenar_otel.compat.wandb import left_out
from tests.compat.wandb_lake import QUIET, curve, event, only_run


@pytest.mark.skipif(find_spec("wandb") is None, reason="NOT TESTED HERE: wandb is missing")
def test_rows_and_summaries_are_those_of_wandb(tmp_path: Path) -> None:
    """The same calls with W&B itself, offline: the same steps, values and last values."""
    calls = """
run = wandb.init(project="p", **MORE)
wandb.log({"a": 1}); wandb.log({"b": 2}, commit=False); wandb.log({"c": 3})
wandb.log({"d": 4}, step=10); wandb.log({"e": 5}, step=10); wandb.log({"f": 6})
wandb.log({"g": True, "h": {"i": 0.5}})
wandb.define_metric("j", summary="min")
for value in (3.0, 1.0, 2.0): wandb.log({"j": value})
print(run.step)
wandb.finish()
"""
    theirs = f"import wandb\nMORE = dict(mode='offline')\n{calls}"
    ours = f"import entrenar_otel.compat.wandb as wandb\nMORE = dict(settings=dict(quiet=True))\n{calls}"
    steps = []
    for code in (theirs, ours):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**os.environ, "WANDB_SILENT": "true", "ENTRENAR_LAKE": "lake"},
        )
        assert done.returncode == 0, done.stderr
        steps.append(done.stdout.strip())
    assert steps[0] == steps[1]
    from entrenar_otel.importers.wandb import find_runs

    (read,) = find_runs("wandb")
    imported = {
        series.metric: list(zip(column.step.tolist(), column.values.tolist(), strict=True))
        for series, column in read(lambda _share: None).points.columns()
        if not series.metric.startswith("system/")
    }
    assert {name: curve(name) for name in imported} == imported


def test_values_of_all_kinds(caplog: pytest.LogCaptureFixture) -> None:
    wandb.init(settings=QUIET)
    for _ in range(2):
        wandb.log(
            {
                "x": 1,
                "y": np.float64(2),
                "z": np.array([3.0]),
                "b": True,
                "text": "t",
                "many": np.zeros(3),
                "none": None,
                "html": wandb.Html("<b>"),
            }
        )
    wandb.finish()
    assert [curve(name)[0][1] for name in "xyzb"] == [1.0, 2.0, 3.0, 1.0]
    said = [record.getMessage() for record in caplog.records if "does nothing" in record.getMessage()]
    assert [line.split(" does")[0] for line in said] == [
        "wandb.Html",
        "wandb.log of text",
        "wandb.log of an array",
        "wandb.log of None",
    ]
    assert left_out.used["log of text"] == 2


def test_a_nan_stops_the_line_at_its_own_row() -> None:
    wandb.init(settings=QUIET)
    wandb.log({"loss": 1.0})
    with pytest.raises(AndonStop):
        wandb.log({"loss": math.nan})
    wandb.finish()
    assert only_run()["state"] == "stopped"
    assert [step for step, _ in curve("loss")] == [0, 1]


def test_how_a_run_ends() -> None:
    wandb.init(settings=QUIET).finish(exit_code=3)
    assert (only_run()["state"], only_run()["reason"]) == ("crashed", "exit code 3")
    with pytest.raises(ZeroDivisionError), wandb.init(settings=QUIET) as run:  # noqa: PT012
        run.summary.update({"a": 1})
        raise ZeroDivisionError
    states = Lake("lake").query("SELECT state, reason FROM runs ORDER BY started_at").to_pylist()
    assert states[1]["state"] == "crashed"
    assert wandb.run is None
    assert event("training.run.summary") == {"a": "1"}


def test_a_program_that_ends_without_finish(tmp_path: Path) -> None:
    code = (
        "import entrenar_otel.compat.wandb as wandb; wandb.init(settings={'quiet': True, 'lake': 'lake'}); "
        "wandb.log({'loss': 1.0}); wandb.run.summary['best'] = 2"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert only_run()["state"] == "completed"
    assert event("training.run.summary") == {"best": "2"}


def test_init_again() -> None:
    first = wandb.init(settings=QUIET)
    assert wandb.init() is first
    second = wandb.init(reinit=True, settings=QUIET)
    assert second is not first
    assert first.monitor.is_closed
    assert wandb.run is second


def test_an_id_is_gone_on_with() -> None:
    for resume in ("allow", None):
        run = wandb.init(id="abc", resume=resume, settings=QUIET)
        wandb.log({"loss": 1.0})
        wandb.finish()
    assert run.resumed
    assert len(Lake("lake").query("SELECT * FROM runs WHERE run_id = 'abc'")) == 2


def test_variables_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PROJECT": "p", "NAME": "n", "TAGS": "a, b", "RUN_GROUP": "g", "RUN_ID": "i"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    run = wandb.init(settings=QUIET)
    assert (run.project, run.name, run.tags, run.group, run.id) == ("p", "n", ("a", "b"), "g", "i")
    assert (run.entity, run.job_type, run.notes, run.path) == ("", "", None, "p/i")
    assert run.url == f"{Path('lake').absolute().as_uri()}#i" == run.get_url()


def test_the_address_of_a_run_with_a_name_for_people() -> None:
    run = wandb.init(name="try 1/2", settings=QUIET)
    place, _, name = run.url.partition("#")
    assert place == Path("lake").absolute().as_uri()
    assert name == quote(run.id)
    assert " " not in name


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_disabled(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "environment":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    run = wandb.init(project="p", mode="disabled" if how == "argument" else None, settings=QUIET)
    wandb.log({"loss": math.nan})
    wandb.finish()
    assert run.disabled
    assert not Path("lake").exists()


def test_configurations_of_all_forms(tmp_path: Path) -> None:
    Path("config.yaml").write_text("wandb_version: 1\nlr: {value: 0.1}\nseed: {value: 3, desc: x}\n")
    Path("plain.yaml").write_text("lr: 0.1\n")
    run = wandb.init(config="config.yaml", config_exclude_keys=["seed"], settings=QUIET)
    assert run.config.as_dict() == {"lr": 0.1}
    run.config.update("plain.yaml")
    run.config.setdefaults({"lr": 3, "x": np.ones(2)})
    run.config["x"] = run.config.x
    assert run.config.lr == 0.1
    assert len(run.config) == 2
    with pytest.raises(wandb.Error, match="allow_val_change"):
        run.config.lr = 0.2
    with pytest.raises(AttributeError, match="'nothing'"):
        _ = run.config.nothing
    del run.config["x"]
    wandb.log({"loss": 1.0})
    run.config.update({"lr": 0.2}, allow_val_change=True)
    wandb.finish()
    assert event("training.run.configured") == {"config.lr": "0.2"}
    assert repr(run.config) == "{'lr': 0.2}"


def test_alerts_reach_people_once_in_a_while() -> None:
    run = wandb.init(settings=QUIET)
    for _ in range(3):
        wandb.alert(title="Low accuracy", text="below 0.5", level=wandb.AlertLevel.WARN)
    run.alert("Other", wait_duration=300)
    wandb.finish()
    alerts = Lake("lake").query(
        "SELECT DISTINCT level, summary FROM alerts WHERE name = 'training_user_alert' ORDER BY summary"
    )
    assert [(alert["level"], alert["summary"]) for alert in alerts.to_pylist()] == [
        ("WARNING", "wandb.alert: Low accuracy: below 0.5"),
        ("INFO", "wandb.alert: Other"),
    ]


def test_what_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(wandb.UsageError, match=r"call wandb\.init"):
        wandb.log({"loss": 1.0})
    with pytest.raises(wandb.UsageError, match=r"call wandb\.init"):
        _ = wandb.config
    for name in ("Api", "sweep", "agent", "use_artifact"):
        with pytest.raises(wandb.Error, match=f"wandb.{name} is not in"):
            getattr(wandb, name)
    with pytest.raises(AttributeError):
        _ = wandb.lgo
    run = wandb.init(settings=QUIET, sync_tensorboard=True)
    with pytest.raises(TypeError, match="takes a mapping"):
        run.log(3.0)  # type: ignore[arg-type]
    assert repr(wandb.plot.line(1, 2)) == "<wandb.plot, not recorded>"
    for _ in range(2):
        assert repr(run.log_code(".")) == "<wandb.Run.log_code, not recorded>"
    assert wandb.login(key="secret") is True
    assert wandb.setup() is None
    assert len(wandb.util.generate_id()) == 8
    said = [record.getMessage() for record in caplog.records]
    assert sum("wandb.plot does nothing" in line for line in said) == 1
    assert sum("init(sync_tensorboard=…)" in line for line in said) == 1
    assert sum("Run.log_code does nothing" in line for line in said) == 1
    assert not any("secret" in line for line in said)


def test_where_files_may_be_put() -> None:
    run = wandb.init(settings=QUIET)
    assert Path(run.dir).is_dir()
    assert wandb.run.name == run.id
    assert wandb.run.project == "uncategorized"
