"""One file with the runs inside: what is in it, and what a name in it cannot do."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from entrenar_otel.lake import Lake
from entrenar_otel.page.wire import decode
from tests.page.conftest import HOSTILE, Cli, record
from tests.page.long_run import values_of, write_long_run

Block = dict[str, object]


def _opened(text: str) -> tuple[Block, bytes]:
    found = re.search(r'<script id="data" type="application/octet-stream">([A-Za-z0-9+/=]+)</script>', text)
    assert found
    body = gzip.decompress(base64.b64decode(found[1]))
    length = int.from_bytes(body[:4], "little")
    return json.loads(body[8 : 8 + length]), body[8 + length :]


def test_all_values_are_in_it(lake: Lake, cli: Cli) -> None:
    assert cli("plot", "first", "-o", "run.html").out == "run first drawn in run.html\n"
    packed, rest = _opened(Path("run.html").read_text())
    curves = packed["curves"]
    assert isinstance(curves, list)
    one = next(each for each in curves if (each["metric"], each["axis"]) == ("loss", "step"))
    header, lines = decode(rest[one["start"] : one["start"] + one["length"]])
    assert header["lines"][0]["run"] == "first"
    np.testing.assert_array_equal(lines[0][1], lake.curve("loss", "first")["value"].to_numpy())
    assert packed["hash"] == "run=first&x=step"
    assert packed["about"]["lake"] == Path(lake.url).name != lake.url  # type: ignore[index]


def test_only_its_own_script_runs(lake: Lake, cli: Cli) -> None:
    """The policy names the digests of the script and the style; no name stands in the text."""
    cli("plot", HOSTILE, "-o", "run.html")
    text = Path("run.html").read_text()
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    (style,) = re.findall(r"<style>(.*?)</style>", text, flags=re.S)
    for part in (script, style):
        digest = base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in text.partition("<style>")[0]
    assert "unsafe" not in text.partition("<style>")[0]
    assert "owned" not in text
    assert text.count("<script") == 2
    packed, _ = _opened(text)
    assert HOSTILE in json.dumps(packed, ensure_ascii=False).replace('\\"', '"')


def test_some_metrics(lake: Lake, cli: Cli) -> None:
    cli("plot", "first", "second", "-m", "accuracy", "-o", "two.html")
    packed, _ = _opened(Path("two.html").read_text())
    curves = packed["curves"]
    assert isinstance(curves, list)
    assert {one["metric"] for one in curves} == {"accuracy"}
    assert [*Path().glob(".two*")] == []
    missing = cli("plot", "first", "-m", "nothing", "-o", "none.html")
    assert missing.code != 0
    assert not Path("none.html").exists()


def test_a_folder_that_is_not_there(lake: Lake, cli: Cli) -> None:
    answer = cli("plot", "first", "-o", "nowhere/run.html")
    assert answer.code != 0
    assert "nowhere" in answer.err


@pytest.mark.parametrize("name", ["RUN.HTML", "a b.html"])
def test_names_of_files(lake: Lake, cli: Cli, name: str) -> None:
    assert cli("plot", "first", "-o", name).code == 0
    assert Path(name).read_text().startswith("<!doctype html>")


def test_all_ranks_are_in_it(cli: Cli) -> None:
    """Each with its values; of a run with very many, the lowest; what is not in it, it says."""
    for rank in range(3):
        write_long_run(Lake("lake"), "ranks", np.full(50, 10.0 * rank), rank=rank)
    record("alone")
    cli("plot", "ranks", "alone", "-o", "ranks.html")
    packed, rest = _opened(Path("ranks.html").read_text())
    facts, curves = packed["facts"], packed["curves"]
    assert isinstance(facts, list)
    assert isinstance(curves, list)
    assert sorted((one["run"], one["rank"]) for one in facts) == [
        ("alone", 0), ("ranks", 0), ("ranks", 1), ("ranks", 2),
    ]  # fmt: skip
    for one in curves:
        if (one["metric"], one["axis"]) == ("loss", "step"):
            header, lines = decode(rest[one["start"] : one["start"] + one["length"]])
            its = [line["run"] for line in header["lines"]]
            np.testing.assert_array_equal(lines[its.index("ranks")][1], np.full(50, 10.0 * one["rank"]))
            assert ("alone" in its) == (one["rank"] == 0)
    left_out = {"thinned": 0, "curves": 5, "columns": 4096, "panels": 0, "ranks": []}
    assert packed["about"]["left_out"] == left_out  # type: ignore[index]
    cli("plot", "ranks", "--rank", "1", "-o", "one.html")
    packed, _ = _opened(Path("one.html").read_text())
    assert packed["about"]["left_out"]["ranks"] == [0, 2]  # type: ignore[index]


def test_its_size_stays_sane(lake: Lake, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    """Of a long curve the extremes; of very many curves fewer of each."""
    write_long_run(lake, "long", values_of(100_000))
    cli("plot", "long", "-o", "long.html")
    packed, _ = _opened(Path("long.html").read_text())
    told = {"thinned": 1, "curves": 1, "columns": 4096, "panels": 0, "ranks": []}
    assert packed["about"]["left_out"] == told  # type: ignore[index]
    monkeypatch.setattr("entrenar_otel.page.html_file.ALL_COLUMNS", 900)
    cli("plot", "long", "-o", "small.html")
    packed, _ = _opened(Path("small.html").read_text())
    assert packed["about"]["left_out"]["columns"] == 300  # type: ignore[index]
    curves = packed["curves"]
    assert isinstance(curves, list)
    assert max(one["length"] for one in curves) < 300 * 5 * 16 + 1000
    assert Path("small.html").stat().st_size < Path("long.html").stat().st_size
