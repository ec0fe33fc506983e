"""What every Prometheus text of ours shares: which metric has which name, and the labels of a series."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

from entrenar_otel.names import Kind, prometheus_label

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
