"""Alerts of runs that went quiet, each in one way: they make no step, are gone, crashed, were stopped."""

from __future__ import annotations

from entrenar_processors.config.build import STALL, STALLED

from entrenar_otel.grafana.promql import PROCESS, SHOWN, highest, latest, quoted, selector, series
from entrenar_otel.grafana.rules.rule import Alert, Group
from entrenar_otel.semconv import RUN_STATES

#: The sink's own metric, see sink/own_metrics.py.
CRASHED = "entrenar_sink_run_crashed_timestamp_seconds"
#: A run that makes no step for so long, and for so many times its usual step, has stalled.
STALLED_SECONDS, STALLED_STEPS = 300, 20
_ON = f"on ({', '.join(PROCESS)})"
_STATE = series("training.run.state")
_LAST_STEP, _STARTED = series("training.last_step.timestamp"), series("training.run.start.timestamp")
_STEP_BUCKETS = series("training.step.duration", suffix="_bucket")
_SAID = series("training.alert.active", f"name={quoted(STALL)}")  # the run itself has said it
_BEATS = highest(f"increase({series('entrenar.tick.duration', suffix='_count')}[5m])", by=PROCESS)
_RUN = "{{ $labels.run_id }} (rank {{ $labels.rank }})"


def quiet() -> Group:
    """Of one run's process at most one of them fires.

    >>> [rule.name for rule in quiet().rules]
    ['TrainingStalled', 'TrainingLost', 'TrainingCrashed', 'TrainingStopped']
    """
    return Group("training-quiet", (_stalled(), _lost(), _crashed(), _stopped()))


def _stalled() -> Alert:
    since = f"(time() - {latest(_LAST_STEP)})"
    median = f"histogram_quantile(0.5, {highest(_STEP_BUCKETS, 'le', by=PROCESS)})"
    # Where a loop's steps are not timed: how often it reports a value, all in all.
    between = latest(f"({_LAST_STEP} - {_STARTED}) / {series('entrenar.recorder.samples')}", by=PROCESS)
    return Alert(
        "TrainingStalled",
        f"{since} > {STALLED_SECONDS}\n"
        f"unless {_ON} {since} <= {_ON} {STALLED_STEPS} * ({median} or {_ON} {between})\n"
        f"and {_ON} {latest(_STATE)} == {RUN_STATES['running']}\n"
        f"and {_ON} {_BEATS} > 0\n"
        f"unless {_ON} {latest(_SAID)} == 1\n",
        severity="error",
        summary=f"{_RUN} runs and makes no step",
        description="No step for {{ $value | humanizeDuration }}, which is more than five minutes and more "
        f"than {STALLED_STEPS} of its usual steps. The process lives.",
        for_="1m",
    )


def _lost() -> Alert:
    going = f"< {RUN_STATES['stopped']}"
    return Alert(
        "TrainingLost",
        f"(\n  {latest(_STATE, over='1h')} {going} unless {_ON} {_STATE}\n"
        f"  or {_ON} (\n    {latest(_STATE)} {going} unless {_ON} {_BEATS} > 0\n  )\n)\n"
        f"unless {_ON} {selector(CRASHED)}\n",
        severity="error",
        summary=f"{_RUN} was going on, and nothing is heard of it any more",
        description="It did not end: it was killed, its machine is down, or the network between it and "
        "Prometheus or the Collector is.",
        for_="5m",
    )


def _crashed() -> Alert:
    by = ", ".join(SHOWN)
    return Alert(
        "TrainingCrashed",
        f"max by ({by}) ({CRASHED})\nor {_ON} {latest(_STATE)} == {RUN_STATES['crashed']}\n",
        severity="error",
        summary=f"{_RUN} crashed",
        description="It ended by an exception, or the sink has heard nothing of it for five minutes. "
        "`entrenar-otel show {{ $labels.run_id }}` says which.",
    )


def _stopped() -> Alert:
    alerts = series("training.alerts", 'level=~"ERROR|CRITICAL"', f'source!~"control|{STALLED}"')
    return Alert(
        "TrainingStopped",
        f"{latest(_STATE)} == {RUN_STATES['stopped']}\nand {_ON} {highest(alerts, by=PROCESS)} > 0\n",
        severity="error",
        summary=f"{_RUN} was stopped by an alert",
        description="`entrenar-otel alerts {{ $labels.run_id }}` says what was abnormal, and where.",
    )
