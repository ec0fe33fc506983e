"""Recorder: the hot path. One call of `log` is one record in one memory-mapped segment.

Invariants, on which speed and safety rest:

1. `write` is the current segment's own `mmap.write`: it checks, copies and advances in one C call
   under the GIL. So there is no lock, no reserved slot and no hole; where there is no GIL, a lock
   is put around it.
2. Whatever is unusual raises before anything is written: an unknown combination of names
   (KeyError), no number (struct.error, TypeError), a full, sealed or closed segment (ValueError),
   a run not yet begun or already ended. The `except` leads to `_log_slowly`, which does it again
   with care. The fast path has no branch for any of it.
3. A layout's definition is in the segment before its first record. So a new segment begins with
   all of them, and with the spans still open, before `write` is pointed at it.
4. `log` and the bound functions share one namespace, the only thing that changes when a segment is
   replaced, when a fork makes this the no-op twin, or when a cord must be obeyed.
"""

from __future__ import annotations

import errno
import linecache
import logging
import math
import operator
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any
from zlib import adler32

from entrenar_processors import Samples, Series

from entrenar_otel.decode import count_records, decode
from entrenar_otel.errors import BadInput, ConfigError, guard
from entrenar_otel.identity import new_process_name
from entrenar_otel.inputs import name_problem, number_of, tags_problem
from entrenar_otel.layout import (
    ABSENT_32,
    ABSENT_64,
    MAX_VALUES,
    Layout,
    bound_source,
    describe,
    packers,
)
from entrenar_otel.notes import OpenSpans, note_record
from entrenar_otel.segment import HEADER_BYTES, SEGMENT_BYTES, Segment

logger = logging.getLogger("entrenar_otel")

#: Beyond this many combinations of names, a new one is recorded series by series: a loop that
#: reports a different subset each step (active experts, say) must not make layouts without end.
MAX_LAYOUTS = 1024
#: Every segment begins with all layouts; they may take a quarter of it, about 60,000 names.
MAX_LAYOUT_BYTES = SEGMENT_BYTES // 4
#: Pages are mapped ahead of the loop: twice what the last tick used, and not the whole segment, since
#: a sync writes all mapped pages out and makes the loop's next write to each of them fault.
_PREFAULT_AT_LEAST = 128 << 10
_PREFAULT_FIRST = 1 << 20
_FORKED = "forked"


if TYPE_CHECKING:  # the recorder's namespace, in which the hot path runs (see Recorder.__init__)
    EPOCH: int
    BATCH: int
    STEP: int
    writers: dict[tuple[str, ...], tuple[Callable[..., bytes], int, Callable[..., bytes], str | None]]
    now: Callable[[], int]
    write: Callable[[bytes], Any]
    slow: Callable[..., None]
    stop_line: Callable[..., None]


def _log(
    values: Any = None,
    /,
    *,
    epoch: Any = None,
    batch: Any = None,
    step: Any = None,
    tags: Any = None,
    **metrics: Any,
) -> None:
    if values is None is tags:
        try:
            pack, head, seal, watched = writers[(*metrics,)]
            record = pack(
                head,
                now(),
                EPOCH if epoch is None else epoch,
                BATCH if batch is None else batch,
                STEP if step is None else step,
                *metrics.values(),
            )
            write(seal(record, adler32(record)))
        except Exception:  # noqa: S110 - nothing was written: again, with care
            pass
        else:
            if watched is None:
                return
            value = metrics[watched]
            try:
                if not value - value:
                    return
            except Exception:  # numpy's bool cannot be subtracted, and is finite
                return
            stop_line(value, epoch, batch, step)
            return
    slow(epoch, batch, step, metrics, tags, values)


def no_op(*_args: Any, **_kwargs: Any) -> None:
    """What every function of the no-op twin does."""


def _not_ready(_record: bytes) -> None:
    raise ValueError("no segment")


