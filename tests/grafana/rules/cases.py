"""Cases for `promtool test rules`: for every alert, series on which it fires and series on which it does not.

Times are in minutes after 1970, where promtool's clock starts; a sample comes every 15 seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from entrenar_processors.durations import parse_seconds

from entrenar_otel.grafana.rules.rule import Alert

INTERVAL = 15
PER_MINUTE = 60 // INTERVAL
#: Stands for the number of a case in its labels: what one of them has is no other's.
N = "§"
RUN = {"run_id": f"r{N}", "model_id": "digits", "rank": "0"}
PLACE = {"job": "training", "instance": f"r{N}/1/0"}
GONE = "stale"


def steady(value: float, minutes: float = 66) -> str:
    """The same value all the time."""
    return f"{value}x{int(minutes * PER_MINUTE)}"


def rising(per_second: float, minutes: float = 66, start: float = 0) -> str:
    """A clock or a counter."""
    return f"{start}+{per_second * INTERVAL:g}x{int(minutes * PER_MINUTE)}"


def selector(name: str, labels: Mapping[str, str]) -> str:
    inner = ",".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in labels.items())
    return f"{name}{{{inner}}}"


@dataclass
class Series:
    """What a run shows, by metric: the values in promtool's notation."""

    values: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, values: str, /, **labels: str) -> Series:
        """One more series, of the run unless the labels say otherwise."""
        self.values[selector(name, {**PLACE, **RUN, **labels})] = values
        return self

    def bare(self, name: str, values: str, /, **labels: str) -> Series:
        """One that is no run's."""
        self.values[selector(name, labels)] = values
        return self

    @classmethod
    def run(
        cls,
        *,
        minutes: float = 66,
        state: str = "",
        steps: str = "",
        step_seconds: float = 1.0,
        **labels: str,
    ) -> Series:
        """A run that goes on for so long; `state`, and `steps` (when the last one was), if special."""
        made = cls()
        made.put("training_run_state", state or steady(1, minutes), **labels)
        made.put("training_run_start_timestamp_seconds", steady(0, minutes), **labels)
        made.put("training_last_step_timestamp_seconds", steps or rising(1, minutes), **labels)
        made.put("entrenar_tick_duration_seconds_count", rising(1, minutes), **labels)
        made.put("entrenar_recorder_samples_total", rising(5, minutes), **labels)
        for bound in (step_seconds / 2, step_seconds * 1.5, "+Inf"):
            counts = steady(0, minutes) if bound == step_seconds / 2 else rising(1 / step_seconds, minutes)
            made.put("training_step_duration_seconds_bucket", counts, le=str(bound), **labels)
        return made


@dataclass(frozen=True)
class Case:
    """At these minutes the alert fires on these series, or does not. `value` is what the texts say of it."""

    alert: str
    fires: bool
    minutes: float
    series: Series
    labels: Mapping[str, str] = field(default_factory=lambda: RUN)
    value: str = ""
    severity: str = ""


def all_at_once(rules: str, cases: Sequence[Case], alerts: Sequence[Alert]) -> dict[str, Any]:
    """The file for `promtool test rules`: which alerts fire, with which labels."""
    series = [
        {"series": _numbered(name, number), "values": values}
        for number, case in enumerate(cases)
        for name, values in case.series.values.items()
    ]
    tests = []
    for number, case in enumerate(cases):
        key, own = next((key, value) for key, value in case.labels.items() if N in value)
        about = {"alertname": case.alert, "alertstate": "firing", key: _numbered(own, number)}
        expected = {**about, **_labels(case, alerts)} if case.fires else {}
        labels = {name: _numbered(value, number) for name, value in expected.items()}
        tests.append(
            {
                "expr": selector("ALERTS", about),
                "eval_time": _seconds(case.minutes),
                "exp_samples": [{"labels": selector("ALERTS", labels), "value": 1}] if case.fires else [],
            }
        )
    return _document(rules, [{"input_series": series, "promql_expr_test": tests}])


def texts(rules: str, cases: Sequence[Case], alerts: Sequence[Alert]) -> dict[str, Any]:
    """The same for the texts of alerts: one case of each that fires."""
    first = {(case.alert, case.severity): case for case in reversed(cases) if case.fires}
    return _document(
        rules,
        [
            {
                "name": case.alert,
                "input_series": [
                    {"series": name, "values": values} for name, values in case.series.values.items()
                ],
                "alert_rule_test": [
                    {
                        "alertname": case.alert,
                        "eval_time": _seconds(case.minutes),
                        "exp_alerts": [_with_texts(case, alerts)],
                    }
                ],
            }
            for case in first.values()
        ],
    )


def _document(rules: str, tests: list[dict[str, Any]]) -> dict[str, Any]:
    tests = [{"interval": f"{INTERVAL}s", **test} for test in tests]
    return {"rule_files": [rules], "evaluation_interval": "1m", "tests": tests}


