"""Any processor can be put on a run: it judges every sample, and what it finds notifies."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entrenar_processors import (
    DDM,
    AccuracyDrop,
    Coordinates,
    Finding,
    PageHinkley,
    Processor,
    RiverAdapter,
    Samples,
    Series,
    Severity,
)
from entrenar_processors.alert import Action, Level

from entrenar_otel import AndonStop, Monitor, errors
from entrenar_otel.testing import Kit, kit, open_run

Lenient = Callable[[], None]
Start = Callable[..., Monitor]


class Negative:
    """As short as a processor can be: a loss below zero is abnormal."""

    metrics = frozenset({"loss"})
    nonfinite: Mapping[Series, int] = {}

    def reset(self) -> None:
        self.seen = 0

    def update(self, samples: Samples) -> list[Finding]:
        found = []
        for series in samples.series:
            column = samples.column(series)
            self.seen += len(column.values)
            for row in np.flatnonzero(column.values < 0).tolist():
                at, value = Coordinates.of(column, row), float(column.values[row])
                found.append(Finding("negative", series, Severity.HIGH, at, value, 0.0, -value))
        return found


class Changed(Negative):
    """Its findings, with some fields changed."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def update(self, samples: Samples) -> list[Finding]:
        return [replace(finding, **self.fields) for finding in super().update(samples)]


def log(one: Kit, *values: float, metric: str = "loss") -> None:
    for value in values:
        one.monitor.log({metric: value})
    one.tick()


def lost(one: Kit) -> dict[str, float]:
    return {p.attributes["who"]: p.value for p in one.points("entrenar.losses") if p.value}


def jump(n: int = 400) -> list[float]:
    generator = np.random.default_rng(0)
    return [*generator.normal(1.0, 0.05, n).tolist(), *generator.normal(3.0, 0.05, n).tolist()]


def errors_of_a_model(n: int = 400) -> list[float]:
    generator = np.random.default_rng(0)
    return [*(generator.random(n) < 0.1).astype(float), *(generator.random(n) < 0.8).astype(float)]


def adwin() -> Processor:
    from river.drift import ADWIN

    return RiverAdapter(ADWIN, metrics=["loss"])


# -- what it finds -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "metric", "values", "name"),
    [
        (lambda: PageHinkley(metrics=["loss"]), "loss", jump(), "page_hinkley"),
        (lambda: DDM(metrics=["error"]), "error", errors_of_a_model(), "ddm"),
        (adwin, "loss", jump(), "river.adwin"),
        (Negative, "loss", [1.0, -1.0, 0.5], "negative"),
    ],
)
def test_what_it_finds_notifies(
    make: Callable[[], Processor], metric: str, values: list[float], name: str, tmp_path: Path
) -> None:
    """As WARNING, without a line in renacer.toml; in the lake, the metrics, and what handlers are told."""
    with kit(tmp_path, processors=[make()]) as one:
        for batch, value in enumerate(values):
            one.monitor.log({metric: value}, batch=batch)
        told = [alert for alert in one.alerts if alert.name == name and not alert.is_resolved]
        assert {(alert.level, alert.source) for alert in told} == {(Level.WARNING, "processor")}
        assert told[0].summary.startswith(f"Unusual value ({name}): {metric} is ")
        counts = {p.attributes["source"]: p.value for p in one.points("training.alerts") if p.value}
        assert counts["processor"] == len(told)
        anomalies = {p.attributes["detector"] for p in one.points("training.anomalies")}
        assert name in anomalies
    rows = one.monitor.query("SELECT name, level, source FROM alerts").to_pylist()
    assert {"name": name, "level": "WARNING", "source": "processor"} in rows


def test_its_alerts_start_at_zero(tmp_path: Path) -> None:
    """As those of every other source: an increase from nothing is invisible to Prometheus."""
    with kit(tmp_path, processors=[Negative()]) as one:
        counts = {(p.attributes["source"], p.value) for p in one.points("training.alerts")}
    assert ("processor", 0.0) in counts


