"""What every Prometheus text of ours shares: which metric has which name, and the labels of a series."""

from __future__ import annotations

import base64
import json
import logging
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache

from entrenar_otel.semconv import Instrument, Kind

logger = logging.getLogger("entrenar_otel")

_SUFFIXES = {Kind.HISTOGRAM: ("", "_bucket", "_sum", "_count")}


class Names:
    """The names of one text: the first metric of a name keeps it, and what is left out is said.

    `said` holds the warnings given so far, for a text that is written again and again.
    """

    def __init__(self, said: set[str] | None = None) -> None:
        self._owners: dict[str, tuple[str, Kind]] = {}
        self._said = set() if said is None else said

    def claim(self, metric: str, name: str, kind: Kind) -> bool:
        """Whether the metric may use the name, as it may if it has it already."""
        owner = (metric, kind)
        names = [name + suffix for suffix in _SUFFIXES.get(kind, ("",))]
        if kind is Kind.COUNTER:  # OpenMetrics names its family without the suffix
            names.insert(0, name.removesuffix("_total"))
        clash = next((one for one in names if self._owners.get(one, owner) != owner), None)
        if clash is None:
            self._owners |= dict.fromkeys(names, owner)
            return True
        self.warn(
            f"{self._owners[clash][0]!r} and {metric!r} are both {clash} in Prometheus; "
            "the second is left out"
        )
        return False

    def warn(self, message: str) -> None:
        """Log it, once."""
        if message not in self._said:
            self._said.add(message)
            logger.warning("%s", message)


def label_names(ours: Iterable[str], keys: Iterable[str], kind: Kind) -> list[str]:
    """Our labels, then one for each key, named as the Collector does.

    One that is taken already, or for which the Collector would leave the series out, becomes `tag_…`.

    >>> label_names(["rank"], ["http.method", "rank", "__x"], Kind.GAUGE)
    ['rank', 'http_method', 'tag_rank', 'tag___x']
    """
    labels = list(ours)
    for key in keys:
        label = prometheus_label(key) or f"tag_{re.sub('[^a-zA-Z0-9_]', '_', key)}"
        if label in labels or (label == "le" and kind is Kind.HISTOGRAM):
            label = f"tag_{label}"
        while label in labels:
            label += "_"
        labels.append(label)
    return labels


#: Resource attribute → the label on every series that says the same, on every route to Prometheus.
RESOURCE_LABELS = {
    "training.run.id": "run_id",
    "training.model.id": "model_id",
    "training.process.rank": "rank",
}


#: UCUM unit → Prometheus word, and the words after `per_`: the Collector's tables.
_UNITS = {"d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds",
          "us": "microseconds", "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes",
          "MiBy": "mebibytes", "GiBy": "gibibytes", "TiBy": "tibibytes", "KBy": "kilobytes",
          "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes", "m": "meters", "V": "volts",
          "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius", "Hz": "hertz",
          "%": "percent", "1": ""}  # fmt: skip


_PER_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}


@lru_cache(4096)
def prometheus_name(instrument: Instrument) -> str:
    """The name that Prometheus shows, on every route: the OpenTelemetry Collector's rules (v0.155).

    The unit becomes a suffix unless the name has that word already, a counter ends in `_total`, and a
    gauge of unit `1` in `_ratio`. Nothing is left of some names (`"損失"`): the answer is `""`, and
    such a metric is not shown. Histograms get `_bucket`, `_sum` and `_count` after it.

    >>> from entrenar_otel.semconv import INSTRUMENTS
    >>> prometheus_name(INSTRUMENTS["step_duration"])
    'training_step_duration_seconds'
    >>> prometheus_name(Instrument("hw.network.io", Kind.COUNTER, "By/s", ""))
    'hw_network_io_bytes_per_second_total'
    """
    words: list[str] = re.findall(r"[a-zA-Z0-9:]+", instrument.name)
    unit, per = _unit_words(instrument.unit)
    words += [word for word in (unit, per) if word and word not in words]
    last = {Kind.COUNTER: "total"}.get(instrument.kind)
    if instrument.kind is Kind.GAUGE and instrument.unit == "1":
        last = "ratio"
    if last:
        words = [*(word for word in words if word != last), last]
    name = "_".join(words)
    return f"_{name}" if name[:1].isdigit() else name


def _unit_words(unit: str) -> tuple[str, str]:
    """The two suffixes of a unit: `By/s` is `bytes` and `per_second`; either may be empty."""
    main, _, below = (part.strip() for part in unit.partition("/"))
    main = "" if {*main} & {*"{}"} else _UNITS.get(main, main)
    below = "" if {*below} & {*"{}"} else _PER_UNITS.get(below, below)
    main, per = (re.sub(r"[^a-zA-Z0-9:]+", "_", one).removeprefix("_") for one in (main, f"per_{below}"))
    per = per.removesuffix("_")
    if not below or per == "per":
        return main, ""
    return main.removesuffix("_"), per


@lru_cache(4096)
def prometheus_label(key: str) -> str:
    """The label that the Collector makes of an attribute's key; `""` where it shows no such series.

    >>> prometheus_label("http.method"), prometheus_label("1st"), prometheus_label("__x")
    ('http_method', 'key_1st', '')
    """
    label = re.sub(r"[^a-zA-Z0-9_]", "_", key)
    if label[:1].isdigit():
        label = f"key_{label}"
    return "" if label.startswith("__") or label == "_" else label


def prometheus_label_value(value: object) -> str:
    """An attribute's value as the Collector writes it into a label: JSON, but for text and bytes.

    >>> prometheus_label_value(True), prometheus_label_value(1.0), prometheus_label_value(["a", 1e-7])
    ('true', '1', '["a",1e-7]')
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bytes | float):
        return _go_text(value)
    try:
        return _go_json(value)
    except ValueError:  # a NaN within a list, which JSON does not have: the Collector writes nothing
        return ""


def _go_text(value: bytes | float) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value and not 1e-6 <= abs(value) < 1e21:
        return repr(value).replace("e-0", "e-")
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def _go_json(value: object) -> str:
    if isinstance(value, Mapping):
        pairs = sorted((str(key), one) for key, one in value.items())
        return "{" + ",".join(f"{_go_json(key)}:{_go_json(one)}" for key, one in pairs) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "[" + ",".join(map(_go_json, value)) + "]"
    if isinstance(value, bytes):
        return f'"{_go_text(value)}"'
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("not JSON")
        return _go_text(value)
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
