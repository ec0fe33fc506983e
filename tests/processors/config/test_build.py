"""Build: which processors judge a run, by the settings; for the rules see test_rules."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest
from entrenar_processors import DriftDetector, DriftMonitor, ForestMonitor, Samples, Series
from entrenar_processors.config.build import processors_of
from entrenar_processors.config.models import MonitorSettings, parse_config

LIMITS = """
[[threshold]]
name = "accuracy_floor"
metric = "accuracy"
tags = { split = "validation" }
min = 0.80
for_samples = 3
after_steps = 100

[[threshold]]
name = "accuracy_drop"
metric = "accuracy"
max_drop_ratio = 0.05

[[threshold]]
name = "memory_high"
metric = "memory"
max = 100
for = "5m"

[andon]
nonfinite = { loss = "stop", accuracy = "pause", other = "log" }
stop_after_nonfinite_gradients = 3
gradient_explosion = { metric = "gradient_norm", max_ratio = 10.0 }
"""


def settings_of(**monitor: Any) -> MonitorSettings:
    return parse_config({"monitor": monitor}).monitor


def names_of(settings: MonitorSettings) -> list[str]:
    return [type(one).__name__ for one in processors_of(settings)]


DEFAULTS = [
    "NonfiniteDetector",
    "SlidingWindowBaseline",
    "SpikeDetector",
    "DivergenceDetector",
    "AccuracyDrop",
    "StuckDetector",
    "SilentMembers",
]


# -- processors -------------------------------------------------------------------------------------------


def test_processors_by_default() -> None:
    """What costs another library is off."""
    assert names_of(MonitorSettings()) == DEFAULTS


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("zscore", "SlidingWindowBaseline"),
        ("spike", "SpikeDetector"),
        ("divergence", "DivergenceDetector"),
        ("accuracy_drop", "AccuracyDrop"),
        ("stuck", "StuckDetector"),
        ("silent", "SilentMembers"),
    ],
)
def test_each_can_be_off_and_watch_other_metrics(section: str, name: str) -> None:
    """Of those that are on by themselves."""
    assert names_of(settings_of(**{section: {"enabled": False}})) == [one for one in DEFAULTS if one != name]
    place = DEFAULTS.index(name)
    assert processors_of(settings_of(**{section: {"metrics": ["mine"]}}))[place].metrics == {"mine"}


@pytest.mark.parametrize("section", ["drift", "isolation_forest"])
def test_what_must_be_asked_for(section: str) -> None:
    """By its section; `enabled = false` in it is off again."""
    name = {"drift": "DriftMonitor", "isolation_forest": "ForestMonitor"}[section]
    assert names_of(settings_of(**{section: {}})) == [*DEFAULTS, name]
    assert names_of(settings_of(**{section: {"enabled": False}})) == DEFAULTS
    metrics = ["a", "b"]
    assert processors_of(settings_of(**{section: {"metrics": metrics}}))[-1].metrics == set(metrics)


def test_a_drift_detector_of_ones_own() -> None:
    """Turns drift on, whatever the file says, and is the one that is used, on the file's metrics."""
    own = DriftDetector(window_size=50, threshold=0.01)
    for settings, metrics in (
        (MonitorSettings(), {"accuracy"}),
        (settings_of(drift={"enabled": False, "metrics": ["f1"]}), {"f1"}),
        (settings_of(drift={"metrics": ["f1"]}), {"f1"}),
    ):
        monitor = processors_of(settings, own)[-1]
        assert isinstance(monitor, DriftMonitor)
        assert monitor.metrics == metrics
        assert own in vars(monitor).values()


def test_drift_and_forest_are_as_the_file_says() -> None:
    """Their settings arrive."""
    settings = settings_of(
        drift={"window": 33, "threshold": 0.2, "test": "mann_whitney"},
        isolation_forest={"n_trees": 7, "subsample": 32, "quantile": 0.9},
    )
    drift, forest = processors_of(settings)[-2:]
    assert isinstance(forest, ForestMonitor)
    (used,) = [one for one in vars(drift).values() if isinstance(one, DriftDetector)]
    assert vars(used) == vars(DriftDetector(33, 0.2, test="mann_whitney"))
    of_class = ForestMonitor(settings.isolation_forest.metrics, n_trees=7, subsample=32, quantile=0.9)  # type: ignore[union-attr]
    plain = {name for name, value in vars(of_class).items() if isinstance(value, int | float | str)}
    assert {name: vars(forest)[name] for name in plain} == {name: vars(of_class)[name] for name in plain}


def first(settings: MonitorSettings, values: Any, series: str | Series = "loss") -> list[tuple[str, int]]:
    """Where each detector of these settings finds something first."""
    samples = Samples.from_columns({series: values})
    found: dict[str, int] = {}
    for processor in processors_of(settings):
        for one in processor.update(samples):
            found.setdefault(one.detector, one.at.seq)
    return list(found.items())


def only(section: str, **settings: Any) -> MonitorSettings:
    """One detector, with these settings."""
    others = ("zscore", "spike", "divergence", "accuracy_drop", "stuck", "silent")
    off: dict[str, Any] = {name: {"enabled": False} for name in others}
    return settings_of(**(off | {section: settings}))


