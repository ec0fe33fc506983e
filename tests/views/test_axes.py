"""Axes of a picture: texts stay clear of each other and of the edge."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from entrenar_processors.samples import Series
from matplotlib.figure import Figure
from matplotlib.text import Text

from entrenar_otel.views import Panel
from entrenar_otel.views.model import Threshold
from entrenar_otel.views.numbers import value_text
from entrenar_otel.views.png import draw

from .conftest import column, view_of

LONG = "encoder.block.17.attention.query.projection.weight"


def figure_of(metric: str, tags: list[dict[str, Any]], scale: float = 1.0) -> Figure:
    """A picture with this metric in the second column, drawn."""
    values = scale * (1 + np.linspace(0, 1e-3, 50))
    curves = {Series.of(metric, one): column(values) for one in tags}
    view = view_of(curves | {Series("loss"): column(values)})
    figure = draw(view, panels=[Panel("loss"), Panel(metric)])
    figure.canvas.draw()
    return figure


@pytest.mark.parametrize(
    ("metric", "tags"),
    [
        ("loss_of_the_very_first_layer_of_all", [{"split": "train"}, {"split": "validation"}]),
        ("system.cpu.utilization", [{"cpu.mode": mode} for mode in ("iowait", "steal", "system", "user")]),
        ("system.network.io", [{"network.io.direction": way} for way in ("receive", "transmit")]),
        ("WWWWWWWWWWWWWWWWWWWWWWWWWWWWWWWW", [{"layer": LONG}]),
        ("norm", [{"layer": f"{LONG}.{at}"} for at in range(12)]),
    ],
)
@pytest.mark.parametrize("scale", [1.0, -1.2345e8])
def test_no_heading_runs_over_a_legend(metric: str, tags: list[dict[str, Any]], scale: float) -> None:
    """Nor one name over the next; what has no room is counted, and a value is there as a whole or not."""
    axes = figure_of(metric, tags, scale).axes[1]
    heading = axes.get_title(loc="left")
    assert heading.startswith(metric.replace("_", " ")[:10])
    (title,) = [text for text in axes.findobj(Text) if text.get_text() == heading]
    legend = axes.get_legend()
    assert legend is not None
    boxes = [title.get_window_extent(), *(text.get_window_extent() for text in legend.get_texts())]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert title.get_window_extent().x1 < legend.get_window_extent().x0
    last = legend.get_texts()[-1].get_text()
    shown = len(legend.get_texts())
    assert last.endswith(f"  +{len(tags) - shown} more") == (shown < len(tags))
    assert value_text(metric, scale * 1.001) in last or (shown == len(tags) > 1 and " " not in last)


def test_train_and_validation_are_told_apart_before_their_values_are_told() -> None:
    splits = [{"split": "train"}, {"split": "validation"}]
    legend = figure_of("loss_of_one_of_many_heads", splits, -1.2345e8).axes[1].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["train", "validation"]


def test_the_numbers_beside_the_curves_are_within_the_picture() -> None:
    """The longest there are, beside curves of the first column and of the second."""
    figure = figure_of("score", [{}], -1.2345e10)
    edges = [0.0, figure.axes[0].get_window_extent().x1]
    for axes, edge in zip(figure.axes, edges, strict=True):
        labels = [label for label in axes.get_yticklabels() if label.get_text()]
        assert max(len(label.get_text()) for label in labels) == 10
        assert all(label.get_window_extent().x0 > edge for label in labels)


@pytest.mark.parametrize("limit", [0.0, 0.5, 1.0, 1.05])
def test_a_limit_says_its_name_within_its_panel(limit: float) -> None:
    """Not over the legend, where it is at the upper edge."""
    view = replace(
        view_of({Series("loss"): column(np.linspace(0, 1, 50))}),
        thresholds=[Threshold("ceiling", "loss", {}, None, limit)],
    )
    figure = draw(view)
    figure.canvas.draw()
    (axes,) = figure.axes
    (text,) = [text for text in axes.findobj(Text) if text.get_text().startswith("ceiling")]
    box, panel = text.get_window_extent(), axes.get_window_extent()
    assert panel.y0 <= box.y0
    assert box.y1 <= panel.y1


def test_powers_of_ten_of_bytes_are_sizes() -> None:
    values = np.full(300, 1e6)
    values[100] = 3e9
    view = view_of({Series("process.memory.usage"): column(values)})
    (axes,) = draw(view, panels=[Panel("process.memory.usage")]).axes
    texts = [label.get_text() for label in axes.get_yticklabels()]
    assert texts == ["1 MB", "10 MB", "100 MB", "1 GB"]
    assert axes.get_title(loc="left") == "process.memory.usage (log)"
