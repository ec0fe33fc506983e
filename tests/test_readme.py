"""Every Python example of the README and the docs runs as it stands there, and leaves what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import claims
from entrenar_otel.lake import Lake

README = Path(__file__).parents[1] / "README.md"
ALL_BLOCKS = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), flags=re.M | re.S)
#: Those with a framework are tried where it is, in tests/integrations.
BLOCKS = [block for block in ALL_BLOCKS if "entrenar_otel.integrations" not in block]
#: What is in the lake after each: metric, tags, number of samples.
LEFT = [
    [("gradient_norm", "{}", 900), ("loss", "{}", 900), ("val/loss", "{split=validation}", 3)],
    [("loss", "{}", 300)],
    [("accuracy", "{}", 200), ("loss", "{}", 200)],
    [("val/accuracy", "{}", 2)],
    [("loss", "{split=train}", 300)],
]


def test_no_merge_is_left_open() -> None:
    """In none of the documents: conflict markers pass every other check."""
    for document in (README, README.parent / "CHANGELOG.md", *README.parent.glob("docs/**/*.md")):
        assert not re.search(r"^(<{7} |={7}$|>{7} )", document.read_text(encoding="utf-8"), flags=re.M)


def test_what_is_said_of_cost_follows_the_benchmarks() -> None:
    """Word for word: a complete run of the benchmarks writes both."""
    document = (README.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    assert readme == claims.replaced(readme, claims.cost(claims.measured(document)))
    assert readme.count(claims.BEGIN) == readme.count(claims.END) == 1


def run_example(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it as a script, in an empty folder, with warnings as errors."""
    script = folder / "example.py"
    script.write_text(code)
    return subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=folder,
        env={**os.environ, "ENTRENAR_LIVE": str(folder / "live")},
        capture_output=True,
        text=True,
        timeout=120,
    )


#: What a run says that has nothing to warn of.
SAID = re.compile(r"entrenar: (recording run |run \S+ (completed|stopped);|ALERT )")


def test_every_example_is_tried() -> None:
    """An example that is added gets a line in LEFT."""
    assert len(BLOCKS) == len(LEFT)


@pytest.mark.parametrize("number", range(len(LEFT)))
def test_an_example_runs_and_records(number: int, tmp_path: Path) -> None:
    """As a script, in an empty folder, with warnings as errors."""
    done = run_example(BLOCKS[number], tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stderr.splitlines() if not SAID.match(line)] == []
    found = Lake(tmp_path / "entrenar-lake", tmp_path / "live").query(
        "SELECT metric, CAST(tags AS VARCHAR) AS tags, count(*) AS n FROM metrics GROUP BY ALL ORDER BY 1, 2"
    )
    rows = [(row["metric"], row["tags"], row["n"]) for row in found.to_pylist()]
    assert [row for row in rows if row in LEFT[number]] == LEFT[number]
    runs = Lake(tmp_path / "entrenar-lake", tmp_path / "live").runs()
    assert {run.state for run in runs} == {"completed"}


def blocks_of(document: Path, language: str = "python") -> list[str]:
    pattern = rf"^```{language}\n(.*?)^```$"
    return re.findall(pattern, document.read_text(encoding="utf-8"), flags=re.M | re.S)


DOCS = README.parent / "docs"
#: These run elsewhere: under torchrun's environment, before a Collector, where there is Spark.
ELSEWHERE = {
    "ranks.md": "tests/andon/test_ranks.py",
    "collector.md": "tests/collector/clients/test_python.py",
    "deploy.md": "tests/lake/test_readers.py",
}
PAGES = [page for page in sorted(DOCS.glob("*.md")) if page.name not in ELSEWHERE]
EXAMPLES = [(page, i) for page in PAGES for i in range(len(blocks_of(page)))]
#: Pages whose examples go on with what those before them have made.
GO_ON = ("compare.md", "lineage.md", "serving.md")
#: What an example prints, as a pattern for each line; of those that are not here, nothing is asked.
PRINTS = {
    ("ab.md", 0): [re.escape(line) for line in blocks_of(DOCS / "ab.md", "text")[0].splitlines()],
    ("alerts.md", 0): [r"found: Spike: .* step 402", r"found: Unusual value \(page_hinkley\): .*"],
    ("alerts.md", 1): [r"Unusual value \(negative_loss\): loss is -0.5, expected 0"],
    ("alerts.md", 2): [
        "saving a checkpoint at batch 60, step 60",
        "Training diverged: loss is nan at batch 60, step 60. The last finite values were .*",
        r"loss 60 nonfinite_loss .*",
    ],
}


@pytest.mark.parametrize(("page", "i"), EXAMPLES, ids=lambda given: getattr(given, "stem", given))
def test_an_example_of_the_docs_runs(page: Path, i: int, tmp_path: Path) -> None:
    """As a script, in an empty folder, with warnings as errors, and prints what it says."""
    blocks = blocks_of(page)
    done = run_example("\n".join(blocks[: i + 1]) if page.name in GO_ON else blocks[i], tmp_path)
    assert done.returncode == 0, done.stderr
    if (patterns := PRINTS.get((page.name, i))) is not None:
        lines = done.stdout.splitlines()
        assert len(lines) == len(patterns)
        for line, pattern in zip(lines, patterns, strict=True):
            assert re.fullmatch(pattern, line)
    if (page.name, i) == ("alerts.md", 2):
        assert Path(done.stdout.split()[-1], "window.parquet").is_file()


@pytest.mark.parametrize("page", ["first-run", "sql"])
def test_the_commands_of_a_guide_work(
    page: str, tmp_path: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each `entrenar-otel …` and each statement, after the page's examples; the demo has tests of its own."""
    guide = DOCS / f"{page}.md"
    monkeypatch.delenv("ENTRENAR_LAKE")
    assert run_example("\n".join(blocks_of(guide)), tmp_path).returncode == 0
    commands = [
        shlex.split(line, comments=True)
        for block in blocks_of(guide, "bash")
        for line in block.splitlines()
        if line.startswith("entrenar-otel ") and not line.startswith("entrenar-otel demo")
    ]
    statements = [one.strip() for block in blocks_of(guide, "sql") for one in block.split(";") if one.strip()]
    commands += [["entrenar-otel", "query", "--", statement] for statement in statements]
    assert len(commands) > 3
    for command in commands:
        answer = cli(*command[1:])
        assert answer.code == 0, (command, answer.err)
