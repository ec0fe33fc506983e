"""`prune`, `recover` and `demo`; `stop`, `pause` and `resume` are tried on real runs in tests/andon."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import ConfigError
from entrenar_otel.cli.commands.operate import parse_age
from entrenar_otel.lake import Lake
from entrenar_otel.lake.records.runs import COMPLETED, write_record

Cli = Callable[..., Any]


def test_prune_shows_first_and_removes_with_yes(runs: None, cli: Cli) -> None:
    """A dry run removes nothing; afterwards statistics, curves and the record are still shown."""
    assert re.fullmatch(r"nothing to prune in .*lake: no run that ended \d+d ago.*\n", cli("prune").out)
    dry = cli("prune", "--older-than", "0s", "--run", "digits-7").out
    assert re.fullmatch(
        r"would remove +([\d,]+) B  digits-7  \(ended .* UTC\)\n"
        r"1 run, \1 bytes; nothing was removed: add --yes to remove them\n",
        dry,
    )
    assert len(json.loads(cli("export", "digits-7").out)) == 42
    done = cli("prune", "--older-than", "0s", "--run", "digits-7", "--yes").out
    assert re.fullmatch(r"removed +([\d,]+) B  digits-7  \(ended .* UTC\)\n1 run, \1 bytes\n", done)
    assert cli("export", "digits-7").err.startswith("error: the full-rate rows of run digits-7 were pruned")
    assert len(json.loads(cli("export", "digits-8").out)) == 42
    shown = cli("show", "digits-7").out
    assert "rows     pruned: only statistics and down-sampled curves are left" in shown
    assert re.search(r"loss +20 +0.05 +0.1799 +0.05 .* +1  █▄▃▂▂▂▂▂▁", shown)


def test_prune_takes_every_duration(runs: None, cli: Cli) -> None:
    """Such as 1h30m, which renacer.toml takes too: a run is older from then on, and not before."""
    lake, now = Lake("lake"), datetime.now(UTC)
    for record in lake.runs():
        minutes = {"digits-7": 91, "digits-8": 89}.get(record.run_id, 0)
        write_record(lake.storage, record.ended(COMPLETED, now - timedelta(minutes=minutes)))
    pruned = json.loads(cli("prune", "--older-than", "1h30m", "--json").out)
    assert [(one["run_id"], one["removed"]) for one in pruned] == [("digits-7", False)]


@pytest.mark.parametrize(
    ("text", "hours"), [("1h30m", 1.5), ("1.5h", 1.5), ("90 m", 1.5), ("7d", 168), ("0s", 0), (" 4w ", 672)]
)
def test_ages(text: str, hours: float) -> None:
    """As a person types them."""
    assert parse_age(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["soon", "7", "9" * 30 + "w"])
def test_what_is_no_age(text: str) -> None:
    """The option, what was expected and what was given."""
    with pytest.raises(ConfigError, match=rf"^--older-than: expected .*, got '{text}'$"):
        parse_age(text)


def test_recover_after_kill_9(cli: Cli) -> None:
    """A killed run is shown as crashed at once, then brought in, row by row, and closed."""
    program = (
        "import os, signal; from entrenar_otel import Monitor; m = Monitor('killed', quiet=True)\n"
        "for i in range(1000): m.log(loss=i, accuracy=0.5)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == -signal.SIGKILL
    count = ("query", "-f", "csv", "SELECT count(*) n, sum(value) s FROM metrics")
    assert cli(*count) == (0, "n,s\n2000,500000.0\n", "")
    assert re.search(r"killed +crashed +999 +– +\S+ \S+ +–", cli("ls").out)
    assert cli("recover").out == (
        "recovered 2,000 rows of run killed (attempt 1, rank 0)\n"
        "  ended 1 span that was open when the process died\n"
    )
    assert cli("recover").out.startswith("nothing to recover")
    assert cli(*count).out == "n,s\n2000,500000.0\n"
    assert "the process ended without closing its run" in cli("show").out
    assert list(Lake("lake").live.glob("*")) == []


def check_versions(end: str, versions: list[str]) -> None:
    """Three runs of each; which change made the last one worse is named, and where everything lies."""
    assert versions == ["1.0.0"] * 3 + ["1.1.0"] * 3 + ["1.2.0"] * 3
    assert (
        "digits@1.1.0 → digits@1.2.0 (tune_hyperparams): accuracy 0.9585 → 0.8444 (−11.9 %), p = 0.043" in end
    )
    assert "configuration: learning_rate 0.05 → 0.004" in end
    here = Path.cwd()
    assert end.splitlines()[-3:] == [
        f"the graph: {here}/demo-lineage.svg",
        f"the report: {here}/demo-report.html",
        f"the comparison: {here}/demo-comparison.md",
    ]
    assert "tune_hyperparams" in Path("demo-lineage.svg").read_text()
    assert "Compared with the parent version" in Path("demo-report.html").read_text()
    assert re.search(r"\| accuracy validation \| 0.9585 \| 0.8444 \|", Path("demo-comparison.md").read_text())


def test_demo_trains_and_shows(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three epochs reach 85 %, and the run, an answer in SQL and the files are shown, as JSON too.

    A second run explodes: the line stops, and why and where is shown.
    """
    monkeypatch.delenv("ENTRENAR_LAKE")
    for name in ("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_PROMETHEUS_PORT"):
        monkeypatch.setenv(name, "")  # so that what the demo sets is taken back
        monkeypatch.delenv(name)
    done = cli("demo", "--epochs", "3")
    accuracy = re.search(r"validation accuracy (\d+\.\d)%", done.out)
    assert accuracy is not None
    assert float(accuracy[1]) > 85
    assert re.search(r"epoch +loss +spread +steps *\n +0 +[\d.]+ +[\d.]+ +85 *\n", done.out)
    run, exploded, *versions = sorted(Lake("demo-lake").runs(), key=lambda one: one.started_at)
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
    _, _, end = done.out.partition(f"watch {run.run_id} --once")
    assert re.search(r"loss ━ train [\d.e-]+ ━ val(idation)? [\d.]+ +accuracy ━ train", end)
    assert f"the same as a picture: {Path.cwd()}/demo.png\n" in end
    check_versions(end.partition("three versions of a model")[2], [one.version or "" for one in versions])
    assert Path("demo.png").read_bytes().startswith(b"\x89PNG")
    Path("demo.png").unlink()
    Path("demo.png").mkdir()  # a place where none can be written
    for rest in ("show_explosion", "show_versions"):
        monkeypatch.setattr(f"entrenar_otel.cli.demo.{rest}", lambda *_: None)
    assert "there is no picture: [Errno 21] Is a directory: 'demo.png'" in cli("demo", "--epochs", "1").out
    shown = json.loads(cli("demo", "--epochs", "1", "--json").out)
    assert {one["metric"] for one in shown["metrics"]} >= {"loss", "accuracy", "step_duration", "samples"}
