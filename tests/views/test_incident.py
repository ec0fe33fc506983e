"""The view of an incident: its window as curves, what it is about first."""

from __future__ import annotations

import io
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from entrenar_processors.samples import Series
from PIL import Image

from entrenar_otel.lake.tables.schema import METRICS
from entrenar_otel.views.incident import chosen_panels, picture, view_of

START = datetime(2026, 5, 1, tzinfo=UTC)
ALERT: dict[str, Any] = {
    "name": "spike", "level": "WARNING", "action": "notify", "state": "firing", "summary": "loss is 9",
    "metric": "loss", "tag.layer": "3", "step": 2, "epoch": 0, "value": 9.0, "count": 1,
    "started_ns": round((START + timedelta(seconds=2)).timestamp() * 1e9),
}  # fmt: skip


def documents(alert: dict[str, Any] = ALERT, **environment: Any) -> dict[str, Any]:
    limits = [
        {"name": "ceiling", "metric": "loss", "tags": {}, "min": None, "max": 8.0},
        {"name": "ratio", "metric": "loss", "tags": {}, "min": None, "max": None},
    ]
    about = {"run_id": "digits-7", "model_id": "mlp", "version": "1.0.0", "rank": 0, "world_size": 1}
    return {
        "alert": alert,
        "config": {"monitor": {"threshold": limits}},
        "environment": about | environment,
    }


def row(metric: str, step: int | None, value: float, **more: Any) -> dict[str, Any]:
    tags = {key[4:]: str(more.pop(key)) for key in list(more) if key.startswith("tag_")}
    known = {"epoch": 0, "batch": None, "rank": 0, "attempt": 1, "seq": step or 0, "tags": list(tags.items())}
    at = START + timedelta(seconds=step or 0)
    return {
        "timestamp": at,
        "run_id": "digits-7",
        "metric": metric,
        "value": value,
        "step": step,
        **known,
        **more,
    }


def window(rows: list[dict[str, Any]]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=METRICS), file)
    return file.getvalue()


def test_rows_become_curves_by_metric_and_tags() -> None:
    """In the order of `seq`; null coordinates, several tags, none at all; NaN stays."""
    rows = [
        row("loss", 1, math.nan), row("loss", 0, 1.0), row("loss", 0, 2.0, tag_split="validation"),
        row("loss", 0, 3.0, tag_layer=1, tag_part="a"), row("loss", 0, 4.0, tag_layer=1, tag_part="b"),
        row("lr", None, 0.1),
    ]  # fmt: skip
    view = view_of(documents(), window(rows))
    curves = {str(series): rows.values.tolist() for series, rows in view.curves.items()}
    assert curves.pop("loss") == [1.0, pytest.approx(math.nan, nan_ok=True)]
    assert sorted(curves.values()) == [[0.1], [2.0], [3.0], [4.0]]
    assert Series.of("loss", {"layer": "1", "part": "b"}) in view.curves
    assert view.stepped == view.curves.keys() - {Series("lr")}
    assert view.statistics[Series("loss")].nonfinite == 1
    assert [(limit.name, limit.high) for limit in view.thresholds] == [("ceiling", 8.0)]
    assert (view.findings[0].step, view.findings[0].at) == (2, START + timedelta(seconds=2))


def test_it_is_of_the_rank_that_judged_and_its_latest_attempt() -> None:
    rows = [
        row("loss", 0, 1.0, rank=1), row("loss", 0, 2.0, rank=1, attempt=2), row("loss", 0, 3.0, rank=0),
    ]  # fmt: skip
    view = view_of(documents(rank=1, world_size=2), window(rows))
    assert view.curves[Series("loss")].values.tolist() == [2.0]
    assert (view.rank, view.ranks) == (1, 2)
    assert view_of(documents(rank=5), window(rows)).curves == {}


def test_what_it_is_about_is_there_among_many() -> None:
    """Its metric is the first panel, and its series one of the eight that are drawn."""
    rows = [row("loss", step, step / 2, tag_layer=at) for at in range(40) for step in range(3)]
    rows += [row(f"metric.{at}", 0, 1.0) for at in range(500)]
    alert = ALERT | {"tag.layer": "37"}
    view = view_of(documents(alert), window(rows))
    assert Series.of("loss", {"layer": "37"}) in view.curves
    assert sum(series.metric == "loss" for series in view.curves) == 8
    panels = chosen_panels(view)
    assert (len(panels), panels[0].metric) == (6, "loss")
    late = chosen_panels(view_of(documents(ALERT | {"metric": "metric.499"}), window(rows)))
    assert [late[0].metric, late[1].metric] == ["metric.499", "loss"]


@pytest.mark.parametrize(
    ("alert", "rows"),
    [
        (ALERT, [row("loss", step, float(step), tag_layer=3) for step in range(5)]),
        (ALERT | {"value": "NaN"}, [row("loss", 0, math.nan)]),
        ({"started_ns": 0, "name": "$a$", "summary": "\x1b[31m" * 200}, []),
        (ALERT | {"metric": None, "step": None}, [row("$x_{$", 0, math.inf, tag_a="$b_{$")]),
    ],
)
def test_every_incident_is_a_picture(alert: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Also of a budget, which is about no metric, and of a window without rows."""
    alert = {key: value for key, value in alert.items() if value is not None}
    with Image.open(io.BytesIO(picture(documents(alert), window(rows)))) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.min() < 80
    assert pixels[0].min() == 255
