"""Console: what is said never raises, never goes to stdout, and shows neither secrets nor escapes."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest

from entrenar_otel import console, errors
from entrenar_otel.console import logger, say, write
from entrenar_otel.errors import AndonStop, ConfigError, NotMeasured, guard

#: A program that has not set up logging, and one that has.
PROGRAM = """
import logging
from entrenar_otel.console import logger
if {has_handlers}:
    logging.basicConfig(format="%(name)s: %(message)s")
logger.warning("the disk is %s", "full")
"""
ESCAPES = "\x1b]0;title\x07\x1b[31mred\x9b32m\u202edirection\r\nline"


class Broken(io.StringIO):
    """A stream on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def closed() -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


def closed_pipe() -> TextIO:
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def full_disk() -> TextIO:
    return Path("/dev/full").open("w")


@pytest.mark.parametrize(
    "make",
    [Broken, closed, closed_pipe, lambda: None, full_disk, object],
    ids=["full", "closed", "closed pipe", "none", "/dev/full", "no stream"],
)
def test_stderr_that_cannot_be_written(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The line is counted, nothing is raised, and stdout, which belongs to the training, gets nothing."""
    stream, before = make(), console.unsaid
    monkeypatch.setattr(sys, "stderr", stream)
    say("recording")
    assert console.unsaid == before + 1
    assert not write(stream, "line\n")
    assert not console.is_terminal(stream)
    monkeypatch.undo()
    if hasattr(stream, "detach"):  # what is left in its buffer is not written when it is collected
        try:
            stream.close()
        except (OSError, ValueError):
            pass
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_does_not_read() -> None:
    """A pipe that is full does not hold the loop: the line is left out."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, bytes(65536))
    except BlockingIOError:
        os.set_blocking(writing, True)
    with os.fdopen(writing, "w") as stream:
        assert not write(stream, "line\n")
        os.set_blocking(reading, False)
        while len(os.read(reading, 1 << 20)) == 1 << 20:
            pass
        assert write(stream, "line\n")
    os.close(reading)


def test_a_line_is_one_line_without_secrets_and_escapes(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is in it."""
    say(f"run {ESCAPES} into s3://key:SECRET@bucket/lake?token=SECRET")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err[:-1].isprintable()
    assert "SECRET" not in err
    assert err.endswith("into s3://bucket/lake\n")


class Raising(logging.Handler):
    """What some handlers do: raise instead of `handleError`."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("this handler raises")


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("this object has no text")


@pytest.fixture
def raising() -> Iterator[None]:
    handler = Raising()
    logging.getLogger("entrenar_otel").addHandler(handler)
    yield
    logging.getLogger("entrenar_otel").removeHandler(handler)


def test_a_log_handler_that_raises(raising: None) -> None:
    """It hinders nothing, within the guard as little as outside."""
    before = console.unsaid
    logger.warning("a line")
    logger.info("not enabled")
    assert console.unsaid == before + 1
    errors.set_strict(False)
    try:
        with guard("place"):
            raise ValueError("our own failure")
    finally:
        errors.set_strict(True)
    assert errors.failures["place"] == 1


def test_what_cannot_be_formatted() -> None:
    """Arguments that do not fit, and objects without a text."""
    before = console.unsaid
    logger.warning("%d rows", "many")
    logger.warning("%s", Unprintable())
    assert console.unsaid == before + 2


def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """One line, from the file that logs it; per cent signs are taken as they are."""
    logger.warning("100 %% of %s failed", ESCAPES)
    logger.warning("50 %")
    first, second = caplog.records
    assert first.getMessage().isprintable()
    assert first.getMessage().startswith("100 % of ?]0;title?")
    assert second.getMessage() == "50 %"
    assert {Path(one.pathname).name for one in caplog.records} == {"test_console.py"}


def test_the_guard_shows_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    """Not in its line, nor in the traceback that comes with DEBUG."""
    caplog.set_level(logging.DEBUG)
    errors.set_strict(False)
    try:
        with guard("place"):
            raise OSError(f"https://me:SECRET@host/x?sig=SECRET {ESCAPES}")
    finally:
        errors.set_strict(True)
    (record,) = caplog.records
    first, *rest = record.getMessage().split("\n")
    assert "SECRET" not in record.getMessage().replace('raise OSError(f"https://me:SECRET@', "")
    assert first.isprintable()
    assert rest[0] == "Traceback (most recent call last):"
    assert all(line.isprintable() for line in rest)


@pytest.mark.parametrize("kind", [ConfigError, NotMeasured, AndonStop])
def test_the_text_of_an_error_steers_no_terminal(kind: type[Exception]) -> None:
    """Python's traceback shows it as it is; lines stay."""
    text = str(kind(f"two\nlines {ESCAPES}"))
    assert text.startswith("two\nlines ?]0;")
    assert all(line.isprintable() for line in text.split("\n"))


def test_occupied_descriptors() -> None:
    """A descriptor of 0, 1 and 2 that is closed is opened, for children too; no other one stays open."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(0)
            os.close(2)
            before = {int(name) for name in os.listdir("/dev/fd")}
            console.occupy_standard_descriptors()
            after = {int(name) for name in os.listdir("/dev/fd")}
            is_null = os.path.samestat(os.fstat(2), os.stat(os.devnull))
            good = (
                is_null and os.get_inheritable(2) and {0, 1, 2} <= after and len(after - before - {0, 2}) <= 1
            )
            code = 0 if good else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(
    ("has_handlers", "line"),
    [(False, "entrenar: the disk is full\n"), (True, "entrenar_otel: the disk is full\n")],
)
def test_a_line_says_whose_it_is(has_handlers: bool, line: str) -> None:
    """Amid a training's output; where logging is set up, by the logger's name."""
    program = PROGRAM.format(has_handlers=has_handlers)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == line