class Recorder:
    """Takes samples from the loop's threads and gives them to the heartbeat.

    `begin` is called once, by whoever records first; it must call `open`. `stop_line(value, epoch,
    batch, step)` is called after a non-finite training loss was recorded, and raises.
    """

    def __init__(
        self,
        *,
        begin: Callable[[], object],
        stop_line: Callable[[float, int | None, int | None, int | None], None],
        raise_on_bad_value: bool = False,
    ) -> None:
        self._begin = begin
        self._stop_line = stop_line
        self._held: tuple[float, int | None, int | None, int | None] | None = None
        self._raise = raise_on_bad_value
        self._lock = threading.RLock()
        self._drain_lock = threading.RLock()
        self._segment: Segment | None = None
        self._standby: Segment | None = None
        self._prepared: Segment | None = None
        self._prepared_to = 0
        self._sealed: list[Segment] = []
        self._layouts: dict[tuple[Series, ...], Layout] = {}
        self._by_id: dict[int, Layout] = {}
        self._layout_bytes = 0
        self._open_spans = OpenSpans()
        self._checked_devices: set[str] = set()
        self._warned: set[tuple[str, str]] = set()
        self._folder = Path()
        self._header: dict[str, Any] = {}
        self._number = 0
        self.bound_functions: list[Callable[..., None]] = []
        self._retry_at = 0.0
        self._ended: str | None = None
        self.process = ""
        self.recorded = 0  # samples drained
        self.dropped = 0
        self.notes_dropped = 0
        self.bad = 0
        #: Where `log`, the bound functions and those of instruments run. `put` is `write` for those
        #: that must not raise: a held line changes only `write`.
        self.namespace: dict[str, Any] = {
            "__name__": __name__,
            "now": time.monotonic_ns,
            "adler32": adler32,
            "write": _not_ready,
            "put": _not_ready,
            "writers": {},
            "slow": self._log_slowly,
            "stop_line": self._stop,
            "EPOCH": ABSENT_32,
            "BATCH": ABSENT_32,
            "STEP": ABSENT_64,
        }
        self.log: Callable[..., None] = _with_globals(_log, self.namespace, "log")

    # -- life -----------------------------------------------------------------------------------

    def open(self, folder: Path, header: Mapping[str, Any], process: str | None = None) -> None:
        """Begin with a first segment in `folder`; `header` says whose run it is and where it goes."""
        self.process = process or new_process_name()
        self._folder = folder
        self._header = {
            **header,
            "process": self.process,
            "pid": os.getpid(),
            "clock_ns": time.time_ns() - time.monotonic_ns(),
        }
        segment = self._create()
        segment.prefault(0, _PREFAULT_FIRST)
        with self._lock:
            self._install(segment, 0)

    @property
    def clock_ns(self) -> int:
        """What turns a record's monotonic time into wall time; fixed, so order survives clock steps."""
        return int(self._header["clock_ns"])

    @property
    def is_open(self) -> bool:
        return self._segment is not None

    @property
    def is_abandoned(self) -> bool:
        """Whether this is the no-op twin in a forked child."""
        return self._ended == _FORKED

    def end(self, why: str) -> None:
        """Seal the last segment; later calls of `log` are counted, and warned of once."""
        with self._lock:
            self._ended = why
            self.namespace["write"] = self.namespace["put"] = _not_ready
            if self._segment is not None:
                self._seal(self._segment)
                self._segment = None
            if self._standby is not None:
                self._standby.close(unlink=True)
                self._standby = None

    def abandon(self) -> None:
        """Become the no-op twin, in a forked child: nothing of the parent's is touched."""
        for name in ("write", "put", "slow", "stop_line"):
            self.namespace[name] = no_op
        for i in range(len(self.bound_functions)):
            self.namespace[f"slow_{i}"] = no_op
        self.namespace["writers"] = _AnyLayout()
        self._lock = threading.RLock()
        self._drain_lock = threading.RLock()
        segments = [self._segment, self._standby, *self._sealed]
        self._segment = self._standby = None
        self._sealed = []
        self._ended = _FORKED
        for segment in segments:
            if segment is not None:  # the lock lives as long as any copy of the descriptor
                segment.close()

    # -- segments -------------------------------------------------------------------------------

    def _create(self) -> Segment:
        hidden = f"{self.process}-{os.urandom(4).hex()}"
        return Segment.create(self._folder, hidden, self._header)

    def _install(self, segment: Segment, first_seq: int) -> None:
        layouts = b"".join(layout.definition for layout in self._layouts.values())
        spans = self._open_spans.records(segment.size - HEADER_BYTES)
        segment.install(f"{self.process}-{self._number:06d}", self._number, first_seq, layouts + spans)
        self._number += 1
        write: Callable[[bytes], Any] = segment.write
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            write = _locked(write)
        self._segment = segment
        self.namespace["put"] = write
        if self._held is None:
            self.namespace["write"] = write

    def _seal(self, segment: Segment) -> int:
        """Seal, queue for the lake, and return the `seq` that follows its last record."""
        if segment.end is None:  # else its successor could not be installed
            end = segment.seal()
            segment.count += count_records(segment.words(), segment.counted_to, end)
            segment.counted_to = end
            self._sealed.append(segment)
        return segment.first_seq + segment.count

    def roll(self) -> bool:
        """Replace the current segment; False where there is no room for another one."""
        with self._lock:
            old = self._segment
            if old is None:
                return False
            successor, self._standby = self._standby, None
            if successor is None and time.monotonic() < self._retry_at:
                return False
            try:
                if successor is None:
                    successor = self._create()
                if self._layout_bytes > (successor.size - HEADER_BYTES) // 2:  # small: a nearly full disk
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._install(successor, self._seal(old))
            except OSError as error:
                if successor is not None:
                    successor.close(unlink=True)
                self._retry_at = time.monotonic() + 1.0
                self._warn_once(
                    "no room",
                    str(self._folder),
                    f"no room for the next segment in {self._folder} ({error.strerror}); samples "
                    "are dropped and counted until there is. Free disk space, or set "
                    "ENTRENAR_LIVE to a larger local disk",
                )
                return False
            return True

    def prepare(self) -> None:
        """Have the successor ready once the current segment is half full (the heartbeat's work)."""
        segment = self._segment
        if segment is None:
            return
        position = segment.position()
        used = position - self._prepared_to if segment is self._prepared else position
        self._prepared, self._prepared_to = segment, position
        ahead = max(2 * used, _PREFAULT_AT_LEAST)
        segment.prefault(position, ahead)
        if self._standby is None and position > segment.size // 2:
            try:
                standby = self._create()
            except OSError:
                return  # `roll` tries again, and says so
            standby.prefault(0, max(ahead, _PREFAULT_FIRST))
            with self._lock:
                if self._segment is not None and self._standby is None:
                    self._standby = standby
                    return
            standby.close(unlink=True)

    @property
    def age_seconds(self) -> float:
        """Age of the current segment; 0 while it holds nothing new."""
        segment = self._segment
        if segment is None or segment.count == segment.notes == 0:
            return 0.0
        return time.monotonic() - segment.opened_at

    def sync(self) -> None:
        """Make everything recorded so far durable against the death of the machine."""
        if (segment := self._segment) is not None:
            segment.sync()

    # -- draining -------------------------------------------------------------------------------

    def drain(self) -> Samples:
        """All rows recorded since the last drain. They are views: copy what must outlive the tick."""
        with self._drain_lock:
            with self._lock:
                segments = [*self._sealed]
                if self._segment is not None:
                    segments.append(self._segment)
                ends = [segment.position() for segment in segments]
            parts = []
            for segment, end in zip(segments, ends, strict=True):
                if end <= segment.drained_to:
                    continue
                decoded = decode(
                    segment.words(),
                    self._by_id,
                    start=segment.drained_to,
                    end=end,
                    first_seq=segment.first_seq + segment.drained_rows,
                    clock_ns=self.clock_ns,
                    verify=False,
                )
                with self._lock:
                    segment.drained_to = end
                    segment.drained_rows += decoded.records
                    if segment.counted_to < end:
                        segment.counted_to = end
                        segment.count = segment.drained_rows
                parts.append(decoded.samples)
                if decoded.out_of_range:  # what the record's fields hold and the lake's do not
                    self.bad += decoded.out_of_range
                    self._warn_once(
                        "bad",
                        "coordinate",
                        "epoch and batch go up to 2**31 - 1, step up to 2**63 - 1; left empty",
                    )
            samples = Samples.concat(parts)
            self.recorded += samples.n_values
            return samples

    def sealed(self) -> list[Segment]:
        """Segments that are complete and drained, oldest first, for the lake."""
        with self._lock:
            return [s for s in self._sealed if s.end is not None and s.drained_to >= s.end]

    def release(self, segment: Segment, *, unlink: bool) -> None:
        """Let go of a segment: its rows are in the lake (`unlink`), or somebody recovers it later."""
        with self._lock:
            self._sealed.remove(segment)
        segment.close(unlink=unlink)

    # -- notes ------------------------------------------------------------------------------------

    def note(self, kind: int, document: Mapping[str, Any]) -> bool:
        """Put a note (notes.py) into the segment, as safe as a sample; False: dropped, and counted.

        Raises ValueError where its text is too long.
        """
        if self._ended == "forked":
            return False
        record = note_record(kind, document)
        if self._segment is None and self._ended is None:
            self._begin()
        with self._lock:
            if self._put(record) and self._segment is not None:
                self._segment.notes += 1
                self._open_spans.saw(kind, document, record)
                return True
            self.notes_dropped += 1
            return False

    # -- coordinates and bound functions ----------------------------------------------------------

    def set_coordinates(
        self, epoch: int | None = None, batch: int | None = None, step: int | None = None
    ) -> None:
        """What `log` uses where the caller gives no coordinates; None keeps the current one."""
        namespace = self.namespace
        if epoch is not None:
            namespace["EPOCH"] = epoch
        if batch is not None:
            namespace["BATCH"] = batch
        if step is not None:
            namespace["STEP"] = step

    def move_to(self, batch: int, step: int) -> None:
        """The next step, for `steps()`: as `set_coordinates`, without its questions."""
        namespace = self.namespace
        namespace["BATCH"] = batch
        namespace["STEP"] = step

    def clear_coordinates(self) -> None:
        self.namespace.update(EPOCH=ABSENT_32, BATCH=ABSENT_32, STEP=ABSENT_64)

    def bind(self, metrics: Sequence[str], tags: Mapping[str, Any] | None) -> Callable[..., None]:
        """A function made for exactly these metrics. Raises ConfigError on names that cannot be."""
        if not metrics:
            raise ConfigError("bind() needs at least one metric name, as in bind('loss', 'accuracy')")
        for metric in metrics:
            if problem := name_problem(metric):
                raise ConfigError(f"bind(): {problem}")
        if len(set(metrics)) < len(metrics):
            raise ConfigError(f"bind() got a metric twice: {', '.join(metrics)}")
        if tags is not None and not isinstance(tags, Mapping):
            raise ConfigError(f"bind(): tags must be a mapping of text to text, got {describe(tags)}")
        series = tuple(Series.of(metric, tags) for metric in metrics)
        if problem := tags_problem(series[0]):
            raise ConfigError(f"bind(): tags {describe(tags)}: {problem}")
        number = len(self.bound_functions)
        pack, seal = packers(len(series))
        namespace = self.namespace

        def slowly(epoch: Any, batch: Any, step: Any, *values: Any) -> None:
            given = dict(zip(metrics, values, strict=True))
            self._log_slowly(epoch, batch, step, given, tags)
            layout = self._layouts.get(series)
            if layout is not None:
                namespace[f"head_{number}"] = layout.head

        # head is None until the first call: struct.error leads it through `slowly`, where the
        # layout is defined and the values' types are looked at once
        namespace.update(
            {
                f"pack_{number}": pack,
                f"seal_{number}": seal,
                f"head_{number}": None,
                f"slow_{number}": slowly if self.namespace["slow"] is not no_op else no_op,
            }
        )
        watched = next((i for i, s in enumerate(series) if _stops_the_line(s)), None)
        source = bound_source(metrics, number, watched)
        filename = f"<entrenar_otel bind {number}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        local: dict[str, Any] = {}
        exec(compile(source, filename, "exec"), namespace, local)  # noqa: S102 - names are checked
        bound: Callable[..., None] = local["bound"]
        self.bound_functions.append(bound)
        return bound

    # -- the careful path -------------------------------------------------------------------------

    def _log_slowly(
        self,
        epoch: Any,
        batch: Any,
        step: Any,
        metrics: Mapping[str, Any],
        tags: Mapping[str, Any] | None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        stop: tuple[float, int, int, int] | None = None
        problems: list[str] = []  # meant for the loop: past the guard
        with guard("log"):
            given = self._merged(values, metrics, problems)
            stop = self._record(epoch, batch, step, given, tags, problems)
        if stop is not None:
            self._stop(*stop)
        if self._held is not None:
            self.obey()
        if problems:
            raise BadInput("; ".join(problems))

    def record_one(
        self, series: Series, value: Any, epoch: Any, batch: Any, step: Any, *, time_ns: int | None = None
    ) -> int | None:
        """Record one value with care, for an instrument; returns its layout's head, for the next ones.

        `time_ns` is wall time, by default now. A value that must stop the line holds it: instruments do
        not raise.
        """
        problems: list[str] = []
        if self._segment is None and self._ended is None:
            self._begin()
        number = self._number_of(series.metric, value, problems)
        if number is not None:
            at = None if time_ns is None else max(0, time_ns - self.clock_ns)
            coordinates = self._coordinates(epoch, batch, step, problems)
            self._write((series,), (number,), coordinates, problems, fast=False, monotonic_ns=at)
            if not math.isfinite(number):
                self.hold_line(series, number, epoch, batch, step)
        for problem in problems:
            self._warn_once("bad", series.metric, problem)
        layout = self._layouts.get((series,))
        return layout.head if layout is not None else None

    def refuse(self, key: str, message: str) -> None:
        """Count bad input, and warn of it once a key."""
        self.bad += 1
        self._warn_once("bad", key, message)

    def hold_line(self, series: Series, value: Any, epoch: Any, batch: Any, step: Any) -> None:
        """Stop the line at the next `log` or `obey()` if this series' non-finite value must."""
        if self._held is None and _stops_the_line(series):
            self._held = (float(value), *self._where(epoch, batch, step))
            self.namespace["write"] = _not_ready

    def obey(self) -> None:
        """Raise what holds the line, once. Does nothing when nothing does."""
        with self._lock:
            held, self._held = self._held, None
            self.namespace["write"] = self.namespace["put"]
        if held is not None:
            self._stop_line(*held)

    def _merged(self, values: Any, metrics: Mapping[str, Any], problems: list[str]) -> dict[Any, Any]:
        if values is None:
            return dict(metrics)
        if not isinstance(values, Mapping):
            self._reject(
                "values",
                f"log() takes a mapping of names to numbers, or keywords; got {describe(values)}",
                problems,
            )
            return dict(metrics)
        for name in values.keys() & metrics.keys():
            self._reject(name, f"log() got {name!r} twice; the keyword's value was kept", problems)
        return {**values, **metrics}

    def _record(
        self, epoch: Any, batch: Any, step: Any, metrics: Mapping[Any, Any], tags: Any, problems: list[str]
    ) -> tuple[float, int, int, int] | None:
        """Record what can be recorded; returns a value that must stop the line, and where."""
        if self._segment is None and self._ended is None:
            self._begin()
        coordinates = self._coordinates(epoch, batch, step, problems)
        if tags is not None and not isinstance(tags, Mapping):
            self._reject("tags", f"tags must be a mapping of text to text, got {describe(tags)}", problems)
            tags = None
        numbers: dict[str, float] = {}
        for name, value in metrics.items():
            if problem := name_problem(name):
                self._reject(f"name {describe(name)}", problem, problems)
            elif (number := self._number_of(name, value, problems)) is not None:
                numbers[name] = number
        if numbers:
            series = tuple(Series.of(name, tags) for name in numbers)
            if bad := tags_problem(series[0]):
                self._reject("tags", f"tags {describe(tags)}: {bad}", problems)
                series = tuple(Series(name) for name in numbers)
            self._write(series, tuple(numbers.values()), coordinates, problems, fast=not tags)
            for one, value in zip(series, numbers.values(), strict=True):
                if _stops_the_line(one) and not math.isfinite(value):
                    return value, *coordinates
        return None

    def _write(
        self,
        series: tuple[Series, ...],
        values: tuple[float, ...],
        coordinates: tuple[int, int, int],
        problems: list[str],
        *,
        fast: bool,
        monotonic_ns: int | None = None,
    ) -> None:
        if self._ended is not None:
            self._drop(len(values))
            self._warn_once(
                "ended",
                "",
                f"log() after the run ended ({self._ended}): dropped and counted. "
                "Make a new Monitor for a new run",
            )
            return
        layout = self._layout(series, problems)
        if layout is None:
            for one, value in zip(series, values, strict=True) if len(series) > 1 else ():
                self._write((one,), (value,), coordinates, problems, fast=False)
            return
        pack, seal = packers(len(series))
        now = self.namespace["now"]() if monotonic_ns is None else monotonic_ns
        record = pack(layout.head, now, *coordinates, *values)
        if not self._put(seal(record, adler32(record))):
            self._drop(len(values))
        elif fast:
            watched = next((s.metric for s in series if _stops_the_line(s)), None)
            names = tuple(s.metric for s in series)
            self.namespace["writers"][names] = (pack, layout.head, seal, watched)

    def _layout(self, series: tuple[Series, ...], problems: list[str]) -> Layout | None:
        """The layout of these series, defined in the segment; None: record them one by one."""
        if (known := self._layouts.get(series)) is not None:
            return known
        with self._lock:
            if (known := self._layouts.get(series)) is not None:
                return known
            if len(series) > MAX_VALUES or (len(series) > 1 and len(self._layouts) >= MAX_LAYOUTS):
                return None
            layout = Layout(len(self._layouts) + 1, series)
            size = len(layout.definition)
            room = min(MAX_LAYOUT_BYTES, self._segment.size // 4 if self._segment else 0)
            if self._layout_bytes + size > room:
                if len(series) == 1:
                    self._reject(
                        "too many names",
                        f"more than {len(self._layouts):,} different names or tags, "
                        f"so {describe(str(series[0]))} is not recorded. A part of the name seems to "
                        "change with every call: put it into step=, epoch= or batch=",
                        problems,
                    )
                return None
            if not self._put(layout.definition):
                if len(series) == 1:  # several are tried one by one
                    self._drop(1)
                return None
            self._layouts[series] = layout
            self._by_id[layout.id] = layout
            self._layout_bytes += size
            return layout

    def _put(self, record: bytes) -> bool:
        """Write with care: where this segment is full, into the next. Nobody else rolls meanwhile."""
        with self._lock:
            for _ in range(3):
                try:
                    self.namespace["put"](record)
                    return True
                except ValueError:
                    if not self.roll() or self._segment is None:
                        break
                    if len(record) > self._segment.size - self._segment.position():
                        break  # not even into an empty one
        return False

    def _coordinates(self, epoch: Any, batch: Any, step: Any, problems: list[str]) -> tuple[int, int, int]:
        return (
            self._coordinate("epoch", epoch, 0x7FFF_FFFF, problems),
            self._coordinate("batch", batch, 0x7FFF_FFFF, problems),
            self._coordinate("step", step, 0x7FFF_FFFF_FFFF_FFFF, problems),
        )

    def _coordinate(self, name: str, value: Any, limit: int, problems: list[str]) -> int:
        if value is None:
            return int(self.namespace[name.upper()])
        absent = ABSENT_64 if name == "step" else ABSENT_32
        try:
            try:
                number = operator.index(value)
            except TypeError:
                number = math.floor(value)
            if 0 <= number <= limit:
                return number
        except Exception:  # noqa: S110 - rejected below
            pass
        self._reject(
            name,
            f"{name} must be a whole number from 0 to {limit}, got {describe(value)}; left empty",
            problems,
        )
        return absent

    def _number_of(self, name: str, value: Any, problems: list[str]) -> float | None:
        try:
            if getattr(value, "is_cuda", False):
                self._warn_once(
                    "cuda",
                    name,
                    f"{name} is a CUDA tensor: reading it waits for the GPU (synchronises) on every "
                    "log. Log it less often, or pass a value that is already on the CPU",
                )
            return number_of(value)
        except Exception:
            self._reject(name, f"{name} must be one number, got {describe(value)}; not recorded", problems)
            return None

    def _reject(self, key: str, message: str, problems: list[str] | None = None) -> None:
        """Bad input: counted; warned of once a name, or raised once what was good is recorded."""
        self.bad += 1
        if self._raise:
            if problems is None:
                raise BadInput(message)
            problems.append(message)
        else:
            self._warn_once("bad", key, message)

    def _warn_once(self, kind: str, key: str, message: str) -> None:
        # Names can be without number, and "no room" must still be heard behind a thousand of them.
        if (kind, key) not in self._warned and (len(self._warned) < 1000 or kind != "bad"):
            self._warned.add((kind, key))
            logger.warning("%s", message)

    def _drop(self, samples: int) -> None:
        self.dropped += samples

    def _stop(self, value: Any, epoch: Any, batch: Any, step: Any) -> None:
        self._stop_line(float(value), *self._where(epoch, batch, step))

    def coordinates(self) -> tuple[int | None, int | None, int | None]:
        """Epoch, batch and step as `epochs()` and `steps()` have set them."""
        return self._where(None, None, None)

    def _where(self, epoch: Any, batch: Any, step: Any) -> tuple[int | None, int | None, int | None]:
        def known(name: str, given: Any, absent: int) -> int | None:
            at = self.namespace[name] if given is None else given
            try:
                return None if at == absent else int(at)
            except (TypeError, ValueError, OverflowError):  # refused where it was recorded
                return None

        return (
            known("EPOCH", epoch, ABSENT_32),
            known("BATCH", batch, ABSENT_32),
            known("STEP", step, ABSENT_64),
        )


class _AnyLayout(dict[Any, Any]):
    """In a forked child every combination of names is recorded to nowhere."""

    def __missing__(self, key: Any) -> Any:
        return _discard, 0, _discard, None


def _discard(*_args: Any) -> bytes:
    return b""


def _stops_the_line(series: Series) -> bool:
    """Training loss: façade `loss`, split absent or train (renacer.toml's default)."""
    return series.metric == "loss" and dict(series.tags).get("split", "train") == "train"


def _with_globals(function: Any, namespace: dict[str, Any], name: str) -> Callable[..., None]:
    """The same code, with the recorder's namespace as its globals."""
    copy = FunctionType(function.__code__, namespace, name, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _locked(write: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    lock = threading.Lock()

    def write_locked(record: bytes) -> None:
        with lock:
            write(record)

    return write_locked
