"""The command entrenar-otel as a process: the console script, pipes, completion, a killed run, the demo."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from entrenar_otel import Monitor, __version__
from entrenar_otel.lake import Lake


class Answer(NamedTuple):
    code: int
    out: str
    err: str


def shell(line: str, **environment: str) -> Answer:
    scripts = Path(sys.executable).parent
    env = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "COLUMNS": "100"} | environment
    done = subprocess.run(["bash", "-c", line], env=env, capture_output=True, text=True, timeout=100)
    return Answer(done.returncode, done.stdout, done.stderr)


def test_recover_after_kill_9(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed run is shown as crashed at once, then brought in, row by row, and closed."""
    monkeypatch.setenv("ENTRENAR_LAKE", "lake")
    program = (
        "import os, signal; from entrenar_otel import Monitor; m = Monitor('killed', quiet=True)\n"
        "for i in range(1000): m.log(loss=i, accuracy=0.5)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == -signal.SIGKILL
    count = "entrenar-otel query -f csv 'SELECT count(*) n, sum(value) s FROM metrics'"
    assert shell(count) == (0, "n,s\n2000,500000.0\n", "")
    assert re.search(r"killed +crashed +– +\S+ \S+ +–", shell("entrenar-otel ls").out)
    assert shell("entrenar-otel recover").out == (
        "recovered 2,000 rows of run killed (attempt 1, rank 0)\n"
        "  ended 1 spans that were open when the process died\n"
    )
    assert shell("entrenar-otel recover").out.startswith("nothing to recover")
    assert shell(count).out == "n,s\n2000,500000.0\n"
    assert "the process ended without closing its run" in shell("entrenar-otel show").out
    assert list(Lake("lake").live.glob("*")) == []


def test_demo_trains_and_shows() -> None:
    """Three epochs reach 85 %, and the run, an answer in SQL and the files are shown, as JSON too.

    A second run explodes: the line stops, and why and where is shown.
    """
    done = shell("entrenar-otel demo --epochs 3")
    accuracy = re.search(r"validation accuracy (\d+\.\d)%", done.out)
    assert accuracy is not None
    assert float(accuracy[1]) > 85
    assert re.search(r"epoch +loss +spread +steps\n +0 +[\d.]+ +[\d.]+ +85\n", done.out)
    run, exploded = sorted(Lake("demo-lake").runs(), key=lambda one: one.started_at)
    assert done.out.count(run.run_id) >= 4
    assert (run.state, run.model_id) == ("completed", "digits-mlp")
    where = re.escape(f"entrenar: recording run {run.run_id} into {Path.cwd()}/demo-lake")
    assert re.match(where + r"; http://localhost:\d+/metrics\n", done.err)
    assert exploded.state == "stopped"
    assert "on stop: saving a checkpoint, at batch" in done.out
    assert re.search(r"AndonStop: Training diverged: loss is inf at batch (\d+), step \1\.", done.out)
    assert re.search(r"error +(nonfinite_loss +)?Training diverged", done.out)
    assert Path(re.findall(r"incident: (.+)", done.out)[-1], "window.parquet").exists()
    assert re.search(r"^training_samples_total\{.*\} \d+", done.out, flags=re.M)
    assert re.search(r"^training.run +\+0 s ", done.out, flags=re.M)
    shown = json.loads(shell("entrenar-otel demo --epochs 1 --json").out)
    assert {one["metric"] for one in shown["metrics"]} >= {"loss", "accuracy", "step_duration", "samples"}


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
