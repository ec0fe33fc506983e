"""Post-mortems of runs in every state: sound, crashed, killed, running, empty, pruned, of a sink, huge."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from entrenar_processors.config.models import parse_config

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.errors import ConfigError, RunError
from entrenar_otel.lake import Lake
from entrenar_otel.report import PostMortem, postmortem
from entrenar_otel.sink.storing.records import WITHHELD


def monitor_in(folder: Path, run_id: str = "run-1", **settings: Any) -> Monitor:
    return Monitor(run_id, lake=folder / "lake", live=folder / "live", quiet=True, **settings)


def learn(monitor: Monitor, steps: int = 120) -> None:
    """A loss that falls, with its validation."""
    random = np.random.default_rng(1)
    for step in range(steps):
        loss = 2.0 * np.exp(-step / 30) + 0.1 + 0.01 * random.normal()
        monitor.log(loss=loss, gradient_norm=loss / 2, step=step)
        if step % 10 == 9:
            monitor.log(loss=loss + 0.05, step=step, tags={"split": "validation"})


class Page(HTMLParser):
    """What is in a page: tags, attributes, text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def sections_of(report: PostMortem) -> list[str]:
    return [section.title for section in report.document.sections]


def test_a_run_that_learned(tmp_path: Path) -> None:
    """Three sentences, and what was run; everything is in both forms."""
    with monitor_in(tmp_path, model_id="digits", version="1.2.0", config={"lr": 0.1}) as monitor:
        learn(monitor)
    report = monitor.generate_postmortem()
    assert report.causes == ()
    assert report.summary[0].startswith("Run run-1 (digits 1.2.0) completed at step 119 after ")
    assert report.summary[1] == "Nothing that was recorded speaks for a fault."
    assert report.summary[2] == "What to do: train longer: the loss was still falling when it ended."
    assert {"Likely causes", "Curves", "Convergence", "What happened when", "What was run"} <= set(
        sections_of(report)
    )
    for text in (report.markdown(), Page(report.html()).text):
        for told in ("digits 1.2.0", '"lr": 0.1', "validation loss", "Mann–Kendall"):
            assert told in text


def test_what_was_installed(tmp_path: Path) -> None:
    """Where the run has noted it, which takes it a moment."""
    with monitor_in(tmp_path) as monitor:
        learn(monitor, 10)
    facts = monitor.generate_postmortem().facts
    known = {"platform": "Linux-6", "packages": {"torch": "2.13", "numpy": "2.4"}}
    for environment, told in (
        (known, "numpy 2.4, torch 2.13"),
        ({}, "Installed packages were not recorded."),
    ):
        report = postmortem(tmp_path / "lake", "run-1")
        report = replace(report, facts=replace(facts, environment=environment))
        assert told in report.markdown()


def test_a_configuration_that_stayed_on_its_host(tmp_path: Path) -> None:
    """As the records of a sink have it."""
    with monitor_in(tmp_path) as monitor:
        learn(monitor, 10)
    report = monitor.generate_postmortem()
    records = [{**row, "config": json.dumps(WITHHELD)} for row in report.facts.records]
    text = replace(report, facts=replace(report.facts, records=records)).markdown()
    assert "It stayed on the run's host" in text
    assert '"withheld"' not in text


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    """It says how far it is."""
    with monitor_in(tmp_path) as monitor:
        learn(monitor)
        report = monitor.generate_postmortem()
        assert report.summary[0].startswith("Run run-1 is running, ")
    assert "step 119" in report.summary[0]


def test_a_run_that_raised(tmp_path: Path) -> None:
    """The exception is the first cause, whatever the curves say."""
    monitor = monitor_in(tmp_path)

    def fail() -> None:
        with monitor:
            learn(monitor)
            raise ZeroDivisionError("no batches left")

    with pytest.raises(ZeroDivisionError):
        fail()
    report = monitor.generate_postmortem()
    assert report.causes[0].name == "exception"
    assert "ZeroDivisionError" in report.causes[0].summary
    assert report.summary[0].startswith("Run run-1 crashed at step 119")


