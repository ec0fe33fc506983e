"""The view `alerts` and the command of that name: one row an episode, and the start and end of the run."""

from __future__ import annotations

import json
import math
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import AndonStop
from entrenar_otel.lake import Lake

TOML = """
[monitor.andon]
quiet_seconds = 2.0
[monitor.accuracy_drop]
enabled = false
[[monitor.threshold]]
name = "accuracy_floor"
metric = "accuracy"
tags = { split = "validation" }
min = 0.8
action = "notify"
level = "CRITICAL"
[[monitor.threshold]]
name = "a_threshold_with_quite_a_long_name_indeed"
metric = "heat"
max = 90.0
action = "log"
annotations = { summary = "The [bold]machine[/bold] is hot" }
"""
COLUMNS = [
    *("started_at", "ended_at", "run_id", "attempt", "rank", "name", "level", "source", "action", "state"),
    *("summary", "metric", "tags", "epoch", "batch", "step", "value", "expected", "score", "peak", "count"),
    *("incident", "outcome", "episode", "severity_number"),
]


@pytest.fixture
def story(judged: Any) -> None:
    """A floor that is crossed and recovers, a heat that lasts, and a loss that is NaN."""
    with pytest.raises(AndonStop), judged(TOML, run_id="digits-7") as one:  # noqa: PT012 - it leaves the run
        log = one.monitor.log
        for step in range(3):
            log(accuracy=0.9, tags={"split": "validation"}, epoch=1, step=step)
        for step, accuracy in enumerate((0.7, 0.5, 0.6), 3):
            log(accuracy=accuracy, tags={"split": "validation"}, epoch=1, step=step)
        log(accuracy=0.2, tags={"split": "train"}, step=5)
        one.tick()
        log(accuracy=0.9, tags={"split": "validation"}, epoch=1, step=6)
        one.advance(3)
        log(heat=95.5, step=7)
        one.advance(1)
        one.run.pipeline.incidents.worker.flush(10)
        one.clock.advance(1)
        try:
            log(loss=math.nan, epoch=2, batch=4, step=8)
        finally:
            one.clock.advance(1)


def normal(text: str) -> str:
    """Times and the parts of names that differ each time made equal."""
    text = re.sub(r"\d\d:\d\d:\d\d", "HH:MM:SS", text)
    text = re.sub(r"day=\S+?/", "day=DAY/", text)
    text = re.sub(r"\d{8}T\d{6}-(\w+-\d+)-\S+", r"TIME-\1-PROCESS", text)
    text = text.replace(os.path.realpath("lake"), "/lake").replace(os.path.abspath("lake"), "/lake")
    return "\n".join(line.rstrip() for line in text.splitlines())


def test_the_view(story: None) -> None:
    """Whole rows, as SQL gives them."""
    table = Lake("lake").query("SELECT * FROM alerts ORDER BY started_at, name")
    assert table.column_names == COLUMNS
    rows = {row["name"]: row for row in table.to_pylist()}
    assert sorted(rows) == [
        "a_threshold_with_quite_a_long_name_indeed", "accuracy_floor", "nonfinite_loss", "run_ended",
        "run_started",
    ]  # fmt: skip
    floor = rows["accuracy_floor"]
    assert floor["ended_at"] > floor["started_at"]
    assert Path(floor.pop("incident"), "alert.json").is_file()
    for name in ("started_at", "ended_at", "episode"):
        del floor[name]
    assert floor == {
        "run_id": "digits-7", "attempt": 1, "rank": 0, "name": "accuracy_floor", "level": "CRITICAL",
        "source": "threshold", "action": "notify", "state": "resolved",
        "summary": 'Accuracy regression detected: accuracy{split="validation"} is 0.7, the limit is 0.8',
        "metric": "accuracy", "tags": [("split", "validation")], "epoch": 1, "batch": None, "step": 3,
        "value": 0.7, "expected": 0.8, "score": pytest.approx(-0.125), "peak": 0.7, "count": 3,
        "outcome": None, "severity_number": 21,
    }  # fmt: skip
    heat = rows["a_threshold_with_quite_a_long_name_indeed"]
    assert (heat["state"], heat["level"], heat["action"], heat["count"], heat["incident"]) == (
        "resolved", "INFO", "log", 1, None,
    )  # fmt: skip
    stop = rows["nonfinite_loss"]
    assert (stop["action"], stop["epoch"], stop["batch"], stop["step"]) == ("stop", 2, 4, 8)
    assert math.isnan(stop["value"])
    assert Path(stop["incident"], "window.parquet").is_file()
    for name, summary in (("run_started", "run started"), ("run_ended", "run ended: stopped")):
        row = rows[name]
        assert (row["level"], row["source"], row["state"], row["summary"]) == (
            "INFO", "run", "resolved", summary,
        )  # fmt: skip
    (worst,) = (
        Lake("lake")
        .query("SELECT name FROM alerts WHERE level = 'CRITICAL' AND tags['split'] = 'validation'")
        .to_pylist()
    )
    assert worst == {"name": "accuracy_floor"}


