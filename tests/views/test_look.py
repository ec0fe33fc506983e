"""The colours of curves: people who see two kinds of colour tell them apart, too."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.text import Text

from entrenar_otel.views.look import LINES, Look

Colour = NDArray[np.float64]
#: What is seen of linear red, green, blue without one kind of cone: Machado, Oliveira and Fernandes (2009).
SEEN = {
    "all": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_WHITE = np.array([0.9505, 1.0, 1.089])


def linear(text: str) -> Colour:
    values = np.array([int(text[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: Colour) -> Colour:
    """As CIE's L*a*b*, in which distances are those that are seen."""
    xyz = _XYZ @ np.clip(rgb, 0, 1) / _WHITE
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """WCAG 2's."""
    low, high = sorted(float((_XYZ @ linear(text))[1]) for text in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("sight", SEEN)
@pytest.mark.parametrize("four", [LINES[:4], LINES[4:]])
def test_four_in_a_row_are_told_apart(sight: str, four: tuple[str, ...]) -> None:
    """The next four have the same look to some, and so dashes on the page; 2.3 is just noticeable."""
    seen = [lab(np.array(SEEN[sight]) @ linear(text)) for text in four]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > 12


@pytest.mark.parametrize("ground", ["#ffffff", "#171c22"])
def test_each_is_seen_on_light_and_dark(ground: str) -> None:
    """As WCAG asks of what is no text."""
    assert min(contrast(text, ground) for text in LINES) >= 3


@pytest.mark.parametrize(
    ("is_ascii", "width", "expected"),
    [
        (True, 9, "loss 0..."),
        (True, 12, "loss 0.12345"),
        (True, 3, "los"),
        (False, 9, "loss 0.1…"),
        (False, 12, "loss 0.12345"),
    ],
)
def test_what_is_cut_says_so(is_ascii: bool, width: int, expected: str) -> None:
    """A number without its end would be another one."""
    assert Look(ascii_only=is_ascii).cut(Text("loss 0.12345"), width).plain == expected