@pytest.mark.parametrize("detector", ["nonfinite.loss", "nonfinite.gradients", "zscore", "warning.mine"])
def test_a_name_of_the_settings_does_not_borrow_their_rule(detector: str, tmp_path: Path) -> None:
    """A detector that is called like one that stops, or only logs, notifies as all others do."""
    with kit(tmp_path, processors=[Changed(detector=detector)]) as one:
        log(one, 1.0, -1.0)
        one.monitor.raise_if_stopped()
        (alert,) = one.alerts
        assert (alert.name, alert.action, alert.level, alert.source) == (
            f"processor.{detector}",
            Action.NOTIFY,
            Level.WARNING,
            "processor",
        )


def test_a_state_that_lasts(tmp_path: Path) -> None:
    """A detector of ours that says when a state is over is believed: a quiet time does not end its alert."""
    with kit(tmp_path, processors=[AccuracyDrop(metrics=["f1"])]) as one:
        log(one, *[0.9] * 200, *[0.5] * 100, metric="f1")
        one.advance(200)
        log(one, *[0.5] * 100, metric="f1")
        assert [alert.name for alert in one.monitor.alerts] == ["processor.accuracy_drop"]
        log(one, *[0.9] * 200, metric="f1")
        one.advance(200)
        assert one.monitor.alerts == []


def test_numbers_of_numpy(tmp_path: Path) -> None:
    """A finding of a class of one's own often has them: what leaves the process is plain JSON."""
    series: Any = Series("loss", (("layer", np.int64(3)),))  # type: ignore[arg-type]
    at: Any = Coordinates(step=np.int64(7), seq=np.int64(0))  # type: ignore[arg-type]
    fields = {"series": series, "at": at, "value": np.float32(1.5), "severity": "high", "count": np.int64(1)}
    with kit(tmp_path, processors=[Changed(**fields)]) as one:
        log(one, -1.0)
        (alert,) = one.alerts
        document = json.loads(json.dumps(alert.as_dict()))
        assert (document["value"], document["tag.layer"], document["step"]) == (1.5, "3", 7)


def test_it_may_yield(tmp_path: Path) -> None:
    """`update` may be a generator."""

    class Yields(Negative):
        def update(self, samples: Samples) -> Any:
            yield from super().update(samples)

    with kit(tmp_path, processors=[Yields()]) as one:
        log(one, -1.0)
        assert [alert.name for alert in one.alerts] == ["negative"]


# -- one that fails ------------------------------------------------------------------------------


