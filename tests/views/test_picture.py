"""Pictures: where each curve, limit and mark is; the grids to compare with are in tests/views/pictures."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from entrenar_processors.samples import Series
from numpy.typing import NDArray
from PIL import Image

from entrenar_otel.errors import ConfigError
from entrenar_otel.views import Panel, RunView
from entrenar_otel.views.look import INK, LEVEL_COLOURS, LIMIT, LINES, NONFINITE
from entrenar_otel.views.model import Axis, Threshold
from entrenar_otel.views.png import save

from .conftest import START_NS, column, view_of

PICTURES = Path(__file__).with_name("pictures")
#: A letter for each colour; what is drawn over another comes later.
COLOURS = {
    "t": INK, "1": LINES[0], "2": LINES[1], "L": LIMIT, "W": LEVEL_COLOURS["WARNING"], "X": NONFINITE,
}  # fmt: skip
CELL = 14
Grids = dict[str, NDArray[np.bool_]]


def grids_of(path: Path) -> Grids:
    """For each colour the cells of a picture that have it, `(rows, columns)`."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    rows, columns = pixels.shape[0] // CELL, pixels.shape[1] // CELL
    pixels = pixels[: rows * CELL, : columns * CELL]
    grids = {}
    for letter, colour in COLOURS.items():
        wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
        near = np.abs(pixels - wanted).max(axis=-1) < 24
        grids[letter] = near.reshape(rows, CELL, columns, CELL).any(axis=(1, 3))
    return grids


