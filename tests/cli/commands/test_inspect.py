"""`ls`, `show`, `query` and `export`, as a person calls them: whole outputs, and every format."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lake.details import NUMBERS
from entrenar_otel.lake.records.runs import write_record

Cli = Callable[..., Any]


#: When each run started, and for how many seconds it ran.
TIMES = {
    "digits-7": (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), 4205.2),
    "digits-8": (datetime(2026, 1, 2, 9, 0, 0, tzinfo=UTC), 2.3149),
    "other [/bold]": (datetime(2026, 1, 3, 0, 0, 0, tzinfo=UTC), 0.042),
}

LS = """\
run            state      loss  model                           started (UTC)          took
other [/bold]  stopped     NaN  mmmmmmmmmmmmmmmmmmmmmmmmmmmmmm  2026-01-03 00:00      42 ms
digits-8       completed  0.05  –                               2026-01-02 09:00     2.31 s
digits-7       completed  0.05  digits-mlp 1.0.0                2026-01-02 03:04  1h 10m 5s"""

SHOW = """\
digits-7  completed
model    digits-mlp 1.0.0
started  2026-01-02 03:04:05 UTC, took 1h 10m 5s
config   clip=Infinity, lr=0.1
lake     {lake}

metric                      count  last    mean   min      p50     p99   max  curve
accuracy  split=validation      2  0.75   0.625   0.5    0.625  0.7475  0.75  ▁█
loss                           20  0.05  0.1799  0.05  0.09545   0.905     1  █▄▃▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁
lr                             20   0.1     0.1   0.1      0.1     0.1   0.1  ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁"""

SHOW_STOPPED = """\
other [/bold]  stopped
reason   AndonStop: Training diverged: loss is nan at an unknown step. The last finite values were
         1. The sample is recorded. Look at it with `entrenar-otel show 'other [/bold]' --lake
         {recorded_in}`; then lower the learning rate, clip gradients, or look for bad data in that batch.
model    mmmmmmmmmmmmmmmmmmmmmmmmmmmmmm
started  2026-01-03 00:00:00 UTC, took 42 ms
alerts   nonfinite_loss error
lake     {lake}

metric              count     last     mean  std      min      p50      p90      p99      max  curve
big                     1  123,456  123,456    –  123,456  123,456  123,456  123,456  123,456
loss  1 non-finite      2      NaN        1    –        1        1        1        1        1"""


def words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


@pytest.fixture
def timed(runs: None) -> Lake:
    """The runs, as if they had been recorded at known times."""
    lake = Lake("lake")
    for record in lake.runs():
        started, seconds = TIMES[record.run_id]
        ended = started + timedelta(seconds=seconds)
        write_record(lake.storage, replace(record, started_at=started, ended_at=ended))
    return lake


def test_ls_and_show_look_like_this(
    timed: Lake, shown: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole outputs at 100 columns; nothing is wider than the terminal at any width."""
    assert shown("ls") == LS
    assert words(shown("show", "digits-7")) == words(SHOW.format(lake=timed.url))
    assert shown("show", "digits-7").splitlines()[-5:] == SHOW.splitlines()[-5:]
    (reason,) = [record.reason for record in timed.runs() if record.reason]
    recorded_in = re.findall(r"--lake (\S+)`", reason)[0]  # the lake may be a copy
    assert words(shown("show")) == words(SHOW_STOPPED.format(lake=timed.url, recorded_in=recorded_in))
    for width in (80, 100, 130, 160):
        monkeypatch.setenv("COLUMNS", str(width))
        for arguments in (["ls"], ["show", "digits-7"], ["show"], ["query", "SELECT * FROM metrics"]):
            assert max(map(len, shown(*arguments).splitlines())) <= width
    header = next(line for line in shown("show", "digits-7").splitlines() if line.startswith("metric"))
    assert header.split() == ["metric", "count", *NUMBERS, "curve"]


def test_show_takes_a_prefix_or_the_latest(runs: None, cli: Cli) -> None:
    """A unique beginning or end is enough; what is ambiguous or not there is said with what there is."""
    assert cli("show", "oth").out.startswith("other [/bold]  stopped")
    assert cli("show", "7").out.startswith("digits-7")
    assert cli("compare", "7", "8").out.splitlines()[1].startswith("A  digits-7")
    assert cli("show").out.startswith("other [/bold]")
    ambiguous, none = cli("show", "digits"), cli("show", "nope")
    assert ambiguous == (1, "", "error: 'digits' is a prefix of 2 runs: digits-7, digits-8\n")
    for number in range(5):
        with Monitor(f"digits-9{number}", lake="lake", quiet=True) as monitor:
            monitor.log(loss=1.0)
    many = ", ".join(f"digits-9{number}" for number in range(5))
    assert cli("show", "digits").err == f"error: 'digits' is a prefix of 7 runs: …, {many}\n"  # the latest
    assert none.code == 1
    assert re.match(r"error: no run 'nope' in .*lake; the latest are other.*, digits-8, digits-7$", none.err)


