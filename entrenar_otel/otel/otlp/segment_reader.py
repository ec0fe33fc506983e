"""Segment reader: what a segment has got since the last look, read from its file; all of it is untrusted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from entrenar_otel.otel.otlp import names
from entrenar_otel.otel.otlp.envelope import Envelope
from entrenar_otel.otel.otlp.piece import Event, Stretch
from entrenar_otel.otel.otlp.settings import Samples
from entrenar_otel.recording.decode import Scan, Words, scan
from entrenar_otel.recording.header import SegmentError, check_header
from entrenar_otel.recording.layout import Layout
from entrenar_otel.recording.notes import EVENT, parse_document
from entrenar_otel.recording.plain_file import open_plain
from entrenar_otel.recording.segment import HEADER_BYTES, Head, eras_of
from entrenar_otel.recording.unsent import Watermark, leaves


class SegmentReader:
    """One segment, from its beginning on. Raises OSError where it is gone, SegmentError where it is invalid.

    `is_trusted`: this process has written it, so that no checksum is looked at where lengths fit.
    """

    def __init__(self, path: Path, *, is_trusted: bool = False) -> None:
        with open(open_plain(path), "rb", buffering=0) as file:
            head = Head.of(file, path)
        header = check_header(path, head.header)
        if not leaves(header):
            raise SegmentError(f"{path} is not to be sent")
        self.path = path
        self.number = int(header["number"])
        self.samples = _samples(header["otlp"])
        self.envelope = Envelope(_resource(header))
        self.at = HEADER_BYTES
        self._size = min(head.size, max(int(header["bytes"]), HEADER_BYTES)) // 8 * 8
        self._is_trusted = is_trusted
        self._seq = head.first_seq
        self._eras = eras_of(header)
        self._layouts: dict[int, Layout] = {}

    def skip_to(self, offset: int) -> None:
        """Leave out what is acknowledged: of a place within a record, the record is read again."""
        end = min(offset, self._size) // 8 * 8
        if end > self.at:
            found = self._scan(self._read(end))
            self.at = min(found.end + self.at, end)

    def read(self, end: int | None = None, *, is_whole: bool = True) -> Stretch:
        """What stands there up to a byte, by default to the end; `is_whole`: nothing comes behind it."""
        stop = self._size if end is None else min(end, self._size)
        begin, words = self.at, self._read(stop)
        found = self._scan(words)
        self.at = stop
        return Stretch(
            words=words,
            found=found,
            layouts=self._layouts,
            events=tuple(_events(words, found, begin)),
            number=self.number,
            begin=begin,
            mark=Watermark(self.number + 1) if is_whole else Watermark(self.number, stop),
            samples=self.samples,
            envelope=self.envelope,
        )

    def _read(self, stop: int) -> Words:
        """The words from here to there; of a file that was renamed meanwhile, too."""
        for path in (self.path, self.path.with_suffix(".unsent")):
            try:
                fd = open_plain(path)
            except FileNotFoundError:
                continue
            try:
                data = b""
                while len(data) < stop - self.at and (
                    more := os.pread(fd, stop - self.at - len(data), self.at + len(data))
                ):
                    data = data + more if data else more
            finally:
                os.close(fd)
            return np.frombuffer(data[: len(data) // 8 * 8], "<u8")
        raise FileNotFoundError(self.path)

    def _scan(self, words: Words) -> Scan:
        """What is there, less the samples whose layout is damaged: nobody can name them."""
        try:
            found = scan(
                words,
                self._layouts,
                start=0,
                first_seq=self._seq,
                eras=self._eras,
                verify=not self._is_trusted,
            )
        except Exception as error:  # records with valid checksums that are not ours
            raise SegmentError(f"{self.path} cannot be read: {type(error).__name__}: {error}") from None
        self._seq += found.records
        self._eras = list(found.eras)
        if self._is_trusted:
            return found
        known = np.isin(found.layout_ids, list(self._layouts))
        return found if known.all() else found.part(known, with_notes=True)


def _events(words: Words, found: Scan, begin: int) -> list[Event]:
    events: list[Event] = []
    if not found.note_words:
        return events
    kinds = words[np.array(found.note_heads) + 1].astype(np.uint32).tolist()  # the low half
    for note, head, kind in zip(found.note_words, found.note_heads, kinds, strict=True):
        if kind == EVENT:
            try:
                document = parse_document(note.tobytes())
            except (ValueError, RecursionError):
                continue
            if not _is_ours(document):
                events.append(Event(begin + 8 * head, note.nbytes, document))
    return events


def _is_ours(document: Mapping[str, Any]) -> bool:
    """Whether it is what the sender said of the endpoint: that is for people here, and for the lake."""
    if document.get("name") != names.WARNING:
        return False
    attributes = document.get("attributes")
    return isinstance(attributes, dict) and attributes.get(names.LOGGER) == names.DELIVERY_LOGGER


def _samples(otlp: dict[str, Any]) -> Samples:
    modes: tuple[Samples, ...] = ("blocks", "events")
    return next((mode for mode in modes if otlp.get("samples") == mode), "off")


def _resource(header: Any) -> dict[str, Any]:
    """What the segment says, with the attempt as far as it is known meanwhile."""
    given = header["otlp"].get("resource")
    attributes = dict(given) if isinstance(given, dict) else {}
    attributes[names.PROCESS_ID] = header["process"]
    if header["attempt"]:
        attributes["training.run.attempt"] = header["attempt"]
    return attributes
