"""Lettering: what fits is what matplotlib draws, narrow signs and wide ones."""

from __future__ import annotations

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from entrenar_otel.views.lettering import Lettering


@pytest.fixture
def lettering() -> Lettering:
    figure = Figure()
    FigureCanvasAgg(figure)
    return Lettering(figure, 11, "bold")


@pytest.mark.parametrize("text", ["loss", "W" * 60, "il1" * 40, "$a_b$ ^{c}", "中文" * 30])
@pytest.mark.parametrize("room", [0.5, 1.0, 3.0])
def test_what_fits_is_no_wider_than_its_room(text: str, room: float, lettering: Lettering) -> None:
    """And one more sign would be."""
    fitted = lettering.fitted(text, room)
    assert lettering.inches(fitted) <= room
    if fitted != text:
        kept = fitted.removesuffix("…")
        assert text.startswith(kept)
        assert lettering.inches(text[: len(kept) + 2] + "…") > room


def test_where_there_is_no_room_a_sign_is_left(lettering: Lettering) -> None:
    assert lettering.fitted("loss", 0.0) == "l…"