def test_a_wide_answer_is_shown_row_by_row(runs: None, cli: Cli) -> None:
    """Twenty columns in eighty characters would be a letter a line."""
    columns = ", ".join(f"{number} AS column_{number}" for number in range(20))
    lines = [
        line.rstrip() for line in cli("query", f"SELECT {columns}, NULL AS x FROM range(2)").out.splitlines()
    ]
    row = [f"column_{number}".ljust(11) + str(number) for number in range(20)]
    assert lines == [*row, "", *row]


def test_query_formats(runs: None, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answer as table, CSV, JSON and Parquet, on standard output or in a file."""
    sql = "SELECT metric, count(*) n, tags['split'] AS \"[red]x[1]\" FROM metrics GROUP BY ALL ORDER BY 1"
    expected = [["accuracy", 4, "validation"], ["big", 1, None], ["loss", 42, None], ["lr", 40, None]]
    table = cli("query", sql).out.splitlines()
    assert table[0].split() == ["metric", "n", "[red]x[1]"]
    assert [line.split() for line in table[1:]] == [
        [str(v) for v in row if v is not None] for row in expected
    ]
    as_csv = list(csv.reader(io.StringIO(cli("query", sql, "-f", "csv").out)))
    assert as_csv[1:] == [["" if v is None else str(v) for v in row] for row in expected]
    assert [list(r.values()) for r in json.loads(cli("query", sql, "-f", "json").out)] == expected
    told = cli("query", sql, "-f", "parquet", "-o", "answer.parquet")
    assert told.out == "4 rows written to answer.parquet\n"
    assert [list(row.values()) for row in pq.read_table("answer.parquet").to_pylist()] == expected
    assert (
        cli("query", sql, "-f", "parquet").err
        == "error: Parquet is not text: name a file with --output FILE\n"
    )
    assert (
        cli("query", "SELECT DISTINCT run_id FROM metrics", "--run", "digits-7", "-f", "csv").out
        == "run_id\ndigits-7\n"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 41 + 1 AS answer"))
    assert cli("query", "-", "-f", "csv").out == "answer\n42\n"
    assert (
        "… 300 more rows; use --format csv, json or parquet for all of them"
        in cli("query", "SELECT * FROM range(500)").out
    )


def test_an_empty_lake(cli: Cli) -> None:
    """A folder without runs is said so."""
    Path("lake").mkdir()
    assert re.match(r"error: no runs in .*lake. Train something", cli("show").err)
    assert cli("ls", "--json").out == "[]\n"
    assert re.fullmatch(r"no run in .*lake yet\n", cli("ls").out)
    assert re.fullmatch(
        r"no run in .*lake meets --filter state=crashed\n", cli("ls", "--filter", "state=crashed").out
    )
    assert cli("prune", "--yes").out.startswith("nothing to prune in ")
    assert cli("recover").out.startswith("nothing to recover for ")


def test_export_every_format(runs: None, cli: Cli) -> None:
    """To standard output and to a file the same bytes; the latest run by default; Parquet needs a file."""
    for form in ("json", "csv", "prometheus"):
        text = cli("export", "digits-7", "-f", form).out
        assert cli("export", "digits-7", "-f", form, "-o", "out").out == "run digits-7 written to out\n"
        assert (Path("out").read_bytes().decode(), "digits-7" in text) == (text, True)
    assert len(json.loads(cli("export").out)) == 3
    assert cli("export", "digits-7", "-f", "parquet").code == 2
    cli("export", "digits-7", "-f", "parquet", "-o", "out.parquet")
    assert pq.read_table("out.parquet").num_rows == 42


def test_a_run_of_many_metrics_is_shown_in_short(cli: Cli, shown: Callable[..., str]) -> None:
    """The foremost have a line each; the others are counted, and can be asked for."""
    with Monitor("wide", lake="lake", quiet=True) as monitor:
        for step in range(4):
            monitor.log(loss=1 / (1 + step), step=step)
            monitor.log({f"layers.{at}.norm": at + step / 4 for at in range(120)}, step=step)
    lines = shown("show").splitlines()
    lines = lines[next(at for at, line in enumerate(lines) if line.startswith("metric")) :]
    end = lines.index("")
    assert [line.split()[0] for line in lines[1:4]] == ["loss", "layers.0.norm", "layers.1.norm"]
    assert end == 41
    assert lines[end + 1 :] == [
        "more metrics   series  count  least  greatest",
        "layers.*.norm      81    324     39     119.8",
        "--metric 'layers.*.norm' shows those, --all every one",
    ]
    every = shown("show", "--all").splitlines()
    assert sum(line.startswith("layers.") for line in every) == 120
    some = shown("show", "-m", "layers.11?.norm", "-m", "loss").splitlines()
    wanted = {"loss", *(f"layers.{at}.norm" for at in range(110, 120))}
    assert {line.split()[0] for line in some if line.startswith(("loss", "layers"))} == wanted
    assert not any("more metrics" in line for line in some + every)
    assert len(json.loads(shown("show", "--json"))["metrics"]) == 121
    assert [row["metric"] for row in json.loads(shown("show", "--json", "-m", "loss"))["metrics"]] == ["loss"]
    unknown = cli("show", "-m", "los")
    assert (unknown.code, unknown.out) == (2, "")
    assert unknown.err.startswith("error: 'los' was not measured in run wide; measured: loss, layers.")
