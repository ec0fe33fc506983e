"""Progress: the line a person sees, on a terminal and in a log file."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable

import numpy as np
import pytest
from entrenar_processors import Series, Summary

from entrenar_otel import Monitor
from entrenar_otel.monitor.progress import Counts, Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def summaries() -> dict[Series, Summary]:
    found = {
        Series.of("loss"): [0.5, 0.123456],
        Series.of("loss", {"split": "validation"}): [2.0],
        Series.of("accuracy"): [0.9],
        Series.of("other"): [1.0],
    }
    return {series: _summary(values) for series, values in found.items()}


def _summary(values: list[float]) -> Summary:
    summary = Summary()
    summary.update(np.array(values))
    return summary


def screen(text: str) -> str:
    """What a terminal shows at the end: carriage return and erase-line obeyed."""
    line, at = "", 0
    for part in re.findall(r"\x1b\[2K|\r|\n|[^\x1b\r\n]+", text):
        if part == "\r":
            at = 0
        elif part == "\x1b[2K":
            line = ""
        elif part == "\n":
            line, at = "", 0
        else:
            line = line[:at] + part + line[at + len(part) :]
            at += len(part)
    return line


def test_what_the_line_says() -> None:
    """Epoch and batch from one, rate, time left, last loss and accuracy by split; nothing else."""
    counts = Counts()
    progress = Progress(summaries, counts=lambda: counts)
    assert progress.line(200) == "epoch 1 · batch 0 · loss 0.1235 · loss (validation) 2 · accuracy 0.9"
    progress.begin_epoch(1, 10)
    progress.batches, counts = 100, Counts(batch=25, steps=125)
    time.sleep(0.05)
    found = re.fullmatch(
        r"epoch 2/10 · batch 25/100 · ([\d,]+) steps/s · (\d+) s left · loss 0.1235 · .*", progress.line(200)
    )
    assert found is not None
    assert 125 / 0.5 < float(found[1].replace(",", "")) <= 125 / 0.05
    assert abs(int(found[2]) - 875 / float(found[1].replace(",", ""))) <= 0.6


def test_the_rate_counts_from_the_first_step_not_from_construction() -> None:
    """What is loaded between Monitor() and the loop is not the loop's time."""
    progress = Progress(dict, counts=lambda: Counts(steps=1000))
    time.sleep(0.3)
    progress.begin()
    time.sleep(0.01)
    found = re.search(r"([\d,]+) steps/s", progress.line(200))
    assert found is not None
    assert float(found[1].replace(",", "")) > 1000 / 0.3


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_the_line_never_wraps(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does could not be redrawn in place; whole parts go, from the end."""
    monkeypatch.setenv("COLUMNS", str(width))
    progress = Progress(summaries, counts=lambda: Counts(batch=25, steps=25))
    progress.begin_epoch(0, 10)
    progress.batches = 100
    whole, line = progress.line(1000).split(" · "), progress.line()
    assert len(line) < width
    if width >= 40:
        assert len(line.split(" · ")) >= 2
        shown = [re.sub(r"[\d,:]+", "#", part) for part in line.split(" · ")]
        assert shown == [re.sub(r"[\d,:]+", "#", part) for part in whole][: len(shown)]


def test_on_a_terminal_it_is_redrawn_in_place_and_cleared() -> None:
    """One line, never a second; afterwards the terminal is as before."""
    stream = Terminal()
    batch = 0
    progress = Progress(summaries, stream, counts=lambda: Counts(batch))
    progress.draw()
    progress.clear()
    assert stream.getvalue() == ""
    progress.begin_epoch(0, 2)
    for batch in (1, 2):
        progress.draw()
        assert screen(stream.getvalue()).startswith(f"epoch 1/2 · batch {batch} · loss 0.1235")
    assert "\n" not in stream.getvalue()
    progress.clear()
    assert screen(stream.getvalue()) == ""
    written = stream.getvalue()
    progress.clear()
    progress.draw()
    assert stream.getvalue() == written


def test_in_a_log_file_it_is_a_plain_line_now_and_then() -> None:
    """No escape sequences, and a line every `log_seconds`, not every tick."""
    stream = io.StringIO()
    progress = Progress(dict, stream, log_seconds=0.05)
    progress.begin_epoch(0, 2)
    progress.draw()
    assert stream.getvalue() == ""
    time.sleep(0.06)
    for _ in range(5):
        progress.draw()
    progress.clear()
    assert stream.getvalue() == "epoch 1/2 · batch 0\n"


@pytest.mark.parametrize("quiet", [False, True])
def test_a_run_draws_and_leaves_the_terminal_clean(
    quiet: bool, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    """The heartbeat draws while the loop runs; close() clears; a quiet run writes nothing at all."""
    last = r"epoch [12]/2 · batch 3/3 · [\d,]+ steps/s · \d s left · loss 0.25"
    stream = Terminal()
    monkeypatch.setattr("sys.stderr", stream)
    with Monitor("r", lake="lake", quiet=quiet, interval_seconds=0.01) as monitor:
        for _ in monitor.epochs(2):
            for _ in monitor.steps([1] * 3):
                monitor.log(loss=0.25)
            if not quiet:
                wait_until(lambda: re.search(last, stream.getvalue()))
    text = stream.getvalue()
    if quiet:
        assert text == ""
    else:
        assert re.search(last, text)
        assert text.startswith("entrenar: recording run r into ")
        assert screen(text) == ""
        assert "\nentrenar: run r completed; look at it with " in text.replace("\x1b[2K", "\n")
