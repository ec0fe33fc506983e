"""decode: the one reader of segment records, for the live process, other processes and recovery."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any
from zlib import adler32

import numpy as np
from entrenar_processors import Block, Column, Samples
from entrenar_processors.samples import Singles
from entrenar_processors.stats.arrays import give_way
from numpy.typing import NDArray

from entrenar_otel.clock import Era
from entrenar_otel.recording.checksums import adler32_of
from entrenar_otel.recording.just_written import MANY_SINGLES, just_written
from entrenar_otel.recording.layout import FIXED_WORDS, MAGIC, Layout, parse_definition
from entrenar_otel.recording.notes import CLOCK_SET, EVENT, FIRST_TEXT, MARK, SPAN_STARTED, Note, parse_note
from entrenar_otel.recording.regular import regular

#: Times stay monotonic.
NO_CLOCK = (Era(0, 0),)
Words = NDArray[np.uint64]
#: Records taken at once: few enough to stay in the cache.
_CHECK_ROWS = 1 << 13
#: Of so many and more at even distances a view is quicker than a copy.
_EVEN_ROWS = 64


@dataclass(frozen=True)
class Damage:
    """Bytes of a segment that are no record. `tail`: nothing valid follows, so it may be in flight."""

    offset: int
    length: int
    tail: bool

    def __str__(self) -> str:
        what = "incomplete or damaged last record" if self.tail else "damaged records, skipped"
        return f"{what}: {self.length} bytes at offset {self.offset}"


@dataclass(frozen=True)
class Decoded:
    """Rows, how many records they and the damaged ones are, where the last valid one ends, and notes."""

    samples: Samples
    records: int
    end: int
    damage: tuple[Damage, ...]
    #: Coordinates that no INT32 or INT64 holds; they are decoded as absent.
    out_of_range: int = 0
    #: The notes as they stand in the segment (views of it); most who decode do not ask for them.
    note_words: tuple[Words, ...] = ()

    @cached_property
    def notes(self) -> tuple[Note, ...]:
        """The notes, in order."""
        return tuple(parse_note(words.tobytes()) for words in self.note_words)


@dataclass(frozen=True)
class Scan:
    """Which records there are, not yet taken apart: of samples where each begins, in words, and so on."""

    heads: NDArray[np.int64]
    lengths: NDArray[np.int64]
    layout_ids: NDArray[np.int64]
    seq: NDArray[np.int64]
    note_words: tuple[Words, ...]
    eras: Sequence[Era]
    damage: tuple[Damage, ...]
    #: How many records of samples they and the damaged ones are.
    records: int
    #: Where the last valid one ends, in bytes.
    end: int
    #: Where each of its notes begins, in words.
    note_heads: tuple[int, ...] = ()

    def part(self, cut: slice | NDArray[np.bool_], *, with_notes: bool = False) -> Scan:
        """Some of its samples, and all of its notes or none."""
        return replace(
            self,
            heads=self.heads[cut],
            lengths=self.lengths[cut],
            layout_ids=self.layout_ids[cut],
            seq=self.seq[cut],
            note_words=self.note_words if with_notes else (),
            note_heads=self.note_heads if with_notes else (),
        )


def decode(
    words: Words,
    layouts: dict[int, Layout],
    *,
    start: int,
    end: int | None = None,
    first_seq: int = 0,
    eras: Sequence[Era] = NO_CLOCK,
    verify: bool = True,
) -> Decoded:
    """Decode the records in `words` (the whole segment) from byte `start` to byte `end`; see `scan`.

    `eras` (of the segment's header), and those that begin here, turn the records' monotonic times into
    times of day.
    """
    stop = len(words) if end is None else end // 8
    if not verify and (blocks := just_written(words, layouts, start // 8, stop, first_seq, eras)) is not None:
        return Decoded(Samples(list(blocks)), sum(map(len, blocks)), stop * 8, ())
    found = scan(words, layouts, start=start, end=end, first_seq=first_seq, eras=eras, verify=verify)
    give_way(found.records)
    parts, out_of_range = _parts(words, found, layouts)
    return Decoded(Samples(parts), found.records, found.end, found.damage, out_of_range, found.note_words)


def scan(
    words: Words,
    layouts: dict[int, Layout],
    *,
    start: int,
    end: int | None = None,
    first_seq: int = 0,
    eras: Sequence[Era] = NO_CLOCK,
    verify: bool = True,
) -> Scan:
    """Find the records in `words` (the whole segment) from byte `start` to byte `end`.

    `layouts` is extended by the definitions met, `eras` by those that begin here. `first_seq` belongs to
    the first record at `start`. With `verify` every word that looks like a head is a candidate and
    those whose checksum agrees are the records; what lies between them is damage. Where they follow each
    other without a gap, they are found in less time (regular.py). Without (the process reads what it wrote
    itself), lengths are followed.
    """
    first, last = start // 8, len(words) if end is None else end // 8
    found = regular(words, first, last) if verify else None
    if found is not None:
        good, size, ids = found
    else:
        heads = _heads(words, first, last)
        lengths = _lengths(words, heads)
    if found is None and not verify:
        stops = heads + lengths
        whole = len(heads) == 0 or (
            heads[0] == first and stops[-1] == last and bool((heads[1:] == stops[:-1]).all())
        )
        if not whole:  # a value that looks like a head: let the checksums decide
            return scan(words, layouts, start=start, end=end, first_seq=first_seq, eras=eras)
        good, size = heads, lengths
    elif found is None:
        valid = _checksums_agree(words, heads, lengths, last)
        good, size = (heads, lengths) if valid.all() else (heads[valid], lengths[valid])
    if found is None:
        ids = (words[good] & np.uint64(0xFFFF_FFFF)).astype(np.int64)
    is_data = ids != 0
    others, other_sizes = good[~is_data], size[~is_data]
    kinds = words[others + 1]
    is_note = kinds >> np.uint64(32) == MARK
    is_clock = kinds == MARK << 32 | CLOCK_SET
    for i in np.flatnonzero(is_clock | ~is_note).tolist():
        body = words[others[i] : others[i] + other_sizes[i] - 1]
        if is_clock[i]:
            eras = later(eras, body)
        else:
            layout = parse_definition(body.tobytes())
            layouts.setdefault(layout.id, layout)  # the owner's own stay the same objects
    told = is_note & ~is_clock
    note_heads = others[told].tolist()
    notes = [
        words[at : at + length - 1] for at, length in zip(note_heads, other_sizes[told].tolist(), strict=True)
    ]
    seq, lost = first_seq + np.arange(int(is_data.sum())), 0
    damage: list[Damage] = []
    if verify and found is None:
        damage, lost_before = _gaps(words, heads, good, size, first, last, layouts)
        seq += lost_before[is_data]
        lost = int(lost_before[-1]) if len(good) else 0
    stop = int(good[-1] + size[-1]) * 8 if len(good) else start
    return Scan(
        good[is_data],
        size[is_data],
        ids[is_data],
        seq,
        tuple(notes),
        eras,
        tuple(damage),
        len(seq) + lost,
        stop,
        tuple(note_heads),
    )


def samples_of(words: Words, found: Scan, layouts: dict[int, Layout]) -> Samples:
    """The samples of a scan, or of a part of one."""
    return Samples(_parts(words, found, layouts)[0])


def count_records(words: Words, start: int, end: int) -> int:
    """How many data records the owner wrote between two byte offsets."""
    return decode_count(_heads(words, start // 8, end // 8), words, start // 8)


def decode_count(heads: NDArray[np.int64], words: Words, first: int) -> int:
    """How many of these heads begin data records."""
    stops = heads + _lengths(words, heads)
    # not `np.array_equal`: it swallows whatever is raised within, by a signal handler too
    if len(heads) and (heads[0] != first or (heads[1:] != stops[:-1]).any()):
        valid, at = [], first  # a value that looks like a head: follow the lengths one by one
        for head, stop in zip(heads.tolist(), stops.tolist(), strict=True):
            if head == at:
                valid.append(head)
                at = stop
        heads = np.asarray(valid, dtype=np.int64)
    return int(np.count_nonzero(words[heads] & np.uint64(0xFFFF_FFFF)))


def _heads(words: Words, first: int, last: int) -> NDArray[np.int64]:
    """Indices of the words that look like a record's head."""
    top = words[first:last].view("<u2")[3::4]
    return np.flatnonzero(top == MAGIC) + first


def _lengths(words: Words, heads: NDArray[np.int64]) -> NDArray[np.int64]:
    """Length in words of each candidate; a definition wider than the field has its own."""
    first_words = words[heads]
    lengths = (first_words >> np.uint64(32) & np.uint64(0xFFFF)).astype(np.int64)
    wide = np.flatnonzero((lengths == 0xFFFF) & (first_words & np.uint64(0xFFFF_FFFF) == 0))
    for i in wide.tolist():
        if heads[i] + 2 < len(words):
            lengths[i] = 4 + -(-int(words[heads[i] + 2]) // 8) if words[heads[i] + 2] < 1 << 32 else 0
    return lengths


def _checksums_agree(
    words: Words, heads: NDArray[np.int64], lengths: NDArray[np.int64], last: int
) -> NDArray[np.bool_]:
    agree = np.zeros(len(heads), dtype=bool)
    possible = (lengths >= 4) & (heads + lengths <= last)
    # Definitions and notes are of all lengths, so one by one; samples are of few, so by length.
    other = possible & (words[heads].view("<u4")[::2] == 0)
    for i in np.flatnonzero(other).tolist():
        at, check = int(heads[i]), int(heads[i] + lengths[i]) - 1
        agree[i] = adler32(words[at:check].data) == words[check]
    possible &= ~other
    for length in np.flatnonzero(np.bincount(lengths, possible)).tolist():
        of_length = np.flatnonzero(possible & (lengths == length))
        for piece, records in _pieces(words, heads[of_length], length):
            agree[of_length[piece]] = adler32_of(records[:, :-1]) == records[:, -1]
    # A record's values may look like a head with a checksum of its own only by intent; the outer wins.
    good = np.flatnonzero(agree)
    starts, stops = heads[good], (heads + lengths)[good]
    if (starts[1:] < stops[:-1]).any():
        inside = starts[1:] < np.maximum.accumulate(stops)[:-1]
        agree[good[1:][inside]] = False
    return agree


def _pieces(words: Words, heads: NDArray[np.int64], length: int) -> Iterator[tuple[slice, Words]]:
    """The records at `heads`, as many at once as stay in the cache: which they are, and their rows
    `(n, length)`, views where they lie at even distances."""
    distances = np.diff(heads)
    usual = int(distances[len(distances) // 2]) if len(distances) else length
    cuts = np.flatnonzero(distances != usual) + 1
    are_even = usual >= length and len(cuts) <= len(heads) // _EVEN_ROWS
    most = max(1, min(_CHECK_ROWS, (1 << 21) // length))
    for low, high in pairwise([0, *(cuts.tolist() if are_even else ()), len(heads)]):
        for start in range(low, high, most):
            stop = min(high, start + most)
            at = heads[start:stop]
            if are_even:
                rows = np.lib.stride_tricks.as_strided(
                    words[at[0] :], (stop - start, length), (8 * usual, 8), writeable=False
                )
            else:
                rows = words[at[:, None] + np.arange(length)]
            yield slice(start, stop), rows


def _fields(words: Words, heads: NDArray[np.int64], length: int) -> Words:
    """What is between head and checksum of the records at `heads`, field by field, `(length - 2, n)`."""
    fields = np.empty((length - 2, len(heads)), np.uint64)
    for piece, records in _pieces(words, heads, length):
        fields[:, piece] = records[:, 1:-1].T
    return fields


def _gaps(
    words: Words,
    heads: NDArray[np.int64],
    good: NDArray[np.int64],
    size: NDArray[np.int64],
    first: int,
    last: int,
    layouts: dict[int, Layout],
) -> tuple[list[Damage], NDArray[np.int64]]:
    """Damage, and for each valid record how many were lost before it."""
    stops = np.concatenate([[first], good + size])
    starts = np.concatenate([good, [last]])
    lost = np.zeros(len(good), dtype=np.int64)
    damage = []
    for i in np.flatnonzero(starts != stops).tolist():
        low, high, tail = int(stops[i]), int(starts[i]), i == len(good)
        if tail:
            used = np.flatnonzero(words[low:high])
            if not len(used):
                continue
            high = low + int(used[-1]) + 1
        gap = Damage(low * 8, (high - low) * 8, tail)
        damage.append(gap)
        if not tail:
            samples = np.flatnonzero(words[good[:i]] & np.uint64(0xFFFF_FFFF))
            before = int(size[samples[-1]]) if len(samples) else 0
            lost[i:] += _lost_records(words, heads, low, high, before, layouts)
    return damage, lost


def _lost_records(
    words: Words, heads: NDArray[np.int64], low: int, high: int, before: int, layouts: dict[int, Layout]
) -> int:
    """Damaged records still count in `seq`, or the identity of those behind them would move.

    Exact for a damaged byte, and wherever heads are left: a record's length is in its head and in
    its layout. Where both are gone, records are taken to be as long as the last sample before them.
    """
    lost = 0
    begins = set(heads[np.searchsorted(heads, low) : np.searchsorted(heads, high)].tolist()) | {high}
    while low < high:
        head = int(words[low])
        layout = layouts.get(head & 0xFFFF_FFFF)
        lengths = [head >> 32 & 0xFFFF, FIXED_WORDS + len(layout.series) if layout else 0]
        lengths.sort(key=lambda n: low + n != high)
        length = next((n for n in lengths if n and low + n in begins), 0)
        if length:
            lost += _is_sample(words, low, length)
        else:
            length = min(b for b in begins if b > low) - low
            if _is_sample(words, low, length):
                lost += length // before if before and length % before == 0 else 1
        low += length
    return lost


def _is_sample(words: Words, low: int, length: int) -> bool:
    """Whether a damaged record counts in `seq`: of a definition or a note three of four signs are left."""
    if length < 5:
        return True
    head, second, third, text = (int(word) for word in words[low : low + 4])
    both = (
        head & 0xFFFF_FFFF == 0,
        4 + -(-third // 8) == length,  # the text's length
    )
    definition = (
        second < 1 << 32,  # a layout's id; of a sample, nanoseconds since the boot
        text & 0xFF_FFFF == 0x22_5B5B,  # the text's beginning: [["
    )
    note = (
        MARK << 32 | SPAN_STARTED <= second <= MARK << 32 | EVENT,
        text == FIRST_TEXT,
    )
    return max(sum(both + definition), sum(both + note)) < 3


def later(eras: Sequence[Era], note: Words) -> Sequence[Era]:
    """These eras, and the one that a note says has begun; one that makes no sense is no era."""
    try:
        document = parse_note(note.tobytes()).document
        era = Era(int(document["since_ns"]), int(document["anchor_ns"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        return eras
    return sorted({*eras, era}) if max(map(abs, era)) < 1 << 62 else eras


def _times_of_day(monotonic_ns: NDArray[np.int64], eras: Sequence[Era]) -> NDArray[np.int64]:
    if len(eras) == 1:
        return monotonic_ns + eras[0].anchor_ns
    sinces = np.array([era.since_ns for era in eras[1:]], np.int64)
    anchors = np.array([era.anchor_ns for era in eras], np.int64)
    return monotonic_ns + anchors[np.searchsorted(sinces, monotonic_ns, side="right")]


def _parts(words: Words, found: Scan, layouts: dict[int, Layout]) -> tuple[list[Block | Singles], int]:
    """A block per layout. All records of one length are taken apart at once: instruments with many
    series make many layouts of one value, and a numpy call costs a microsecond whatever it gets."""
    parts: list[Block | Singles] = []
    out_of_range = 0
    heads, lengths, ids = found.heads, found.lengths, found.layout_ids
    for length in np.flatnonzero(np.bincount(lengths)).tolist() if len(lengths) else ():
        rows: Any = slice(None)  # all are alike, mostly: views, then
        if (lengths != length).any() or (ids != ids[0]).any():
            rows = np.flatnonzero(lengths == length)
            rows = rows[np.argsort(ids[rows], kind="stable")]
        layout_ids = ids[rows]
        give_way(len(layout_ids))
        fields = _fields(words, heads[rows], length)
        halves = fields[1].view("<i4")
        steps = fields[2].view("<i8")
        out_of_range += int(np.count_nonzero(halves < -1) + np.count_nonzero(steps < -1))
        places = (
            _times_of_day(fields[0].view("<i8"), found.eras),
            np.maximum(halves[0::2], -1),
            np.maximum(halves[1::2], -1),
            np.maximum(steps, -1),
            found.seq[rows],
        )
        values = fields[3:].view("<f8").T
        cuts = np.flatnonzero(np.diff(layout_ids, prepend=-1, append=-1))
        known = [layouts.get(layout_id) for layout_id in layout_ids[cuts[:-1]].tolist()]
        singles = None
        if length == FIXED_WORDS + 1 and len(known) >= MANY_SINGLES:
            singles = _singles(known, cuts, Column(*places, values[:, 0]))
        if singles is not None:
            parts.append(singles)
            continue
        for layout, (low, high) in zip(known, pairwise(cuts.tolist()), strict=True):
            if layout is not None:  # else its definition is damaged: without names there are no values
                columns: Any = [column[low:high] for column in (*places, values)]
                parts.append(Block(layout.series, *columns))
    return parts, out_of_range


def _singles(layouts: list[Layout | None], starts: NDArray[np.int64], columns: Column) -> Singles | None:
    """The records of layouts of one value; None where one of them is unknown, or a series is in two."""
    series = tuple([layout.series[0] for layout in layouts if layout is not None])
    return Singles(series, starts, columns) if len(set(series)) == len(layouts) else None
