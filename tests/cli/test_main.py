"""The command entrenar-otel as a whole: help, errors, the console script, pipes, completion."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from entrenar_otel import Monitor, __version__

Cli = Callable[..., Any]


class Answer(NamedTuple):
    code: int
    out: str
    err: str


def shell(line: str, **environment: str) -> Answer:
    scripts = Path(sys.executable).parent
    env = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "COLUMNS": "100"} | environment
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=100)
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["query", "SELCT 1"], 2, 'error: Parser Error: syntax error at or near "SELCT"'),
        (["query", "SELECT nope FROM metrics"], 2, 'error: Binder Error: Referenced column "nope" not found'),
        (["query", ""], 2, "error: expected one SELECT, got nothing"),
        (["query", "DROP TABLE metrics"], 2, "error: only SELECT is accepted, got DROP"),
        (["ls", "--lake", "nowhere"], 2, "nowhere: name one with --lake, or record a run first"),
        (
            ["ls", "--lake", "nosuch://x"],
            1,
            "error: nosuch://x is neither a folder nor a URL that Arrow knows",
        ),
        (["prune", "--older-than", "soon"], 2, "error: --older-than: expected a duration such as 30s"),
        (["export", "-o", "no/such/folder/x"], 1, "error: no/such/folder/x: No such file or directory"),
        (["export", "-f", "xml"], 2, "'xml' is not one of"),
        (["demo", "--epochs", "0"], 2, "--epochs"),
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


COMMANDS = (
    *("ls", "show", "spans", "events", "alerts", "query", "export"),
    *("watch", "plot", "compare", "report", "ab", "lineage"),
    *(
        "run",
        "stop",
        "pause",
        "resume",
        "recover",
        "prune",
        "demo",
        "import",
        "serve",
        "sink",
        "ci",
        "doctor",
        "config",
    ),
    *("dashboards", "rules"),
)

#: Those that have commands of their own.
GROUPS = ("config", "dashboards", "import", "lineage", "rules")
TWO_WORDS = (
    *("config check", "config schema", "dashboards build", "rules build"),
    *("lineage show", "lineage blame"),
    *("import tensorboard", "import wandb", "import mlflow", "import trackio"),
)


def test_the_commands_and_their_order(cli: Cli) -> None:
    """What looks, what changes something, what judges; without a command, all are listed."""
    listed = re.findall(r"^│ ([a-z]+) ", cli().out, flags=re.M)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("command", [*(name for name in COMMANDS if name not in GROUPS), *TWO_WORDS])
def test_help_has_an_example(command: str, cli: Cli) -> None:
    """Every command's help shows a call of it."""
    answer = cli(*command.split(), "-h")
    assert answer.code == 0
    assert re.search(rf"Examples?:\s+entrenar-otel {command}", answer.out)


def test_the_console_script() -> None:
    """Version, exit code of a wrong query without a traceback, and a pipe that closes early."""
    Monitor("r", lake="lake", quiet=True).start().close()
    assert shell("entrenar-otel --version") == (0, f"entrenar-otel {__version__}\n", "")
    wrong = shell("entrenar-otel query --lake lake 'SELECT * FORM metrics'")
    assert (wrong.code, wrong.out, wrong.err.count("Traceback")) == (2, "", 0)
    assert wrong.err.startswith('error: Parser Error: syntax error at or near "metrics"\n')
    for form in ("csv", "json"):
        sql = "SELECT * FROM range(200000)"
        cut = shell(f"entrenar-otel query --lake lake -f {form} '{sql}' | head -c 3")
        assert cut == (0, {"csv": "ran", "json": "[\n "}[form], "")


@pytest.mark.parametrize("arguments", [["query", "SELECT 1", "-f", "csv"], ["query", "SELECT 1"], ["ls"]])
def test_nobody_reads_on(arguments: list[str]) -> None:
    """It ends as by SIGPIPE, and says nothing: 1 would be that something is not there."""
    Monitor("r", lake="lake", quiet=True).start().close()
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "entrenar_otel.cli.main", *arguments, "--lake", "lake"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=100)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_completion_of_the_shell() -> None:
    """The script that bash loads, and what it answers to the beginning of a command and of an option."""

    def complete(words: str) -> list[str]:
        place = str(len(words.split()) - 1)
        answer = shell(
            "entrenar-otel", _ENTRENAR_OTEL_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=place
        )
        return answer.out.split()

    script = shell("entrenar-otel", _ENTRENAR_OTEL_COMPLETE="source_bash").out
    assert "complete -o default -F _entrenar_otel_completion entrenar-otel" in script
    assert complete("entrenar-otel sh") == ["show"]
    assert complete("entrenar-otel query --f") == ["--format"]
    assert complete("entrenar-otel export --format p") == ["prometheus", "parquet"]
