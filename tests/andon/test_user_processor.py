"""Any processor can be put on a run: it judges every sample, and what it finds notifies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entrenar_processors import (
    DDM,
    Coordinates,
    Finding,
    PageHinkley,
    Processor,
    RiverAdapter,
    Samples,
    Series,
    Severity,
)
from entrenar_processors.alert import Level

from entrenar_otel import ConfigError, Monitor, errors
from entrenar_otel.testing import kit


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


def jump(n: int = 400) -> list[float]:
    generator = np.random.default_rng(0)
    return [*generator.normal(1.0, 0.05, n).tolist(), *generator.normal(3.0, 0.05, n).tolist()]


def errors_of_a_model(n: int = 400) -> list[float]:
    generator = np.random.default_rng(0)
    return [*(generator.random(n) < 0.1).astype(float), *(generator.random(n) < 0.8).astype(float)]


def adwin() -> Processor:
    from river.drift import ADWIN

    return RiverAdapter(ADWIN, metrics=["loss"])


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
        told = [alert for alert in one.alerts if alert.name == name]
        assert [(alert.level, alert.source, alert.state) for alert in told] == [
            (Level.WARNING, "processor", "firing")
        ]
        assert told[0].summary.startswith(f"Unusual value ({name}): {metric} is ")
        assert [alert.name for alert in one.monitor.alerts if alert.source == "processor"] == [name]
        counts = {p.attributes["source"]: p.value for p in one.points("training.alerts") if p.value}
        assert counts["processor"] == 1
        anomalies = {p.attributes["detector"] for p in one.points("training.anomalies")}
        assert name in anomalies
    rows = one.monitor.query("SELECT name, level, source FROM alerts").to_pylist()
    assert {"name": name, "level": "WARNING", "source": "processor"} in rows


def test_its_alerts_start_at_zero(tmp_path: Path) -> None:
    """As those of every other source: an increase from nothing is invisible to Prometheus."""
    with kit(tmp_path, processors=[Negative()]) as one:
        counts = {(p.attributes["source"], p.value) for p in one.points("training.alerts")}
    assert ("processor", 0.0) in counts


def test_it_belongs_to_one_run(tmp_path: Path) -> None:
    """It is reset when the next one begins."""
    processor = Negative()
    for name in ("a", "b"):
        with kit(tmp_path / name, processors=[processor]) as one:
            one.monitor.log(loss=1.0)
            one.tick()
            assert processor.seen == 1


@pytest.mark.parametrize("answer", ["raises", "garbage", "none"])
def test_one_that_fails_harms_nobody(answer: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Said once with its name, counted; the others judge on."""

    class Odd(Negative):
        def update(self, samples: Samples) -> Any:
            if answer == "raises":
                raise RuntimeError("no judgement today")
            return ["garbage"] if answer == "garbage" else None

    errors.failures.clear()
    with kit(tmp_path, processors=[Odd(), Negative()]) as one:
        errors.set_strict(False)
        for value in (-1.0, -2.0):
            one.monitor.log(loss=value)
            one.tick()
        assert [alert.name for alert in one.alerts] == ["negative"]
    assert errors.failures["detector Odd"] == (0 if answer == "none" else 2)
    assert caplog.text.count("monitoring failed in detector Odd") == (0 if answer == "none" else 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([PageHinkley], r"expected an object, got the class PageHinkley: write PageHinkley\(…\)"),
        ([object()], "without update and reset"),
        ("page_hinkley", "expected processors to be a list, got 'page_hinkley'"),
    ],
)
def test_what_is_no_processor(given: Any, message: str) -> None:
    """Said at construction: what was expected, what was given, what to do."""
    with pytest.raises(ConfigError, match=message):
        Monitor(processors=given, quiet=True)


def test_one_given_twice() -> None:
    """It would judge every sample twice, and count it twice."""
    processor = Negative()
    with pytest.raises(ConfigError, match="got one twice"):
        Monitor(processors=[processor, processor], quiet=True)


def test_endless_names_share_a_rule(tmp_path: Path) -> None:
    """A detector's name that changes with every finding does not grow the rules without end."""

    class Numbered(Negative):
        def update(self, samples: Samples) -> list[Finding]:
            found = super().update(samples)
            return [dataclasses.replace(one, detector=f"n{i}") for i, one in enumerate(found)]

    with kit(tmp_path, processors=[Numbered()]) as one:
        for _ in range(150):
            one.monitor.log(loss=-1.0)
        names = {alert.name for alert in one.alerts}
    assert len(names) == 101
    assert "processor" in names
