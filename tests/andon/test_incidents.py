"""Incidents: the folder of an alert holds everything that was known, and there is one where it counts."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from entrenar_otel import AndonStop

NAN = math.nan


def test_a_stop_has_its_incident_after_many_others(judged: Any) -> None:
    """Of one name at most a quarter is kept, of all no more than the limit; the stop in any case."""
    with judged("[monitor.andon]\nmax_incidents = 8\nquiet_seconds = 1\n") as one:
        for layer in range(30):
            one.monitor.log(gradient_norm=math.inf, tags={"layer": layer}, step=100)
        one.tick()
        with pytest.raises(AndonStop) as caught:
            one.monitor.log(loss=NAN)
        assert caught.value.incident is not None
    names = [path.name.split("-")[1] for path in Path("lake/incidents").glob("*/*/*")]
    assert sorted(names) == ["nonfinite_loss", "nonfinite_other", "nonfinite_other"]


def test_the_incident_is_complete(judged: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """alert, thresholds, environment without any variable's value, and all rows before at full rate."""
    monkeypatch.setenv("ENTRENAR_WEBHOOK_URL", "https://hooks.example/very-secret")
    monkeypatch.setenv("A_TOKEN", "tok-12345-secret")
    with judged('[[monitor.threshold]]\nname = "floor"\nmetric = "accuracy"\nmin = 0.25\n') as one:
        for _ in one.monitor.epochs(1):
            for step in one.monitor.steps(range(200)):
                one.clock.advance(0.01)
                one.monitor.log(loss=1.0 / (1 + step), accuracy=0.5)
                if step % 40 == 39:
                    one.tick()
            with pytest.raises(AndonStop) as caught:
                one.monitor.log(loss=NAN, epoch=0, batch=7, step=200)
            break
        stop = caught.value
        folder = Path(str(stop.incident))
        assert sorted(path.name for path in folder.iterdir()) == [
            "alert.json", "config.json", "environment.json", "window.parquet",
        ]  # fmt: skip
        alert = json.loads((folder / "alert.json").read_text())
        expected = {
            "name": "nonfinite_loss", "source": "nonfinite", "level": "ERROR", "action": "stop",
            "metric": "loss", "value": "NaN", "epoch": 0, "batch": 7, "step": 200, "state": "firing",
        }  # fmt: skip
        assert alert.items() >= expected.items()
        assert (stop.epoch, stop.batch, stop.step) == (0, 7, 200)
        config = json.loads((folder / "config.json").read_text())
        assert config["monitor"]["threshold"][0]["name"] == "floor"
        assert config["monitor"]["andon"]["nonfinite"]["loss"] == "stop"
        text = "".join(path.read_text() for path in folder.glob("*.json"))
        for name, value in os.environ.items():
            if len(value) > 12 and name not in ("ENTRENAR_LIVE", "XDG_STATE_HOME", "PWD"):
                assert value not in text, name
        environment = json.loads((folder / "environment.json").read_text())
        assert environment["run_id"] == "kit"
        assert environment["pid"] == os.getpid()
        rows = pq.read_table(folder / "window.parquet").to_pylist()
        losses = [row["value"] for row in rows if row["metric"] == "loss"]
        assert losses[:200] == [1.0 / (1 + step) for step in range(200)]
        assert len(losses) == 201
        assert math.isnan(losses[200])
        assert sum(row["metric"] == "accuracy" for row in rows) == 200


def test_the_window_has_what_came_after(judged: Any) -> None:
    """It is written again when the time after the alert is over."""
    with judged("[monitor.andon]\nincident_after_seconds = 5.0\n") as one:
        one.monitor.log(loss=1.0)
        with pytest.raises(AndonStop) as caught:
            one.monitor.log(loss=NAN)
        for _ in range(4):
            one.clock.advance(1)
            one.monitor.log(loss=0.5)
        one.advance(2)
        one.run.pipeline.incidents.worker.flush(10)
        rows = pq.read_table(Path(str(caught.value.incident)) / "window.parquet")
        assert rows.num_rows == 6
