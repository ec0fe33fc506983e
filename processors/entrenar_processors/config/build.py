"""Build: the processors that judge a run and the rules for their findings, from the settings of a file.

Not imported by the package root, since the settings need pydantic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from entrenar_processors.alert import Action, Level, Rule
from entrenar_processors.config.models import (
    Actions,
    AndonSettings,
    Assertion,
    Config,
    DivergenceSettings,
    DriftSettings,
    MonitorSettings,
    SpikeSettings,
    ThresholdSettings,
)
from entrenar_processors.detectors.accuracy_drop import AccuracyDrop
from entrenar_processors.detectors.divergence import DivergenceDetector
from entrenar_processors.detectors.drift import DriftMonitor
from entrenar_processors.detectors.isolation_forest import ForestMonitor
from entrenar_processors.detectors.nonfinite import NonfiniteDetector
from entrenar_processors.detectors.silent import SilentMembers
from entrenar_processors.detectors.spike import SPIKES, SpikeDetector
from entrenar_processors.detectors.stuck import StuckDetector
from entrenar_processors.detectors.threshold import Limit, ThresholdDetector
from entrenar_processors.detectors.zscore import SlidingWindowBaseline
from entrenar_processors.finding import Severity
from entrenar_processors.policy import Policy
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
#: The rule of a loop that makes no step any more; its findings are those of `stalled`.
STALLED, STALL = "stalled", "training_stalled"
#: The rule of steps that wait for their data.
DATA_WAIT = "data_wait"
#: The text for a Python warning about numbers that was caught during the run.
WARNED = "Numerical warning"


Maker = Callable[[], Processor]


#: Detectors whose findings say little of a run that is to raise a reward, unless the file says what to do.
_OF_LOSS = ("spike", "divergence")


def processors_of(
    settings: MonitorSettings,
    drift_detector: DriftDetector | None = None,
    *,
    failed: Callable[[str, Exception], object] | None = None,
) -> list[Processor]:
    """New processors by these settings; a `drift_detector` turns drift on, and is the detector used.

    Each is made for itself. Where one cannot be, `failed` is called with its name and the error, and the
    others are made; without `failed` the error is raised (MissingExtra: a library is not installed).

    >>> [type(processor).__name__ for processor in processors_of(MonitorSettings())][:3]
    ['NonfiniteDetector', 'SlidingWindowBaseline', 'SpikeDetector']
    """
    processors: list[Processor] = []
    for name, make in _makers(settings, drift_detector):
        try:
            processors.append(make())
        except Exception as error:
            if failed is None:
                raise
            failed(name, error)
    return processors


def _makers(settings: MonitorSettings, drift_detector: DriftDetector | None) -> Iterator[tuple[str, Maker]]:
    """What makes each processor, by the name of its table in the file."""
    andon = settings.andon
    yield "nonfinite", lambda: NonfiniteDetector(andon.stop_after_nonfinite_gradients, andon.nonfinite)
    for limit in _limits(settings):
        yield f"threshold.{limit.name}", partial(ThresholdDetector, limit)
    if (z := settings.zscore).enabled:
        yield "zscore", lambda: SlidingWindowBaseline(z.window, z.min_samples, z.threshold, z.metrics)
    if (spike := settings.spike).enabled:
        yield "spike", partial(_spike, spike)
    if (divergence := settings.divergence).enabled:
        yield "divergence", partial(_divergence, divergence)
    if (drop := settings.accuracy_drop).enabled:
        yield (
            "accuracy_drop",
            lambda: AccuracyDrop(
                drop.metrics,
                max_drop_ratio=drop.max_drop_ratio,
                window=drop.window,
                min_samples=drop.min_samples,
                for_samples=drop.for_samples,
                sigmas=drop.sigmas,
            ),
        )
    if (stuck := settings.stuck).enabled:
        yield "stuck", lambda: StuckDetector(stuck.metrics, same_after=stuck.same_after)
    if (silent := settings.silent).enabled:
        yield (
            "silent",
            lambda: SilentMembers(
                silent.metrics,
                stopped_after=silent.stopped_after,
                nan_after=silent.nan_after,
                constant_after=silent.constant_after,
            ),
        )
    drift = settings.drift
    if drift_detector is not None or (drift is not None and drift.enabled):
        yield "drift", partial(_drift, drift, drift_detector)
    if (forest := settings.isolation_forest) is not None and forest.enabled:
        yield (
            "isolation_forest",
            lambda: ForestMonitor(
                forest.metrics, n_trees=forest.n_trees, subsample=forest.subsample, quantile=forest.quantile
            ),
        )


def _spike(settings: SpikeSettings) -> Processor:
    directions = {metric: SPIKES.get(metric, "up") for metric in settings.metrics}
    needed = settings.min_samples if "min_samples" in settings.model_fields_set else None
    return SpikeDetector(settings.window, needed, settings.threshold, metrics=directions)


def _divergence(settings: DivergenceSettings) -> Processor:
    directions = {metric: SPIKES.get(metric, "up") for metric in settings.metrics}
    return DivergenceDetector(warm_up=settings.warm_up, threshold=settings.threshold, metrics=directions)


def _drift(settings: DriftSettings | None, detector: DriftDetector | None) -> Processor:
    if detector is None and settings is not None:
        detector = DriftDetector(settings.window, settings.threshold, test=settings.test)
    return DriftMonitor(detector, settings.metrics if settings is not None else ("accuracy",))


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
    for name, text, lasting in (  # all but the silent ones see one event from several sides
        ("zscore", "Unusual value", False),
        ("spike", "Spike", False),
        ("divergence", DIVERGED, False),
        ("accuracy_drop", REGRESSED, True),
        ("stuck", "Stuck", False),
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
                event="" if name == "silent" else "training",
                but_with_reward=name in _OF_LOSS and "actions" not in section.model_fields_set,
            )
        )
    rules += [_budget_rule(budget) for budget in settings.assertion if budget.enabled]
    rules.append(Rule("warning", "warning", "warning", WARNED, _always(Action.NOTIFY)))
    if (wait := monitor.data_wait).enabled:
        rules.append(
            Rule(
                DATA_WAIT,
                DATA_WAIT,
                DATA_WAIT,
                "The training waits for its data",
                _always(Action(wait.action)),
                lasting=True,
                ends_at_once=True,
                event=DATA_WAIT,
            )
        )
    if (stalled := monitor.stalled).enabled:
        action = Action(stalled.action)
        rules.append(
            Rule(
                STALLED,
                STALL,
                STALLED,
                "Training stalled",
                _always(action),
                level=None if action is Action.LOG else stalled.level,
                lasting=True,
                ends_at_once=True,
            )
        )
    return rules


def policy_of(settings: Config) -> Policy:
    """A new policy with these rules; who sets only `quiet_seconds` means the clock, and has it.

    >>> len(policy_of(Config()).rules) == len(rules_of(Config()))
    True
    """
    andon = settings.monitor.andon
    by_clock = "quiet_seconds" in andon.model_fields_set and "quiet_steps" not in andon.model_fields_set
    steps = None if by_clock else andon.quiet_steps
    return Policy(rules_of(settings), quiet_seconds=andon.quiet_seconds, quiet_steps=steps)


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