AT_120 = """\
time (UTC)  level     alert                         what                                                action  state
HH:MM:SS    info      run_started                   run started
HH:MM:SS    critical  accuracy_floor                Accuracy regression detected:                       notify  resolved
                                                    accuracy{split="validation"} is 0.7, the limit is
                                                    0.8  epoch 1, step 3; 3 samples, peak 0.7
HH:MM:SS    info      a_threshold_with_quite_a_lo…  The [bold]machine[/bold] is hot: heat is 95.5, the  log     resolved
                                                    limit is 90  step 7
HH:MM:SS    error     nonfinite_loss                Training diverged: loss is nan  epoch 2, batch 4,   stop    resolved
                                                    step 8
HH:MM:SS    info      run_ended                     run ended: stopped"""  # noqa: E501

AT_80 = """\
time (UTC)  level     what                                      action  state
HH:MM:SS    info      run started
HH:MM:SS    critical  Accuracy regression detected:             notify  resolved
                      accuracy{split="validation"} is 0.7, the
                      limit is 0.8  epoch 1, step 3; 3
                      samples, peak 0.7
HH:MM:SS    info      The [bold]machine[/bold] is hot: heat is  log     resolved
                      95.5, the limit is 90  step 7
HH:MM:SS    error     Training diverged: loss is nan  epoch 2,  stop    resolved
                      batch 4, step 8
HH:MM:SS    info      run ended: stopped"""


@pytest.mark.parametrize(("width", "expected"), [(120, AT_120), (80, AT_80)])
def test_the_table(story: None, command: Any, monkeypatch: Any, width: int, expected: str) -> None:
    """As a person sees it, the incidents below."""
    monkeypatch.setenv("COLUMNS", str(width))
    done = command("alerts", "digits-7")
    assert (done.returncode, done.stderr) == (0, "")
    table, _, incidents = done.stdout.partition("incident:")
    assert max(map(len, table.splitlines())) <= width
    assert normal(table) == expected
    assert normal(f"incident:{incidents}") == (
        "incident: /lake/incidents/day=DAY/run=digits-7/TIME-accuracy_floor-1-PROCESS\n"
        "incident: /lake/incidents/day=DAY/run=digits-7/TIME-nonfinite_loss-3-PROCESS"
    )


def test_json(story: None, command: Any) -> None:
    """What every parser takes, the newest last; -n limits."""
    done = command("alerts", "--json")

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    rows = json.loads(done.stdout, parse_constant=refuse)
    assert rows[0]["name"] == "run_started"
    assert rows[-1]["name"] == "run_ended"
    assert list(rows[0]) == [*COLUMNS, "picture"]
    assert len(json.loads(command("alerts", "--json", "-n", "2").stdout)) == 2


def test_a_run_without_alerts(judged: Any, command: Any) -> None:
    """Its start and end are there, and that nothing else is."""
    with judged() as one:
        one.monitor.log(loss=1.0)
    lines = command("alerts").stdout.splitlines()
    told = [line.split(maxsplit=3)[-1] for line in lines[1:-1]]
    assert sorted(told) == ["run ended: completed", "run started"]
    assert lines[-1] == "nothing was abnormal"


def test_a_killed_run_still_fires(train: Any, command: Any) -> None:
    """Nobody has said that it is over: before it is recovered, and after."""
    Path("renacer.toml").write_text(TOML)
    run = train("""
        settings = dict(quiet=True, interval_seconds=0.2, settings_file="renacer.toml")
        with Monitor("killed", lake="lake", **settings) as monitor:
            monitor.on("alert", lambda alert: print(alert.name, flush=True))
            monitor.log(heat=99.0)
            while True:
                time.sleep(0.01)
                monitor.log(heat=99.0)
    """)
    run.expect("a_threshold_with_quite_a_long_name_indeed")
    run.signal(signal.SIGKILL)
    run.end()
    for _ in range(2):
        rows = json.loads(command("alerts", "killed", "--json").stdout)
        assert [(row["source"], row["state"]) for row in rows if row["source"] != "run"] == [
            ("threshold", "firing")
        ]
        assert command("recover").returncode == 0
