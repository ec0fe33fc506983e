"""Unstorable: what was acknowledged and cannot be stored, counted, and named once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable

from entrenar_otel.console import logger
from entrenar_otel.redact import printable_line, without_secrets

#: What may turn out to be invalid, as /metrics calls it.
KINDS = (
    *("requests", "resources", "clients", "runs", "processes", "rows"),
    *("records of samples", "log records", "spans", "metrics"),
)
_MAX_NAMED = 1_000


class Unstorable:
    """Counts, by what it is: requests, log records, spans and so on."""

    def __init__(self, named: set[Hashable] | None = None) -> None:
        """`named` are those that were named before."""
        self.counts: Counter[str] = Counter()
        self._named: set[Hashable] = set() if named is None else named

    def again(self) -> Unstorable:
        """Counts from 0 on that name nothing twice, for what may be tried again."""
        return Unstorable(self._named)

    def add(self, what: str, why: str, of: object = None, count: int = 1) -> None:
        """Count it; the first of its kind and sender is named."""
        self.counts[what] += count
        key = (what, of)
        if key in self._named or len(self._named) >= _MAX_NAMED:
            return
        self._named.add(key)
        whose = f" of {printable_line(str(tuple(of)))[:300]}" if isinstance(of, tuple) else ""
        reason = printable_line(without_secrets(why))[:300]
        logger.warning(
            "%s%s were received that cannot be stored; the first: %s. They are left out and counted, all "
            "others are stored",
            what,
            whose,
            reason,
        )
