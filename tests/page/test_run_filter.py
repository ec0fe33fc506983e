"""The filter of the page and that of `ls` are one language: the same runs, whatever is asked."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.lake.run_filter import RunFilter, facts_of_run

PAGE = Path(__file__).parents[2] / "page"
ESBUILD = PAGE / "node_modules" / ".bin" / "esbuild"
SCRIPT = """
import { Filter } from "./run_filter";
import { meets } from "./table";
import { readFileSync } from "node:fs";
const { runs, filters } = JSON.parse(readFileSync(0, "utf8"));
const chosen = filters.map((text) => {
  const filter = new Filter(text);
  return runs.filter((run) => meets(run, filter)).map((run) => run.run_id);
});
console.log(JSON.stringify({ chosen, refused: filters.map((text) => new Filter(text).refusal !== "") }));
"""


def _run(run_id: str, config: dict[str, Any] | None, **more: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "run_id": run_id, "config": config, "state": "completed", "model_id": None, "host": "node-1",
        "started_at": "2026-11-29T10:00:00+00:00", "ended_at": "2026-11-29T10:02:00+00:00", "loss": 0.5,
        "alerts": 0, "first_alert": None, "seconds": 120.0,
    }  # fmt: skip
    return known | more


RUNS = [
    _run("a", {"lr": 0.1, "optimizer": "AdamW", "deep": {"size": 3}, "amp": True, "sizes": [1, 2]}),
    _run("b", {"lr": 1e-7, "optimizer": "sgd", "seed": "07"}, state="crashed", model_id="ViT", loss=None),
    _run("c", {"lr": 10, "note": "a or b"}, alerts=3, first_alert="LossDiverged", loss="NaN"),
    _run("run:d", None, started_at="2026-11-30T10:00:00+00:00", host=None, loss=1e300),
    _run("e-0.1", {"clip": "Infinity", "none": None, "lr": 1.5e21}, model_id="vit-large"),
]
FILTERS = {
    "": "a b c run:d e-0.1",
    "crashed vit": "b",
    "VIT": "b e-0.1",
    "lr>0.01": "a c e-0.1",
    "lr > 0.01 and lr<=10": "a c",
    "lr = 1e-7": "b",
    "lr=.1": "a",
    "lr!=0.1": "b c e-0.1",
    "lr=high": "",
    "lr!=high": "a b c e-0.1",
    "config.lr=10": "c",
    "optimizer=adamw": "a",
    "optimizer:sgd": "b",
    "deep.size>=3": "a",
    "amp=true": "a",
    "amp>0": "a",
    "sizes=[1,2]": "a",
    "[1,2]": "a",
    "seed=7": "b",
    "alerts>0": "c",
    "alerts=0 state!=crashed": "a run:d e-0.1",
    "lossdiverged": "c",
    "loss<0.6": "a e-0.1",
    "loss>1": "c run:d",
    "started>2026-11-29t12": "run:d",
    "host=node-1 took>=120 model=vit": "b",
    "none=1": "",
    "run=run:d": "run:d",
    "run:d": "",
    "unknown>1": "",
    "0.1": "a e-0.1",
    "clip=infinity": "e-0.1",
    "lr=1.5e+21": "e-0.1",
    "< >": "",
    "lr=": "a b c e-0.1",
}
#: What only SQL has.
OF_SQL = (
    "lr > 1 OR lr < 0.1",
    "optimizer = 'sgd'",
    "model IS NOT NULL",
    "config.lr::DOUBLE > 1",
    "took<9 -- x",
)


def _chosen(text: str) -> list[str]:
    words = RunFilter(text)
    chosen = []
    for run in RUNS:
        loss = {"NaN": float("nan")}.get(run["loss"], run["loss"])
        if words.meets(*facts_of_run(run, loss)):
            chosen.append(run["run_id"])
    return chosen


@pytest.mark.parametrize(("text", "expected"), FILTERS.items())
def test_who_meets_it(text: str, expected: str) -> None:
    assert _chosen(text) == expected.split()
    assert not RunFilter(text).is_sql


@pytest.mark.parametrize("text", OF_SQL)
def test_what_is_sql(text: str) -> None:
    assert RunFilter(text).is_sql


def test_the_page_has_the_same_language(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not ESBUILD.exists():
        pytest.skip("NOT TESTED HERE: the page's filter, it needs node, and `npm ci` in page/")
    filters = [*FILTERS, *OF_SQL]
    bundle = tmp_path / "filter.mjs"
    subprocess.run(
        [ESBUILD, "--bundle", "--loader=ts", "--format=esm", "--platform=node", f"--outfile={bundle}"],
        input=SCRIPT, cwd=PAGE / "src", check=True, capture_output=True, text=True,
    )  # fmt: skip
    asked = json.dumps({"runs": RUNS, "filters": filters})
    done = subprocess.run([node, bundle], input=asked, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert dict(zip(filters, told["chosen"], strict=True)) == {text: _chosen(text) for text in filters}
    assert told["refused"] == [text in OF_SQL for text in filters]
