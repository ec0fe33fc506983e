"""Words: numbers, shares and settings as the texts of lineage have them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from entrenar_otel.compare.settings import Setting

_MOST_TEXT = 80


def percent(ratio: float) -> str:
    """A difference as a share.

    >>> percent(0.0219), percent(-0.15), percent(0.0)
    ('+2.2 %', '−15.0 %', '0.0 %')
    """
    if not math.isfinite(ratio):
        return "–"
    text = f"{abs(ratio) * 100:,.1f}"
    return ("" if not float(text.replace(",", "")) else "+" if ratio > 0 else "−") + f"{text} %"


def signed(value: float) -> str:
    """A difference with its sign.

    >>> signed(0.01234567), signed(-3.0)
    ('+0.01235', '−3')
    """
    return ("+" if value > 0 else "−" if value < 0 else "") + f"{abs(value):.4g}"


def probability(p: float) -> str:
    """A p-value as it is read.

    >>> probability(0.0312), probability(1e-9), probability(0.91)
    ('p = 0.031', 'p < 0.001', 'p = 0.91')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def setting_text(setting: Setting) -> str:
    """A setting that differs, and how.

    >>> from entrenar_otel.compare.settings import Setting
    >>> setting_text(Setting("lr", (0.1,), (0.5,))), setting_text(Setting("dropout", (), (0.2,)))
    ('lr 0.1 → 0.5', 'dropout none → 0.2')
    """
    return f"{setting.name} {_values(setting.a)} → {_values(setting.b)}"


def _values(values: Sequence[Any]) -> str:
    texts = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    text = ", ".join(texts) or "none"
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"
