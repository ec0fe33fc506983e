"""Span times: where the time of a trace went, in columns, so that 100,000 spans take milliseconds.

A span's self-time is its duration without the union of its children; where a child outlasts its parent, the
rest is not the parent's. All times are nanoseconds.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from entrenar_processors.samples import Ints

Mask = NDArray[np.bool_]

#: The loop itself: these spans last as long as the training, so no budget of a single operation means them.
CONTAINERS = frozenset({"training.run", "training.epoch"})
#: What a monitor notes by itself in any run: these spans measure nothing that anybody did.
BOOKKEEPING = CONTAINERS | {"training.run.started"}
#: The span of a step: its self-time is the loop's too, but its duration is a latency.
STEP = "training.step"
_LOOP = BOOKKEEPING | {STEP}

#: A tight loop is at least this many spans of one name, each at most this long, …
TIGHT_REPEATS, TIGHT_SPAN_NS = 20, 1_000_000
#: … and each started this soon after the one before, or within the time that one took.
TIGHT_GAP_NS = 50_000
#: The lake keeps starts in microseconds: neighbours may seem to overlap by this much.
_ROUNDING_NS = 1_000

#: The names of spans that move data or wait for it.
TRANSFER = r"(?i)transfer|memcpy|h2d|d2h|to_(?:device|host)|data_?(?:wait|load)|copy"
#: The names of spans that are a step.
STEPS = r"(?i)step|iteration|batch"


class Span(NamedTuple):
    """One span; ids are any values that tell spans apart, times are since 1970 UTC."""

    trace_id: Hashable
    span_id: Hashable
    parent_span_id: Hashable
    name: str
    start_ns: int
    end_ns: int


class Share(NamedTuple):
    """A share of the time, in [0, 1], and the name that takes most of it (None: no span does)."""

    value: float
    name: str | None


@dataclass(frozen=True, eq=False)
class SpanTimes:
    """`n` spans; each array is `(n,)`. `name` holds indexes into `names`, `parent` indexes of spans or -1.

    >>> spans = SpanTimes.of([Span(1, 1, None, "run", 0, 100), Span(1, 2, 1, "step", 10, 40),
    ...                       Span(1, 3, 1, "step", 30, 60), Span(1, 4, 3, "copy", 30, 40)])
    >>> spans.self_ns.tolist()
    [50, 30, 20, 10]
    """

    names: tuple[str, ...]
    name: Ints
    parent: Ints
    start_ns: Ints
    end_ns: Ints
    ids: Sequence[Hashable] = ()

    @classmethod
    def of(cls, spans: Iterable[Span]) -> SpanTimes:
        """The spans in the order given; one whose parent is not among them is a root."""
        rows = list(spans)
        place = {(row.trace_id, row.span_id): i for i, row in enumerate(rows)}
        codes: dict[str, int] = {}
        return cls(
            name=np.array([codes.setdefault(row.name, len(codes)) for row in rows], np.int64),
            names=tuple(codes),
            parent=np.array([place.get((row.trace_id, row.parent_span_id), -1) for row in rows], np.int64),
            start_ns=np.array([row.start_ns for row in rows], np.int64),
            end_ns=np.array([max(row.start_ns, row.end_ns) for row in rows], np.int64),
            ids=[row.span_id for row in rows],
        )

    def __len__(self) -> int:
        return len(self.name)

    def clipped(self, from_ns: int) -> SpanTimes:
        """The same spans without their time before `from_ns`."""
        start, end = np.maximum(self.start_ns, from_ns), np.maximum(self.end_ns, from_ns)
        return SpanTimes(self.names, self.name, self.parent, start, end, self.ids)

    def name_of(self, index: int) -> str:
        return self.names[int(self.name[index])]

    @cached_property
    def duration_ns(self) -> Ints:
        return self.end_ns - self.start_ns

    @cached_property
    def _by_parent(self) -> Ints:
        """Spans in the order of their parents, then starts, then ends."""
        return np.lexsort((self.end_ns, self.start_ns, self.parent))

    @cached_property
    def self_ns(self) -> Ints:
        """The duration of each span without the union of its children, `(n,)`."""
        own = self.duration_ns.copy()
        order = self._by_parent[np.count_nonzero(self.parent < 0) :]
        if not len(order):
            return own
        parent = self.parent[order]
        start = np.clip(self.start_ns[order], self.start_ns[parent], self.end_ns[parent])
        end = np.clip(self.end_ns[order], self.start_ns[parent], self.end_ns[parent])
        # How far earlier siblings reach, as a running maximum over (parent, rank of the end): ranks,
        # since parent and time together would not fit in 64 bits.
        n = len(order)
        sorted_ends = np.argsort(end, kind="stable")
        rank = np.empty(n, np.int64)
        rank[sorted_ends] = np.arange(n)
        reach = end[sorted_ends[np.maximum.accumulate(parent * n + rank) % n]]
        before = np.concatenate(([start[0]], reach[:-1]))
        is_first = np.concatenate(([True], parent[1:] != parent[:-1]))
        covered = end - np.where(is_first, start, np.maximum(start, before))
        np.subtract.at(own, parent, np.maximum(covered, 0))
        return own

    def matching(self, pattern: str | re.Pattern[str] | None) -> Mask:
        """Which spans have a name that the pattern matches somewhere; without a pattern, all."""
        if pattern is None:
            return np.ones(len(self), bool)
        compiled = re.compile(pattern)
        return np.array([bool(compiled.search(name)) for name in self.names], bool)[self.name]

    def named(self, names: Iterable[str]) -> Mask:
        """Which spans have one of these names."""
        wanted = frozenset(names)
        return np.array([name in wanted for name in self.names], bool)[self.name]

    def beneath(self, marked: Mask) -> Mask:
        """Which spans have a marked span above them, at any distance."""
        above = np.zeros(len(self), bool)
        has_parent = self.parent >= 0
        while True:  # `above` only grows, so this ends even where ids form a cycle
            now = has_parent & (marked | above)[self.parent]
            if np.array_equal(now, above):
                return above
            above = now

    def outermost_ns(self, marked: Mask) -> int:
        """The time in marked spans, counted once where they are nested."""
        return int(self.duration_ns[marked & ~self.beneath(marked)].sum())

    # -- what budgets are about -----------------------------------------------------------------

    def longest(self, pattern: str | None) -> int | None:
        """The longest span whose name matches; without a pattern, of all but bookkeeping."""
        mask = ~self.named(BOOKKEEPING) if pattern is None else self.matching(pattern)
        if not mask.any():
            return None
        return int(np.argmax(np.where(mask, self.duration_ns, -1)))

    def critical_path(self, index: int) -> list[tuple[str, int]]:
        """Where a span's duration went, from its end backwards, as (name, ns) that add up to it.

        At every moment the time belongs to the child that ends last, and in turn to its children; where
        no child runs, to the span itself.

        >>> spans = SpanTimes.of([Span(1, 1, None, "step", 0, 10), Span(1, 2, 1, "forward", 1, 4),
        ...                       Span(1, 3, 1, "backward", 4, 9)])
        >>> spans.critical_path(0)
        [('step', 1), ('backward', 5), ('forward', 3), ('step', 1)]
        """
        order = self._by_parent
        parents = self.parent[order]
        path: list[tuple[str, int]] = []
        seen = {index}

        def add(span: int, ns: int) -> None:
            if ns > 0:
                path.append((self.name_of(span), ns))

        def children(span: int, low: int) -> list[tuple[int, int, int]]:
            first, last = np.searchsorted(parents, (span, span + 1))
            new = [child for child in order[first:last].tolist() if child not in seen]
            seen.update(new)
            times = [(int(self.end_ns[child]), max(int(self.start_ns[child]), low), child) for child in new]
            return sorted(times)  # the child that ends last is taken first, from the end of the list

        low, high = int(self.start_ns[index]), int(self.end_ns[index])
        # A level: a span, its start, its children that may be on the path; `open_end`: where its rest ends.
        stack = [(index, low, children(index, low))]
        open_end = [high]
        while stack:
            span, low, waiting = stack[-1]
            if not waiting:
                add(span, open_end.pop() - low)
                stack.pop()
                continue
            end, start, child = waiting.pop()
            end = min(end, open_end[-1])
            if start < end:
                add(span, open_end[-1] - end)
                open_end[-1] = start
                stack.append((child, start, children(child, start)))
                open_end.append(end)
        return path

    def god_process(self, pattern: str | None = None) -> Share:
        """The largest share of all self-time that spans of one name take.

        Run, epoch and step spans are part of the whole, with the time of what has no span of its own, but
        never the name: they are the loop. A pattern narrows the names, not the whole.
        """
        by_name = np.bincount(self.name, self.self_ns, len(self.names))
        wanted = re.compile(pattern or "")
        suspects = np.array([name not in _LOOP and bool(wanted.search(name)) for name in self.names], bool)
        held = np.where(suspects, by_name, 0.0)
        if not held.any():
            return Share(0.0, None)
        most = int(np.argmax(held))
        return Share(float(held[most] / by_name.sum()), self.names[most])

    def tight_loop(self, pattern: str | None = None) -> Share:
        """The share of all self-time that is spent in runs of the same short span, back to back.

        Such a run is at least TIGHT_REPEATS siblings of one name in a row.
        """
        total = int(self.self_ns.sum())
        if len(self) < TIGHT_REPEATS or not total:
            return Share(0.0, None)
        order = self._by_parent
        start, end, duration = self.start_ns[order], self.end_ns[order], self.duration_ns[order]
        parent, name = self.parent[order], self.name[order]
        usable = self.matching(pattern)[order] & (duration <= TIGHT_SPAN_NS)
        gap = start[1:] - end[:-1]
        same = usable[1:] & usable[:-1] & (parent[1:] == parent[:-1]) & (name[1:] == name[:-1])
        joined = same & (gap >= -_ROUNDING_NS) & (gap <= np.maximum(duration[:-1], TIGHT_GAP_NS))
        group = np.concatenate(([0], np.cumsum(~joined)))
        tight = np.zeros(len(self), bool)
        tight[order] = (np.bincount(group) >= TIGHT_REPEATS)[group] & usable
        held = tight & ~self.beneath(tight)
        if not held.any():
            return Share(0.0, None)
        by_name = np.bincount(self.name[held], self.duration_ns[held], len(self.names))
        return Share(min(1.0, float(by_name.sum() / total)), self.names[int(np.argmax(by_name))])

    def transfers(self, pattern: str | None = None) -> Share | None:
        """The share of step time spent in spans that move data or wait for it; None without such spans.

        These are the spans whose names match `pattern`, by default TRANSFER. Step time is the time in
        spans whose names match STEPS, and in transfers outside of them, which steps wait for; where no
        span is a step, the time in epochs, in the run, in all roots.
        """
        moves = self.matching(TRANSFER if pattern is None else pattern) & ~self.named(_LOOP)
        if not moves.any():
            return None
        steps = self.matching(STEPS) & ~moves & ~self.named(CONTAINERS)
        for whole in (steps, self.named({"training.epoch"}), self.named({"training.run"})):
            if whole.any():
                break
        else:
            whole = self.parent < 0
        total = self.outermost_ns(whole | moves)
        by_name = np.bincount(self.name[moves], self.duration_ns[moves], len(self.names))
        share = self.outermost_ns(moves) / total if total else 0.0
        return Share(min(1.0, share), self.names[int(np.argmax(by_name))])
