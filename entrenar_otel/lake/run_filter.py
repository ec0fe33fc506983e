"""Run filter: the words and comparisons by which `ls` and the page (page/src/run_filter.ts) find runs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from math import isfinite, isnan
from typing import Any

from entrenar_processors.plain import plain

from entrenar_otel.lake.overview import seconds_of

_COMPARISON = re.compile(r"([a-z_][^\s<>=!:]*)(<=|>=|!=|[<>=:])(.+)")
_SIGN = re.compile(r"\s*(<=|>=|!=|[<>=])\s*")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII)
_SQL = re.compile(r"['\"()]|::|--|(^|\s)(or|not|in|like|is|between)(\s|$)")
#: What every run has by name, beside its settings.
NAMES = ("run", "alerts", "loss", "state", "took", "started", "model", "host")


class RunFilter:
    """All of its words must be met: `crashed`, a part of any text of a run, or `lr<0.01`, `alerts>0`.

    A number is compared as such, anything else as text; upper case and lower case are alike. A run that has
    no such value does not meet a comparison with it.

    >>> filter = RunFilter("vit lr < 0.01 and alerts>0")
    >>> filter.words
    ('vit', 'lr<0.01', 'alerts>0')
    >>> filter.meets({"lr": 0.001, "alerts": 2}, "ViT-base")
    True
    """

    def __init__(self, text: str) -> None:
        lower = text.lower()
        self.words = tuple(word for word in _SIGN.sub(r"\1", lower).split() if word != "and")
        #: Whether it has what only SQL has: quotes, brackets, OR.
        self.is_sql = bool(_SQL.search(lower))
        #: What is compared, by name.
        self.names = {found[1] for word in self.words if (found := _COMPARISON.fullmatch(word))}

    @property
    def needs_alerts(self) -> bool:
        """Whether alerts are looked at: by their number, or by the name of the first."""
        return "alerts" in self.names or len(self.names) < len(self.words)

    def meets(self, named: Mapping[str, Any], texts: str) -> bool:
        """By what a run has by name, in lower case, and all of its texts; another name is a word."""
        return all(self._meets(word, named, texts.lower()) for word in self.words)

    @staticmethod
    def _meets(word: str, named: Mapping[str, Any], texts: str) -> bool:
        asked = _COMPARISON.fullmatch(word)
        if asked is None or asked[1] not in named:
            return word in texts
        return _compare(named[asked[1]], asked[2], asked[3])


def facts_of_run(run: dict[str, Any], loss: float | None) -> tuple[dict[str, Any], str]:
    """What a run has by name, and all of its texts; `alerts` and `first_alert` as the page lists them."""
    settings = _flat(run["config"] or {})
    named = {name.lower(): value for name, value in settings.items()}
    named |= {f"config.{name.lower()}": value for name, value in settings.items()}
    alerts = run.get("alerts", 0)
    named |= {
        "run": run["run_id"], "alerts": alerts, "state": run["state"], "model": run["model_id"],
        "host": run["host"], "took": seconds_of(run), "started": plain(run["started_at"]),
        "loss": loss if loss is None or isfinite(loss) else float("inf"),
    }  # fmt: skip
    told = [f"{name}={_text(value)}" for name, value in settings.items()]
    texts = [run["run_id"], run["state"], run["model_id"], run["host"], run.get("first_alert"), *told]
    return named, "\n".join(text for text in texts if text is not None)


def _compare(value: Any, sign: str, wanted: str) -> bool:
    if value is None:
        return False
    text = _text(value).lower()
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    order: float
    if is_number or _NUMBER.fullmatch(text):
        number = float(value)
        other = float(wanted) if _NUMBER.fullmatch(wanted) else float("nan")
        if isnan(other):
            return sign == "!="
        order = 0 if number == other else number - other
    else:
        order = 0 if text == wanted else -1 if text < wanted else 1
    return {
        "=": order == 0, ":": order == 0, "!=": order != 0,
        "<": order < 0, ">": order > 0, "<=": order <= 0, ">=": order >= 0,
    }[sign]  # fmt: skip


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted names."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def _text(value: Any) -> str:
    """As the page writes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and isfinite(value):
        size = abs(value)
        if value.is_integer() and size < 1e21:
            return str(int(value))
        if 1e-6 <= size < 1e21:
            return format(Decimal(repr(value)), "f")
        mantissa, _, power = repr(value).partition("e")
        return f"{mantissa.removesuffix('.0')}e{int(power):+d}"
    return json.dumps(plain(value), separators=(",", ":"), ensure_ascii=False)
