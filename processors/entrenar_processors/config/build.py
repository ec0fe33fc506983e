"""Build: the processors that judge a run and the rules for their findings, from the settings of a file.

Not imported by the package root, since the settings need pydantic.
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

#: The texts of alerts, as the Jidoka table of the specification has them.
DIVERGED = "Training diverged"
REGRESSED = "Accuracy regression detected"
CLIPPED = "Gradient clipping triggered"
SLOWER = "Performance regression (Latency)"
HEAVIER = "Performance regression (Memory)"

#: Budgets whose violation is a state that lasts until they are kept again; a slow span is over at its end.
_LASTING_BUDGETS = frozenset({"memory_usage", "span_count", "anti_pattern"})
_BUDGET_TEXTS = {
    "critical_path": SLOWER,
    "memory_usage": HEAVIER,
    "span_count": "Performance regression (Spans)",
    "anti_pattern": "Performance regression (Anti-pattern)",
    "custom": "Assertion failed",
}
#: The name of the threshold that `[monitor.andon] gradient_explosion` makes.
EXPLOSION = "gradient_explosion"
#: The text for a Python warning about numbers that was caught during the run.
WARNED = "Numerical warning"


def processors_of(settings: MonitorSettings, drift_detector: DriftDetector | None = None) -> list[Processor]:
    """New processors by these settings; a `drift_detector` turns drift on, and is the detector used.

    >>> [type(processor).__name__ for processor in processors_of(MonitorSettings())][:3]
    ['NonfiniteDetector', 'SlidingWindowBaseline', 'SpikeDetector']
    """
    andon = settings.andon
    processors: list[Processor] = [NonfiniteDetector(andon.stop_after_nonfinite_gradients, andon.nonfinite)]
    processors += [ThresholdDetector(limit) for limit in _limits(settings)]
    processors += _detectors(settings)
    drift = settings.drift
    if drift_detector is not None or (drift is not None and drift.enabled):
        metrics = drift.metrics if drift is not None else ("accuracy",)
        if drift_detector is None and drift is not None:
            drift_detector = DriftDetector(drift.window, drift.threshold, test=drift.test)
        processors.append(DriftMonitor(drift_detector, metrics))
    if (forest := settings.isolation_forest) is not None and forest.enabled:
        processors.append(
            ForestMonitor(
                forest.metrics, n_trees=forest.n_trees, subsample=forest.subsample, quantile=forest.quantile
            )
        )
    return processors


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
    for threshold in settings.threshold:
        yield Limit(
            threshold.name,
            threshold.metric,
            dict(threshold.tags),
            min=threshold.min,
            max=threshold.max,
            max_drop_ratio=threshold.max_drop_ratio,
            max_ratio=threshold.max_ratio,
            window=threshold.window,
            for_samples=threshold.for_samples,
            for_seconds=threshold.for_seconds,
            after_steps=threshold.after_steps,
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
    """A rule for every finding that these settings may bring.

    >>> {rule.detector: str(rule.actions[Severity.HIGH]) for rule in rules_of(Config())}["nonfinite.loss"]
    'stop'
    """
    monitor = settings.monitor
    rules = [
        *_nonfinite_rules(monitor.andon),
        *(_threshold_rule(threshold) for threshold in monitor.threshold),
    ]
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


def _threshold_rule(threshold: ThresholdSettings) -> Rule:
    by_metric = REGRESSED if threshold.metric == "accuracy" else f"{threshold.name} crossed"
    return Rule(
        f"threshold.{threshold.name}",
        threshold.name,
        "threshold",
        threshold.annotations.get("summary") or by_metric,
        _always(threshold.action),
        level=threshold.level,
        lasting=True,
        factor=threshold.factor,
        min_factor=threshold.min_factor,
        labels=dict(threshold.labels),
        annotations=dict(threshold.annotations),
    )


def _budget_rule(budget: Assertion) -> Rule:
    fails = budget.fail_on_violation
    return Rule(
        f"budget.{budget.name}",
        budget.name,
        "budget",
        _BUDGET_TEXTS[budget.type],
        _always(Action.STOP if fails else Action.NOTIFY),
        level=Level.CRITICAL if fails else Level.WARNING,
        lasting=budget.type in _LASTING_BUDGETS,
    )