def text_of(grids: Grids) -> str:
    """The grids as one text, for people."""
    first = next(iter(grids.values()))
    lines = [
        "".join(next((k for k in reversed(grids) if grids[k][y, x]), " ") for x in range(first.shape[1]))
        for y in range(first.shape[0])
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def differs(found: Grids, text: str) -> str | None:
    """The colour that is missing, or is where it was not, by more than a cell; what covers it may move."""
    lines = text.splitlines()
    shape = next(iter(found.values())).shape
    if abs(len(lines) - shape[0]) > 1:
        return f"{len(lines)} rows of cells, not {shape[0]}"
    known = np.full(shape, " ")
    for y, line in enumerate(lines[: shape[0]]):
        known[y, : len(line)] = list(line)[: shape[1]]
    for letter, mask in found.items():
        before = known == letter
        covered = np.isin(known, [k for k in COLOURS if k > letter or k in "LWX"])
        if (before & ~_grown(mask)).any() or (mask & ~_grown(before | covered)).any():
            return letter
    return None


def _grown(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    parts = [padded[dy : dy + mask.shape[0], dx : dx + mask.shape[1]] for dy in range(3) for dx in range(3)]
    return np.asarray(np.any(parts, axis=0))


def diverged() -> RunView:
    """A loss that grows by twenty decades, and is NaN then."""
    loss = np.exp(np.concatenate([-np.arange(200) / 80, np.arange(100) / 2.0 - 2.5]))
    loss[290:] = np.nan
    return view_of(
        {Series("loss"): column(loss), Series("gradient_norm"): column(3 * loss)},
        state="stopped",
        thresholds=[Threshold("gradient_limit", "gradient_norm", {}, None, 100.0)],
    )


def test_a_picture_is_as_it_was(digits: RunView, tmp_path: Path) -> None:
    """But for what differs between versions of matplotlib; whoever changes it looks at it."""
    for name, view in (("digits", digits), ("diverged", diverged())):
        save(view, tmp_path / "run.png")
        found = grids_of(tmp_path / "run.png")
        path = PICTURES / f"{name}.txt"
        if not path.exists():
            path.write_text(text_of(found), encoding="utf-8")
            pytest.fail(f"{path} was not there: look at it and at the picture, and run this again")
        assert differs(found, path.read_text(encoding="utf-8")) is None


def _without_nan(view: RunView) -> RunView:
    finite = {s: rows.take(np.flatnonzero(np.isfinite(rows.values))) for s, rows in view.curves.items()}
    return replace(view, curves=finite)


@pytest.mark.parametrize(
    ("letter", "change"),
    [
        ("1", lambda v: replace(v, curves={s: c for s, c in v.curves.items() if s != Series("accuracy")})),
        ("2", lambda v: replace(v, curves={s: c for s, c in v.curves.items() if s != Series("val_acc")})),
        ("L", lambda v: replace(v, thresholds=[])),
        ("L", lambda v: replace(v, thresholds=[v.thresholds[0]._replace(low=0.6)])),
        ("W", lambda v: replace(v, findings=[])),
        ("W", lambda v: replace(v, findings=[replace(v.findings[0], step=300)])),
        ("X", _without_nan),
    ],
)
def test_what_is_missing_or_elsewhere_is_seen(
    letter: str, change: Callable[[RunView], RunView], digits: RunView, tmp_path: Path
) -> None:
    """A curve, a limit, a finding, a NaN: the comparison of the test above fails."""
    save(change(digits), tmp_path / "run.png")
    text = (PICTURES / "digits.txt").read_text(encoding="utf-8")
    assert differs(grids_of(tmp_path / "run.png"), text) is not None
    only = {letter: grids_of(tmp_path / "run.png")[letter]}
    assert differs(only, text) == letter


HUGE = 1.7e308


@pytest.mark.parametrize(
    "values",
    [
        [0.5], [math.nan], [math.inf, -math.inf], [1.0, math.nan, 2.0], [HUGE, -HUGE, HUGE], [5e-324, 0.0],
        [5e-324, 1e-300, 1e300], [0.0] * 7, [1e-12, 2e-12], [1e15, 1e15 + 1], [1.0] * 50 + [1e9],
    ],
)  # fmt: skip
@pytest.mark.parametrize("axis", list(Axis))
def test_odd_values_make_a_picture(values: list[float], axis: Axis, tmp_path: Path) -> None:
    view = view_of({Series("loss"): column(values)})
    save(view, tmp_path / "run.png", axis=axis)
    grids = grids_of(tmp_path / "run.png")
    assert grids["1"].any()  # at least in the legend
    assert grids["X"].any() == (not all(map(math.isfinite, values)))


def test_many_metrics_and_long_names_fit(tmp_path: Path) -> None:
    """Twelve panels, and how many more; nothing is drawn beyond the edges."""
    odd = "\x1b[31m$x_{$ \\frac{ <script> " + "a very long name " * 20 + "\u4e2d\U0001f600"
    curves = {Series.of(f"{odd}{at}", {odd: f"{odd}{at}"}): column([1.0, 2.0]) for at in range(500)}
    curves |= {Series.of("loss", {"layer": at, "name": odd}): column([1.0, 2.0]) for at in range(500)}
    view = view_of(curves, run_id=odd, model=odd, thresholds=[Threshold(odd, "loss", {}, None, 1.5)])
    save(view, tmp_path / "run.png")
    with Image.open(tmp_path / "run.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[0] < 3000
    assert pixels[:, -4:].min() == 255
    assert pixels[:, :4].min() == 255


@pytest.mark.parametrize("form", ["svg", "pdf"])
def test_other_formats_and_odd_names(form: str, tmp_path: Path) -> None:
    """A dollar is a dollar, a sign that no font has is a box; what is no picture is refused."""
    odd = view_of({Series("$x_{$ \u4e2d\U0001f600"): column([1.0, float("nan"), 1e308])}, run_id="$a$")
    save(odd, tmp_path / f"run.{form}")
    first = (tmp_path / f"run.{form}").read_bytes()
    assert len(first) > 1000
    save(odd, tmp_path / f"run.{form}")
    if form == "pdf":
        assert (tmp_path / f"run.{form}").read_bytes() == first
    for name in ("run.jpeg", "run", ".png"):
        with pytest.raises(ConfigError, match=r"ends with \.png, \.svg or \.pdf, got"):
            save(odd, tmp_path / name)
    for name in ("absent/run.png", "."):
        with pytest.raises((OSError, ConfigError)):
            save(odd, tmp_path / name)


def test_nothing_measured_is_a_picture_too(tmp_path: Path) -> None:
    save(view_of({}), tmp_path / "empty.png")
    assert (tmp_path / "empty.png").read_bytes().startswith(b"\x89PNG")


def test_the_program_s_own_pictures_are_left_alone(digits: RunView, tmp_path: Path) -> None:
    """No pyplot, no rcParams; a style of theirs changes nothing of ours, TeX included."""
    style: Any = {
        "axes.facecolor": "black", "text.color": "white", "text.usetex": True, "figure.autolayout": True,
        "axes.grid": False, "lines.linewidth": 9, "axes.labelcolor": "white", "savefig.facecolor": "black",
        "xtick.direction": "in", "legend.facecolor": "black", "axes.xmargin": 0.4, "lines.linestyle": ":",
    }  # fmt: skip
    was_loaded = "matplotlib.pyplot" in sys.modules
    with mpl.rc_context(style):
        before = mpl.rcParams.copy()
        save(digits, tmp_path / "run.png")
        assert mpl.rcParams.copy() == before
    assert ("matplotlib.pyplot" in sys.modules) == was_loaded
    text = (PICTURES / "digits.txt").read_text(encoding="utf-8")
    assert differs(grids_of(tmp_path / "run.png"), text) is None


def test_over_powers_of_ten_where_a_peak_would_flatten_the_rest(tmp_path: Path) -> None:
    """The first two hundred steps of the run that diverges still fall."""
    save(diverged(), tmp_path / "run.png", panels=[Panel("loss")])
    blue = grids_of(tmp_path / "run.png")["1"]
    rows = [int(np.flatnonzero(blue[8:, at])[-1]) for at in (10, 35)]
    assert rows[1] > rows[0]


def test_a_finding_of_the_past_is_marked_by_its_time(digits: RunView, tmp_path: Path) -> None:
    """Over time, where no step is asked for."""
    at = datetime.fromtimestamp(START_NS / 1e9 + 400, UTC)
    save(replace(digits, findings=[replace(digits.findings[0], at=at, step=None)]), tmp_path / "a.png")
    assert differs(grids_of(tmp_path / "a.png"), (PICTURES / "digits.txt").read_text()) is None
