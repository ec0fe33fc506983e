"""The command entrenar-otel, as a person calls it: `main()` with arguments, and real processes."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.cli.tables import number, sparkline

Cli = Callable[..., Any]


def record(run_id: str, **settings: Any) -> None:
    with Monitor(run_id, lake="lake", quiet=True, **settings) as monitor:
        for epoch in range(2):
            for batch in range(10):
                monitor.log(loss=1 / (1 + 10 * epoch + batch), lr=0.1, epoch=epoch, batch=batch)
            monitor.log(accuracy=0.5 + epoch / 4, epoch=epoch, tags={"split": "validation"})


@pytest.fixture
def runs() -> None:
    record("digits-7", model_id="digits-mlp", version="1.0.0", config={"lr": 0.1, "clip": math.inf})
    record("digits-8")
    with pytest.raises(AndonStop):
        broken()


def broken() -> None:
    with Monitor("other [/bold]", lake="lake", quiet=True, model_id="m" * 30) as monitor:
        monitor.log(loss=1.0, big=123_456)
        monitor.log(loss=math.nan)


def normal(text: str) -> str:
    """Times and places made equal, ends of lines trimmed."""
    text = re.sub(r"\d{4}-\d\d-\d\d( \d\d:\d\d)(:\d\d)?", "DATE", text.replace(str(Path.cwd()), ""))
    return "\n".join(line.rstrip() for line in re.sub(r"\b\d\.\d s\b", "0.0 s", text).splitlines())


LS = """\
run            state      model                           started (UTC)      took
other [/bold]  stopped    mmmmmmmmmmmmmmmmmmmmmmmmmmmmmm  DATE  0.0 s
digits-8       completed  –                               DATE  0.0 s
digits-7       completed  digits-mlp 1.0.0                DATE  0.0 s"""

SHOW = """\
digits-7  completed
model    digits-mlp 1.0.0
started  DATE UTC, took 0.0 s
config   clip=inf, lr=0.1
lake     /lake

metric                      count  last    mean   max  curve
accuracy  split=validation      2  0.75   0.625  0.75  ▁█
loss                           20  0.05  0.1799     1  █▄▃▂▂▂▂▂▁▁▁▁▁▁▁▁▁▁▁▁
lr                             20   0.1     0.1   0.1  ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁"""

SHOW_STOPPED = """\
other [/bold]  stopped
reason   AndonStop: Training diverged: loss is nan at an unknown step. The last finite values were
         1. The sample is recorded. Look at it with `entrenar-otel show 'other [/bold]' --lake
         /lake`; then lower the learning rate, clip gradients, or look for bad data in that batch.
model    mmmmmmmmmmmmmmmmmmmmmmmmmmmmmm
started  DATE UTC, took 0.0 s
lake     /lake

metric                count     last     mean      max  curve
big                       1  123,456  123,456  123,456
loss  1 non-finite        2      NaN        1        1"""


def test_ls_and_show_look_like_this(runs: None, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole outputs at 100 columns; nothing is wider than the terminal at any width."""
    assert normal(cli("ls").out) == LS
    assert normal(cli("show", "digits-7").out) == SHOW
    stopped = cli("show").out
    assert re.sub(r"\s+", " ", normal(stopped)) == re.sub(r"\s+", " ", SHOW_STOPPED)
    for width in (80, 100, 130, 160):
        monkeypatch.setenv("COLUMNS", str(width))
        for arguments in (["ls"], ["show", "digits-7"], ["show"], ["query", "SELECT * FROM metrics"]):
            assert max(map(len, cli(*arguments).out.splitlines())) <= width
    header = cli("show", "digits-7").out.splitlines()[6].split()
    assert header == ["metric", "count", "last", "mean", "std", "min", "p50", "p90", "p99", "max", "curve"]


def test_show_takes_a_prefix_or_the_latest(runs: None, cli: Cli) -> None:
    """A unique beginning is enough; what is ambiguous or not there is said with what there is."""
    assert cli("show", "oth").out.startswith("other [/bold]  stopped")
    assert cli("show").out.startswith("other [/bold]")
    ambiguous, none = cli("show", "digits"), cli("show", "nope")
    assert ambiguous == (1, "", "error: 'digits' is the beginning of 2 runs: digits-7, digits-8\n")
    assert none.code == 1
    assert re.match(r"error: no run 'nope' in .*lake; the latest are digits-7, digits-8, other", none.err)