def test_settings_of_zscore_and_spike_arrive() -> None:
    """Window, samples needed, threshold and direction, each seen by what it makes of a stream."""
    noise = np.random.default_rng(0).normal(2.0, 0.1, 400)
    early = np.array([*noise[:12], 9.0, *noise[12:]])
    assert first(only("zscore"), early)[0] == ("zscore", 12)
    assert first(only("zscore", min_samples=20), early[:20]) == []
    assert first(only("zscore", threshold=1000.0), early) == []
    step = np.array([*noise[:200], *(noise[200:] + 30)])
    n_found = {
        window: len(
            processors_of(only("zscore", window=window))[1].update(Samples.from_columns({"loss": step}))
        )
        for window in (10, 100)
    }
    assert n_found[10] != n_found[100]
    spike = np.array([*noise[:60], *[3.5] * 6, *noise[60:]])
    assert [name for name, _ in first(only("spike"), spike)] == ["spike"]
    assert first(only("spike", min_samples=80), spike) == []
    assert first(only("spike", threshold=1000.0), spike) == []
    assert first(only("spike", threshold=5.0), spike)[0][0] == "spike"
    for threshold in ({}, {"threshold": 5.0}):
        down = only("spike", metrics=["accuracy"], **threshold)
        assert first(down, 4 - spike, "accuracy")[0][0] == "spike"
        assert first(down, spike, "accuracy") == []
        up = only("spike", metrics=["mine"], **threshold)
        assert first(up, spike, "mine")[0][0] == "spike"
        assert first(up, 4 - spike, "mine") == []


def test_settings_of_the_others_arrive() -> None:
    """Divergence, accuracy drop, silent members."""
    noise = np.random.default_rng(1).normal(2.0, 0.1, 900)
    rising = noise + np.maximum(0, np.arange(900) - 400) * 0.01
    ((name, at),) = first(only("divergence"), rising)
    assert name == "divergence"
    assert first(only("divergence", threshold=60.0), rising)[0][1] > at
    assert first(only("divergence", warm_up=880), rising) == []
    falling = [0.9] * 10 + [0.8] * 10 + [0.5] * 10
    assert first(only("accuracy_drop", window=10), falling, "accuracy") == [("accuracy_drop", 19)]
    assert first(only("accuracy_drop", window=10, max_drop_ratio=0.2), falling, "accuracy") == [
        ("accuracy_drop", 29)
    ]
    assert first(only("accuracy_drop"), falling, "accuracy") == []
    stands = [*noise, *[1.0] * 200]
    assert first(only("stuck"), stands) == [("stuck", 949)]
    assert first(only("stuck", same_after=60), stands) == [("stuck", 959)]
    experts = [Series.of("loss", {"expert": i}) for i in range(3)]
    rows = np.random.default_rng(2).normal(size=(60, 3))
    rows[:, 1], rows[40:, 2] = 0.5, np.nan
    samples = Samples.from_columns(dict(zip(experts, rows.T, strict=True)))
    for given, expected in (
        ({}, {"silent.constant": 29, "silent.nan": 49}),
        ({"constant_after": 9, "nan_after": 3}, {"silent.constant": 8, "silent.nan": 42}),
    ):
        found = processors_of(only("silent", **given))[1].update(samples)
        assert {one.detector: one.at.seq for one in found} == expected
    gone = [
        samples,
        Samples.from_columns(dict(zip(experts[:1], rows[:30, :1].T, strict=True)), seq=range(60, 90)),
    ]
    for after in (5, 20):
        found = processors_of(only("silent", stopped_after=after))[1].update(Samples.concat(gone))
        assert [one.at.seq for one in found if one.detector == "silent.stopped"][:1] == [59 + after]


def test_limits_of_the_file() -> None:
    """Every row of the table is a detector with all of its settings; so is the explosion of gradients."""
    settings = settings_of(**tomllib.loads(LIMITS))
    found = [one for one in processors_of(settings) if type(one).__name__ == "ThresholdDetector"]
    limits = [vars(vars(one)["limit"]) for one in found]
    usual = {"tags": {}, "window": 100, "for_samples": 1, "for_seconds": 0.0, "after_steps": 0}
    usual |= dict.fromkeys(("min", "max", "max_drop_ratio", "max_ratio"))
    floor = {"tags": {"split": "validation"}, "min": 0.8, "for_samples": 3, "after_steps": 100}
    assert limits == [
        usual | {"name": "accuracy_floor", "metric": "accuracy"} | floor,
        usual | {"name": "accuracy_drop", "metric": "accuracy", "max_drop_ratio": 0.05},
        usual | {"name": "memory_high", "metric": "memory", "max": 100.0, "for_seconds": 300.0},
        usual
        | {"name": "gradient_explosion", "metric": "gradient_norm", "max_ratio": 10.0, "after_steps": 100},
    ]
    given = {"max_ratio": 5.0, "for_samples": 4, "after_steps": 9, "metric": "norm"}
    (other,) = [
        vars(vars(one)["limit"])
        for one in processors_of(settings_of(andon={"gradient_explosion": given}))
        if type(one).__name__ == "ThresholdDetector"
    ]
    assert other == usual | given | {"name": "gradient_explosion"}


def test_nonfinite_is_by_the_file() -> None:
    """So many gradients in a row, and the names that have an action of their own."""
    nonfinite = processors_of(settings_of(**tomllib.loads(LIMITS)))[0]
    found = nonfinite.update(
        Samples.from_columns({"gradient_norm": [np.inf] * 3, "accuracy": [1, np.nan, 1]})
    )
    assert [(one.detector, one.at.seq) for one in found] == [
        ("nonfinite.other", 0),
        ("nonfinite.accuracy", 1),
        ("nonfinite.accuracy", 2),
        ("nonfinite.gradients", 2),
    ]
    by_default = processors_of(MonitorSettings())[0]
    found = by_default.update(Samples.from_columns({"gradient_norm": [np.inf] * 20}))
    assert [(one.detector, one.at.seq) for one in found] == [
        ("nonfinite.other", 0),
        ("nonfinite.gradients", 19),
    ]