def _numbered(text: str, number: int) -> str:
    return text.replace(N, str(number))


def _seconds(minutes: float) -> str:
    return f"{int(minutes * 60)}s"


def _alert_of(case: Case, alerts: Sequence[Alert]) -> Alert:
    (alert,) = (one for one in alerts if one.name == case.alert and case.severity in ("", one.severity))
    return alert


def _labels(case: Case, alerts: Sequence[Alert]) -> dict[str, str]:
    rule = _alert_of(case, alerts).as_dict()
    return {**case.labels, **{key: _plain(text) for key, text in rule["labels"].items()}}


def _with_texts(case: Case, alerts: Sequence[Alert]) -> dict[str, Any]:
    labels, rule = _labels(case, alerts), _alert_of(case, alerts).as_dict()
    texts = {key: _expanded(text, labels, case.value) for key, text in rule["annotations"].items()}
    return {"exp_labels": labels, "exp_annotations": texts}


def _expanded(text: str, labels: Mapping[str, str], value: str) -> str:
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels.get(found[1], ""), text)
    text = re.sub(r"\{\{ \$value[^}]*\}\}", value, text)
    return _plain(text)


def _plain(text: str) -> str:
    return text.replace('{{ "{{" }}', "{{")


def quiet_cases() -> Iterator[Case]:
    """Runs that go on, stall, are lost, crash, are stopped, and end well."""
    for alert in ("TrainingStalled", "TrainingLost", "TrainingCrashed", "TrainingStopped"):
        yield Case(alert, False, 60, Series.run())
        ended = f"{steady(1, 30)} {steady(4, 1)} {GONE}"
        pulled = Series.run(minutes=31, state=ended)
        pushed = Series.run(minutes=30)  # the Collector shows the last values for an hour
        pushed.values = {name: f"{text} {_last(name, text)}" for name, text in pushed.values.items()}
        pushed.put("training_run_state", f"{steady(1, 30)} {steady(4, 60)}")
        for minutes in (31, 40, 66):
            yield Case(alert, False, minutes, pulled)
            yield Case(alert, False, minutes, pushed)

    stuck = f"{rising(1, 20)} {steady(20 * 60, 60)}"
    yield Case("TrainingStalled", True, 30, Series.run(steps=stuck), value="10m 0s")
    yield Case("TrainingStalled", False, 24, Series.run(steps=stuck))
    said = Series.run(steps=stuck)
    said.put(
        "training_alert_active", f"{steady(0, 21)} {steady(1, 60)}", name="training_stalled", level="ERROR"
    )
    yield Case("TrainingStalled", False, 30, said)  # the run has said it
    slow = Series.run(steps=stuck, step_seconds=60)  # 20 steps are 20 minutes, of up to 90 s by their buckets
    yield Case("TrainingStalled", False, 38, slow)
    yield Case("TrainingStalled", True, 60, slow, value="40m 0s")
    paused = Series.run(steps=stuck, state=f"{steady(1, 20)} {steady(2, 60)}")
    yield Case("TrainingStalled", False, 60, paused)
    untimed = Series.run(steps=f"{steady(0, 20)} {steady(20 * 60, 60)}")  # one value in 20 minutes
    untimed.values = {name: text for name, text in untimed.values.items() if "_bucket" not in name}
    untimed.put("entrenar_recorder_samples_total", steady(1))
    yield Case("TrainingStalled", False, 60, untimed)
    dead = Series.run(minutes=20)
    dead.values = {name: f"{text} {_last(name, text)}" for name, text in dead.values.items()}
    yield Case("TrainingStalled", False, 60, dead)  # it is lost
    yield Case("TrainingLost", False, 24, dead)
    yield Case("TrainingLost", True, 31, dead)
    killed = Series.run(minutes=20)
    killed.values = {name: f"{text} {GONE}" for name, text in killed.values.items()}
    yield Case("TrainingLost", False, 24, killed)
    yield Case("TrainingLost", True, 26, killed)
    resumed = Series(killed.values | Series.run(instance=f"r{N}/2/0").values)
    yield Case("TrainingLost", False, 60, resumed)
    known = Series(dict(killed.values)).bare(CRASHED, steady(1200), **RUN, job="sink", instance=f"s{N}")
    yield Case("TrainingLost", False, 30, known)
    yield Case("TrainingCrashed", True, 30, known)
    raised = Series.run(state=f"{steady(1, 20)} {steady(5, 60)}")
    yield Case("TrainingCrashed", False, 19, raised)
    yield Case("TrainingCrashed", True, 21, raised)
    second = Series(dict(raised.values)).put("training_run_state", steady(1), instance=f"r{N}/2/0")
    second.put("training_run_start_timestamp_seconds", f"{'_x120'} {steady(1800)}", instance=f"r{N}/2/0")
    yield Case("TrainingCrashed", False, 40, second)
    stopped = Series.run(state=f"{steady(1, 20)} {steady(3, 60)}")
    by_alert = Series(dict(stopped.values)).put(
        "training_alerts_total", f"{steady(0, 20)} {steady(1, 60)}", level="ERROR", source="nonfinite"
    )
    by_person = Series(dict(stopped.values)).put(
        "training_alerts_total", f"{steady(0, 20)} {steady(1, 60)}", level="ERROR", source="control"
    )
    after_a_hang = Series(dict(stopped.values)).put(
        "training_alerts_total", f"{steady(0, 20)} {steady(1, 60)}", level="ERROR", source="stalled"
    )
    yield Case("TrainingStopped", False, 21, after_a_hang)
    yield Case("TrainingStopped", True, 21, by_alert)
    yield Case("TrainingStopped", False, 21, by_person)


