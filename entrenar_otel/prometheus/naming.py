"""Names of metrics in Prometheus: the same as the OpenTelemetry Collector gives them, on every route."""

from __future__ import annotations

import re
from functools import lru_cache

from entrenar_otel.console import logger
from entrenar_otel.semconv import Instrument, Kind

#: UCUM unit → Prometheus word, and the words after `per_`: the Collector's tables.
_UNITS = {"d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds",
          "us": "microseconds", "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes",
          "MiBy": "mebibytes", "GiBy": "gibibytes", "TiBy": "tibibytes", "KBy": "kilobytes",
          "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes", "m": "meters", "V": "volts",
          "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius", "Hz": "hertz",
          "%": "percent", "1": ""}  # fmt: skip
_PER_UNITS = {"s": "second", "m": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_HISTOGRAM_SUFFIXES = ("", "_bucket", "_sum", "_count")


@lru_cache(4096)
def prometheus_name(instrument: Instrument) -> str:
    """The name that Prometheus shows, by the rules of the OpenTelemetry Collector v0.155.

    The unit becomes a suffix unless the name has that word already, a counter ends in `_total`, and a
    gauge of unit `1` in `_ratio`. Some names have no character that is allowed (`"損失"`): the result is
    `""`, and such a metric is left out. Histograms get `_bucket`, `_sum` and `_count` after the name.

    >>> prometheus_name(Instrument("training.step.duration", Kind.HISTOGRAM, "s", ""))
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
    main, per = (re.sub(r"[^a-zA-Z0-9:]+", "_", word).removeprefix("_") for word in (main, f"per_{below}"))
    per = per.removesuffix("_")
    if not below or per == "per":
        return main, ""
    return main.removesuffix("_"), per


def clash_text(first: str, second: str, name: str) -> str:
    """The warning that two metrics have one name in Prometheus."""
    return f"{first!r} and {second!r} are both {name} in Prometheus; the second is not exported: rename one"


class Names:
    """Which metric owns which name in one text: the first keeps it, and a later one is warned of.

    `warned` holds the warnings given so far, for a text that is written again and again.
    """

    def __init__(self, warned: set[str] | None = None) -> None:
        self._owners: dict[str, tuple[str, Kind]] = {}
        self._warned = set() if warned is None else warned

    def claim(self, metric: str, name: str, kind: Kind) -> bool:
        """Whether the metric may use the name; it may if it has it already."""
        owner = (metric, kind)
        names = [name + suffix for suffix in _HISTOGRAM_SUFFIXES] if kind is Kind.HISTOGRAM else [name]
        if kind is Kind.COUNTER:  # OpenMetrics names its family without the suffix
            names.insert(0, name.removesuffix("_total"))
        clash = next((name for name in names if self._owners.get(name, owner) != owner), None)
        if clash is None:
            self._owners |= dict.fromkeys(names, owner)
            return True
        self.warn(clash_text(self._owners[clash][0], metric, clash))
        return False

    def warn(self, message: str) -> None:
        """Log it, once."""
        if message not in self._warned:
            self._warned.add(message)
            logger.warning("%s", message)
