"""HTML file: runs as one file that opens offline, with the page and all of its data inside."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from entrenar_processors.metric_names import known_as
from entrenar_processors.plain import plain

from entrenar_otel.lake import Lake
from entrenar_otel.lake.listing import last_losses
from entrenar_otel.lake.overview import runs_of, seconds_of
from entrenar_otel.page.answers import about
from entrenar_otel.page.curves import Wanted, all_lines
from entrenar_otel.page.run_facts import facts_of
from entrenar_otel.page.static_files import StaticFile, static_files
from entrenar_otel.page.wire import encode
from entrenar_otel.redact import without_credentials
from entrenar_otel.views.model import Axis, Panel, RunView, panels_of

#: Of each curve: the extremes of so many stretches; where there are very many curves of fewer, for size.
COLUMNS, LEAST_COLUMNS, ALL_COLUMNS = 4096, 128, 400_000
#: And so many panels, the most telling first, and ranks of a run, the lowest.
MAX_PANELS, MAX_RANKS = 200, 32
#: From the least.
_LEVELS = ("INFO", "WARNING", "ERROR", "CRITICAL")


def html_of(
    lake: Lake, views: Sequence[RunView], metrics: Sequence[str] | None = None, axis: Axis = Axis.STEP
) -> str:
    """The file's text: all metrics of the runs, or some; a run has a view for each rank that is to be chosen.

    Raises QueryError.
    """
    facts = [facts_of(view, view.run_id) for view in views]
    wanted = {name for metric in metrics or () for name in (metric, known_as(metric)[0])}
    for one in facts:
        panels = [panel for panel in one["panels"] if not wanted or panel["metric"] in wanted]
        one["panels"] = panels[:MAX_PANELS]
    firsts = [*{view.run_id: view for view in reversed(views)}.values()][::-1]
    blocks, curves, left_out = _curves(views, facts)
    found = max((len(panels_of(view, machine=True)) for view in views), default=0)
    left_out["panels"] = 0 if wanted else max(0, found - MAX_PANELS)
    left_out["ranks"] = sorted(
        {rank for view in firsts for rank in view.known_ranks} - {view.rank for view in views}
    )
    packed = {
        # sent to others, whom the folders of this machine do not concern
        "about": {**about(lake), "lake": _name_of(lake), "left_out": left_out},
        "runs": _runs(lake, firsts),
        "facts": facts,
        "curves": curves,
        "hash": urlencode([("run", view.run_id) for view in firsts] + [("x", axis.value)]),
    }
    return _page(_zipped(packed, blocks), static_files())


def _name_of(lake: Lake) -> str:
    url = without_credentials(lake.url)
    return url if "://" in url else Path(url).name


def _curves(
    views: Sequence[RunView], facts: Sequence[dict[str, Any]]
) -> tuple[list[bytes], list[dict[str, Any]], dict[str, Any]]:
    """A block for each metric, axis and rank, where it is among the others, and what is not in them."""
    named = dict.fromkeys(panel["metric"] for one in facts for panel in one["panels"])
    series = sum(len(Panel(metric).lines(view)) for metric in named for view in views)
    columns = max(LEAST_COLUMNS, min(COLUMNS, ALL_COLUMNS // max(1, series * len(Axis))))
    blocks, curves, at, thinned = list[bytes](), list[dict[str, Any]](), 0, 0
    for metric, each, rank in itertools.product(named, Axis, sorted({view.rank for view in views})):
        pairs = [(view.run_id, view) for view in views if view.rank == rank]
        lines = all_lines(pairs, Wanted(metric, each, columns))
        if lines:
            blocks.append(encode(lines, axis=each.value))
            place = {"start": at, "length": len(blocks[-1])}
            curves.append({"metric": metric, "axis": each.value, "rank": rank, **place})
            at += len(blocks[-1])
        if each is Axis.STEP:
            thinned += sum(len(line.x) < line.of for line in lines)
    return blocks, curves, {"thinned": thinned, "curves": series, "columns": columns}


def write_html(
    path: Path,
    lake: Lake,
    views: Sequence[RunView],
    metrics: Sequence[str] | None = None,
    axis: Axis = Axis.STEP,
) -> None:
    """The same as a file, which is there as a whole or not at all. Raises QueryError, OSError."""
    text = html_of(lake, views, metrics, axis)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _runs(lake: Lake, views: Sequence[RunView]) -> list[dict[str, Any]]:
    """As `RunList` has them, of these runs only."""
    losses = last_losses(lake, [view.run_id for view in views])
    known = {run["run_id"]: run for run in runs_of(lake)}
    listed = []
    for view in views:
        run = known.get(view.run_id, {"run_id": view.run_id, "started_at": "", "ended_at": None, "state": ""})
        told = sorted(view.findings, key=lambda finding: finding.at)
        levels = [finding.level for finding in told if finding.level in _LEVELS]
        kept = {name: value for name, value in run.items() if name != "argv"}
        listed.append(
            {
                **kept,
                "state": view.state,
                "loss": plain(losses.get(view.run_id)),
                "seconds": seconds_of(run) if run["started_at"] else None,
                "alerts": len(told),
                "alert_level": max(levels, key=_LEVELS.index, default=None),
                "first_alert": told[0].name if told else None,
            }
        )
    return listed


def _zipped(packed: dict[str, Any], blocks: list[bytes]) -> str:
    """The length of the JSON (uint32), 4 zero bytes, the JSON, the curves; by gzip, as base64."""
    header = json.dumps(plain(packed), separators=(",", ":"), allow_nan=False).encode()
    header += b" " * (-len(header) % 8)
    body = b"".join([len(header).to_bytes(4, "little"), bytes(4), header, *blocks])
    return base64.b64encode(gzip.compress(body, 6, mtime=0)).decode()


def _page(data: str, files: dict[str, StaticFile]) -> str:
    """One file, in which only this very script and this very style count: their digests are in its policy.

    Names of runs and metrics are in `data` only, which is base64.
    """
    script, style = (files[name].body.decode() for name in ("app.js", "app.css"))
    icon = base64.b64encode(files["icon.svg"].body).decode()
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer"><meta name="color-scheme" content="light dark">'
        f'<title>entrenar-otel</title><link rel="icon" href="data:image/svg+xml;base64,{icon}">'
        f"<style>{style}</style></head><body>"
        "<noscript>This page draws with JavaScript, which is off in this browser.</noscript>"
        '<div id="app"></div>'
        f'<script id="data" type="application/octet-stream">{data}</script>'
        f"<script>{script}</script></body></html>\n"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
