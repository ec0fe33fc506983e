"""Build: the rules for findings, by the settings; for the processors see test_build."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from entrenar_processors import Coordinates, Finding, Samples, Series, Severity
from entrenar_processors.alert import Action, Level, Rule
from entrenar_processors.config.build import processors_of, rules_of
from entrenar_processors.config.models import BadConfig, Config, parse_config
from entrenar_processors.policy import Policy

#: The example of the format, as people have such files.
EXAMPLE = """
[[assertion]]
name = "training_iteration_latency"
type = "critical_path"
max_duration_ms = 2000
trace_name_pattern = "training_step.*"

[[assertion]]
name = "span_budget"
type = "span_count"
max_spans = 10_000

[[assertion]]
name = "memory"
type = "memory_usage"
max_bytes = 2_147_483_648
tracking_mode = "rss"

[[assertion]]
name = "god_process"
type = "anti_pattern"
pattern = "GodProcess"
threshold = 0.8
fail_on_violation = false

[[assertion]]
name = "asleep"
type = "span_count"
max_spans = 1
enabled = false

[semantic_equivalence]
enabled = true

[monitor]
interval_seconds = 1.0

[[monitor.threshold]]
name = "accuracy_floor"
metric = "accuracy"
tags = { split = "validation" }
min = 0.80
for_samples = 3
after_steps = 100
action = "pause"
level = "ERROR"
labels = { team = "vision" }
annotations = { summary = "Too low", runbook_url = "https://x" }

[[monitor.threshold]]
name = "accuracy_drop"
metric = "accuracy"
max_drop_ratio = 0.05

[[monitor.threshold]]
name = "memory_high"
metric = "memory"
max = 100
for = "5m"
action = "reduce_lr"
factor = 0.25
min_factor = 0.125

[monitor.zscore]
metrics = ["loss", "gradient_norm"]
window = 100
threshold = 3.0
actions = { low = "log", medium = "notify", high = "pause" }

