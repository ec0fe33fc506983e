"""Standard streams that are gone: what can be said never decides over what is recorded."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TRAINING = """
    import logging, os, sys
    from entrenar_otel import AndonStop, Monitor
    if "none" in sys.argv:
        sys.stderr = None
    if "closed" in sys.argv:
        sys.stderr.close()
    if "handler" in sys.argv:
        class Raising(logging.Handler):
            def emit(self, record):
                raise RuntimeError("this handler raises")
        logging.getLogger().addHandler(Raising())
    if "wide" in sys.argv:
        logging.basicConfig(level=logging.DEBUG)
    monitor = Monitor.auto(run_id="r", interval_seconds=0.1)
    for step in monitor.steps(range(100)):
        monitor.log(loss=1.0, step=step, wrong="no number")
    assert monitor.flush()
    enabled = monitor.enabled
    try:
        monitor.log(loss=float("nan"))
    except AndonStop:
        enabled = enabled and "stopped"
    monitor.close()
    os.write(1, f"{enabled}\\n".encode())
"""


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    number = os.open("/dev/full", os.O_WRONLY)
    yield number
    os.close(number)


@contextlib.contextmanager
def closed_pipe() -> Iterator[int]:
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextlib.contextmanager
def full_pipe() -> Iterator[int]:
    """One that nobody reads, and that has no room: a pager that waits, a terminal held by Ctrl-S."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, bytes(65536))
    os.set_blocking(writing, True)
    yield writing
    os.close(reading)
    os.close(writing)


@pytest.fixture
def train(place: Any) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs TRAINING with this stderr."""

    def run(*words: str, stderr: Any = subprocess.PIPE, **more: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(TRAINING), *words],
            env=place.environment,
            cwd=place.root,
            stdout=subprocess.PIPE,
            stderr=stderr,
            timeout=300,
            **more,
        )

    return run


@pytest.mark.parametrize("stream", [full_disk, closed_pipe])
@pytest.mark.parametrize("word", ["", "handler", "wide"])
def test_stderr_that_cannot_be_written(
    place: Any, train: Callable[..., Any], stream: Callable[..., Any], word: str
) -> None:
    """A full disk, a pipe whose reader has ended, with log handlers that write or raise: all is recorded."""
    with stream() as number:
        done = train(word, stderr=number)
    assert done.stdout == b"stopped\n"
    assert place.count() >= 101
    assert place.states() == {"r": ["stopped"]}


def test_a_pipe_that_nobody_reads(place: Any, train: Callable[..., Any]) -> None:
    """Nothing of ours waits for its reader, an alert and a warning through Python's logging neither."""
    script = textwrap.dedent(TRAINING).replace('float("nan")', "2.0")
    with full_pipe() as number:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=place.environment,
            cwd=place.root,
            stdout=subprocess.PIPE,
            stderr=number,
            timeout=300,
        )
    assert done.stdout == b"True\n"
    assert place.states() == {"r": ["completed"]}


@pytest.mark.parametrize("word", ["none", "closed"])
def test_no_stderr_in_python(place: Any, train: Callable[..., Any], word: str) -> None:
    """It was set to None (a daemon, pythonw) or closed: nothing goes to stdout instead."""
    done = train(word)
    assert done.stdout == b"stopped\n"
    assert place.states() == {"r": ["stopped"]}


def test_descriptors_that_are_closed(place: Any, train: Callable[..., Any]) -> None:
    """`2>&-`: what opens next gets number 2, and must not be a segment that others then write into."""
    done = train(stderr=None, stdin=subprocess.DEVNULL, preexec_fn=lambda: os.close(2))
    assert done.stdout == b"stopped\n"
    assert place.count() >= 101
    child = place.make_child("""
        os.close(2); os.close(0)
        monitor = Monitor("twice").start()
        monitor.log(loss=1.0)
        os.write(2, b"what a library in C writes to stderr")
        say(" ".join(os.readlink(f"/proc/self/fd/{number}") for number in (0, 2)))
        monitor.close()
        say("closed")
    """)
    child.expect("/dev/null /dev/null")
    child.expect("closed")
    child.end(60)
    assert place.count("twice") == 1


def test_a_pause_pauses(place: Any) -> None:
    """Where it cannot be announced too; and it ends as it should."""
    script = """
        from entrenar_otel import Monitor
        import os, time
        monitor = Monitor("r", interval_seconds=0.05).start()
        step = 0
        while not os.path.exists("enough"):
            step += 1
            monitor.log(loss=1.0, step=step)
            time.sleep(0.01)
        monitor.close()
    """
    with full_disk() as number:
        training = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            env=place.environment,
            cwd=place.root,
            stderr=number,
        )
    try:
        place.wait_until(lambda: "r" in {one.run_id for one in place.lake.runs()})

        def command(name: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "entrenar_otel.cli.main", name, "r", "--wait", "100"],
                env=place.environment,
                cwd=place.root,
                capture_output=True,
                text=True,
                timeout=300,
            )

        assert command("pause").returncode == 0
        place.wait_until(lambda: list(place.live.glob("*.paused")))
        before = place.count()
        assert training.poll() is None
        assert place.count() == before
        assert command("resume").returncode == 0
        place.wait_until(lambda: place.count() > before)
        Path(place.root / "enough").touch()
        assert training.wait(100) == 0
    finally:
        training.kill()
        training.wait()
    assert place.states() == {"r": ["completed"]}
