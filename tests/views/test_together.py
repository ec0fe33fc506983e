"""Several runs in one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entrenar_processors.samples import Series
from PIL import Image

from entrenar_otel import Monitor
from entrenar_otel.views import Panel, RunView
from entrenar_otel.views.model import Axis, Threshold
from entrenar_otel.views.png import draw, save
from entrenar_otel.views.together import together

from .conftest import column, view_of
from .test_picture import grids_of


def run(run_id: str, values: Any, later_seconds: int = 0) -> RunView:
    rows = column(values)
    rows = rows._replace(time_ns=rows.time_ns + later_seconds * 1_000_000_000)
    limits = [Threshold("floor", "loss", {}, 0.5, None)]
    return view_of({Series("loss"): rows}, run_id=run_id, thresholds=limits, state="completed")


def test_each_run_has_a_curve_and_a_name() -> None:
    """By what is different of their ids; times count from the start of each."""
    both = together([run("digits-7-a", [1.0, 2.0]), run("digits-7-b", [3.0, 4.0], later_seconds=86_400)])
    lines = Panel("loss").lines(both, Axis.TIME)
    assert [line.label for line in lines] == ["run=a", "run=b"]
    assert [line.x.tolist() for line in lines] == [[0.0, 1.0], [0.0, 1.0]]
    assert [line.values.tolist() for line in lines] == [[1.0, 2.0], [3.0, 4.0]]
    assert {series: both.statistics[series].last for series in both.curves} == {
        Series.of("loss", {"run": "a"}): 2.0,
        Series.of("loss", {"run": "b"}): 4.0,
    }
    assert both.stepped == set(both.curves)
    assert Panel("loss").thresholds(both) == [("floor", 0.5)]


def test_training_and_validation_stay_apart(digits: RunView) -> None:
    both = together([digits, run("other", [1.0, 2.0])])
    labels = [line.label for line in Panel("loss").lines(both)]
    assert labels == ["train run=digits-7", "train run=other", "validation run=digits-7"]


def test_every_run_has_a_colour_in_all_panels(digits: RunView, tmp_path: Path) -> None:
    """Whatever it measured; ten runs and their names fit."""
    views = [view_of({Series("accuracy"): column([0.5, 0.6] * 40)}, run_id="first"), digits]
    save(together(views), tmp_path / "run.png", panels=[Panel("loss"), Panel("accuracy")])
    loss, accuracy = (grids_of(tmp_path / "run.png")[letter][6:] for letter in "12")
    middle = loss.shape[1] // 2
    assert not loss[:, :middle].any()  # the first has none
    assert loss[:, middle:].any()
    assert accuracy[:, :middle].any()
    assert accuracy[:, middle:].any()
    many = [run("a rather long name of a run " * 3 + str(at), np.arange(9.0) + at) for at in range(10)]
    save(together(many), tmp_path / "run.png")
    with Image.open(tmp_path / "run.png") as image:
        assert np.asarray(image.convert("L"))[:, -4:].min() == 255


def test_no_run_has_the_colour_of_another() -> None:
    """There are eight; those after them are counted, and share one that no run has that is named."""
    many = [run(f"lr-{at}", np.arange(9.0) + at) for at in range(10)]
    many[9] = view_of({Series("accuracy"): column([0.5, 0.6])}, run_id="lr-9")
    figure = draw(together(many))
    texts = {text.get_text(): text.get_color() for text in figure.texts}
    named = [texts[f"━ {at}"] for at in range(8)]
    assert len({*named}) == 8
    assert texts["+2 more"] not in named
    accuracy = figure.axes[1]
    assert [line.get_color() for line in accuracy.lines] == [texts["+2 more"]]
    assert figure.axes[0].get_title(loc="right") == "+1 more curve"


def test_one_run_is_as_it_is(digits: RunView) -> None:
    assert together([digits]) is digits


def test_the_command_draws_several(cli: Any, tmp_path: Path) -> None:
    """A metric that none of them has is told of, with all that they have."""
    for name in ("a", "b"):
        with Monitor(f"digits-{name}", lake="lake", quiet=True) as monitor:
            for step in range(20):
                monitor.log(loss=np.exp(-step / 5) + (name == "b"), step=step)
    done = cli("plot", "digits-a", "digits-b", "digits-a", "-o", "runs.png")
    assert (done.code, done.out) == (0, "runs digits-a, digits-b drawn in runs.png\n")
    grids = grids_of(tmp_path / "runs.png")
    assert grids["1"].sum() > 15
    assert grids["2"].sum() > 15
    done = cli("plot", "digits-a", "digits-b", "-m", "accuracy")
    assert done.code == 2
    assert "'accuracy' was not measured in runs digits-a, digits-b; measured: loss" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["-o", "run.jpg"], 2, "expected a name that ends with .png, .svg, .pdf or .html, got 'run.jpg'"),
        (["-o", "absent/run.png"], 1, "No such file or directory"),
        (["nobody"], 1, "no run"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_a_line(arguments: list[str], code: int, told: str, cli: Any) -> None:
    with Monitor("r", lake="lake", quiet=True) as monitor:
        monitor.log(loss=1.0)
    done = cli("plot", *arguments)
    assert done.code == code
    assert told in " ".join(done.err.split())
    assert "Traceback" not in done.err
