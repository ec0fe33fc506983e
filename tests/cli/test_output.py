"""Output: no command prints what steers a terminal, whoever gave the names."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text

from entrenar_otel import Monitor
from entrenar_otel.cli import output

#: A title, a colour, the same as one character of C1, a change of direction, a forged line.
ESCAPES = "\x1b]0;title\x07\x1b[31mred\x9b32m\u202etxt\u2066.\r\nerror: forged"


def steering(text: str) -> set[str]:
    """What a terminal would act on, but for line breaks."""
    return {char for char in text if not (char.isprintable() or char == "\n")}


@pytest.fixture
def odd() -> None:
    """A run whose every name and text has escapes, and one that died."""
    texts: dict[str, Any] = {
        "model_id": "model" + ESCAPES, "version": "1" + ESCAPES, "config": {"k" + ESCAPES: "v" + ESCAPES},
    }  # fmt: skip
    monitor = Monitor("odd" + ESCAPES, lake="lake", quiet=True, settings_file=None, **texts).start()
    monitor.log({"metric" + ESCAPES: 1.0}, tags={"tag" + ESCAPES: "value" + ESCAPES})
    monitor.event(
        "event" + ESCAPES, {"a" + ESCAPES: "b" + ESCAPES}, severity="WARNING", body="body" + ESCAPES
    )
    with monitor.span("span" + ESCAPES, **{"a" + ESCAPES: "b" + ESCAPES}):
        pass
    monitor.close("crashed", "reason" + ESCAPES)


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize(
    "call",
    [
        ("ls",),
        ("ls", "--json"),
        ("show", "odd"),
        ("show", "odd", "--json"),
        ("events", "odd"),
        ("alerts", "odd"),
        ("spans", "odd"),
        ("query", "SELECT * FROM metrics"),
        ("query", "SELECT * FROM events"),
        ("query", f'SELECT 1 AS "{ESCAPES}"'),
        ("query", "-f", "csv", "SELECT * FROM events"),
        ("query", "-f", "json", "SELECT * FROM spans"),
        ("export", "odd", "-f", "csv"),
        ("export", "odd", "-f", "json"),
        ("export", "odd", "-f", "prometheus"),
        ("prune", "--older-than", "0s"),
        ("prune", "--older-than", "0s", "--json"),
        ("ci", "odd"),
        ("stop", "odd"),
        ("recover",),
        ("show", "nothing" + ESCAPES),
        ("query", f"SELECT nope{ESCAPES}"),
        ("nothing" + ESCAPES,),
        ("ls", f"--{ESCAPES}"),
        ("ls", "-n", ESCAPES),
        ("ls", "--lake", f"/no/such{ESCAPES}"),
        ("config", "check", f"no{ESCAPES}.toml"),
    ],
    ids=lambda call: " ".join(call).encode("ascii", "replace").decode()[:40],
)
def test_no_command_prints_escapes(cli: Callable[..., Any], call: tuple[str, ...]) -> None:
    """On stdout and stderr, in tables, JSON, CSV, lines and errors."""
    Path("renacer.toml").write_text('[[assertion]]\nname = "kept"\ntype = "memory_usage"\nmax_bytes = 1\n')
    answer = cli(*call)
    assert answer.out + answer.err
    assert (steering(answer.out), steering(answer.err)) == (set(), set())


@pytest.mark.usefixtures("odd")
def test_json_loses_nothing(cli: Callable[..., Any]) -> None:
    """Such characters are escapes of JSON, in JSON and in the nested values of CSV."""
    (run,) = json.loads(cli("ls", "--json").out)
    assert run["run_id"] == "odd" + ESCAPES
    answer = cli("query", "-f", "csv", "SELECT tags FROM metrics WHERE cardinality(tags) > 0 LIMIT 1")
    (_, (tags,)) = csv.reader(io.StringIO(answer.out))
    assert json.loads(tags) == {"tag" + ESCAPES: "value" + ESCAPES}


@pytest.mark.usefixtures("odd")
def test_a_file_has_what_was_recorded(cli: Callable[..., Any]) -> None:
    """What `--output` writes is for programs."""
    cli("export", "odd", "-f", "csv", "-o", "run.csv")
    with Path("run.csv").open(newline="") as file:
        assert "odd" + ESCAPES in {row["run_id"] for row in csv.DictReader(file)}


def test_the_console_styles_and_nothing_else_does() -> None:
    """Colours are ours; those of a text are not taken, wherever in a table it stands."""
    stream = io.StringIO()
    console = output.Console(file=stream, force_terminal=True, color_system="standard", width=60)
    table = Table("head" + ESCAPES)
    table.add_row(Text("cell" + ESCAPES, style="red"))
    console.print(table, "text" + ESCAPES)
    shown = stream.getvalue()
    assert "\x1b[31mcell?]0;title?" in shown
    assert not any(
        word in shown for word in ("\x1b]0", "\x07", "\x1b[31mred", "\x9b", "\u202e", "\u2066", "\r")
    )


def test_errors_where_stderr_is_gone(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The exit code still tells; nothing goes to stdout."""
    file = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115 - closing it raises too
    for stream in (None, file):
        monkeypatch.setattr(sys, "stderr", stream)
        output.print_error(OSError("no such file"))
        output.complain("no such file")
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space"):
        file.close()
    assert capsys.readouterr() == ("", "")


#: Each command in a process and a stdout of its own, of one that has imported what they need; NUL after each.
EACH_IN_A_FORK = """
import json, os, sys, warnings
import duckdb, pandas, pyarrow.dataset
warnings.filterwarnings("ignore", ".*use of fork", DeprecationWarning)
from entrenar_otel.cli.main import main
for arguments in json.loads(sys.argv[1]):
    if not (child := os.fork()):
        sys.argv[1:] = arguments
        main()
    assert os.waitpid(child, 0)[1] == 0, arguments
    os.write(1, b"\\0")
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_terminal_of_any_encoding(encoding: str) -> None:
    """Tables get other signs, and the exit code says what it always says; for machines it is UTF-8."""
    Path("renacer.toml").write_text(
        '[[assertion]]\nname = "memory"\ntype = "memory_usage"\nmax_bytes = 99_000_000_000\n'
        'tracking_mode = "rss"\n'
    )
    with Monitor("модель", lake="lake", quiet=True) as monitor:
        monitor.log({"损失": 1.0})

    calls = [("ci",), ("ls",), ("ls", "--json"), ("export", "-f", "csv"), ("ci", "-f", "junit")]
    done = subprocess.run(
        [sys.executable, "-c", EACH_IN_A_FORK, json.dumps(calls)],
        env={**os.environ, "ENTRENAR_LAKE": "lake", "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        capture_output=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    ci, ls, as_json, as_csv, junit = done.stdout.split(b"\0")[:-1]
    assert ("✓ passed" if encoding == "utf-8" else "+ passed") in ci.decode(encoding)
    name = "модель" if encoding == "utf-8" else r"\u043c\u043e\u0434\u0435\u043b\u044c"
    assert name in ls.decode(encoding)
    assert json.loads(as_json.decode())[0]["run_id"] == "модель"
    assert "损失" in as_csv.decode()
    assert 'value="модель"' in junit.decode()
