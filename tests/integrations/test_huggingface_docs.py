"""The examples of docs/integrations/huggingface.md and of the README, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from entrenar_otel.lake import Lake

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "integrations" / "huggingface.md"


def blocks_of(document: Path) -> list[str]:
    return re.findall(
        r"^```python\n(.*?)^```$", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    )


def run(code: str, folder: Path) -> str:
    """Run it as a script in an empty folder; returns what it printed."""
    script = folder / "example.py"
    script.write_text(code, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "ENTRENAR_LAKE"}
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={**environment, "ENTRENAR_LIVE": str(folder / "live")},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def counts(folder: Path) -> dict[str, int]:
    sql = "SELECT metric || coalesce(' ' || tags['split'], '') AS name, count(*) AS n FROM metrics GROUP BY 1"
    rows = Lake(str(folder / "entrenar-lake"), folder / "live").query(sql).to_pylist()
    return {row["name"]: row["n"] for row in rows}


def test_the_page(tmp_path: Path) -> None:
    trained, asked, accelerated = blocks_of(PAGE)
    assert "pyarrow.Table" in run(f"{trained}\n{asked}", tmp_path)
    found = counts(tmp_path)
    assert (found["loss"], found["loss validation"], found["samples"]) == (8, 2, 8)
    other = tmp_path / "accelerate"
    other.mkdir()
    run(accelerated, other)
    found = counts(other)
    assert (found["loss"], found["step_duration"], found["data_wait"]) == (16, 16, 16)


def test_the_readme(tmp_path: Path) -> None:
    """Five lines, given a model, its arguments and data."""
    (example,) = [block for block in blocks_of(ROOT / "README.md") if "integrations.huggingface" in block]
    assert len(example.strip().splitlines()) == 5
    given = blocks_of(PAGE)[0].partition("trainer = ")[0]
    run(given.replace(', eval_strategy="epoch"', "") + example, tmp_path)
    assert counts(tmp_path)["loss"] == 8
