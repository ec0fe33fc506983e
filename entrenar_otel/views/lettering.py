"""Lettering: how wide a text of a picture is, and what of it fits, by matplotlib's own fonts."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from matplotlib.font_manager import FontProperties

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CUT = "…"


class Lettering:
    """Texts of one size and weight in one figure."""

    def __init__(self, figure: Figure, size: float, weight: str = "normal") -> None:
        # the canvas of a picture is Agg's, which measures without drawing
        self._renderer: Any = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        self._font = FontProperties(size=size, weight=weight)
        self._dpi = figure.dpi

    def inches(self, text: str) -> float:
        """How wide a text is."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a sign that no font has becomes a box
            width, _, _ = self._renderer.get_text_width_height_descent(text, self._font, ismath=False)
        return float(width) / self._dpi

    def fitted(self, text: str, room: float) -> str:
        """The text, or as much of its beginning as `room` inches have; never nothing."""
        if self.inches(text) <= room:
            return text
        low, high = 1, max(1, len(text) - 1)
        while low < high:
            middle = (low + high + 1) // 2
            if self.inches(text[:middle] + _CUT) <= room:
                low = middle
            else:
                high = middle - 1
        return text[:low].rstrip() + _CUT
