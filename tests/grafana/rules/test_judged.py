"""Which alerts a renacer.toml gives, and what of it PromQL can say."""

from __future__ import annotations

import pytest
from entrenar_processors.config.models import Config, parse_text

from entrenar_otel.grafana.rules.judged import judged
from entrenar_otel.grafana.rules.rule import Alert

#: Those of the defaults, which say what detectors do.
DETECTORS = (
    *("nonfinite_loss", "nonfinite_other", "nonfinite_gradients", "spike", "divergence", "accuracy_drop"),
    *("stuck", "silent", "warning", "training_stalled"),
)
OTHERS = ("TrainingAlert", "TrainingAlert", "TrainingAlert", "TrainingAlertBrief")


def alerts_of(text: str) -> dict[str, Alert]:
    rules = judged(parse_text(text)).rules
    return {rule.name: rule for rule in rules if isinstance(rule, Alert)}


def limited(**settings: object) -> Alert:
    lines = "\n".join(f"{key} = {value}" for key, value in settings.items())
    return alerts_of(f'[[monitor.threshold]]\nname = "limit"\n{lines}')["limit"]


def test_without_thresholds_there_is_the_state_only() -> None:
    assert tuple(rule.name for rule in judged(Config()).rules) == DETECTORS + OTHERS
    for rule in judged(Config()).rules[: len(DETECTORS)]:
        assert rule.expr.startswith("max by (run_id, model_id, rank) (training_alert_active{name=")


def test_what_is_only_logged_or_off_has_no_alert() -> None:
    made = alerts_of('[monitor.spike]\nenabled = false\n[monitor.andon]\nnonfinite = { other = "log" }')
    assert {*DETECTORS} - {*made} == {"spike", "nonfinite_other"}
    assert "isolation_forest" in alerts_of("[monitor.isolation_forest]")
    assert "zscore" in alerts_of('[monitor.zscore]\nactions = {low="log", medium="log", high="notify"}')


def test_each_level_has_its_severity() -> None:
    text = '[monitor.spike]\nactions = { low = "notify", medium = "pause", high = "stop" }'
    rules = [rule for rule in judged(parse_text(text)).rules if rule.name == "spike"]
    assert [rule.severity for rule in rules if isinstance(rule, Alert)] == ["warning", "error"]


def test_who_pages() -> None:
    """By default the run's process does, and an Alertmanager that is given these can tell."""
    assert alerts_of("")["spike"].labels["paged_by"] == "process"
    assert "paged_by" not in alerts_of('[monitor.andon]\npage_via = "prometheus"')["spike"].labels


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"metric": '"loss"', "max": 10, "for": '"5m"'}, "training_loss"),
        ({"metric": '"val/loss"', "min": 1, "for": '"5m"'}, "training_val_loss"),
        (
            {"metric": '"loss"', "max": 10, "for": '"5m"', "tags": '{ "2nd" = "a" }'},
            'training_loss{key_2nd="a"}',
        ),
        ({"metric": '"loss"', "max": 10}, ""),  # on every sample
        ({"metric": '"loss"', "max": 10, "for_samples": 3}, ""),
        ({"metric": '"loss"', "max": 10, "for": '"5m"', "after_steps": 9}, ""),
        ({"metric": '"loss"', "max": 10, "max_ratio": 2, "for": '"5m"'}, ""),
        ({"metric": '"loss"', "max_drop_ratio": 0.5, "for": '"5m"'}, ""),
        ({"metric": '"step_duration"', "max": 10, "for": '"5m"'}, ""),  # a histogram
        ({"metric": '"tokens"', "max": 10, "for": '"5m"'}, ""),  # a counter
    ],
)
def test_what_promql_can_say(settings: dict[str, object], expected: str) -> None:
    expr = limited(**settings).expr
    state, _, limit = expr.partition("\nor on (run_id, rank) ")
    assert state.startswith('max by (run_id, model_id, rank) (training_alert_active{name="limit"')
    assert (bool(limit), expected in limit) == (bool(expected), True)


def test_durations_are_those_of_prometheus() -> None:
    assert limited(metric='"loss"', max=1, **{"for": '"1h 30m"'}).for_ == "1h30m"
