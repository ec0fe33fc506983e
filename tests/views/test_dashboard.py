"""Dashboards of a script: as text, as a picture, kept up to date by a run, and what a notebook shows."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entrenar_processors.samples import Series

from entrenar_otel import Monitor
from entrenar_otel.errors import ConfigError, RunError
from entrenar_otel.views import Dashboard, Panel, RunView, Visualizer
from entrenar_otel.views.svg import curves_svg

from .conftest import column, view_of


def test_panels_are_where_they_were_put(digits: RunView) -> None:
    """By row and column; a title of one's own; a metric that was not measured leaves its place empty."""
    panels = [
        Panel("loss", series=["train", "validation"], title="Training loss"),
        Panel("accuracy", row=0, column=1),
        Panel("nothing"),
    ]
    dashboard = Dashboard(panels=panels)
    assert isinstance(dashboard, Visualizer)
    dashboard.update(digits)
    line = next(line for line in dashboard.render(100).splitlines() if "Training loss" in line)
    assert "accuracy" in line
    assert "nothing" in dashboard.render(100)
    assert dashboard.render(100, ascii_only=True).isascii()


def test_a_dashboard_of_a_lake_without_runs_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no runs in"):
        Dashboard(lake=tmp_path).render()


def test_a_run_is_named_as_on_the_command_line() -> None:
    """By its id, or a start or an end of it; one that is not there is an error, and no empty picture."""
    with Monitor("20260915-brisk-ef20e0", lake="lake", quiet=True) as monitor:
        monitor.log(loss=1.0, step=0)
    for name in (monitor.run_id, "20260915", "brisk-ef20e0"):
        assert Dashboard(run_id=name, lake="lake").view.run_id == monitor.run_id
    with pytest.raises(RunError, match="no run 'other'"):
        Dashboard(run_id="other", lake="lake").save_png("other.png")
    assert not Path("other.png").exists()


def test_a_run_has_a_dashboard_while_it_goes_on_and_afterwards() -> None:
    """`update` shows what came since."""
    with Monitor("r", lake="lake", quiet=True) as monitor:
        monitor.log(loss=1.0, step=0)
        dashboard = monitor.dashboard()
        assert "running" in dashboard.render()
        monitor.log(loss=0.25, step=1)
        dashboard.update()
        assert "0.25" in dashboard.render()
    dashboard.update()
    assert "completed" in dashboard.render()
    assert "completed" in Dashboard(lake="lake").render()


def test_a_visualizer_is_kept_up_to_date_by_the_run() -> None:
    """Any object with the three methods; it has seen the last sample when the run is over."""

    class Mine:
        seen: RunView | None = None

        def update(self, view: RunView | None = None) -> None:
            self.seen = view

        def render(self) -> str:
            return ""

        def save_png(self, path: str | os.PathLike[str]) -> None: ...

    mine, dashboard = Mine(), Dashboard()
    builder = Monitor.builder().run("r", quiet=True).storage("lake").visualizer(mine).visualizer(dashboard)
    with builder.build() as monitor:
        for step in range(10):
            monitor.log(loss=float(step), step=step)
    assert mine.seen is not None
    assert mine.seen.curves[Series("loss")].values[-1] == 9.0
    assert "loss" in dashboard.render()


def test_bad_panels_are_refused() -> None:
    """Expected, got, what to do."""
    for panels, message in (
        (
            [Panel("loss", row=0, column=1), Panel("lr", column=1)],
            "'loss' and 'lr' both have row 0, col",
        ),
        (["loss"], r"expected panels=\[Panel\(…\), …\], got 'loss' among them"),
    ):
        with pytest.raises(ConfigError, match=message):
            Dashboard(panels=panels)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected row from 0 to 49, got -1"):
        Panel("loss", row=-1)
    with pytest.raises(ConfigError, match=r"expected series=\['train'\], a list, got 'train'"):
        Panel("loss", series="train")
    with pytest.raises(ConfigError, match="expected the name of a metric, got ''"):
        Panel("")
    with pytest.raises(ConfigError, match="expected axis 'step', 'epoch', 'time', got 'steps'"):
        Dashboard(axis="steps")


def test_a_series_that_will_never_come_is_refused(digits: RunView, tmp_path: Path) -> None:
    """While the run goes on it may still come; a split may be missing."""
    dashboard = Dashboard(panels=[Panel("loss", series=["train", "validaton"])])
    dashboard.update(digits)
    assert "loss" in dashboard.render()
    dashboard.update(replace(digits, state="completed"))
    message = r"that run digits-7 has \('train', 'validation'\), got 'validaton'"
    for show in (dashboard.render, lambda: dashboard.save_png(tmp_path / "run.png")):
        with pytest.raises(ConfigError, match=message):
            show()
    dashboard = Dashboard(panels=[Panel("lr", series=["train", "validation"])])
    dashboard.update(replace(digits, state="completed"))
    assert "lr" in dashboard.render()


def test_a_picture_that_cannot_be_written_names_its_place(digits: RunView, tmp_path: Path) -> None:
    dashboard = Dashboard()
    dashboard.update(digits)
    with pytest.raises(FileNotFoundError, match="absent"):
        dashboard.save_png(tmp_path / "absent" / "run.png")
    with pytest.raises(ConfigError, match=r"ends with \.png"):
        dashboard.save_png(tmp_path / "run.jpg")


def test_a_notebook_shows_the_curves(digits: RunView) -> None:
    """As a part of the page: escaped, in its colours, with the marks."""
    html = curves_svg(digits)
    assert html.count("<svg") == 4
    assert "loss is 1.9, expected 0.26" in html
    assert "NaN or Inf" in html
    odd = curves_svg(view_of({Series("<script>"): column([1.0])}))
    assert "<script>" not in odd
    assert curves_svg(view_of({})) == ""


def test_numbers_of_a_notebook_are_whole() -> None:
    """Beside the curve, where the longest has room, and in the legend, where the name is cut instead."""
    layer = Series.of("activation_memory", {"layer": "encoder.block.17.attention.query.projection"})
    html = curves_svg(view_of({layer: column(np.linspace(-1.2349e10, -1.2341e10, 50))}))
    labels = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="end" opacity="0.7">(.+?)</text>', html)
    assert [text for _, text in labels] == ["-1.235e+10", "-1.234e+10"]
    assert all(float(x) >= 7.0 * len(text) for x, text in labels)
    (legend,) = re.findall(r'fill="#2a8fd8">(.+?)</text>', html)
    assert legend.startswith("layer=enc")
    assert legend.endswith("… -1.234e+10")


WITHOUT = """
import sys
sys.modules[{module!r}] = None
sys.argv = ["entrenar-otel", *{arguments!r}]
from entrenar_otel.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("module", "arguments", "told"),
    [
        ("textual", ["watch"], "entrenar-otel watch needs textual: pip install 'entrenar-otel[view]'"),
        ("matplotlib", ["plot"], "a picture of a run needs matplotlib: pip install 'entrenar-otel[view]'"),
        ("textual", ["watch", "--once"], ""),
    ],
)
def test_without_the_extra_a_command_says_how_to_get_it(module: str, arguments: list[str], told: str) -> None:
    """One frame needs none."""
    with Monitor("r", lake="entrenar-lake", quiet=True) as monitor:
        monitor.log(loss=1.0)
    code = WITHOUT.format(module=module, arguments=arguments)
    env: Any = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert " ".join(done.stderr.split()) == (f"error: {told}" if told else "")
    assert done.returncode == (1 if told else 0)
    assert bool(told) != ("loss" in done.stdout)
