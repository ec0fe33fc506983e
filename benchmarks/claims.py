"""Claims: what README.md says of cost, from the rows of docs/benchmarks.md and from nothing else."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from benchmarks.harness import ROOT

README = ROOT / "README.md"
BEGIN, END = "<!-- cost: written by python -m benchmarks -->\n", "<!-- /cost -->\n"
_WIDTH = 120


def measured(document: str) -> dict[str, float]:
    """The measured numbers of the table, by what they are of.

    >>> measured("| what | limit | measured | met? | |\\n| size | ≤ 8 B | 5.2 B | yes | |")
    {'size': 5.2}
    """
    cells = (line.split(" | ") for line in document.splitlines() if line.startswith("| "))
    rows = ((row[0].removeprefix("| "), re.match(r"-?[\d.e+-]+ ", row[2])) for row in cells if len(row) > 3)
    return {what: float(number[0]) for what, number in rows if number}


def cost(rows: Mapping[str, float]) -> str:
    """What the README says, as its Markdown. Raises KeyError where a row is missing."""

    def whole(of: str) -> str:
        return f"{rows[f'whole cost of {of} to a digits loop, CPU of all threads']:.1f} %"

    text = (
        "- **Little cost.** A call of `log` with five metrics costs "
        f"{rows['`log`, 5 metrics by keyword ÷ five gauges']:.2f} × what five `prometheus_client.Gauge.set` "
        f"cost, the `bind` form {rows['`bind`, 5 metrics ÷ five gauges']:.2f} ×. Where a step takes a "
        f"millisecond, the whole monitor takes {whole('`bind`')} of the CPU time with `bind`, "
        f"{whole('`log`')} with `log`, {whole('`steps()` and `log`')} with `steps()` as well, and "
        f"{whole('everything on')} with everything on; where it takes ten, a tenth of that. "
        "[Measured](docs/benchmarks.md) in the same run as the libraries it is compared with, and the limits "
        "that we missed are marked there; `entrenar-otel doctor` measures it on your machine."
    )
    lines = textwrap.wrap(
        text, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines) + "\n"


def replaced(readme: str, claim: str) -> str:
    """The README with this claim between its two marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + claim + END + after


def write_claims(document: str, path: Path = README) -> None:
    """Let the README say what the document says."""
    readme = path.read_text(encoding="utf-8")
    path.write_text(replaced(readme, cost(measured(document))), encoding="utf-8")