[monitor.andon]
nonfinite = { loss = "stop", accuracy = "pause", other = "log" }
stop_after_nonfinite_gradients = 3
gradient_explosion = { metric = "gradient_norm", max_ratio = 10.0, action = "reduce_lr", factor = 0.5 }
"""


def config_of(text: str) -> Config:
    return parse_config(tomllib.loads(text))


def rules(config: Config) -> dict[str, Rule]:
    found = rules_of(config)
    assert len({rule.detector for rule in found}) == len(found)
    return {rule.detector: rule for rule in found}


def done(rule: Rule) -> tuple[str, ...]:
    """The actions at low, medium and high, once where they are the same."""
    actions = tuple(str(rule.actions[severity]) for severity in Severity)
    return actions if len(set(actions)) > 1 else actions[:1]


def test_rules_by_default() -> None:
    """What a run without a file does: two things stop it, the rest is told or logged."""
    assert [
        (one.detector, one.name, one.source, one.text, *done(one), one.lasting) for one in rules_of(Config())
    ] == [
        ("nonfinite.loss", "nonfinite_loss", "nonfinite", "Training diverged", "stop", True),
        ("nonfinite.other", "nonfinite_other", "nonfinite", "Not a finite number", "notify", True),
        (
            *("nonfinite.gradients", "nonfinite_gradients", "nonfinite"),
            *("Training diverged: 20 non-finite gradients in a row", "stop", True),
        ),
        ("zscore", "zscore", "zscore", "Unusual value", "log", False),
        ("spike", "spike", "spike", "Spike", "notify", False),
        ("divergence", "divergence", "divergence", "Training diverged", "notify", False),
        ("accuracy_drop", "accuracy_drop", "accuracy_drop", "Accuracy regression detected", "notify", True),
        ("stuck", "stuck", "stuck", "Stuck", "notify", False),
        ("drift", "drift", "drift", "Drift detected", "notify", False),
        (
            *("isolation_forest", "isolation_forest", "isolation_forest"),
            *("Unusual combination of metrics", "notify", False),
        ),
        ("silent", "silent", "silent", "Silent series", "notify", True),
        ("warning", "warning", "warning", "Numerical warning", "notify", False),
        ("data_wait", "data_wait", "data_wait", "The training waits for its data", "log", True),
        ("stalled", "training_stalled", "stalled", "Training stalled", "notify", True),
    ]
    for one in rules_of(Config()):
        assert one.level == (Level.ERROR if one.name == "training_stalled" else None)
        assert (one.after_steps, one.factor, one.min_factor) == (0, 0.5, 0.0625)
        assert one.labels == one.annotations == {}


def test_every_detector_has_a_rule() -> None:
    """Also those that are off: somebody may add one by hand."""
    policy = Policy(rules_of(Config()))
    for name in ("silent.nan", "silent.stopped", "silent.constant", "drift", "isolation_forest"):
        assert policy.rule_of(name) is not None


def test_budgets_and_thresholds_of_the_example() -> None:
    """Critical and stopping where it fails the run, else a warning; an assertion that is off has no rule."""
    found = rules(config_of(EXAMPLE))
    budgets = {name: rule for name, rule in found.items() if name.startswith("budget.")}
    assert {
        name: (rule.name, rule.source, rule.text, *done(rule), rule.level, rule.lasting)
        for name, rule in budgets.items()
    } == {
        f"budget.{name}": (
            name,
            "budget",
            f"Performance regression ({what})",
            action,
            level,
            what != "Latency",
        )
        for name, what, action, level in (
            ("training_iteration_latency", "Latency", "stop", Level.CRITICAL),
            ("span_budget", "Spans", "stop", Level.CRITICAL),
            ("memory", "Memory", "stop", Level.CRITICAL),
            ("god_process", "Anti-pattern", "notify", Level.WARNING),
        )
    }
    limits = {name: rule for name, rule in found.items() if name.startswith("threshold.")}
    assert {
        name.removeprefix("threshold."): (
            rule.name,
            rule.source,
            rule.text,
            *done(rule),
            rule.level,
            rule.lasting,
        )
        for name, rule in limits.items()
    } == {
        "accuracy_floor": ("accuracy_floor", "threshold", "Too low", "pause", Level.ERROR, True),
        "accuracy_drop": (
            *("accuracy_drop", "threshold", "Accuracy regression detected", "notify", None, True),
        ),
        "memory_high": ("memory_high", "threshold", "memory_high crossed", "reduce_lr", None, True),
        "gradient_explosion": (
            *("gradient_explosion", "threshold", "Gradient clipping triggered", "reduce_lr", None, True),
        ),
    }
    floor, high = limits["threshold.accuracy_floor"], limits["threshold.memory_high"]
    assert floor.labels == {"team": "vision"}
    assert floor.annotations == {"summary": "Too low", "runbook_url": "https://x"}
    assert (high.factor, high.min_factor) == (0.25, 0.125)
    explosion = limits["threshold.gradient_explosion"]
    assert (explosion.factor, explosion.min_factor) == (0.5, 0.0625)
    assert {rule.after_steps for rule in limits.values()} == {0}  # the detector has seen to it


def test_the_rest_of_the_example() -> None:
    """By severity; a name with an action of its own; so many gradients in a row."""
    found = rules(config_of(EXAMPLE))
    assert done(found["zscore"]) == ("log", "notify", "pause")
    assert {name: done(rule) for name, rule in found.items() if name.startswith("nonfinite.")} == {
        "nonfinite.loss": ("stop",),
        "nonfinite.other": ("log",),
        "nonfinite.accuracy": ("pause",),
        "nonfinite.gradients": ("stop",),
    }
    assert found["nonfinite.accuracy"].text == "Not a finite number"
    assert found["nonfinite.gradients"].text == "Training diverged: 3 non-finite gradients in a row"


def test_nonfinite_keeps_its_defaults() -> None:
    """A file that speaks of one says nothing of the others."""
    given = {"monitor": {"andon": {"nonfinite": {"gradient_norm": "stop"}}}}
    found = rules(parse_config(given))
    assert [
        (name, *done(rule), rule.lasting) for name, rule in found.items() if name.startswith("nonfinite.")
    ] == [
        ("nonfinite.loss", "stop", True),
        ("nonfinite.other", "notify", True),
        ("nonfinite.gradient_norm", "stop", True),
        ("nonfinite.gradients", "stop", True),
    ]
    milder = {"monitor": {"andon": {"nonfinite": {"loss": "pause", "other": "log"}}}}
    found = rules(parse_config(milder))
    assert (done(found["nonfinite.loss"]), done(found["nonfinite.other"])) == (("pause",), ("log",))


@pytest.mark.parametrize(
    "section",
    ["zscore", "spike", "divergence", "accuracy_drop", "stuck", "silent", "drift", "isolation_forest"],
)
def test_sections_of_detectors(section: str) -> None:
    """Level, warm-up and actions arrive, also of those that are off by themselves."""
    actions = {"low": "log", "medium": "reduce_lr", "high": "stop"}
    given = {"after_steps": 77, "level": "CRITICAL", "actions": actions}
    rule = rules(parse_config({"monitor": {section: given}}))[section]
    assert (rule.after_steps, rule.level, done(rule)) == (77, Level.CRITICAL, ("log", "reduce_lr", "stop"))


def test_the_explosion_as_the_file_says() -> None:
    """Action and factors."""
    given: dict[str, Any] = {"action": "pause", "factor": 0.3, "min_factor": 0.1}
    found = rules(parse_config({"monitor": {"andon": {"gradient_explosion": given}}}))
    rule = found["threshold.gradient_explosion"]
    assert (done(rule), rule.factor, rule.min_factor) == (("pause",), 0.3, 0.1)
    assert "threshold.gradient_explosion" not in rules(Config())


@pytest.mark.parametrize(
    ("monitor", "told"),
    [
        (
            {
                "andon": {"gradient_explosion": {}},
                "threshold": [{"name": "gradient_explosion", "metric": "x", "max": 1.0}],
            },
            "threshold: expected a name that .monitor.andon. does not use, found gradient_explosion",
        ),
        (
            {"andon": {"nonfinite": {"gradients": "log"}}},
            "nonfinite: expected gradient_norm, the metric, found gradients",
        ),
    ],
)
def test_names_that_would_take_anothers_rule(monitor: dict[str, Any], told: str) -> None:
    """Refused: one of the two would do what the other says."""
    with pytest.raises(BadConfig, match=told):
        parse_config({"monitor": monitor})


def test_a_threshold_may_be_called_so_without_the_other() -> None:
    """Then there is one of that name."""
    one = {"name": "gradient_explosion", "metric": "x", "max": 1.0}
    found = rules(parse_config({"monitor": {"threshold": [one]}}))
    assert found["threshold.gradient_explosion"].text == "gradient_explosion crossed"


def test_from_samples_to_alerts() -> None:
    """Detectors and rules know each other by name: what the example finds is told as the example says."""
    config = config_of(EXAMPLE)
    policy, found = Policy(rules_of(config)), []
    accuracy = Series.of("accuracy", {"split": "validation"})
    columns: dict[str | Series, list[float]] = {accuracy: [0.9] * 3 + [0.7] * 3, "memory": [200.0] * 6}
    columns |= {"loss": [1.0] * 5 + [float("nan")], "gradient_norm": [float("inf")] * 6}
    times = [n * 100 * 10**9 for n in range(6)]
    samples = Samples.from_columns(columns, step=list(range(200, 206)), time_ns=times)
    for processor in processors_of(config.monitor):
        found += processor.update(samples)
    found.append(Finding("budget.memory", Series("memory"), Severity.HIGH, Coordinates(), 2.0, 1.0, 2.0))
    told = {one.name: (one.action, one.level, one.summary) for one in policy.decide(found, times[-1])}
    assert told["nonfinite_loss"] == (Action.STOP, Level.ERROR, "Training diverged: loss is nan")
    assert told["nonfinite_gradients"][0] is Action.STOP
    assert told["nonfinite_other"] == (Action.LOG, Level.INFO, "Not a finite number: gradient_norm is inf")
    assert told["accuracy_floor"] == (
        Action.PAUSE,
        Level.ERROR,
        'Too low: accuracy{split="validation"} is 0.7, the limit is 0.8',
    )
    assert told["memory_high"][:2] == (Action.REDUCE_LR, Level.WARNING)
    assert told["memory"] == (
        Action.STOP,
        Level.CRITICAL,
        "Performance regression (Memory): memory is 2, the limit is 1",
    )
    assert told["accuracy_drop"][2].startswith("Accuracy regression detected: accuracy{")