def test_json_everywhere_and_global_options_anywhere(
    runs: None, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--json and --lake stand before or behind the command, and give what every JSON parser takes."""
    monkeypatch.setenv("ENTRENAR_LAKE", "elsewhere")

    def strict(text: str) -> Any:
        return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    before, behind = cli("--json", "--lake", "lake", "ls"), cli("ls", "--lake=lake", "--json")
    assert before == behind
    assert [run["run_id"] for run in strict(before.out)] == ["other [/bold]", "digits-8", "digits-7"]
    assert strict(before.out)[2]["config"] == {"lr": 0.1, "clip": "Infinity"}
    assert len(strict(cli("ls", "-n", "1", "--json", "--lake", "lake").out)) == 1
    shown = strict(cli("show", "digits-7", "--json", "--lake", "lake").out)
    loss = next(one for one in shown["metrics"] if one["metric"] == "loss")
    assert (loss["count"], loss["last"], loss["nonfinite"], len(loss["curve"])) == (20, 0.05, 0, 20)
    assert loss["mean"] == pytest.approx(sum(1 / (i + 1) for i in range(20)) / 20)
    assert strict(cli("query", "SELECT 1 a, 'nan'::DOUBLE b", "--json", "--lake", "lake").out) == [
        {"a": 1, "b": "NaN"}
    ]
    dry = strict(cli("prune", "--json", "--older-than", "0s", "--lake", "lake").out)
    assert {one["removed"] for one in dry} == {False}
    assert strict(cli("recover", "--json", "--lake", "lake").out) == []


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
        "… 300 more rows; --format csv, json or parquet gives all"
        in cli("query", "SELECT * FROM range(500)").out
    )


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["query", "SELCT 1"], 2, 'error: Parser Error: syntax error at or near "SELCT"'),
        (["query", "SELECT nope FROM metrics"], 2, 'error: Binder Error: Referenced column "nope" not found'),
        (["query", "DROP TABLE metrics"], 2, "error: only SELECT is accepted, got DROP"),
        (["ls", "--lake", "nowhere"], 2, "nowhere: name one with --lake, or record a run first"),
        (
            ["ls", "--lake", "nosuch://x"],
            1,
            "error: nosuch://x is neither a folder nor a URL that Arrow knows",
        ),
        (["prune", "--older-than", "soon"], 2, "error: expected an age such as 12h, 7d or 4w, got 'soon'"),
        (["prune", "--older-than", "9" * 30 + "w"], 2, "error: expected an age such as 12h, 7d or 4w"),
        (["export", "-o", "no/such/folder/x"], 1, "error: [Errno 2] No such file or directory: 'no/such"),
        (["export", "-f", "xml"], 2, "'xml' is not one of"),
        (["demo", "--epochs", "0"], 2, "or equal to 1"),
        (["bogus"], 2, "No such command 'bogus'"),
    ],
)
def test_what_goes_wrong_is_one_message(
    arguments: list[str], code: int, told: str, runs: None, cli: Cli
) -> None:
    """Exit code 2 for a wrong call or query, 1 for what is not possible; never a traceback."""
    answer = cli(*arguments)
    assert (answer.code, answer.out) == (code, "")
    assert told in re.sub(r"\s+", " ", answer.err)
    assert "Traceback" not in answer.err


def test_an_empty_lake(cli: Cli) -> None:
    """A folder without runs is said so."""
    Path("lake").mkdir()
    assert re.match(r"error: no runs in .*lake. Train something", cli("show").err)
    assert cli("ls", "--json").out == "[]\n"
    assert cli("prune", "--yes").out == "0 runs, 0 bytes\n"
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


def test_prune_shows_first_and_removes_with_yes(runs: None, cli: Cli) -> None:
    """A dry run removes nothing; afterwards statistics, curves and the record are still shown."""
    assert cli("prune").out == "0 runs, 0 bytes\n"
    dry = cli("prune", "--older-than", "0s", "--run", "digits-7").out
    assert re.match(r"would remove +[\d,]+ B  digits-7  \(ended .* UTC\)\n1 runs, .*do it with --yes", dry)
    assert len(json.loads(cli("export", "digits-7").out)) == 42
    done = cli("prune", "--older-than", "0s", "--run", "digits-7", "--yes").out
    assert done.startswith("removed ")
    assert cli("export", "digits-7").err.startswith("error: the full-rate rows of run digits-7 were pruned")
    assert len(json.loads(cli("export", "digits-8").out)) == 42
    shown = cli("show", "digits-7").out
    assert "rows     pruned: statistics and down-sampled curves are left" in shown
    assert re.search(r"loss +20 +0.05 +0.1799 +1  █▄▃▂▂▂▂▂▁", shown)


@pytest.mark.parametrize("command", ["demo", "ls", "show", "query", "export", "recover", "prune"])
def test_help_has_an_example(command: str, cli: Cli) -> None:
    """Every command's help shows a call of it, with options that exist."""
    answer = cli(command, "-h")
    assert answer.code == 0
    assert re.search(rf"Examples?:\s+entrenar-otel {command}", answer.out)
    assert command in cli().out + cli().err


def test_numbers_and_curves_at_a_glance() -> None:
    """Four digits, whole numbers in full; a curve from low to high, flat where it is constant."""
    assert [number(v) for v in (None, "NaN", 3.0, 1234567, 0.123456, 1e-9, 1e12)] == [
        "–", "NaN", "3", "1,234,567", "0.1235", "1e-09", "1e+12"]  # fmt: skip
    assert sparkline([1, None, 3]) == "▁ █"
    assert sparkline([0.05, 0.05 + 1e-17, 0.05 * (1 + 1e-15)]) == "▁▁▁"
    assert (sparkline([]), sparkline([1]), sparkline(["NaN", 1])) == ("", "", "")
