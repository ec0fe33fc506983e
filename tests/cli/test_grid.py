"""Grid: what a person sees at any width: names are whole, columns are left out before they are cut."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from rich.cells import cell_len
from rich.text import Text

from entrenar_otel import Monitor
from entrenar_otel.cli.commands.inspect import Sort
from entrenar_otel.cli.grid import Column, print_grid
from entrenar_otel.cli.output import Console
from entrenar_otel.lake.listing import ORDERS

Cli = Callable[..., Any]

COLUMNS = [
    Column("run"),
    Column("state"),
    Column("loss", right=True, need=1),
    Column("model", need=3, least=6),
    Column("took", right=True, need=2),
]
LONG = "experiment/lr=0.001/seed=42/fold-3-of-5/a-very-long-run-identifier"
ROWS = [
    ["digits-7", "completed", "0.12", "perceptron 1.0", "12 s"],
    [LONG, "crashed", "–", "–", "3h 20m"],
    ["日本語の訓練", "running", "12,345", "m", "1 s"],
]


def drawn(width: int, rows: list[list[str]] = ROWS, columns: list[Column] = COLUMNS) -> list[str]:
    stream = io.StringIO()
    print_grid(Console(file=stream, width=width), columns, [[*map(Text, row)] for row in rows])
    return stream.getvalue().splitlines()


def test_at_80_columns() -> None:
    """A long name has a line of its own, and does not take the room of all others."""
    assert drawn(80) == [
        "run           state        loss  model             took",
        "digits-7      completed    0.12  perceptron 1.0    12 s",
        LONG,
        "              crashed         –  –               3h 20m",
        "日本語の訓練  running    12,345  m                  1 s",
    ]


def test_at_40_columns() -> None:
    """What is needed least goes first."""
    assert drawn(40) == [
        "run           state        loss    took",
        "digits-7      completed    0.12    12 s",
        LONG,
        "              crashed         –  3h 20m",
        "日本語の訓練  running    12,345     1 s",
    ]


@pytest.mark.parametrize("width", [1, 10, 24, 40, 47, 80, 120, 300])
def test_at_any_width(width: int) -> None:
    """Names are whole, no line is wider unless it must be, and the columns stand below each other."""
    lines = drawn(width)
    for name, *_ in ROWS:
        assert sum(name in line for line in lines) == 1
    must = 12 + 2 + 9
    assert all(cell_len(line) <= max(width, must) for line in lines if line != LONG)
    assert {line.split()[0] for line in lines} >= {"run", "digits-7"}
    if width >= 55:
        assert "perceptron 1.0" in lines[1]


def test_a_text_takes_what_is_left_or_stands_below() -> None:
    columns = [Column("at"), Column("what", is_text=True), Column("state")]
    rows = [["09:00", "one two three four five six seven", "ok"], ["09:01", "", "ok"]]
    assert drawn(100, rows, columns) == [
        "at     what                               state",
        "09:00  one two three four five six seven  ok",
        "09:01                                     ok",
    ]
    assert drawn(40, rows, columns) == [
        "at     what                        state",
        "09:00  one two three four five     ok",
        "       six seven",
        "09:01                              ok",
    ]
    assert drawn(30, rows, columns) == [
        "at     state",
        "09:00  ok",
        "  one two three four five six",
        "  seven",
        "09:01  ok",
    ]


# -- the commands ------------------------------------------------------------------------------------


@pytest.fixture
def runs(lake_of: Callable[..., None]) -> None:
    lake_of("grid-runs", _write_runs)


def _write_runs() -> None:
    for run_id, loss in ((LONG, 0.5), ("20261129-090731-swift-2e630c", 0.25), ("b", None)):
        settings: dict[str, Any] = {"lake": "lake", "quiet": True, "settings_file": None}
        with Monitor(run_id, model_id="m" * 30, config={"o": {"n": [1]}}, **settings) as monitor:
            for step in range(5 if loss else 0):
                monitor.log({"train/loss": loss, "val/loss": 9.0, "x" * 20: 1e-5}, step=step)
            monitor.event("hello", {"a": "b" * 50}, body="some words " * 8, severity="WARNING")


CALLS = [
    *(["ls"], ["show", "2026"], ["show", "exp"], ["events", "2026"], ["alerts", "2026"], ["spans", "2026"]),
    ["query", "SELECT run_id, metric, value, tags, timestamp FROM metrics"],
    ["query", "SELECT * FROM runs"],
]


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize("width", [40, 80, 120])
def test_what_a_person_sees(width: int, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ids are whole in a line, wherever they stand; no column is a letter wide."""
    monkeypatch.setenv("COLUMNS", str(width))
    for call in CALLS:
        lines = cli(*call).out.splitlines()
        wide = [line for line in lines if cell_len(line.rstrip()) > width]
        assert all(LONG in line or "_id" in line for line in wide), call
        ids = [line for line in lines if "20261129" in line or "experiment/" in line]
        assert all("20261129-090731-swift-2e630c" in line or LONG in line for line in ids), call
        letters = [re.fullmatch(r"\s*\w\s*", line) for line in lines]
        # One alone is the run `b`, where it has a line of its own, or the end of a path.
        assert not any(one and next_one for one, next_one in pairwise(letters)), call
    header = next(line for line in cli("show", "2026").out.splitlines() if line.startswith("metric"))
    assert {"last", "min"} <= set(header.split())


