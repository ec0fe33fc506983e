"""Dashboards of a script: as text, as a picture, kept up to date by a run, and what a notebook shows."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from entrenar_processors.samples import Series
from PIL import Image

from entrenar_otel import Monitor
from entrenar_otel.errors import ConfigError, RunError
from entrenar_otel.views import Dashboard, Panel, RunView, Visualizer
from entrenar_otel.views.png import save
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


def _colours(image: Image.Image, box: tuple[float, float, float, float]) -> set[tuple[int, ...]]:
    """The colours of a part of a picture, given by shares of it."""
    wide, high = image.size
    left, top, right, bottom = box
    part = image.convert("RGB").crop(
        (int(left * wide), int(top * high), int(right * wide), int(bottom * high))
    )
    return {colour for _, colour in part.getcolors(1 << 20) or () if isinstance(colour, tuple)}


def test_a_picture_has_both_curves_the_finding_the_nan_and_the_limit(digits: RunView, tmp_path: Path) -> None:
    """By their colours, in the panel where they belong: fonts and lines differ between versions."""
    save(digits, tmp_path / "run.png")
    with Image.open(tmp_path / "run.png") as image:
        assert image.size == pytest.approx((1232, 720), rel=0.1)
        loss, accuracy = _colours(image, (0, 0.15, 0.5, 0.5)), _colours(image, (0.5, 0.15, 1, 0.5))
    train, validation, limit, nan, finding = (
        (0x2A, 0x8F, 0xD8), (0xD5, 0x5E, 0x00), (0xB0, 0x30, 0x60), (0xC6, 0x28, 0x28), (0xB0, 0x7A, 0x00),
    )  # fmt: skip
    assert {train, validation, nan, finding} <= loss
    assert {train, validation, limit} <= accuracy
    assert limit not in loss


@pytest.mark.parametrize("form", ["svg", "pdf"])
def test_other_formats_and_odd_names(form: str, tmp_path: Path) -> None:
    """A dollar is a dollar, a sign that no font has is a box; what is no picture is refused."""
    odd = view_of({Series("$x_{$ \u4e2d\U0001f600"): column([1.0, float("nan"), 1e308])}, run_id="$a$")
    save(odd, tmp_path / f"run.{form}")
    assert (tmp_path / f"run.{form}").stat().st_size > 1000
    with pytest.raises(ConfigError, match=r"ends with \.png, \.svg or \.pdf, got"):
        save(odd, tmp_path / "run.txt")


def test_nothing_measured_is_a_picture_too(tmp_path: Path) -> None:
    save(view_of({}), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").read_bytes().startswith(b"\x89PNG")


def test_a_notebook_shows_the_curves(digits: RunView) -> None:
    """As a part of the page: escaped, in its colours, with the marks."""
    html = curves_svg(digits)
    assert html.count("<svg") == 4
    assert "loss is 1.9, expected 0.26" in html
    assert "NaN or Inf" in html
    odd = curves_svg(view_of({Series("<script>"): column([1.0])}))
    assert "<script>" not in odd
    assert curves_svg(view_of({})) == ""


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
