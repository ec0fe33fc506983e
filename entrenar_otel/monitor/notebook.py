"""Notebook: what a cell shows of a run, and a line of progress that stays in its place."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from entrenar_otel.console import ipython_shell, shown
from entrenar_otel.interruption import from_outside

if TYPE_CHECKING:
    from entrenar_processors import Summary

#: What is shown of each metric.
_NUMBERS = ("count", "last", "min", "mean", "max", "p50", "p99")


class SummaryTable(dict[str, "Summary"]):
    """Statistics by series name; a notebook shows them as a table."""

    def _repr_html_(self) -> str:
        return summaries_html(self)


def summaries_html(summaries: Mapping[str, Summary], caption: str = "") -> str:
    """Statistics as a table, a row per series."""
    from entrenar_otel.lake.tables.html import rows_html

    rows = [[name, *(getattr(summary, number) for number in _NUMBERS)] for name, summary in summaries.items()]
    return rows_html(("metric", *_NUMBERS), rows, caption)


class NotebookLine:
    """A line in the output of the cell in which the loop runs, which is replaced by the next.

    A loop in a later cell has its line there.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._cell: Any = None

    @property
    def is_drawn(self) -> bool:
        """Whether there is a line already."""
        return self._handle is not None

    @staticmethod
    def is_there() -> bool:
        """Whether this process is a notebook's kernel."""
        return getattr(ipython_shell(), "kernel", None) is not None

    def write(self, line: str, *, may_begin: bool = False) -> None:
        """Show the line in place of the last one; in a cell that has none only with `may_begin`.

        What a notebook raises stays here.
        """
        try:
            from IPython.display import display

            cell = getattr(ipython_shell(), "execution_count", None)
            if may_begin and cell != self._cell:
                self._handle, self._cell = None, cell
            elif self._handle is None:
                return
            text = shown(line)
            bundle = {"text/plain": text, "text/html": f"<pre>{html.escape(text)}</pre>"}
            if self._handle is None:
                self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
            else:
                self._handle.update(bundle, raw=True)
        except Exception as error:  # no front end, an old IPython
            if from_outside(error):
                raise
