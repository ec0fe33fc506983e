"""Alerts that runs decide themselves, by renacer.toml: Prometheus tells of their state.

Conditions are evaluated once, in the run's process, on every sample. Only a plain limit with a duration is
written in PromQL as well, under the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from entrenar_processors.alert import Action, Level, Rule
from entrenar_processors.config.build import rules_of
from entrenar_processors.config.models import Assertion, Config, MonitorSettings, ThresholdSettings

from entrenar_otel.grafana.promql import (
    PROCESS,
    SHOWN,
    any_of,
    highest,
    latest,
    name_of,
    quoted,
    selector,
    series,
)
from entrenar_otel.grafana.rules.rule import Alert, Group
from entrenar_otel.prometheus.labels import RESOURCE_LABELS, label_names
from entrenar_otel.prometheus.naming import prometheus_name
from entrenar_otel.semconv import RUN_STATES, Kind, instrument_of

_ACTIVE = "training.alert.active"
_ON = f"on ({', '.join(PROCESS)})"
_RUN = "{{ $labels.run_id }}"
_LOOK = f"`entrenar-otel alerts {_RUN}` says where, and what was done."
#: Labels that no rule of the file can set, as in handlers/payload.py.
_OURS = ("alertname", "source", "metric", "run_id", "rank", "severity")
#: Levels that are alerts.
_LEVELS = (Level.WARNING, Level.ERROR, Level.CRITICAL)


def judged(settings: Config) -> Group:
    """An alert of each name that these settings give one, and one for what other settings call otherwise.

    >>> [rule.name for rule in judged(Config()).rules][-3:]
    ['TrainingAlert', 'TrainingAlert', 'TrainingAlertBrief']
    """
    paged_by = {"paged_by": "process"} if settings.monitor.andon.page_via == "process" else {}
    thresholds = {one.name: one for one in settings.monitor.threshold}
    budgets = {one.name: one for one in settings.assertion}
    named = [rule for rule in rules_of(settings) if _is_on(rule, settings.monitor)]
    alerts = [
        _alert(rule, level, thresholds.get(rule.name), budgets.get(rule.name), paged_by)
        for rule in named
        for level in _levels(rule)
    ]
    names = sorted({rule.name for rule in named})
    return Group("training-judged", (*alerts, *_others(names, paged_by), _brief(paged_by)))


def _is_on(rule: Rule, settings: MonitorSettings) -> bool:
    section = getattr(settings, rule.detector, True)
    return section is not None and getattr(section, "enabled", True)


def _levels(rule: Rule) -> Iterable[Level]:
    """The levels that its alerts may have; what is only logged is not exported as active."""
    actions = {action for action in rule.actions.values() if action is not Action.LOG}
    levels = {rule.level or Level.of(action) for action in actions}
    return sorted(levels & {*_LEVELS}, key=lambda level: level.rank)


def _alert(
    rule: Rule,
    level: Level,
    threshold: ThresholdSettings | None,
    budget: Assertion | None,
    paged_by: Mapping[str, str],
) -> Alert:
    active = selector(name_of(_ACTIVE), f"name={quoted(rule.name)}", f'level="{level}"')
    expr, for_ = f"{latest(active)} == 1", "0s"
    limit = _limit(threshold) if threshold is not None and rule.source == "threshold" else ""
    if limit and threshold is not None and threshold.for_ is not None:
        expr, for_ = f"{expr}\nor {_ON} {limit}\n", threshold.for_.replace(" ", "")
    elif budget is not None and rule.source == "budget" and budget.type != "custom":
        expr = _usage(rule.name)
    own = label_names((), rule.labels)
    labels = {own[key]: _literal(value) for key, value in rule.labels.items() if own[key] not in _OURS}
    named = label_names((), rule.annotations)
    return Alert(
        rule.name,
        expr,
        str(level).lower(),
        summary=f"{_RUN}: {_literal(rule.text)}",
        description=_LOOK,
        for_=for_,
        runbook=_runbook(rule),
        labels={"level": str(level), "source": rule.source, **paged_by, **labels},
        annotations={named[key]: _literal(value) for key, value in rule.annotations.items()},
    )


def _runbook(rule: Rule) -> str:
    """The heading of docs/grafana.md: of a name that the file chose, what kind of rule it is."""
    if rule.source == "nonfinite" and rule.name not in ("nonfinite_loss", "nonfinite_gradients"):
        return "nonfinite_other"
    return {"threshold": "Thresholds", "budget": "Budgets"}.get(rule.source, rule.name)


def _limit(threshold: ThresholdSettings) -> str:
    """The condition in PromQL, where PromQL can say it: of a gauge, by the clock, from the first step on."""
    instrument = instrument_of(threshold.metric)
    relative = threshold.max_drop_ratio is not None or threshold.max_ratio is not None
    if relative or threshold.for_ is None or threshold.after_steps or instrument.kind is not Kind.GAUGE:
        return ""
    labels = label_names(RESOURCE_LABELS.values(), threshold.tags)
    matchers = [f"{labels[key]}={quoted(value)}" for key, value in threshold.tags.items()]
    if not (name := prometheus_name(instrument)):
        return ""
    values = latest(selector(name, *matchers))
    lowest = f"min{values.removeprefix('max')}"
    sides = [
        f"{found} {sign} {limit!r}"
        for found, sign, limit in ((lowest, "<", threshold.min), (values, ">", threshold.max))
        if limit is not None
    ]
    running = f"{latest(series('training.run.state'))} == {RUN_STATES['running']}"
    return f"(({' or '.join(sides)}) and {_ON} {running})"


def _usage(budget: str) -> str:
    """A budget is exceeded as long as its use is above 1, unless the run has come to a good end."""
    usage = latest(series("training.budget.usage", f"budget={quoted(budget)}"))
    state = latest(series("training.run.state"))
    return f"{usage} > 1\nunless {_ON} {state} == {RUN_STATES['completed']}\n"


def _others(names: Iterable[str], paged_by: Mapping[str, str]) -> Iterator[Alert]:
    for level in _LEVELS:
        active = series(_ACTIVE, f"name!~{any_of(names)}", f'level="{level}"')
        yield Alert(
            "TrainingAlert",
            f"{latest(active, by=(*SHOWN, 'name'))} == 1",
            str(level).lower(),
            summary=f"{_RUN}: {{{{ $labels.name }}}}",
            description=f"An alert of a detector or a threshold that is not in the renacer.toml of these "
            f"rules. {_LOOK}",
            labels={"level": str(level), **paged_by},
        )


def _brief(paged_by: Mapping[str, str]) -> Alert:
    """What was over before Prometheus looked; the counter knows of it."""
    levels = "|".join(_LEVELS)
    fired = series("training.alerts", f'level=~"{levels}"', 'source!="control"')
    seen = highest(f"max_over_time({series(_ACTIVE)}[5m])", by=PROCESS)
    return Alert(
        "TrainingAlertBrief",
        f"{highest(f'increase({fired}[5m])', 'level', 'source')} > 0\nunless {_ON} {seen} == 1\n",
        "warning",
        summary=f"{_RUN}: an alert of {{{{ $labels.source }}}} came and went",
        description=f"It was over before Prometheus saw it. {_LOOK}",
        labels=dict(paged_by),
    )


def _literal(text: str) -> str:
    """A text of renacer.toml, in which Prometheus expands nothing."""
    return text.replace("{{", '{{ "{{" }}')
