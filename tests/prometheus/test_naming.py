"""Names of metrics: each is what a real Collector showed, and one name never has two owners."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel.prometheus.naming import Names, prometheus_name
from entrenar_otel.semconv import Instrument, Kind, instrument_of

#: What a real Collector showed (scripts/collector_names.py asks it).
COLLECTOR: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data/collector_prometheus_names.json").read_text(encoding="utf-8")
)
PROMETHEUS_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("loss", "training_loss"),
        ("step_duration", "training_step_duration_seconds"),
        ("tokens", "training_tokens_total"),
        ("val/loss", "training_val_loss"),
        ("Top-5 Accuracy", "training_top_5_accuracy"),
        ("損失", "training"),
        ("anomalies", "training_user_anomalies"),
        ("LOSS", "training_user_loss"),
        ("budget.usage", "training_user_budget_usage"),
    ],
)
def test_names_of_metrics(metric: str, name: str) -> None:
    """Those of `monitor.log`, from text to the name in a dashboard."""
    assert prometheus_name(instrument_of(metric)) == name


@given(st.text())
def test_any_metric_has_a_valid_name(metric: str) -> None:
    """Whatever `monitor.log` is given is shown."""
    assert PROMETHEUS_NAME.fullmatch(prometheus_name(instrument_of(metric)))


@given(st.text(), st.sampled_from(Kind), st.text())
def test_any_instrument_has_a_valid_name_or_none(name: str, kind: Kind, unit: str) -> None:
    """Also those of other programs, which can have names that nothing is left of."""
    assert PROMETHEUS_NAME.fullmatch(prometheus_name(Instrument(name, kind, unit, "")) or "x")


def test_every_name_is_the_collector_s() -> None:
    """Name, kind and unit give the name that the Collector gave, or none where it showed none.

    An observable up-down counter is in OTLP what an up-down counter is: the Collector knows no difference.
    """
    kinds = [Kind(kind) for kind in COLLECTOR["columns"]["names"][2:]]
    assert {*kinds} == {*Kind} - {Kind.OBSERVABLE_UP_DOWN_COUNTER}
    assert len(COLLECTOR["names"]) > 900
    for name, unit, *shown in COLLECTOR["names"]:
        names = [prometheus_name(Instrument(name, kind, unit, "")) or None for kind in kinds]
        assert names == shown, (name, unit)
        observed = prometheus_name(Instrument(name, Kind.OBSERVABLE_UP_DOWN_COUNTER, unit, "")) or None
        assert observed == names[kinds.index(Kind.UP_DOWN_COUNTER)], (name, unit)


def test_a_name_has_one_owner(caplog: pytest.LogCaptureFixture) -> None:
    """A metric and a kind, with the names that they make; each clash is one warning, also in later texts."""
    caplog.set_level(logging.WARNING)
    warned: set[str] = set()
    for _ in range(2):
        names = Names(warned)
        claims = [
            names.claim("h", "h", Kind.HISTOGRAM),
            names.claim("h", "h", Kind.HISTOGRAM),
            names.claim("h", "h", Kind.GAUGE),
            names.claim("h.sum", "h_sum", Kind.GAUGE),
            names.claim("c", "c_total", Kind.COUNTER),
            names.claim("other c", "c", Kind.GAUGE),
        ]
        assert claims == [True, True, False, False, True, False]
    assert [record.getMessage() for record in caplog.records] == [
        "'h' and 'h' are both h in Prometheus; the second is not exported: rename one",
        "'h' and 'h.sum' are both h_sum in Prometheus; the second is not exported: rename one",
        "'c' and 'other c' are both c in Prometheus; the second is not exported: rename one",
    ]
