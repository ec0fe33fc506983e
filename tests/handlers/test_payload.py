"""Payload: which labels and annotations an alert has; a tag's label is the one that it has on the metric."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from entrenar_processors import Series
from entrenar_processors.alert import Action, Alert, Level
from entrenar_processors.finding import Coordinates
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.parser import text_string_to_metric_families

from entrenar_otel import Monitor
from entrenar_otel.exporters import export_run
from entrenar_otel.handlers import Notice, RunInfo
from entrenar_otel.handlers.payload import annotations_of, labels_of
from entrenar_otel.prometheus.exposition import Exposition
from entrenar_otel.semconv import instrument_of


def test_labels_that_clash(notice_of: Callable[..., Notice]) -> None:
    """Ours stand, a rule's `severity` wins over the level's, tags get `tag_`."""
    tags = {"2nd": "x", "a.b": 1, "a_b": 2, "empty": "", "rank": 7, "severity": "s", "ü": "\ud800"}
    notice = notice_of(
        series=Series.of("val/loss", tags),
        labels={"severity": "page", "run_id": "mine", "my-team": "v"},
        level=Level.ERROR,
    )
    assert labels_of(notice) == {
        "key_2nd": "x",
        "a_b": "1",
        "tag_a_b": "2",
        "tag_rank": "7",
        "tag_severity": "s",
        "tag__": "?",
        "my_team": "v",
        "alertname": "spike",
        "source": "spike",
        "metric": "val/loss",
        "level": "ERROR",
        "severity": "page",
        "run_id": "r1",
        "rank": "0",
        "model_id": "digits",
    }


def test_annotations_without_what_is_not_known(notice_of: Callable[..., Notice]) -> None:
    """They are left out; NaN is a value."""
    at = Coordinates(epoch=3)
    annotations = annotations_of(notice_of(series=None, value=float("nan"), expected=None, score=None, at=at))
    assert annotations["value"] == "nan"
    assert not {"expected", "score", "step", "batch", "incident"} & set(annotations)


def test_what_changes_is_not_a_label(notice_of: Callable[..., Notice]) -> None:
    """An alert has one identity whatever is done about it, with any value, at any time."""
    one = labels_of(notice_of(action=Action.STOP))
    other = labels_of(notice_of(value=1.0, episode="9", started_ns=1, count=3))
    assert one == other


@pytest.mark.parametrize("metric", ["loss", "step_duration"])
@pytest.mark.parametrize("model", [None, "m"])
@given(
    tags=st.dictionaries(
        st.text("ab.-_1é", max_size=3) | st.sampled_from(["rank", "le", "2nd", "run_id", "model_id", "__x"]),
        st.text('ab"\\\né', min_size=1, max_size=3),
        max_size=4,
    )
)
def test_a_tag_has_the_label_that_it_has_on_the_page(
    tags: dict[str, str], model: str | None, metric: str
) -> None:
    """Whatever the tags, on a gauge and on a histogram, so that the alert leads to its series."""
    resource = Resource(
        {
            "training.run.id": "r",
            "training.process.rank": 3,
            **({"training.model.id": model} if model else {}),
        }
    )
    name = instrument_of(metric).name
    data: Gauge | Histogram = Gauge([NumberDataPoint(tags, 0, 1, 0.5)])
    if metric == "step_duration":
        point = HistogramDataPoint(tags, 0, 1, 1, 1.0, [1], [], 1.0, 1.0)
        data = Histogram([point], AggregationTemporality.CUMULATIVE)
    scope = ScopeMetrics(InstrumentationScope("s"), [Metric(name, "", "", data)], "")
    page = Exposition().write(MetricsData([ResourceMetrics(resource, [scope], "")])).decode()
    assert alert_labels(metric, tags, model) == series_labels(page, name)


def test_a_tag_has_the_label_that_it_has_in_an_export(tmp_path: Path) -> None:
    """Of a run in the lake."""
    tags = {"2nd": "x", "a.b": "1", "a_b": "2", "rank": "7", "model_id": "tag", "ü": "y", "__x": "z"}
    with Monitor("r", lake=tmp_path / "lake", quiet=True) as monitor:
        monitor.log(loss=0.5, tags=tags)
    text = export_run(monitor.lake, "r", "prometheus") or ""
    wanted = alert_labels("loss", tags, None) | {"rank": "0"}
    assert wanted == series_labels(text, "training.loss")
    assert wanted == {"run_id": "r", "rank": "0", "key_2nd": "x", "a_b": "1", "tag_a_b": "2", "tag_rank": "7",
                      "model_id": "tag", "tag__": "y", "tag___x": "z"}  # fmt: skip


def alert_labels(metric: str, tags: dict[str, str], model: str | None) -> dict[str, str]:
    """Less those that only an alert has."""
    alert = Alert("a", "s", Level.ERROR, Action.LOG, "", "1", 0, series=Series.of(metric, tags))
    labels = labels_of(Notice(alert, RunInfo("r", rank=3, model_id=model)))
    only = ("alertname", "source", "metric", "severity", "level")
    return {name: value for name, value in labels.items() if name not in only}


def series_labels(text: str, instrument: str) -> dict[str, str]:
    """The labels of the one series of an instrument."""
    families = text_string_to_metric_families(text)
    (labels,) = [
        sample.labels
        for family in families
        for sample in family.samples
        if sample.name.removesuffix("_count") == instrument.replace(".", "_")
    ]
    return dict(labels)
