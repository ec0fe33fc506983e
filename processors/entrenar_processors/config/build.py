"""Jidoka: which processors judge a run, and by which rules, from the settings in renacer.toml.

Not imported by the package root: the settings need pydantic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from entrenar_processors.alert import Action, Level, Rule
from entrenar_processors.config.models import (
    Actions,
    AndonSettings,
    Assertion,
    Config,
    MonitorSettings,
    ThresholdSettings,
)
from entrenar_processors.detectors.accuracy_drop import AccuracyDrop
from entrenar_processors.detectors.divergence import DivergenceDetector
from entrenar_processors.detectors.drift import DriftMonitor
from entrenar_processors.detectors.isolation_forest import ForestMonitor
from entrenar_processors.detectors.nonfinite import NonfiniteDetector
from entrenar_processors.detectors.silent import SilentMembers
from entrenar_processors.detectors.spike import SPIKES, THRESHOLDS, SpikeDetector
from entrenar_processors.detectors.threshold import Limit, ThresholdDetector
from entrenar_processors.detectors.zscore import SlidingWindowBaseline
from entrenar_processors.finding import Severity
from entrenar_processors.processor import Processor
from entrenar_processors.stats.two_sample import DriftDetector

#: What the Jidoka table says to a person, by what was found.
DIVERGED = "Training diverged"
REGRESSED = "Accuracy regression detected"
CLIPPED = "Gradient clipping triggered"
SLOWER = "Performance regression (Latency)"
HEAVIER = "Performance regression (Memory)"

#: Budgets whose violation is a state, over when it is kept again; a slow span is over when it has ended.
_LASTING_BUDGETS = frozenset({"memory_usage", "span_count", "anti_pattern"})
_BUDGET_TEXTS = {
    "critical_path": SLOWER,
    "memory_usage": HEAVIER,
    "span_count": "Performance regression (Spans)",
    "anti_pattern": "Performance regression (Anti-pattern)",
    "custom": "Assertion failed",
}
#: The threshold that `[monitor.andon] gradient_explosion` is.
EXPLOSION = "gradient_explosion"
#: A Python warning about numbers that was caught in the run, see `Warnings` of entrenar_otel.
WARNED = "Numerical warning"


def processors_of(settings: MonitorSettings, drift_detector: DriftDetector | None = None) -> list[Processor]:
    """New processors, as these settings want them; `drift_detector` turns drift on, and is the one used.

    >>> [type(one).__name__ for one in processors_of(MonitorSettings())][:3]
    ['NonfiniteDetector', 'SlidingWindowBaseline', 'SpikeDetector']
    """
    andon = settings.andon
    found: list[Processor] = [NonfiniteDetector(andon.stop_after_nonfinite_gradients, andon.nonfinite)]
    found += [ThresholdDetector(limit) for limit in _limits(settings)]
    found += _detectors(settings)
    drift = settings.drift
    if drift_detector is not None or (drift is not None and drift.enabled):
        metrics = drift.metrics if drift is not None else ("accuracy",)
        if drift_detector is None and drift is not None:
            drift_detector = DriftDetector(drift.window, drift.threshold, test=drift.test)
        found.append(DriftMonitor(drift_detector, metrics))
    if (forest := settings.isolation_forest) is not None and forest.enabled:
        found.append(
            ForestMonitor(
                forest.metrics, n_trees=forest.n_trees, subsample=forest.subsample, quantile=forest.quantile
            )
        )
    return found


def _detectors(settings: MonitorSettings) -> Iterator[Processor]:
    if (z := settings.zscore).enabled:
        yield SlidingWindowBaseline(z.window, z.min_samples, z.threshold, z.metrics)
    if (spike := settings.spike).enabled:
        directions = {metric: SPIKES.get(metric, "up") for metric in spike.metrics}
        if spike.threshold is None:
            yield SpikeDetector(spike.window, spike.min_samples, metrics=directions, thresholds=THRESHOLDS)
        else:
            yield SpikeDetector(
                spike.window, spike.min_samples, spike.threshold, metrics=directions, thresholds={}
            )
    if (divergence := settings.divergence).enabled:
        directions = {metric: SPIKES.get(metric, "up") for metric in divergence.metrics}
        yield DivergenceDetector(
            warm_up=divergence.warm_up, threshold=divergence.threshold, metrics=directions
        )
    if (drop := settings.accuracy_drop).enabled:
        yield AccuracyDrop(drop.metrics, max_drop_ratio=drop.max_drop_ratio, window=drop.window)
    if (silent := settings.silent).enabled:
        yield SilentMembers(
            silent.metrics,
            stopped_after=silent.stopped_after,
            nan_after=silent.nan_after,
            constant_after=silent.constant_after,
        )


def _limits(settings: MonitorSettings) -> Iterator[Limit]:
    for one in settings.threshold:
        yield Limit(
            one.name,
            one.metric,
            dict(one.tags),
            min=one.min,
            max=one.max,
            max_drop_ratio=one.max_drop_ratio,
            max_ratio=one.max_ratio,
            window=one.window,
            for_samples=one.for_samples,
            for_seconds=one.for_seconds,
            after_steps=one.after_steps,
        )
    if (explosion := settings.andon.gradient_explosion) is not None:
        yield Limit(
            EXPLOSION,
            explosion.metric,
            max_ratio=explosion.max_ratio,
            for_samples=explosion.for_samples,
            after_steps=explosion.after_steps,
        )


def rules_of(settings: Config) -> list[Rule]:
    """A rule for everything that may be found.

    >>> {rule.detector: str(rule.actions[Severity.HIGH]) for rule in rules_of(Config())}["nonfinite.loss"]
    'stop'
    """
    monitor = settings.monitor
    rules = [*_nonfinite_rules(monitor.andon), *(_threshold_rule(limit) for limit in monitor.threshold)]
    if (explosion := monitor.andon.gradient_explosion) is not None:
        rules.append(
            Rule(
                f"threshold.{EXPLOSION}",
                EXPLOSION,
                "threshold",
                CLIPPED,
                _always(explosion.action),
                lasting=True,
                factor=explosion.factor,
                min_factor=explosion.min_factor,
            )
        )
    for name, text, lasting in (
        ("zscore", "Unusual value", False),
        ("spike", "Spike", False),
        ("divergence", DIVERGED, False),
        ("accuracy_drop", REGRESSED, True),
        ("drift", "Drift detected", False),
        ("isolation_forest", "Unusual combination of metrics", False),
        ("silent", "Silent series", True),
    ):
        section = getattr(monitor, name)
        actions = section.actions if section is not None else None
        rules.append(
            Rule(
                name,
                name,
                name,
                text,
                _always(Action.NOTIFY) if actions is None else _by_severity(actions),
                level=None if section is None else section.level,
                lasting=lasting,
                after_steps=0 if section is None else section.after_steps,
            )
        )
    rules += [_budget_rule(budget) for budget in settings.assertion if budget.enabled]
    rules.append(Rule("warning", "warning", "warning", WARNED, _always(Action.NOTIFY)))
    return rules


def _always(action: Action) -> Mapping[Severity, Action]:
    return dict.fromkeys(Severity, action)


def _by_severity(actions: Actions) -> Mapping[Severity, Action]:
    return {Severity.LOW: actions.low, Severity.MEDIUM: actions.medium, Severity.HIGH: actions.high}


def _nonfinite_rules(andon: AndonSettings) -> Iterator[Rule]:
    for name, action in {"loss": Action.STOP, "other": Action.NOTIFY, **andon.nonfinite}.items():
        text = DIVERGED if name == "loss" else "Not a finite number"
        yield Rule(f"nonfinite.{name}", f"nonfinite_{name}", "nonfinite", text, _always(action), lasting=True)
    text = f"{DIVERGED}: {andon.stop_after_nonfinite_gradients} non-finite gradients in a row"
    yield Rule(
        "nonfinite.gradients", "nonfinite_gradients", "nonfinite", text, _always(Action.STOP), lasting=True
    )


def _threshold_rule(one: ThresholdSettings) -> Rule:
    text = one.annotations.get("summary") or (
        REGRESSED if one.metric == "accuracy" else f"{one.name} crossed"
    )
    return Rule(
        f"threshold.{one.name}",
        one.name,
        "threshold",
        text,
        _always(one.action),
        level=one.level,
        lasting=True,
        factor=one.factor,
        min_factor=one.min_factor,
        labels=dict(one.labels),
        annotations=dict(one.annotations),
    )


def _budget_rule(one: Assertion) -> Rule:
    fails = one.fail_on_violation
    return Rule(
        f"budget.{one.name}",
        one.name,
        "budget",
        _BUDGET_TEXTS[one.type],
        _always(Action.STOP if fails else Action.NOTIFY),
        level=Level.CRITICAL if fails else Level.WARNING,
        lasting=one.type in _LASTING_BUDGETS,
    )
