"""Warnings are seen, and nobody notices that they are."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from entrenar_otel.otel.traces.warnings_capture import MAX_PLACES, WarningCapture

Seen = list[dict[str, Any]]


class Clock:
    """Seconds that pass when told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seen() -> Seen:
    return []


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def capture(seen: Seen, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[WarningCapture]:
    monkeypatch.setattr(warnings, "showwarning", lambda *_: None)  # pytest's own is of its own kind
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        capture = WarningCapture(seen.append, clock)
        capture.install()
        yield capture
        capture.uninstall()


def log(text: str = "bad row %d", *args: object, level: int = logging.WARNING) -> None:
    logging.getLogger("data").log(level, text, *args)


def test_what_is_said_of_a_warning(capture: WarningCapture, seen: Seen) -> None:
    """Source, category or logger, level, message, place, count."""
    warnings.warn("lr is zero", RuntimeWarning, stacklevel=1)
    log("bad row %d", 7)
    log("no", level=logging.CRITICAL)
    log("quiet", level=logging.INFO)
    line = seen[0]["line"]
    assert seen == [
        {
            "source": "warnings",
            "category": "RuntimeWarning",
            "level": "WARNING",
            "message": "lr is zero",
            "file": __file__,
            "line": line,
            "count": 1,
        },
        {
            "source": "logging",
            "logger": "data",
            "level": "WARNING",
            "message": "bad row 7",
            "file": __file__,
            "line": seen[1]["line"],
            "count": 1,
        },
    ]
    assert capture.total == 3  # both logs come from one line of this file
    assert (line, seen[1]["line"]) != (0, 0)


def test_repeats_are_counted(capture: WarningCapture, seen: Seen, clock: Clock) -> None:
    """Once a minute with the count since the last time, the rest at the flush."""
    for _ in range(5):
        log("x" * 5000)
    assert [one["count"] for one in seen] == [1]
    assert len(seen[0]["message"]) == 2000
    clock.now += 61
    log()
    log()
    assert [one["count"] for one in seen] == [1, 5]
    capture.flush()
    capture.flush()
    assert [one["count"] for one in seen] == [1, 5, 1]
    assert sum(one["count"] for one in seen) == capture.total == 7


def test_limits(capture: WarningCapture, seen: Seen, clock: Clock) -> None:
    """Twenty a second, a thousand places; what is more is one number, and none is lost."""
    for number in range(100):
        warnings.warn_explicit("a", UserWarning, "file.py", number)
    assert len(seen) == 20
    for number in range(100, 2 * MAX_PLACES):
        clock.now += 0.1
        warnings.warn_explicit("a", UserWarning, "file.py", number)
    assert len({one["line"] for one in seen}) == MAX_PLACES
    for number in range(20, 30):
        warnings.warn_explicit("a", UserWarning, "file.py", number)
    capture.uninstall()
    assert seen[-1]["message"].startswith("1,0")
    assert "further warnings were only counted" in seen[-1]["message"]
    assert sum(one["count"] for one in seen) == capture.total == 2 * MAX_PLACES + 10


def test_emitting_may_warn_and_log_and_fail(clock: Clock) -> None:
    """No recursion, and no end to what is chained."""
    calls: list[str] = []

    def emit(event: dict[str, Any]) -> None:
        calls.append(event["message"])
        warnings.warn("while emitting", stacklevel=1)
        log("while emitting")
        raise OSError("disk full")

    capture = WarningCapture(emit, clock)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        capture.install()
        with pytest.raises(OSError, match="disk full"):  # under the test kit only
            log("first")
        capture.uninstall()
    assert calls == ["first"]


def test_our_own_logger_is_heard_once(capture: WarningCapture, seen: Seen, clock: Clock) -> None:
    """What we say may be about the events that this makes."""
    for _ in range(3):
        logging.getLogger("entrenar_otel").warning("export failed")
        clock.now += 100
    assert [one["count"] for one in seen] == [1]
    assert capture.total == 3


def test_odd_records(capture: WarningCapture, seen: Seen) -> None:
    """Arguments that do not fit, records from other processes, and threads."""
    logging.raiseExceptions, before = False, logging.raiseExceptions
    try:
        log("%d rows", "many")
    finally:
        logging.raiseExceptions = before
    assert seen[0]["message"].startswith("%d rows (with arguments that do not fit: ")
    record = logging.makeLogRecord({"levelno": logging.ERROR, "msg": "from elsewhere"})
    assert record.msg == "from elsewhere"
    threads = [threading.Thread(target=lambda: [log() for _ in range(100)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    capture.flush()
    assert sum(one["count"] for one in seen) == capture.total == 801


def test_hooks_of_others_stay(seen: Seen, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ours is taken out where it is still in place; under another's it stays, and only passes on."""
    shown: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_: shown.append(str(message)))
    before = warnings.showwarning, logging.getLogRecordFactory()
    capture = WarningCapture(seen.append, clock)
    capture.install()
    capture.uninstall()
    assert (warnings.showwarning, logging.getLogRecordFactory()) == before

    capture = WarningCapture(seen.append, clock)
    capture.install()
    ours, factory = warnings.showwarning, logging.getLogRecordFactory()

    def theirs(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = factory(*args, **kwargs)
        record.mine = True
        return record

    def over_ours(*args: Any) -> None:
        ours(*args)

    monkeypatch.setattr(warnings, "showwarning", over_ours)
    logging.setLogRecordFactory(theirs)
    try:
        log()
        capture.uninstall()
        capture.install()  # once in its life: under theirs it would call itself
        assert logging.getLogRecordFactory() is theirs
        log()
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn_explicit("still shown", UserWarning, "a.py", 1)
    finally:
        logging.setLogRecordFactory(before[1])
    assert (capture.total, len(seen), shown) == (1, 1, ["still shown"])


def test_logging_and_warnings_go_on_as_before(capture: WarningCapture, seen: Seen) -> None:
    """Handlers get their records, recorded warnings are recorded, captured ones counted once."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("data")
    logger.addHandler(handler)
    try:
        log("seen")
    finally:
        logger.removeHandler(handler)
    assert stream.getvalue() == "seen\n"
    with warnings.catch_warnings(record=True) as recorded:
        warnings.simplefilter("always")
        warnings.warn("recorded", stacklevel=1)
    assert [str(one.message) for one in recorded] == ["recorded"]
    logging.captureWarnings(True)
    try:
        warnings.warn_explicit("captured: so", UserWarning, "a b.py", 12)
    finally:
        logging.captureWarnings(False)
    wanted = {
        "source": "warnings",
        "category": "UserWarning",
        "message": "captured: so",
        "file": "a b.py",
        "line": 12,
    }
    assert seen[-1].items() >= (wanted | {"count": 1}).items()
    assert capture.total == 2


PROGRAM = """
import logging, sys, warnings
if {before}:
    logging.captureWarnings(True)
if {captured}:
    from entrenar_otel.otel.traces.warnings_capture import WarningCapture
    seen = []
    capture = WarningCapture(seen.append)
    capture.install()
logging.getLogger("early").warning("to the last resort")
warnings.warn("shown", stacklevel=1)
logging.basicConfig(format="%(name)s|%(message)s", stream=sys.stdout)
logging.getLogger("a.b").error("by basicConfig")
logging.captureWarnings(True)
warnings.warn("by logging", stacklevel=1)
logging.captureWarnings(False)
warnings.warn("shown again", stacklevel=1)
if {captured}:
    # captureWarnings(False) brings back what was there before it, and that was before us
    assert capture.total == len(seen) == (4 if {before} else 5), seen
    capture.uninstall()
warnings.warn("after", stacklevel=1)
"""


@pytest.mark.parametrize("before", [True, False])
def test_a_program_prints_the_same_with_and_without(before: bool) -> None:
    """lastResort, basicConfig, captureWarnings before and after: not a byte of difference."""

    def run(captured: bool) -> tuple[str, str]:
        program = PROGRAM.format(before=before, captured=captured)
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout, done.stderr

    assert run(True) == run(False)