class Odd(Negative):
    """Answers whatever it is given; an exception it raises."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def update(self, samples: Samples) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


GOOD = Finding("odd", Series("loss"), Severity.LOW, Coordinates(seq=0), 1.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (RuntimeError("no judgement today"), "RuntimeError: no judgement today"),
        (AndonStop("stop it"), "update() raised AndonStop: return a Finding instead, and the rules decide"),
        (SystemExit(1), "update() raised SystemExit: return a Finding instead, and the rules decide"),
        (3, "TypeError: 'int' object is not iterable"),
        ("garbage", "expected update() to return Findings, got 'g'"),
        ([GOOD, None], "expected update() to return Findings, got None"),
        ([replace(GOOD, series="loss")], "expected a Finding of names and numbers, got Finding("),  # type: ignore[arg-type]
        ([replace(GOOD, detector="")], "a detector's name, and coordinates of 64 bits"),
        ([replace(GOOD, at=None)], "expected a Finding of names and numbers"),  # type: ignore[arg-type]
        ([replace(GOOD, at=Coordinates(time_ns=2**70))], "coordinates of 64 bits"),
        ([replace(GOOD, value=None)], "expected a Finding of names and numbers"),  # type: ignore[arg-type]
        ([replace(GOOD, severity="dire")], "'dire' is not a valid Severity"),  # type: ignore[arg-type]
    ],
)
def test_one_that_fails_harms_nobody(
    answer: Any, said: str, tmp_path: Path, lenient: Lenient, caplog: pytest.LogCaptureFixture
) -> None:
    """Said and counted with its name, and out; the others judge on, and so does the heartbeat."""
    with kit(tmp_path, processors=[Odd(answer), Negative()]) as one:
        lenient()
        for value in (-1.0, -2.0):
            log(one, value)
        assert [alert.name for alert in one.alerts] == ["negative"]
    assert errors.failures["detector Odd"] == 1
    assert caplog.text.count("monitoring failed in detector Odd") == 1
    assert "it is off for the rest of this run; the others go on" in caplog.text
    assert said in caplog.text


def test_nothing_found(tmp_path: Path) -> None:
    """An update without a return says as much as an empty list."""
    with kit(tmp_path, processors=[Odd(None), Odd([])]) as one:
        log(one, -1.0)
        assert one.alerts == []


def test_one_that_cannot_be_reset_does_not_judge(start: Start, lenient: Lenient) -> None:
    """The run begins, and is judged by the others."""

    class Unready(Negative):
        def reset(self) -> None:
            raise OSError("no model file")

    lenient()
    monitor = start(processors=[Unready(), Negative()])
    monitor.log(loss=-1.0)
    open_run(monitor).heartbeat.tick()
    assert [alert.name for alert in monitor.alerts] == ["negative"]
    assert errors.failures == {"detector Unready": 1}


def test_it_cannot_write_into_the_samples(tmp_path: Path, lenient: Lenient) -> None:
    """They are exported after it, and their memory is a segment's: it gets a copy that it may keep."""

    kept: list[Samples] = []

    class Writes(Negative):
        def update(self, samples: Samples) -> list[Finding]:
            kept.append(samples)
            samples.blocks[0].values[:] = 0.0
            return []

    with kit(tmp_path, processors=[Writes(), Negative()]) as one:
        lenient()
        log(one, 1.0, -2.0)
        assert errors.failures["detector Writes"] == 1
        assert [record.value for record in one.records] == [1.0, -2.0]
        assert [alert.value for alert in one.alerts] == [-2.0]
    assert kept[0].column(Series("loss")).values.tolist() == [1.0, -2.0]


def test_endless_names_share_a_rule(tmp_path: Path) -> None:
    """A name that changes with every finding makes no rules and series without end; that is counted."""

    class Numbered(Negative):
        def update(self, samples: Samples) -> list[Finding]:
            found = super().update(samples)
            return [replace(one, detector=f"n{i}") for i, one in enumerate(found)]

    with kit(tmp_path, processors=[Numbered()]) as one:
        log(one, *[-1.0] * 150)
        names = {alert.name for alert in one.alerts}
        detectors = {p.attributes["detector"] for p in one.points("training.anomalies")}
        assert lost(one)["shared rule"] == 50
    assert len(names) == len(detectors) == 101
    assert "processor" in names


# -- whose it is ---------------------------------------------------------------------------------


def test_it_belongs_to_one_run_after_another(tmp_path: Path) -> None:
    """It is reset when the next one begins."""
    processor = Negative()
    for name in ("a", "b"):
        with kit(tmp_path / name, processors=[processor]) as one:
            log(one, 1.0)
            assert processor.seen == 1


def test_two_runs_at_a_time_do_not_share_it(
    start: Start, lenient: Lenient, caplog: pytest.LogCaptureFixture
) -> None:
    """The second run says so and is judged by the others; the first one's goes on undisturbed."""
    lenient()
    processor = Negative()
    first = start("first", processors=[processor])
    second = start("second", processors=[processor, Changed(detector="other")])
    for monitor, name in ((second, "other"), (first, "negative")):
        monitor.log(loss=-1.0)
        open_run(monitor).heartbeat.tick()
        assert [alert.name for alert in monitor.alerts] == [name]
    assert processor.seen == 1
    assert "another run of this process has the same Negative: make one for each run" in caplog.text


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_may_have_it(tmp_path: Path) -> None:
    """The parent's run is not the child's."""
    processor = Negative()
    with kit(tmp_path / "parent", processors=[processor]) as one:
        log(one, 1.0)
        if (pid := os.fork()) == 0:
            os.environ["RANK"] = "1"  # a process of its own, not a data loader
            with kit(tmp_path / "child", run_id="child", processors=[processor]) as own:
                log(own, -1.0)
                os._exit(len(own.monitor.alerts))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        assert processor.seen == 1
