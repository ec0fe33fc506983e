"""Segment log: the segments of one process, one after the other, and what is drained from them.

The newest takes what `write` is given. When it is full the next one, prepared ahead, takes its place;
what is complete waits for the lake.

A signal handler or a finalizer may record something in the middle of anything here, on the same thread and
so past every lock, and a handler may raise there. Therefore:

1. A new segment belongs to the call that makes it until it is `_coming`; from there on whoever comes
   finishes it. Both steps, and what makes it the current one, are stores without a call in between, where
   Python lets nobody in. A call that comes back to find another segment current gives its own up.
2. What must be at the beginning of the next segment (layouts, open spans) is noted before it is written.
3. What is done twice is done once: sealing, counting, installing.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import adler32

from entrenar_processors import Samples, Series

from entrenar_otel.clock import SYSTEM_CLOCK, Clock, Era, RunClock
from entrenar_otel.console import logger
from entrenar_otel.identity.process import new_process_name
from entrenar_otel.interruption import from_outside
from entrenar_otel.recording.by_name import unheard
from entrenar_otel.recording.decode import count_records, decode
from entrenar_otel.recording.inputs import watch_conversions
from entrenar_otel.recording.layout import Layout
from entrenar_otel.recording.live_folder import make_live
from entrenar_otel.recording.native_path import native_path
from entrenar_otel.recording.notes import (
    CLOCK_SET,
    SPAN_ENDED,
    SPAN_STARTED,
    OpenSpans,
    note_record,
    text_record,
)
from entrenar_otel.recording.process.lock import sweep
from entrenar_otel.recording.process.origin import Origin
from entrenar_otel.recording.segment import HEADER_BYTES, Segment

#: Pages are mapped ahead of the loop: a quarter more than the last tick used, and no more than that, since a
#: sync writes all mapped pages out, and makes the loop's next write to each of them fault.
_PREFAULT_AT_LEAST = 32 << 10
_PREFAULT_FIRST = 1 << 20
#: How long it is left alone when the disk had no room for a segment.
_RETRY_SECONDS = 1.0
FORKED = "forked"
#: So many complete segments stay open. A loop may fill them faster than they can be handed over, or even
#: looked at; each takes two descriptors, and those of the program must not run out.
_MAX_OPEN = 8


def no_op(*_args: Any, **_kwargs: Any) -> None:
    """What every function of the no-op twin does."""


def not_ready(_record: bytes) -> None:
    """What stands for `write` while there is no segment: it leads to the careful path."""
    raise ValueError("no segment")


class SegmentLog:
    """Segments, layouts, notes and the namespace in which everything that writes a record runs.

    `begin` is called once, by whoever records first; it must call `open`.
    """

    def __init__(self, begin: Callable[[], object], clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = RunClock(clock, self._note_era)
        self._followed_ns = 0  # the clock's anchor at the last `follow_clock`
        self._begin = begin
        self._held = False  # the next `log` must do more than record
        self._is_slowed = False
        self._lock = threading.RLock()
        self._drain_lock = threading.RLock()
        #: What is written to now, and its successor, prepared ahead.
        self.segment: Segment | None = None
        self.standby: Segment | None = None
        self._prepared: Segment | None = None
        self._prepared_to = 0
        #: The segments that are not handed over, oldest first: the current one and those that are sealed.
        self._segments: tuple[Segment, ...] = ()
        self._coming: Segment | None = None
        #: Which combinations of series were recorded so far.
        self.layouts: dict[tuple[Series, ...], Layout] = {}
        #: With their definitions every segment begins.
        self._by_id: dict[int, Layout] = {}
        self._layout_ids = itertools.count(1)
        self._layout_bytes = 0
        self._open_spans = OpenSpans()
        self._warned: set[tuple[str, str]] = set()
        self._unsaid: list[str] = []
        self._folder = Path()
        self._header: dict[str, Any] = {}
        self.next_number = 0
        #: When a segment that could not be made is tried again, by `time.monotonic`.
        self.retry_at = 0.0
        self._end_reason: str | None = None
        self.process = ""
        self.recorded = 0  # samples drained
        self.dropped = 0
        self.notes_dropped = 0
        self.bad = 0
        #: Where `log`, the bound functions and those of instruments run. `put` is `write` for those
        #: that must not raise: a held line changes only `write`.
        self.namespace: dict[str, Any] = {
            "__name__": __name__,
            "now": clock.monotonic_ns,
            "adler32": adler32,
            "write": not_ready,
            "put": not_ready,
            "writers": {},
        }
        #: What of it is native; its `writer` is what `write` is, where that is a segment's own and mapped.
        self.hot = native_path(clock, self.namespace)

    # -- life -----------------------------------------------------------------------------------

    def open(self, folder: Path, header: Mapping[str, Any], process: str | None = None) -> None:
        """Begin with a first segment in `folder`; `header` says whose run it is and where it goes."""
        self.process = process or new_process_name()
        self._folder = folder
        self._header = {**header, "process": self.process, "pid": os.getpid()}
        self._header["origin"] = Origin.here().document()
        self.clock.restart()
        watch_conversions()
        self._followed_ns = self.clock.anchor_ns
        segment = self._create()
        segment.prefault(0, _PREFAULT_FIRST)
        with self._lock:
            self._begin_segment(segment, 0)
            if self.segment is None and self._coming is None:
                self._coming = segment
            self._install()

    def claim(self, fields: Mapping[str, Any]) -> None:
        """Say in all segments, those to come included, what was not known when the first was made."""
        with self._lock:
            self._header.update(fields)
            for segment in (*self._segments, self._coming):
                if segment is not None:
                    with contextlib.suppress(OSError):  # readers find the attempt by the process, then
                        segment.claim(dict(fields))

    @property
    def is_open(self) -> bool:
        return self.segment is not None

    @property
    def is_abandoned(self) -> bool:
        """Whether this is the no-op twin in a forked child."""
        return self._end_reason == FORKED

    def end(self, why: str) -> None:
        """Seal the last segment; later calls of `log` are counted, and warned of once."""
        with self._lock:
            self._end_reason = why
            self.namespace["write"] = self.namespace["put"] = not_ready
            if self.hot is not None:
                self.hot.writer = None
            if self._coming is not None:
                with contextlib.suppress(OSError):
                    self._install()
            if (segment := self.segment) is not None:
                self._seal(segment)
                self.segment = None
            standby, self.standby = self.standby, None
            if standby is not None:
                standby.close(unlink=True)
            sweep()

    def abandon(self) -> None:
        """Become the no-op twin, in a forked child: nothing of the parent's is touched."""
        self.namespace["write"] = self.namespace["put"] = unheard
        if self.hot is not None:
            self.hot.writer = None
        self._lock = threading.RLock()
        self._drain_lock = threading.RLock()
        segments = [self._coming, self.standby, *self._segments]
        self.segment = self.standby = self._coming = None
        self._segments = ()
        self._end_reason = FORKED
        for segment in segments:
            if segment is not None:  # the lock lives as long as any copy of the descriptor
                segment.close()

    # -- segments -------------------------------------------------------------------------------

    def _create(self) -> Segment:
        hidden = f"{self.process}-{os.urandom(4).hex()}"
        try:
            return Segment.create(self._folder, hidden, self._header)
        except FileNotFoundError:
            make_live(self._folder)
            self._warn_once(
                "removed",
                "",
                f"the live folder {self._folder} was removed while the run uses it. It is made again, and "
                "recording goes on there; what was in it is handed over as long as this process lives. "
                "Do not remove it during a run, or set ENTRENAR_LIVE to a folder that nobody cleans up",
            )
            return Segment.create(self._folder, hidden, self._header)

    def _begin_segment(self, segment: Segment, first_seq: int) -> None:
        # list, not tuple: to make room for a tuple may collect garbage, whose finalizers may record new names
        layouts = b"".join([layout.definition for layout in list(self._by_id.values())])
        spans = self._open_spans.records(segment.size - HEADER_BYTES)
        first, *later = self.clock.eras
        segment.header = {**segment.header, "clock_ns": first.anchor_ns, "clock_set": later}
        segment.begin(self.next_number, first_seq, layouts + spans)

    def _install(self) -> None:
        """Make the coming segment the current one, whoever began it."""
        while (segment := self._coming) is not None:
            number = segment.header["number"]
            segment.install(f"{self.process}-{number:06d}")
            write: Callable[[bytes], Any] = segment.write
            writer = segment.body.writer
            if not getattr(sys, "_is_gil_enabled", lambda: True)():
                write = _locked(write)
            namespace, known, hot = self.namespace, self._segments, self.hot
            segments = (*known, segment)
            following = number + 1
            # from here on without a call: nobody comes in between
            if self._coming is segment and self._segments is known:
                self._segments = segments
                self.segment = segment
                self.next_number = following
                if self._end_reason is None:
                    namespace["put"] = write
                    if not self._held and not self._is_slowed:
                        namespace["write"] = write
                        if hot is not None:
                            hot.writer = writer
                self._coming = None

    def _seal(self, segment: Segment) -> int:
        """Seal, and with it queue for the lake; return the `seq` that follows its last record."""
        end = segment.seal()
        start, count = segment.counted
        if start < end:
            segment.counted = (end, count + count_records(segment.words(), start, end))
        return segment.first_seq + segment.counted[1]

    def roll(self) -> bool:
        """Replace the current segment; False where there is no room for another one."""
        with self._lock:
            old = self.segment
            if old is None:
                return False
            if self._coming is not None:  # an exception came out of a signal handler just there
                return self._try(self._go_on)
            if time.monotonic() < self.retry_at and self.standby is None:
                return False
            return self._try(lambda: self._replace(old))

    def _go_on(self) -> None:
        """Install what is coming; where the disk does not let it, there is nothing coming. Raises OSError."""
        coming = self._coming
        try:
            self._install()
        except OSError as error:
            if not from_outside(error) and coming is not None and self._coming is coming:
                self._coming = None
                coming.close(unlink=True)
            raise

    def _try(self, step: Callable[[], object]) -> bool:
        """Whether the step could be done; what a full or broken disk says to it is said once."""
        try:
            step()
        except OSError as error:
            if from_outside(error):
                raise
            self.retry_at = time.monotonic() + _RETRY_SECONDS
            self._warn_once(
                "no room",
                str(self._folder),
                f"no room for the next segment in {self._folder} ({error.strerror}); samples "
                "are dropped and counted until there is. Free disk space, or set "
                "ENTRENAR_LIVE to a larger local disk",
            )
            return False
        return True

    def _replace(self, old: Segment) -> None:
        """Put the next segment into the place of this one. Raises OSError."""
        if old.failure is not None and time.monotonic() < old.opened_at + _RETRY_SECONDS:
            self._seal(old)  # the next one would fail as this one did: not one a record
            raise OSError(old.failure.errno, old.failure.strerror)
        successor, self.standby = self.standby, None
        try:
            if successor is not None and successor.is_unlinked:
                successor.close()
                successor = None
            if successor is None:
                successor = self._create()
            if self._layout_bytes > (successor.size - HEADER_BYTES) // 2:  # small: a nearly full disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._begin_segment(successor, self._seal(old))
            if self.segment is old and self._coming is None:
                self._coming = successor
            self._go_on()
        except BaseException:
            if successor is not None and successor is not self._coming and successor not in self._segments:
                successor.close(unlink=True)
            raise  # one that is coming is gone on with
        if successor not in self._segments:  # somebody else's came first
            successor.close(unlink=True)
        complete = [segment for segment in self._segments if segment.end is not None]
        for segment in complete[:-_MAX_OPEN]:
            segment.detach()

    def follow_clock(self) -> int:
        """Look whether the machine's clock was set; by how many nanoseconds since the last call."""
        self.clock.time_ns()
        before, self._followed_ns = self._followed_ns, self.clock.anchor_ns
        return self._followed_ns - before

    def _note_era(self, era: Era) -> None:
        if self.segment is not None:
            self.note(CLOCK_SET, era._asdict(), clean=True)

    def follow_folder(self) -> None:
        """Look whether the current segment's file was removed: then go on in a new one (the heartbeat's)."""
        if (segment := self.segment) is not None and segment.is_unlinked:
            if segment.path.parent.exists():  # else it is said where the folder is made again
                self._warn_once(
                    "removed",
                    "",
                    f"the live segment {segment.path} was removed while the run writes to it: recording goes "
                    "on in a new one, and what was in it is handed over as long as this process lives",
                )
            self.roll()

    def prepare(self) -> None:
        """Have the successor ready once the current segment is half full (the heartbeat's work)."""
        segment = self.segment
        if segment is None:
            return
        position = segment.position()
        used = position - self._prepared_to if segment is self._prepared else position
        self._prepared, self._prepared_to = segment, position
        ahead = max(used + used // 4, _PREFAULT_AT_LEAST)
        segment.prefault(position, ahead)
        if self.standby is None and position > segment.size // 2:
            try:
                standby = self._create()
            except OSError as error:
                if from_outside(error):
                    raise
                return  # `roll` tries again, and says so
            standby.prefault(0, max(ahead, _PREFAULT_FIRST))
            with self._lock:
                if self.segment is not None and self.standby is None:
                    self.standby = standby
                    return
            standby.close(unlink=True)

    @property
    def age_seconds(self) -> float:
        """Age of the current segment; 0 while it holds nothing new."""
        segment = self.segment
        if segment is None or segment.count == segment.notes == 0:
            return 0.0
        return time.monotonic() - segment.opened_at

    def sync(self) -> None:
        """Make everything recorded so far durable against the death of the machine."""
        for segment in self._segments:
            if segment.synced_to < segment.position():
                try:
                    segment.sync()
                except (OSError, ValueError) as error:
                    if segment.is_detached:  # just now, or somebody else has recovered it
                        if isinstance(error, FileNotFoundError):
                            segment.synced_to = segment.position()
                    elif segment in self._segments:  # else it was handed over, and closed
                        raise

    # -- draining -------------------------------------------------------------------------------

    def drain(self, at_most: int | None = None) -> Samples:
        """All rows recorded since the last drain, of so many segments. They are views.

        So copy what must outlive the tick. What was detached before it was drained is read into memory, and a
        loop may be many segments ahead: they are drained piece by piece.
        """
        with self._drain_lock:
            with self._lock:
                behind = [known for known in self._segments if known.drained_to < known.position()]
                segments = behind[:at_most]
                ends = [segment.position() for segment in segments]
                eras = self.clock.eras
            parts = []
            for segment, end in zip(segments, ends, strict=True):
                try:
                    words = segment.words()
                except FileNotFoundError:  # somebody has taken us for dead: it is in the lake
                    segment.drained_to = end
                    continue
                decoded = decode(
                    words,
                    self._by_id,
                    start=segment.drained_to,
                    end=end,
                    first_seq=segment.first_seq + segment.drained_rows,
                    eras=eras,
                    verify=False,
                )
                with self._lock:
                    segment.drained_to = end
                    segment.drained_rows += decoded.records
                    if segment.counted[0] < end:
                        segment.counted = (end, segment.drained_rows)
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

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The segments that are not handed over, oldest first."""
        return self._segments

    @property
    def waiting(self) -> int:
        """How many complete segments wait for the lake, drained or not."""
        return sum(segment.end is not None for segment in self._segments)

    def sealed(self) -> list[Segment]:
        """Segments that are complete and drained, oldest first, for the lake."""
        with self._lock:
            return [s for s in self._segments if s.end is not None and s.drained_to >= s.end]

    def park(self, busy: Segment | None = None) -> None:
        """Close what waits for a lake that is away, but for the one that is handed over at this moment."""
        for segment in self.sealed():
            if segment is not busy and not segment.is_parked:
                with contextlib.suppress(OSError):  # no room: it stays as it is
                    segment.park()

    def release(self, segment: Segment, *, unlink: bool) -> None:
        """Let go of a segment: its rows are in the lake (`unlink`), or somebody recovers it later."""
        segment.close(unlink=unlink)
        with self._lock:
            while segment in (known := self._segments):
                rest = tuple([other for other in known if other is not segment])
                if self._segments is known:
                    self._segments = rest

    # -- notes ------------------------------------------------------------------------------------

    def note(self, kind: int, document: Mapping[str, Any], *, clean: bool = False) -> bool:
        """Put a note (notes.py) into the segment, as safe as a sample; False: dropped, and counted.

        Raises ValueError where its text is too long.
        """
        if self._end_reason == FORKED:
            return False
        has_parent = document.get("parent_span_id") is not None
        record = note_record(kind, document, clean=clean)
        return self._put_note(kind, record, document.get("span_id"), has_parent=has_parent)

    def put_texts(self, texts: Sequence[tuple[int, bytes]], span_id: str, *, has_parent: bool) -> bool:
        """Put notes whose texts (`notes.note_text`) are made already, all about one span; see `note`."""
        if self._end_reason == FORKED:
            return False
        records = b"".join([text_record(kind, text) for kind, text in texts])
        return self._put_note(texts[-1][0], records, span_id, has_parent=has_parent, count=len(texts))

    def _put_note(self, kind: int, record: bytes, span: object, *, has_parent: bool, count: int = 1) -> bool:
        """Write a note, or `count` of them at once, of which the last is of this kind."""
        if self.segment is None and self._end_reason is None:
            self._begin()
        with self._lock:
            if kind == SPAN_STARTED:  # before: the next segment may begin in between
                self._open_spans.saw(kind, span, record, has_parent=has_parent)
            if self._put(record):
                if (segment := self.segment) is not None:
                    segment.notes += count
                if kind != SPAN_STARTED:
                    self._open_spans.saw(kind, span, record, has_parent=has_parent)
                return True
            if kind == SPAN_STARTED:
                self._open_spans.saw(SPAN_ENDED, span, record, has_parent=has_parent)
            self.notes_dropped += count
        self.say()
        return False

    def _put(self, record: bytes) -> bool:
        """Write with care: where this segment is full, into the next. Nobody else rolls meanwhile."""
        with self._lock:
            while True:
                try:
                    self.namespace["put"](record)
                    return True
                except ValueError as error:
                    if from_outside(error):
                        raise
                if not self.roll() or (segment := self.segment) is None or len(record) > segment.room:
                    return False

    def _warn_once(self, kind: str, key: str, message: str) -> None:
        # Names can be without number, and "no room" must still be heard behind a thousand of them.
        if (kind, key) not in self._warned and (len(self._warned) < 1000 or kind != "bad"):
            self._warned.add((kind, key))
            self._unsaid.append(message)
            if not self._lock._is_owned():  # type: ignore[attr-defined]  # as Condition asks it
                self.say()

    def say(self) -> None:
        """Log what came up under the lock: a handler of the user's may record, in this thread or another."""
        while self._unsaid:
            with contextlib.suppress(IndexError):  # another thread has said it
                logger.warning("%s", self._unsaid.pop(0))


def _locked(write: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    lock = threading.RLock()  # a signal handler may come in

    def write_locked(record: bytes) -> None:
        with lock:
            write(record)

    return write_locked
