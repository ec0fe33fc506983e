"""The spans of a run as a tree beside a timeline: what ran within what, when, how long, and how it ended."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from entrenar_processors.counts import counted
from entrenar_processors.durations import text_of
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from entrenar_otel.cli.events import SEVERITIES, facts, what_of
from entrenar_otel.cli.grid import print_heading
from entrenar_otel.cli.output import Console
from entrenar_otel.lake.tables.plain import plain_rows
from entrenar_otel.otel.otlp.names import RUN_STARTED
from entrenar_otel.redact import printable_line

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake

#: More siblings of one name than `FOLD_ABOVE` are folded: `FOLD_TO` stay at each end.
FOLD_ABOVE, FOLD_TO = 30, 5
#: Events shown below a span: the most severe, and among those the earliest.
MAX_EVENTS = 20
#: Below this width there is room for the tree and how long each took.
_NARROW = 60
_STYLES = {"OK": "green", "ERROR": "red", "UNSET": "cyan"}
_SPANS = "SELECT * FROM spans ORDER BY attempt, rank, start_time, span_id"
_EVENTS = "SELECT * FROM events WHERE span_id IS NOT NULL ORDER BY timestamp, name"


@dataclass
class Node:
    """A span, its events by time, and the spans below it."""

    row: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.row["name"])

    @property
    def start(self) -> float:
        return _seconds(self.row["start_time"])

    @property
    def end(self) -> float | None:
        return None if self.row["end_time"] is None else _seconds(self.row["end_time"])


@dataclass
class Fold:
    """Siblings that are not shown."""

    nodes: list[Node]


def _severity(event: dict[str, Any]) -> int:
    return [*SEVERITIES].index(event["severity"]) if event.get("severity") in SEVERITIES else 0


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def spans_of(lake: Lake, run_id: str) -> list[dict[str, Any]]:
    """The spans of a run, each with its own events and those of the table `events` that refer to it."""
    spans = list(plain_rows(lake.query(_SPANS, run_id=run_id)))
    by_span: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    if spans:
        for event in plain_rows(lake.query(_EVENTS, run_id=run_id)):
            by_span[event["trace_id"], event["span_id"]].append(event)
    for span in spans:
        noted = [*by_span[span["trace_id"], span["span_id"]], *by_span[None, span["span_id"]]]
        # A finding is recorded as both, and its row in the table says more
        there = {(event["name"], event["timestamp"]) for event in noted}
        own = [event for event in span["events"] if (event["name"], event["timestamp"]) not in there]
        span["events"] = sorted(own + noted, key=lambda event: str(event["timestamp"]))
    return spans


def forest(spans: Iterable[dict[str, Any]]) -> list[Node]:
    """The spans as trees; one whose parent is missing is a root."""
    nodes = {(span["trace_id"], span["span_id"]): Node(span, span["events"]) for span in spans}
    roots: list[Node] = []
    for (trace, span), node in nodes.items():
        parent = above = nodes.get((trace, node.row["parent_span_id"]))
        seen = {span}
        while above is not None and (span_id := above.row["span_id"]) not in seen:
            seen.add(span_id)
            above = nodes.get((trace, above.row["parent_span_id"]))
        # `above` is not None where the parents, which are user input, form a cycle
        (roots if parent is None or above is not None else parent.children).append(node)
    return roots


def folded(children: list[Node]) -> Iterator[Node | Fold]:
    """The children in order; of many with one name the first and the last, with a Fold between them."""
    many = {name: n for name, n in Counter(node.name for node in children).items() if n > FOLD_ABOVE}
    hidden = {name: [node for node in children if node.name == name][FOLD_TO:-FOLD_TO] for name in many}
    hidden_ids = {id(node) for nodes in hidden.values() for node in nodes}
    for node in children:
        if id(node) not in hidden_ids:
            yield node
        elif node is hidden[node.name][0]:
            yield Fold(hidden[node.name])


def show_spans(run_id: str, spans: list[dict[str, Any]], console: Console) -> None:
    """Print the spans as a tree, one per process where there are several.

    The span that tells other backends of the start, long before that of the run ends, is left out: the
    event of that name says the same.
    """
    spans = [span for span in spans if not (span["name"] == RUN_STARTED and span["parent_span_id"])]
    failed = sum(span["status"] == "ERROR" for span in spans)
    events = sum(len(span["events"]) for span in spans)
    told = Text(counted(len(spans), "span"))
    told.append(f", {counted(events, 'event')}" if events else "")
    told.append(f", {failed:,} failed" if failed else "", style="red")
    print_heading(console, printable_line(run_id), told)
    if not spans:
        console.print(Text("no spans were recorded", style="dim"))
    groups = [list(same) for _, same in groupby(spans, key=lambda span: (span["attempt"], span["rank"]))]
    for group in groups:
        console.print()
        if len(groups) > 1:
            console.print(Text(f"attempt {group[0]['attempt']}, rank {group[0]['rank']}", style="bold dim"))
        console.print(_Picture(group, console.width).table())


class _Picture:
    """The spans of one process, drawn for the width of a terminal."""

    def __init__(self, spans: list[dict[str, Any]], width: int) -> None:
        self.spans = spans
        self.width = width
        self.bar = 24 if width >= 120 else 14 if width >= 96 else 0
        times = [_seconds(t) for s in spans for t in (s["start_time"], s["end_time"]) if t]
        times += [_seconds(event["timestamp"]) for span in spans for event in span["events"]]
        self.start = min(times)
        living = any(span["end_time"] is None and span["status"] != "ERROR" for span in spans)
        self.end = max(*times, time.time()) if living else max(times)

    def table(self) -> Table:
        rows = list(self._lines(forest(self.spans), "", {}, root=True))
        start, took = (max(cell_len(cells[at].plain) for cells in rows) for at in (1, 2))
        is_narrow = self.width < _NARROW  # then it is a tree and its times
        name = self.width - took - 2 if is_narrow else max(24, self.width * 2 // 5)
        table = Table(box=None, pad_edge=False, header_style="bold", width=self.width)
        table.add_column("span", no_wrap=True, max_width=name)
        if not is_narrow:
            table.add_column("start", justify="right", no_wrap=True, min_width=start)
        table.add_column("took", justify="right", no_wrap=True, min_width=max(4, took))
        if self.bar:
            table.add_column("", no_wrap=True, min_width=self.bar)
        if not is_narrow:
            table.add_column("", no_wrap=True, ratio=1, overflow="ellipsis")
        for cells in rows:
            if is_narrow:
                table.add_row(cells[0], cells[2])
            else:
                table.add_row(*(cells if self.bar else (*cells[:3], cells[4])))
        return table

    def _lines(
        self,
        nodes: list[Node],
        guide: str,
        known: dict[str, Any],
        events: list[dict[str, Any]] | None = None,
        root: bool = False,
    ) -> Iterator[tuple[Text, ...]]:
        """The lines below a span: its events and children in the order of time."""
        shown = sorted(events or (), key=lambda e: -_severity(e))[:MAX_EVENTS]
        items: list[tuple[float, Any]] = [(_seconds(e["timestamp"]), e) for e in shown]
        for item in folded(nodes):
            items.append((item.nodes[0].start if isinstance(item, Fold) else item.start, item))
        items.sort(key=lambda item: item[0])
        if (left := len(events or ()) - MAX_EVENTS) > 0:
            last = max(i for i, (_, item) in enumerate(items) if isinstance(item, dict))
            items.insert(last + 1, (0.0, left))
        for i, (at, item) in enumerate(items):
            is_last = i == len(items) - 1
            branch, below = ("", "") if root else ("└─ ", "   ") if is_last else ("├─ ", "│  ")
            prefix = Text(guide + branch, style="dim")
            if isinstance(item, Node):
                yield self._span(prefix, item, known)
                inner = {**known, **item.row["attributes"]}
                yield from self._lines(item.children, guide + below, inner, item.events)
            elif isinstance(item, Fold):
                yield self._fold(prefix, item)
            elif isinstance(item, int):
                yield (
                    prefix.append(f"… and {item:,} more", style="dim italic"),
                    Text(),
                    Text(),
                    Text(),
                    Text(),
                )
            else:
                yield self._event(prefix, at, item, known)

    def _span(self, prefix: Text, node: Node, known: dict[str, Any]) -> tuple[Text, ...]:
        row, style = node.row, _STYLES.get(node.row["status"], "")
        took = Text("open", style=style if row["status"] == "ERROR" else "cyan")
        if node.end is not None:
            took = Text(text_of(row["duration_seconds"]), style="" if style == "cyan" else style)
        details = Text()
        if row["status"] == "ERROR":
            details.append("✗ " + (printable_line(row["status_message"] or "") or "failed"), style="red")
        if n := len(node.events):
            details.append(("  " if details else "") + counted(n, "event"), style="dim")
        if fact := facts(row["attributes"], known):
            details.append(("  " if details else "") + fact)
        name = prefix.append(printable_line(node.name) or "–", style="bold" if node.children else "not dim")
        return name, self._start(node.start), took, self._bar(node.start, node.end, style), details

    def _fold(self, prefix: Text, fold: Fold) -> tuple[Text, ...]:
        nodes = fold.nodes
        took = [node.row["duration_seconds"] for node in nodes if node.end is not None]
        failed = sum(node.row["status"] == "ERROR" for node in nodes)
        details = Text(f"{text_of(sum(took) / len(took))} each" if took else "", style="dim")
        details.append(f"  {failed:,} failed" if failed else "", style="red")
        if n := sum(len(node.events) for node in nodes):
            details.append(f"  {counted(n, 'event')}", style="dim")
        ends = [node.end for node in nodes if node.end is not None]
        bar = self._bar(nodes[0].start, max(ends, default=None), "dim")
        name = prefix.append(f"… {len(nodes):,} more {printable_line(nodes[0].name)}", style="dim italic")
        return name, Text(), Text(text_of(sum(took)), style="dim"), bar, details

    def _event(
        self, prefix: Text, at: float, event: dict[str, Any], known: dict[str, Any]
    ) -> tuple[Text, ...]:
        style = SEVERITIES.get(str(event.get("severity")), "blue").removesuffix(" reverse")
        name = prefix.append("◆ ", style=style).append(printable_line(event["name"]), style="not dim")
        mark = Text(" " * self._cell(at)).append("◆", style=style)
        return name, self._start(at), Text(), mark, what_of(event, known)

    def _start(self, at: float) -> Text:
        return Text(f"+{text_of(at - self.start)}", style="dim")

    def _cell(self, at: float) -> int:
        whole = self.end - self.start
        return min(self.bar - 1, int((at - self.start) / whole * self.bar)) if whole > 0 and self.bar else 0

    def _bar(self, start: float, end: float | None, style: str) -> Text:
        first, last = self._cell(start), self._cell(self.end if end is None else end)
        line = "━" * (last - first) + ("━" if end is not None else "▸")
        return Text(" " * first).append(line, style=style)
