"""Numbers: how values, ages, axes and long names are written in all views."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from entrenar_otel.lake.sql.limits import size_text
from entrenar_otel.semconv import instrument_of

#: By how much ticks go on: 1, 2 or 5 of a decade; of times, what a clock shows.
_STEPS = (1.0, 2.0, 5.0, 10.0)
#: Less is no distance: half of it may be 0.
_LEAST = 1e-300
#: The longest text of a tick, in signs; what stands left of a curve has room for it.
TICK = 10
_SIZES = ("B", "kB", "MB", "GB", "TB")
_SECONDS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


def number(value: Any) -> str:
    """A number with four significant digits; a whole number in full.

    >>> number(0.123456), number(1234567.0), number(None), number(float("nan"))
    ('0.1235', '1,234,567', '–', 'NaN')
    """
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:.4g}"


def value_text(metric: str, value: Any) -> str:
    """A value of this metric: of bytes a size, else a number.

    >>> value_text("process.memory.usage", 164_065_280), value_text("loss", 0.25)
    ('164 MB', '0.25')
    """
    is_known = isinstance(value, int | float) and 0 <= value < math.inf
    return size_text(value) if is_known and is_size(metric) else number(value)


@lru_cache(1024)
def is_size(metric: str) -> bool:
    """Whether the values of a metric are bytes, which are written with a unit of their own each."""
    return instrument_of(metric).unit == "By"


def cut(text: str, length: int) -> str:
    """The text, or its beginning where it is longer than `length`.

    >>> cut("validation", 6), cut("train", 6)
    ('valid…', 'train')
    """
    return text if len(text) <= length else text[: length - 1] + "…"


def ticks(low: float, high: float, count: int, *, whole: bool = False, seconds: bool = False) -> list[float]:
    """At most `count` (or one more) round numbers within `low` and `high`.

    >>> ticks(0.0, 0.94, 4), ticks(0, 3, 8, whole=True), ticks(0, 7000, 4, seconds=True)
    ([0.0, 0.5], [0, 1, 2, 3], [0, 1800, 3600, 5400])
    """
    span = high - low
    if not span > _LEAST or not math.isfinite(span):
        return [low]
    rough = span / max(1, count)
    if seconds and rough >= 1:
        step: float = next((s for s in _SECONDS if s >= rough), 86400 * math.ceil(rough / 86400))
    else:
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(s * power for s in _STEPS if s * power >= rough * (1 - 1e-9))
        if whole:
            step = max(1, round(step))
    if step <= 0 or not math.isfinite(low / step):
        return [low]
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, min(last, first + 50) + 1)]


def tick_texts(values: Sequence[float], *, size: bool = False) -> list[str]:
    """Ticks as texts with as many digits as tell them apart; of sizes with their unit.

    None is longer than `TICK`: where that does not do, a text stands at the first of those it is true of.

    >>> tick_texts([0.0, 0.5, 1.0]), tick_texts([0, 20_000, 40_000]), tick_texts([1e-5, 2e-5])
    (['0.0', '0.5', '1.0'], ['0', '20k', '40k'], ['1e-05', '2e-05'])
    >>> tick_texts([0, 500_000, 1_000_000])
    ['0', '0.5M', '1.0M']
    >>> tick_texts([0, 500_000], size=True), tick_texts([5000, 5000 + 1e-9]), tick_texts([2.5])
    (['0', '500 kB'], ['5000', ''], ['2.5'])
    """
    if not values:
        return []
    top = max(map(abs, values))
    gap = float(np.min(np.diff(values))) if len(values) > 1 else 0.0
    texts = _sizes(values, top, gap) if size else _numbers(values, top, gap)
    digits = 5
    while digits and (max(map(len, texts)) > TICK or (digits == 5 and len({*texts}) < len(texts))):
        texts = [size_text(value) if size else f"{value:.{digits}g}" for value in values]
        digits -= 1
    return ["" if at and text == texts[at - 1] else text for at, text in enumerate(texts)]


def _numbers(values: Sequence[float], top: float, gap: float) -> list[str]:
    if not gap:
        return [f"{value:.4g}" for value in values]
    if 1e6 <= top < 1e9 and gap >= 10_000:
        places = max(0, -math.floor(math.log10(gap / 1e6) + 1e-9))
        return [f"{value / 1e6:,.{places}f}M" if value else "0" for value in values]
    if top >= 1e6 or 0 < top < 1e-3:
        return [f"{value:.{_digits(top, gap)}e}" if value else "0" for value in values]
    if top >= 10_000 and gap >= 100:
        places = 0 if gap % 1000 == 0 else 1
        return [f"{value / 1000:.{places}f}k" if value else "0" for value in values]
    places = max(0, -math.floor(math.log10(gap) + 1e-9))
    return [f"{value:,.{places}f}" for value in values]


def _sizes(values: Sequence[float], top: float, gap: float) -> list[str]:
    """All in the unit of the largest."""
    if not gap:
        return [size_text(value) for value in values]
    power = min(len(_SIZES) - 1, max(0, math.floor(math.log10(top) / 3 + 1e-9))) if top else 0
    scale = 1000.0**power
    places = max(0, -math.floor(math.log10(gap / scale) + 1e-9))
    return [f"{value / scale:,.{places}f} {_SIZES[power]}" if value else "0" for value in values]


def _digits(top: float, gap: float) -> int:
    """How many digits after the first one tell values apart that differ by `gap`."""
    return max(0, min(4, math.floor(math.log10(top)) - math.floor(math.log10(gap) + 1e-9)))


def clock_text(seconds: float) -> str:
    """A time since the start, as a clock has it.

    >>> clock_text(0), clock_text(75), clock_text(7265)
    ('0:00', '1:15', '2:01:05')
    """
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
