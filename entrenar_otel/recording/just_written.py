"""Just written: what this process recorded since the last tick, where a loop wrote the same few kinds of
records one behind the other, as most do.

A heartbeat finds cold caches, and pays for each call of numpy, not for what it gets: here they are a dozen
for each kind of record. Nothing is verified but that each head is where it must be. All else is decode.py's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from entrenar_processors import Block

from entrenar_otel.clock import Era
from entrenar_otel.recording.layout import FIXED_WORDS, Layout
from entrenar_otel.recording.regular import Words, cycle_from

#: From so many layouts of one value on, their records stay together (decode.py).
MANY_SINGLES = 8


def just_written(
    words: Words, layouts: dict[int, Layout], first: int, last: int, first_seq: int, eras: Sequence[Era]
) -> list[Block] | None:
    """The rows of words `first` to `last`, a block for each layout, in the order of decode.py; None where
    they are not so regular, the clock was set, or a coordinate is out of range.
    """
    if last <= first or len(eras) != 1:
        return None
    cycle = cycle_from(words, first, last)
    known = [layouts.get(kind.head & 0xFFFF_FFFF) for kind in cycle]
    if not cycle or len({kind.head for kind in cycle}) < len(cycle):
        return None
    if sum(kind.length == FIXED_WORDS + 1 for kind in cycle) >= MANY_SINGLES:
        return None
    period = cycle[-1].at + cycle[-1].length
    times, rest = divmod(last - first, period)
    blocks: list[tuple[int, int, Block]] = []
    for place, (kind, layout) in enumerate(zip(cycle, known, strict=True)):
        if layout is None or kind.length != FIXED_WORDS + len(layout.series):
            return None
        is_cut = kind.at < rest < kind.at + kind.length  # a tick ends between two records
        count = times + (kind.at < rest)
        if is_cut or count == 0:
            return None
        records = np.ndarray((count, kind.length), np.uint64, words, 8 * (first + kind.at), (8 * period, 8))
        if not (records[:, 0] == kind.head).all():
            return None
        fields = np.ascontiguousarray(records[:, 1:-1].T)
        halves, steps = fields[1].view("<i4"), fields[2].view("<i8")
        if halves.min() < -1 or steps.min() < -1:
            return None
        block = Block(
            layout.series,
            fields[0].view("<i8") + eras[0].anchor_ns,
            halves[0::2],
            halves[1::2],
            steps,
            np.arange(first_seq + place, first_seq + place + count * len(cycle), len(cycle)),
            fields[3:].view("<f8").T,
        )
        blocks.append((kind.length, layout.id, block))
    return [block for _, _, block in sorted(blocks, key=lambda one: one[:2])]
