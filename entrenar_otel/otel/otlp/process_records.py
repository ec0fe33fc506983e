"""Process records: all that one process has recorded and that is not acknowledged yet, oldest first."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from entrenar_otel.console import logger
from entrenar_otel.otel.otlp.piece import Piece
from entrenar_otel.otel.otlp.segment_reader import SegmentReader
from entrenar_otel.recording.header import SegmentError
from entrenar_otel.recording.segment import HEADER_BYTES
from entrenar_otel.recording.unsent import SentFile, Watermark, read_watermark, segment_files


class Written(NamedTuple):
    """A segment that its owner has not handed over: where its records end, and whether for good."""

    path: Path
    end: int
    is_whole: bool


class _Source(NamedTuple):
    path: Path
    end: int | None
    is_whole: bool


def values_in(path: Path) -> int:
    """How many values of samples leave with a segment; 0 where it cannot be read."""
    try:
        return SegmentReader(path).read().values
    except (OSError, SegmentError):
        return 0


def size_of(path: Path) -> int:
    """In bytes; 0 where it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


class ProcessRecords:
    """The segments of one process behind its watermark; whoever reads them holds `PROCESS.sending`.

    `written` has the segments that are the owner's still, by number; None where somebody else asks.
    """

    def __init__(
        self, live: Path, process: str, written: Callable[[], Mapping[int, Written]] | None = None
    ) -> None:
        self._live, self.process = live, process
        #: Up to where all is acknowledged, and up to where it was read.
        self.mark = self.read_to = read_watermark(live, process)
        self._sent = SentFile(live, process)
        self._written = written
        self._reader: SegmentReader | None = None
        self._left_out: set[int] = set()
        #: Of the owner's own segments, by number: values of those that were handed over, and how many of them
        #: were sent, or counted as lost.
        self._totals: dict[int, int] = {}
        self._accounted: Counter[int] = Counter()

    def unsent(self) -> dict[int, Path]:
        """The segments that were handed over before they were acknowledged."""
        return segment_files(self._live, ".unsent").get(self.process, {})

    def pieces(self) -> Iterator[Piece]:
        """What there is now; the caller says `acknowledge` of each once it and all before it have arrived."""
        self.read_to = self.mark
        while (source := self._next()) is not None:
            try:
                reader = self._reader_of(source)
                if source.end is not None and source.end <= reader.at and not source.is_whole:
                    return
                stretch = reader.read(source.end, is_whole=source.is_whole)
            except (FileNotFoundError, SegmentError) as error:
                self._leave_out(source.path, error)
                continue
            self.read_to = stretch.mark
            yield from stretch.pieces()
            if not source.is_whole:
                return

    def acknowledge(self, piece: Piece) -> None:
        """It has arrived: state how far, and let go of what is acknowledged as a whole."""
        mark = piece.mark
        self.account(piece.stretch.number, piece.values)
        if mark is None or mark <= self.mark:
            return
        number, self.mark = self.mark.segment, mark
        with contextlib.suppress(OSError):  # a full disk: at worst it is sent again
            self._sent.write(mark)
        if mark.segment > number:
            self.clean()

    def handed_over(self, number: int, values: int) -> None:
        """One of the owner's segments with so many values is in the lake."""
        self._totals[number] = values

    def account(self, number: int, values: int) -> None:
        """So many of its values were sent, or it is known elsewhere that they are not."""
        self._accounted[number] += values

    def removed(self) -> int:
        """How many values were in segments that somebody has removed meanwhile, and had not been sent.

        To be called while nothing is on its way.
        """
        totals = dict(self._totals)  # before the files are listed: one may be handed over in between
        if not totals:
            return 0
        there = {*self.unsent(), *self._owned()}
        gone = totals.keys() - there
        return sum(max(0, self._totals.pop(number) - self._accounted[number]) for number in gone)

    def bytes_left(self) -> int:
        """What is left to be sent, of what was handed over."""
        return sum(map(size_of, self.unsent().values()))

    def _owned(self) -> Mapping[int, Written]:
        return {} if self._written is None else self._written()

    def close(self) -> None:
        """Let go of what is open."""
        self._sent.close()

    def clean(self) -> bool:
        """Remove what is acknowledged as a whole; whether no segment is left, handed over or not."""
        unsent = self.unsent()
        for number, path in unsent.items():
            if number < self.mark.segment:
                path.unlink(missing_ok=True)
        segments = segment_files(self._live, ".seg").get(self.process, {})
        return not segments and all(number < self.mark.segment for number in unsent)

    def _next(self) -> _Source | None:
        """Where to read on."""
        at, owned = self.read_to.segment, self._owned()
        if at in owned and at not in self._left_out:  # the usual: no folder is looked through for it
            return _Source(*owned[at])
        sources = {number: _Source(*known) for number, known in owned.items()}
        for number, path in self.unsent().items():
            sources.setdefault(number, _Source(path, None, True))
        numbers = [number for number in sources if number >= at and number not in self._left_out]
        if not numbers:
            return None
        if (number := min(numbers)) != at:
            if self._written is None and any(
                at <= known < number for known in segment_files(self._live, ".seg").get(self.process, {})
            ):
                return None  # recovery comes first
            self.read_to = Watermark(number)
        return sources[number]

    def _reader_of(self, source: _Source) -> SegmentReader:
        """The reader of the segment that is next, which stands where all before was read."""
        number, offset = self.read_to
        reader = self._reader
        if reader is None or reader.number != number or reader.at != max(offset, HEADER_BYTES):
            is_own = self._written is not None
            try:
                reader = SegmentReader(source.path, is_trusted=is_own)
            except FileNotFoundError:  # handed over just now
                reader = SegmentReader(source.path.with_suffix(".unsent"), is_trusted=is_own)
            reader.skip_to(offset)
            self._reader = reader
        return reader

    def _leave_out(self, path: Path, error: Exception) -> None:
        """A segment that is gone, or none: what was in it is not sent."""
        if isinstance(error, SegmentError) or self._written is None:  # else it is counted, see `removed`
            logger.warning("%s: what is left of it is not sent by OTLP", error if str(error) else path)
        if isinstance(error, SegmentError) and path.suffix == ".unsent":
            with contextlib.suppress(OSError):
                os.replace(path, path.with_suffix(".damaged"))
        self._left_out.add(self.read_to.segment)
