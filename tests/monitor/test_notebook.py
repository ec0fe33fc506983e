"""Notebook: a run, its statistics, the answer to a query and the progress, as a cell shows them."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from entrenar_otel import Lake, Monitor
from entrenar_otel.lake.tables.html import table_html

#: What must never arrive as markup, nor as what steers a terminal.
MARKUP = "<script>alert('x')</script>&\x1b[31m\u202e"
#: What curves are drawn with.
DRAWN = {"div", "svg", "text", "line", "path", "circle", "title"}


def tags_in(html: str) -> set[str]:
    return {tag.split()[0] for tag in re.findall(r"</?(\w[^>]*)>", html)}


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """IPython, as in a kernel: `get_ipython()` is it."""
    shell = InteractiveShell.instance()
    setattr(shell, "kernel", object())  # noqa: B010 - IPython's own type has none
    yield shell
    InteractiveShell.clear_instance()
    for prompt in ("ps1", "ps2", "ps3"):  # by which Python's own prompt is known
        if hasattr(sys, prompt):
            delattr(sys, prompt)


def test_a_run_and_its_statistics() -> None:
    """A table with a row per series; every text is escaped."""
    with Monitor(f"r{MARKUP}", lake="lake", quiet=True, model_id=f"m{MARKUP}", version="<b>1") as monitor:
        monitor.log({"loss": 0.5, f"odd{MARKUP}": math.nan}, tags={"<i>": MARKUP})
        shown = monitor._repr_html_(), monitor.summary()._repr_html_()
        assert isinstance(monitor.summary(), dict)
    for html in (*shown, monitor._repr_html_()):
        assert tags_in(html) - DRAWN == {"table", "caption", "thead", "tbody", "tr", "th", "td"} - (
            set() if "<caption>" in html else {"caption"}
        )
        assert ">0.5</td>" in html
        assert "&lt;script&gt;" in html
        assert not re.search(r"[\x1b\u202e]", html)
    assert ", recording, " in shown[0]
    assert ", ended, " in monitor._repr_html_()
    assert "<td" not in Monitor._disabled("off")._repr_html_()


def test_one_statistic_of_one_metric() -> None:
    with Monitor("r", lake="lake", quiet=True) as monitor:
        monitor.log(loss=0.25)
        assert ">0.25</td>" in monitor.summary("loss")._repr_html_()


def test_an_answer() -> None:
    """Numbers, nothing, maps and times; of many rows the first, and how many there are."""
    with Monitor("r", lake="lake", quiet=True, config={"a": MARKUP}) as monitor:
        for step in range(60):
            monitor.log(loss=step / 8, step=step, tags={"k": MARKUP})
    table = Lake("lake").query("SELECT *, NULL AS none, now() - now() AS i FROM metrics ORDER BY seq")
    html = table_html(table)
    assert html.count("<tr>") == 51
    assert html.endswith("<p>… 10 more rows</p>")
    assert "&lt;script&gt;" in html
    assert tags_in(html) == {"table", "thead", "tbody", "tr", "th", "td", "p"}
    assert "00:00:00</td>" in html
    assert "<script>" not in table_html(Lake("lake").query("SELECT config FROM runs"))


def test_a_cell_shows_an_answer_as_a_table(shell: InteractiveShell) -> None:
    """Unless somebody has said how Arrow tables are shown."""
    formatter: Any = shell.display_formatter
    with Monitor("r", lake="lake", quiet=True) as monitor:
        monitor.log(loss=0.5)
        table = monitor.query("SELECT value FROM metrics")
    assert "<td" in formatter.format(table)[0]["text/html"]
    formatter.formatters["text/html"].for_type(pa.Table, lambda _: "mine")
    assert formatter.format(monitor.query("SELECT 1"))[0]["text/html"] == "mine"


def test_progress_stays_in_its_place(shell: InteractiveShell, wait_until: Any) -> None:
    """One output, which is updated, and no line per minute; what is in it is escaped."""
    settings: dict[str, Any] = {"lake": "lake", "settings_file": None, "interval_seconds": 0.01}
    with capture_output() as captured, Monitor("r", **settings) as monitor:
        for _ in monitor.epochs(1):
            for step in monitor.steps(range(3)):
                monitor.log({"loss": 0.25}, tags={"split": "<b>"})
                wait_until(lambda step=step: len(captured._outputs) > step + 1)
    first, *later = captured._outputs
    assert not first.get("update")
    assert later
    assert all(one["update"] for one in later)
    assert len({one["transient"]["display_id"] for one in captured._outputs}) == 1
    last = later[-1]["data"]
    assert re.match(r"epoch 1/1 · batch 3/3 · .* loss \(<b>\) 0.25$", last["text/plain"])
    assert last["text/html"] == f"<pre>{last['text/plain'].replace('<b>', '&lt;b&gt;')}</pre>"
    assert "epoch 1/1" not in captured.stderr


def test_progress_is_in_the_cell_of_the_loop(shell: InteractiveShell, wait_until: Any) -> None:
    """A cell that only looks gets no line; a loop in another cell has one of its own there."""
    settings: dict[str, Any] = {"lake": "lake", "settings_file": None, "interval_seconds": 0.01}
    with capture_output() as captured, Monitor("r", **settings) as monitor:
        outputs = captured._outputs
        for _ in monitor.steps(range(3)):
            monitor.log(loss=0.25)
        before = len(outputs)
        shell.execution_count += 1
        for _ in range(3):
            monitor.flush()
        assert all(one["update"] for one in outputs[before:])
        for _ in monitor.steps(range(1)):
            monitor.log(loss=0.5)
            wait_until(lambda: any(not one.get("update") for one in outputs[before:]))
    assert len({one["transient"]["display_id"] for one in outputs}) == (2 if before else 1)


def test_a_quiet_run_shows_nothing(shell: InteractiveShell) -> None:
    with capture_output() as captured:
        with Monitor("r", lake="lake", quiet=True, settings_file=None, interval_seconds=0.01) as monitor:
            for _ in monitor.steps(range(3)):
                monitor.log(loss=0.25)
            monitor.flush()
        assert (captured._outputs, captured.stdout, captured.stderr) == ([], "", "")


KERNEL = """
from traitlets.config import Config
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance(config=Config(IPKernelApp={"parent_appname": "x"}))
from entrenar_otel import Monitor
with Monitor("r", lake="lake", quiet=True, settings_file=None) as monitor:
    monitor.log(loss=0.5)
    print(monitor.query("SELECT value FROM metrics").to_pylist())
"""


def test_a_query_in_a_kernel_without_widgets() -> None:
    """Where DuckDB refuses to be told of its progress bar: it takes us for Jupyter."""
    done = subprocess.run([sys.executable, "-c", KERNEL], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[{'value': 0.5}]\n"), done.stderr
