"""The built page is what page/ makes, and asks nobody else for anything."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from entrenar_otel.page.static_files import NAMES, static_files

PAGE = Path(__file__).parents[2] / "page"


def test_it_is_of_todays_sources(tmp_path: Path) -> None:
    """Built again, byte by byte."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("THE PAGE WAS NOT BUILT AGAIN: there is no node")
    if not (PAGE / "node_modules" / "esbuild").exists():
        pytest.skip("THE PAGE WAS NOT BUILT AGAIN: run `npm ci` in page/")
    done = subprocess.run([node, PAGE / "build.mjs", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert built == {name: file.body for name, file in static_files().items()}


def test_it_asks_nobody_else() -> None:
    """No address but those of names in XML and of licences."""
    for name in NAMES:
        text = static_files()[name].body.decode()
        found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"'`)]*", text))
        known = {"http://www.w3.org/2000/svg", "https://github.com/leeoniya/uPlot"}
        assert {one for one in found if not any(one.startswith(each) for each in known)} == set(), name


def test_nothing_makes_markup_of_a_text() -> None:
    """Neither ours nor what is bundled; scripts and styles stand in files."""
    script = static_files()["app.js"].body.decode()
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert sink not in script, sink
    assert not re.search(r"\son\w+=", static_files()["index.html"].body.decode())