def test_a_run_that_was_killed(tmp_path: Path) -> None:
    """It said nothing itself, and nothing else is claimed."""
    code = (
        "import os, signal\nfrom entrenar_otel import Monitor\n"
        "monitor = Monitor('run-1', lake='lake', live='live', quiet=True)\n"
        "for step in range(60): monitor.log(loss=2.0 * 0.97**step, step=step)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, timeout=100)
    lake = Lake(tmp_path / "lake", tmp_path / "live")
    lake.recover()
    report = postmortem(lake, "run-1")
    assert [cause.name for cause in report.causes] == ["killed"]
    assert report.summary[0].startswith("Run run-1 crashed at step 59")
    assert "out-of-memory killer" in report.summary[2]


def test_an_empty_run(tmp_path: Path) -> None:
    """Nothing was recorded, which is said."""
    with monitor_in(tmp_path) as monitor:
        pass
    report = monitor.generate_postmortem()
    assert "recorded no metrics" in report.summary[0]
    assert report.summary[2] == "What to do: log the loss: monitor.log(loss=…)."
    assert "<svg" not in report.html()
    assert report.markdown()


def test_a_pruned_run(tmp_path: Path) -> None:
    """Only means and summaries are left: it is said, and judged all the same."""
    with monitor_in(tmp_path) as monitor:
        learn(monitor, 4000)
    lake = Lake(tmp_path / "lake", tmp_path / "live")
    lake.recover()
    assert lake.prune(timedelta(0))
    report = postmortem(lake, "run-1")
    assert "pruned: means of the curves are left" in report.markdown()
    assert report.causes == ()
    assert report.learning.loss is not None


def test_several_attempts(tmp_path: Path) -> None:
    """Both are in the timeline."""
    for _ in range(2):
        with monitor_in(tmp_path) as monitor:
            learn(monitor, 40)
    text = postmortem(tmp_path / "lake", "run-1").markdown()
    assert "attempt 1 started" in text
    assert "attempt 2 ended: completed" in text


def test_ten_thousand_metrics(tmp_path: Path) -> None:
    """The report stays short: the rest is counted."""
    names = {f"layer_{at}/norm": 1.0 for at in range(10_000)}
    with monitor_in(tmp_path) as monitor:
        for step in range(3):
            monitor.log({name: value + step for name, value in names.items()}, step=step)
        learn(monitor)
    report = monitor.generate_postmortem()
    assert "… and 9,953 more." in report.markdown()
    assert len(report.html()) < 200_000


def test_names_steer_nothing(tmp_path: Path) -> None:
    """Whatever a name has in it is text: no tag, no link, no column, no escape."""
    odd = "<script>alert(1)</script>|`x`\x1b[31m"
    with monitor_in(
        tmp_path, run_id="<img src=x onerror=alert(1)>", config={odd: "</pre><script>"}
    ) as monitor:
        for step in range(60):
            monitor.log({odd: step, "loss": 1.0 / (step + 1)}, step=step)
        monitor.event("training.warning", severity="WARNING", body="<b>```\n# loud</b>")
    report = monitor.generate_postmortem()
    page = Page(report.html())
    assert not {"script", "img", "b", "a", "link", "iframe"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "alert(1)" in page.text
    assert "default-src 'none'" in report.html()
    assert not {"src", "href", "action"} & {name for name, _ in page.attributes}
    assert "url(" not in report.html()
    text = report.markdown()
    assert "\x1b" not in text + report.html()
    outside = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.M | re.S)
    assert not re.search(r"(?<!\\)<", outside)
    bars = [len(re.findall(r"(?<!\\)\|", row)) for row in outside.splitlines()]
    assert all(one == other for one, other in itertools.pairwise(bars) if one and other), outside


def test_a_secret_is_in_no_report(tmp_path: Path) -> None:
    """Nor in what the run was given, nor in what was raised."""
    monitor = monitor_in(tmp_path, config={"api_key": "hunter2"})

    def fail() -> None:
        with monitor:
            learn(monitor, 10)
            raise ValueError("cannot reach https://me:hunter2@example.com/x")

    with pytest.raises(ValueError, match="hunter2"):
        fail()
    report = monitor.generate_postmortem()
    assert "hunter2" not in report.markdown() + report.html() + json.dumps(report.as_dict())


def test_alerts_and_what_was_done(tmp_path: Path) -> None:
    """An alert of a limit that stopped the run: in the timeline with its action, and a cause."""
    (tmp_path / "renacer.toml").write_text(
        '[[monitor.threshold]]\nname = "cap"\nmetric = "temperature"\nmax = 90\naction = "stop"\n'
    )
    monitor = monitor_in(tmp_path, settings_file=tmp_path / "renacer.toml", interval_seconds=0.01)

    def train() -> None:
        with monitor:
            for step in range(100_000_000):
                monitor.log(loss=1.0 / (1 + step), temperature=50.0 + step, step=step)

    with pytest.raises(AndonStop, match="temperature"):
        train()
    report = monitor.generate_postmortem()
    assert report.causes[0].name == "threshold_exceeded"
    rows = [row for row in report.markdown().splitlines() if row.startswith("|") and "temperature" in row]
    assert any("stop" in row for row in rows), rows


def test_budgets_are_judged(tmp_path: Path) -> None:
    """Where a renacer.toml is given."""
    with monitor_in(tmp_path) as monitor:
        learn(monitor, 20)
    given = {"assertion": [{"name": "few spans", "type": "span_count", "max_spans": 0}]}
    text = postmortem(tmp_path / "lake", "run-1", parse_config(given)).markdown()
    assert "| few spans | violated |" in text


def test_the_parent_version(tmp_path: Path) -> None:
    """What became better, and which settings differ."""
    with monitor_in(tmp_path, "a", model_id="digits", version="1.0.0", config={"lr": 0.1}) as first:
        learn(first, 60)
    with monitor_in(
        tmp_path,
        "b",
        model_id="digits",
        version="1.1.0",
        config={"lr": 0.3},
        parents=["digits@1.0.0"],
        change="tune",
    ) as second:
        learn(second, 120)
    report = second.generate_postmortem()
    (parent,) = report.parents
    assert (parent.version, parent.change, parent.run_id) == ("digits@1.0.0", "tune", "a")
    assert parent.metrics["loss"][1] < parent.metrics["loss"][0]
    assert parent.config == {"lr": (0.1, 0.3)}
    assert "The parent is digits@1.0.0 (change: tune), made by run a." in report.markdown()
    assert first.generate_postmortem().parents == ()


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    """And a file of an unknown kind."""
    with monitor_in(tmp_path) as monitor:
        learn(monitor, 10)
    with pytest.raises(RunError, match="no run 'other' in"):
        postmortem(tmp_path / "lake", "other")
    report = monitor.generate_postmortem(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == report.html()
    with pytest.raises(ConfigError, match=r"ends with .md or .html, got 'x.pdf'"):
        report.save("x.pdf")
