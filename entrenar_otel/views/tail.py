"""Tail: what a process has recorded into a live segment since the last look, and nothing twice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from entrenar_processors import Samples

from entrenar_otel.recording.decode import samples_of, scan
from entrenar_otel.recording.header import check_header
from entrenar_otel.recording.layout import Layout
from entrenar_otel.recording.notes import Note, parse_note
from entrenar_otel.recording.plain_file import open_plain
from entrenar_otel.recording.segment import HEADER_BYTES, Head, eras_of

#: More than most runs record in a second.
_CHUNK_BYTES = 1 << 18


class SegmentTail:
    """Reads a segment from where it stopped last time. Raises OSError, SegmentError as `Snapshot.read`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open(open_plain(path), "rb", buffering=0) as file:
            head = Head.of(file, path)
        self.header: Mapping[str, Any] = check_header(path, head.header)
        self._layouts: dict[int, Layout] = {}
        self._eras = eras_of(self.header)
        self._at = HEADER_BYTES
        self.first_seq = self.next_seq = head.first_seq

    @property
    def process(self) -> str:
        """Who writes it."""
        return str(self.header["process"])

    @property
    def number(self) -> int:
        """Which segment of its process it is."""
        return int(self.header["number"])

    def read(self) -> tuple[Samples, list[Note]]:
        """What is new: samples, and spans and events."""
        words = self._new_words()
        if not len(words):
            return Samples(), []
        found = scan(words, self._layouts, start=0, first_seq=self.next_seq, eras=self._eras)
        self._at += found.end
        self.next_seq += found.records
        self._eras = list(found.eras)
        return samples_of(words, found, self._layouts), [parse_note(w.tobytes()) for w in found.note_words]

    def _new_words(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """From the first byte not read to the first that nobody has written yet."""
        chunks = []
        with open(open_plain(self.path), "rb", buffering=0) as file:
            file.seek(self._at)
            while data := file.read(_CHUNK_BYTES):
                chunks.append(data)
                if len(data) < _CHUNK_BYTES or not any(data[-64:]):
                    break
        whole = b"".join(chunks)
        words = np.frombuffer(whole[: len(whole) // 8 * 8], dtype="<u8")
        used = np.flatnonzero(words)
        return words[: used[-1] + 1] if len(used) else words[:0]