@pytest.mark.usefixtures("runs")
def test_without_utf_8_and_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signs have others that stand for them, a curve too; names that cannot be shown have escapes."""
    import os
    import subprocess
    import sys

    with Monitor("日本", lake="lake", quiet=True, settings_file=None) as monitor:
        for step in range(20):
            monitor.log(loss=float(step))
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "NO_COLOR": "1"}
    outputs = []
    for call in (["ls"], ["show"]):
        command = [sys.executable, "-m", "entrenar_otel.cli.main", *call, "--lake", "lake"]
        done = subprocess.run(command, capture_output=True, env=env, timeout=120, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
        outputs.append(done.stdout.decode("ascii"))
    assert all("\\u65e5\\u672c" in text for text in outputs)
    assert "?" not in "".join(outputs)
    assert "\x1b" not in "".join(outputs)
    assert re.search(r"loss +20 .* _[_.\-=+*%#]+#$", outputs[1], flags=re.M)


# -- ls ----------------------------------------------------------------------------------------------


def listed(cli: Cli, *options: str) -> list[str]:
    return [line.split()[0] for line in cli("ls", *options).out.splitlines()[1:]]


@pytest.fixture
def sweep(lake_of: Callable[..., None]) -> None:
    """Three runs, of which one crashed, one has a validation's loss only, and one none."""
    lake_of("sweep", _write_sweep)


def _write_sweep() -> None:
    for run_id, lr, model in (("a", 0.1, "mlp"), ("b", 10, "cnn"), ("c", 9, None)):
        config = {"lr": lr, "opt": "adam" if run_id == "a" else "sgd"}
        monitor = Monitor(run_id, config=config, model_id=model, lake="lake", quiet=True).start()
        if run_id != "c":
            names = {"loss": lr, "val/loss": 1.0} if run_id == "a" else {"val_loss": 0.05, "loss_scale": 2.0}
            monitor.log(names, step=1)
        monitor.close("crashed" if run_id == "b" else "completed")


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "cba"),
        (["--reverse"], "abc"),
        (["-n", "1"], "c"),
        (["--sort", "run"], "abc"),
        (["--sort", "run", "-r"], "cba"),
        (["--sort", "model"], "bac"),
        (["--sort", "loss"], "bac"),
        (["--sort", "state"], "cab"),
        (["--filter", "state=crashed"], "b"),
        (["--filter", "model=mlp"], "a"),
        (["--filter", "config.lr::DOUBLE > 1"], "cb"),
        (["--filter", "lr > 1"], "cb"),
        (["--filter", "lr=10"], "b"),
        (["--filter", "opt=sgd"], "cb"),
        (["--filter", "config.opt=adam"], "a"),
        (["--filter", "opt = 'sgd' AND lr < 10"], "c"),
        (["--filter", "loss < 0.5 AND model IS NOT NULL", "--sort", "loss", "-r"], "ab"),
        (["--filter", "took < 1000 -- all"], "cba"),
        (["--filter", "attempt=1", "-n", "2"], "cb"),
        (["--filter", "crashed cnn"], "b"),
        (["--filter", "lr>1 opt=sgd loss>0"], "b"),
        (["--filter", "alerts=0"], "cba"),
        (["--filter", "alerts > 0 OR lr < 1"], "a"),
        (["--filter", "version=1"], ""),
    ],
)
def test_the_order_and_the_choice(options: list[str], expected: str, cli: Cli) -> None:
    found = listed(cli, *options)
    if "state" in options:  # of equal ones, any order
        assert (set(found[:2]), found[2]) == ({"c", "a"}, "b")
    else:
        assert "".join(found) == expected


@pytest.mark.usefixtures("sweep")
def test_the_last_loss(cli: Cli) -> None:
    """Of the training, else of the validation; what only sounds like one is none."""
    rows = [line.split() for line in cli("ls").out.splitlines()]
    at = rows[0].index("loss")
    assert {row[0]: row[at] for row in rows[1:]} == {"a": "0.1", "b": "0.05", "c": "–"}


@pytest.mark.usefixtures("sweep")
@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("stat=crashed", 'column "stat" not found'),
        ("config.opt = 'adam' AND lr > 0", "Settings are JSON: text is config->>'optimizer'"),
        ("state = 'crashed'; DROP VIEW runs", "expected one SELECT|syntax error"),
        ("", None),
    ],
)
def test_a_wrong_condition(condition: str, said: str | None, cli: Cli) -> None:
    answer = cli("ls", "--filter", condition)
    if said is None:
        assert answer.code == 0
    else:
        assert answer.code == 2
        assert re.search(said, answer.err)


def test_the_orders_of_the_command_are_those_there_are() -> None:
    assert [sort.value for sort in Sort] == [*ORDERS]
