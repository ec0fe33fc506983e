"""Warnings of a run: what Python's `warnings` and any logger say during it, seen without getting in the way.

Log records are seen where they are made, in the record factory. A handler of ours on the root logger
would switch off `logging.lastResort`, and with it what people see, and make their `basicConfig` do nothing.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TextIO

from entrenar_otel.errors import guard
from entrenar_otel.otel.log_records import message_of
from entrenar_otel.redact import redacted

#: Places that are counted separately, events per second, seconds between two events of one place.
MAX_PLACES, MAX_A_SECOND, REPEAT_SECONDS = 1_000, 20, 60.0
MAX_MESSAGE = 2_000
_MAX_SPAN_ATTRIBUTES = 8
#: Where our alerts are logged.
ALERT_LOGGER = "entrenar_otel.alert"

#: How `logging.captureWarnings` writes a warning: the line of source below it is left out.
_CAPTURED = re.compile(
    r"^(?P<file>.+?):(?P<line>\d+): (?P<category>\w+): (?P<message>.*?)(\n  [^\n]*)?\n?$", re.DOTALL
)


#: Category or logger, file, line, attributes of the span.
_Key = tuple[str, str, int, tuple[tuple[str, str], ...]]


@dataclass
class _Place:
    """Where warnings come from, and how many of them have not been reported."""

    attributes: dict[str, Any]
    count: int = 0
    reported_at: float = field(default=float("-inf"))
    once: bool = False


class WarningCapture:
    """Emits the attributes of a `training.warning` for each place that warns, and counts the repeats.

    Args:
        emit: takes source ("warnings" or "logging"), category or logger, level, message, file, line,
            count. It may be called in any thread, and within any log call.
        clock: seconds.
        span: the attributes of the current span, which a warning carries as `span.…`; warnings within
            different spans are counted separately.

    The first warning of a place is emitted at once, then one per minute with the count since;
    the rest at `flush`. `total` counts all.

    >>> seen = []
    >>> capture = WarningCapture(seen.append)
    >>> capture.install()
    >>> for row in range(3):
    ...     logging.getLogger("data").warning("bad row %d", row)
    >>> capture.uninstall()
    >>> [(one["logger"], one["message"], one["count"]) for one in seen], capture.total
    ([('data', 'bad row 0', 1), ('data', 'bad row 0', 2)], 3)
    """

    def __init__(
        self,
        emit: Callable[[dict[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
        span: Callable[[], Mapping[str, Any]] = dict,
    ) -> None:
        self.total = 0
        self._emit = emit
        self._clock = clock
        self._span = span
        self._places: dict[_Key, _Place] = {}
        self._left_out = 0  # of places that found no room, or in seconds that were full
        self._second = float("-inf")
        self._in_second = 0
        # Entered only outside of `_busy`, so that what warns while it is held does not wait for itself.
        self._lock = threading.RLock()
        self._busy = threading.local()
        self._active = False
        self._pid = os.getpid()
        self._showwarning: Callable[..., None] = warnings.showwarning
        self._factory: Callable[..., logging.LogRecord] = logging.LogRecord
        self._hooks: tuple[Callable[..., None], Callable[..., logging.LogRecord]] | None = None

    # -- hooks ----------------------------------------------------------------------------------

    def install(self) -> None:
        """Begin to listen, once in its life; what was in place is called as before."""
        if self._hooks is not None:
            return
        self._hooks = self._on_warning, self._on_record
        self._showwarning, self._factory = warnings.showwarning, logging.getLogRecordFactory()
        warnings.showwarning, _ = self._hooks
        logging.setLogRecordFactory(self._hooks[1])
        self._active = True

    def uninstall(self) -> None:
        """Listen no more, and report what is pending.

        If another hook was put over ours since, ours stays below it and only passes on.
        """
        if self._hooks is None or not self._active:
            return
        self._active = False
        on_warning, on_record = self._hooks
        if warnings.showwarning is on_warning:
            warnings.showwarning = self._showwarning
        if logging.getLogRecordFactory() is on_record:
            logging.setLogRecordFactory(self._factory)
        self.flush()

    def _on_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        busy = self._is_busy()
        if not busy and self._is_on():
            name = category.__name__
            self._saw(
                (name, filename, lineno, ()),
                lambda: {"source": "warnings", "category": name, "level": "WARNING", "message": str(message)},
            )
        self._busy.value = True  # logging.captureWarnings may be next, and is not to count it again
        try:
            self._showwarning(message, category, filename, lineno, file, line)
        finally:
            self._busy.value = busy

    def _on_record(self, name: str, level: int, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = self._factory(name, level, *args, **kwargs)
        # logging.makeLogRecord, for what was logged in another process, has no level here
        if level is not None and level >= logging.WARNING and self._is_on() and not self._is_busy():
            self._saw_record(record)
        return record

    def _saw_record(self, record: logging.LogRecord) -> None:
        if record.name == ALERT_LOGGER:  # they are events already
            return
        captured = _CAPTURED.match(message_of(record)) if record.name == "py.warnings" else None
        if captured is not None:
            category, message = captured["category"], captured["message"]
            self._saw(
                (category, captured["file"], int(captured["line"]), ()),
                lambda: {"source": "warnings", "category": category, "level": "WARNING", "message": message},
            )
            return
        # The monitor says different things from one line; each of them once.
        is_ours = record.name.partition(".")[0] == "entrenar_otel"
        place = f"{record.name}.{message_of(record)}" if is_ours else record.name
        self._saw(
            (place, record.pathname, record.lineno, ()),
            lambda: {
                "source": "logging",
                "logger": record.name,
                "level": record.levelname,
                "message": message_of(record),
            },
        )

    def _is_on(self) -> bool:
        """Not in a forked child, where the lock may be held by a thread that is not there."""
        return self._active and self._pid == os.getpid()

    def _is_busy(self) -> bool:
        return getattr(self._busy, "value", False)

    # -- counting and reporting -----------------------------------------------------------------

    def _saw(self, key: _Key, describe: Callable[[], dict[str, Any]]) -> None:
        self._busy.value = True
        try:
            with guard("warning capture"):
                if attributes := self._span():
                    inner = tuple(sorted((str(k), str(v)) for k, v in attributes.items()))
                    key = (*key[:3], inner[:_MAX_SPAN_ATTRIBUTES])
                # Not within the lock: it calls __str__ of users' objects, which may wait for their locks.
                new = self._place(key, describe) if key not in self._places and self._is_open() else None
                with self._lock:
                    due = self._count(key, new)
                if due is not None:
                    self._emit(due)
        finally:
            self._busy.value = False

    def _place(self, key: _Key, describe: Callable[[], dict[str, Any]]) -> _Place:
        attributes = describe() | {"file": key[1], "line": key[2]}
        attributes |= {f"span.{name}": value for name, value in key[3]}
        attributes["message"] = redacted(attributes["message"])[:MAX_MESSAGE]
        # What we say ourselves may be about the events that this makes.
        return _Place(attributes, once=key[0].partition(".")[0] == "entrenar_otel")

    def _is_open(self) -> bool:
        return len(self._places) < MAX_PLACES and self._has_room(self._clock())

    def _count(self, key: _Key, new: _Place | None) -> dict[str, Any] | None:
        """Count one; the event, where one is due."""
        self.total += 1
        now = self._clock()
        place = self._places.get(key)
        if place is None:
            if new is None or not self._is_open():
                self._left_out += 1
                return None
            place = self._places[key] = new
        place.count += 1
        if place.once and place.reported_at > float("-inf"):
            return None
        if now - place.reported_at < REPEAT_SECONDS or not self._has_room(now):
            return None
        self._in_second += 1
        return self._report(place, now)

    def _has_room(self, now: float) -> bool:
        if not self._second <= now < self._second + 1:
            self._second, self._in_second = now, 0
        return self._in_second < MAX_A_SECOND

    def _report(self, place: _Place, now: float) -> dict[str, Any]:
        count, place.count, place.reported_at = place.count, 0, now
        return place.attributes | {"count": count}

    def flush(self) -> None:
        """Report what was counted and not reported: of the busiest places one by one, of the rest a sum."""
        if self._is_busy() or self._pid != os.getpid():
            return
        self._busy.value = True
        try:
            with self._lock:
                now = self._clock()
                pending = sorted(
                    (place for place in self._places.values() if place.count), key=lambda place: -place.count
                )
                events = [self._report(place, now) for place in pending[:MAX_A_SECOND]]
                rest = [self._report(place, now)["count"] for place in pending[MAX_A_SECOND:]]
                count, self._left_out = self._left_out + sum(rest), 0
            if count:
                text = (
                    f"{count:,} further warnings were only counted: too many places, or too many per second"
                )
                events.append(
                    {"source": "entrenar_otel", "level": "WARNING", "message": text, "count": count}
                )
            for event in events:
                with guard("warning capture"):
                    self._emit(event)
        finally:
            self._busy.value = False
