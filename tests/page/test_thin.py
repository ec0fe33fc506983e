"""A file that opens offline thins and smooths its curves itself: as the server does, to the last point."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from entrenar_otel.page.smoothing import smoothed
from entrenar_otel.views.curve import extremes

PAGE = Path(__file__).parents[2] / "page"
ESBUILD = PAGE / "node_modules" / ".bin" / "esbuild"
SCRIPT = """
import { extremes, smoothed, place } from "./thin";
import { readFileSync } from "node:fs";
const y = new Float64Array(readFileSync(process.argv[2]!).buffer.slice(0));
const told = (values: Float64Array) => [...values].map(String);
console.log(JSON.stringify({
  kept: [7, 100, 5000].map((columns) => [...extremes(y, columns)]),
  means: [1, 3, 50].map((window) => told(smoothed(y, window))),
  places: [-1, 0, 2.5, 3, 9].map((wanted) => place(Float64Array.of(0, 1, 2, 3, 4), wanted)),
}));
"""


def test_as_the_server_does(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not ESBUILD.exists():
        pytest.skip("THE PAGE'S THINNING WAS NOT COMPARED: it needs node, and `npm ci` in page/")
    generator = np.random.default_rng(5)
    values = np.cumsum(generator.normal(size=10_007))
    values[[0, 70, 5_000, 5_001, 10_006]] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    (tmp_path / "values").write_bytes(values.tobytes())
    bundle = tmp_path / "thin.mjs"
    subprocess.run(
        [ESBUILD, "--bundle", "--platform=node", "--format=esm", "--loader=ts", f"--outfile={bundle}"],
        input=SCRIPT,
        cwd=PAGE / "src",
        check=True,
        capture_output=True,
        text=True,
    )
    done = subprocess.run([node, bundle, tmp_path / "values"], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    for columns, kept in zip((7, 100, 5000), found["kept"], strict=True):
        assert kept == extremes(values, columns).tolist()
    for window, means in zip((1, 3, 50), found["means"], strict=True):
        numbers = [float(mean) for mean in means]
        np.testing.assert_allclose(numbers, smoothed(values, window), rtol=1e-9, atol=1e-9)
    assert found["places"] == [0, 0, 3, 3, 5]