CRASHED = "entrenar_sink_run_crashed_timestamp_seconds"


def _last(name: str, text: str) -> str:
    """The value that a series had at its end, for an hour more."""
    start, _, rest = text.partition("+")
    if not rest:
        return steady(float(start.partition("x")[0]), 60)
    step, _, times = rest.partition("x")
    return steady(float(start) + float(step) * int(times), 60)


def judged_cases(alerts: Sequence[Alert]) -> Iterator[Case]:
    """What a run says itself, by the names of these alerts."""
    for alert in alerts:
        source, level = alert.labels.get("source"), alert.labels.get("level", "")
        if alert.name == "TrainingAlert":
            yield from _others(alert)
        elif source == "budget" and "training_budget_usage" in alert.expr:
            yield from _budget(alert)
        elif source is not None:
            for fires in (True, False):
                series, minutes = active(alert.name, level, int(fires)), 11 + parse_seconds(alert.for_) / 60
                yield Case(alert.name, fires, minutes, series, severity=alert.severity)
    yield from brief_cases()


def active(name: str, level: str, value: int, after: float = 10) -> Series:
    """A run with an alert that is active from then on, or not."""
    values = f"{steady(0, after)} {steady(value, 60)}"
    return Series.run().put("training_alert_active", values, name=name, level=level)


def _others(alert: Alert) -> Iterator[Case]:
    level = alert.labels["level"]
    labels = {**RUN, "name": "my detector"}
    yield Case(alert.name, True, 11, active("my detector", level, 1), labels, severity=alert.severity)
    yield Case(alert.name, False, 11, active("my detector", level, 0))
    yield Case(alert.name, False, 11, active("spike", level, 1))  # which has a rule of its own


def _budget(alert: Alert) -> Iterator[Case]:
    for usage, fires in ((1.01, True), (1, False)):
        series = Series.run().put("training_budget_usage", steady(usage), budget=alert.name)
        yield Case(alert.name, fires, 11, series, severity=alert.severity)
    done = Series.run(state=f"{steady(1, 10)} {steady(4, 60)}")
    yield Case(alert.name, False, 12, done.put("training_budget_usage", steady(2), budget=alert.name))


def brief_cases() -> Iterator[Case]:
    """An episode between two scrapes; one that was seen; a person's command."""
    once = f"{steady(0, 10)} {steady(1, 60)}"
    labels = {**RUN, "level": "WARNING", "source": "spike"}
    counted = {"level": "WARNING", "source": "spike"}
    unseen = active("spike", "WARNING", 0).put("training_alerts_total", once, **counted)
    yield Case("TrainingAlertBrief", True, 12, unseen, labels)
    yield Case("TrainingAlertBrief", False, 9, unseen)
    yield Case("TrainingAlertBrief", False, 20, unseen)
    seen = active("spike", "WARNING", 1).put("training_alerts_total", once, **counted)
    yield Case("TrainingAlertBrief", False, 12, seen)
    by_person = Series.run().put("training_alerts_total", once, level="ERROR", source="control")
    yield Case("TrainingAlertBrief", False, 12, by_person)


def limit_cases(
    name: str, metric: str, low: float, high: float, minutes: float, **tags: str
) -> Iterator[Case]:
    """A limit that PromQL can say: crossed for so long, not as long, not at all, by another tag."""

    def values(value: float) -> Series:
        inside = (low + high) / 2
        series = f"{steady(inside, 10)} {steady(value, 3 * minutes)}"
        return Series.run().put(metric, series, **tags)

    after = 10 + 0.5  # by then the new value is there
    for value in (low - 1, high + 1):
        yield Case(name, True, after + minutes + 0.5, values(value))
        yield Case(name, False, after + minutes - 1, values(value))
    yield Case(name, False, after + minutes + 1, values(low))
    yield Case(name, False, after + minutes + 1, values(high))
    other = Series.run().put(metric, steady(low - 1), split="other")
    yield Case(name, not tags, 60, other) if not tags else Case(name, False, 60, other)
    ended = values(low - 1).put("training_run_state", f"{steady(1, 10)} {steady(4, 60)}")
    yield Case(name, False, after + minutes + 1, ended)
