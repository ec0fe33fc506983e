"""Identity: run, rank and attempt from what launchers say, and who is a helper of whom."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
import warnings
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from entrenar_otel import identity


def test_run_ids_sort_by_time_and_differ() -> None:
    """The time comes first; two runs of one second still are two."""
    now = datetime(2026, 11, 24, 9, 15, 2, tzinfo=UTC)
    ids = {identity.new_run_id(now) for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"20261124-091502-[a-z]+-[0-9a-f]{6}", one) for one in ids)
    assert max(ids) < identity.new_run_id(now + timedelta(seconds=1))


@pytest.mark.parametrize("name", ["ENTRENAR_DISABLED", "OTEL_SDK_DISABLED"])
def test_disabled_is_a_switch(name: str) -> None:
    """The usual words for yes, in any case; anything else is no."""
    assert all(identity.is_disabled({name: word}) for word in ("1", "true", "TRUE", " yes ", "on"))
    assert not any(identity.is_disabled({name: word}) for word in ("", "0", "false", "no", "maybe"))
    assert not identity.is_disabled({})


def test_the_recording_process_is_no_worker_of_itself() -> None:
    """And when it stops recording, nothing is left for later children to see."""
    identity.mark_recording("r", rank=2)
    mark = identity.Mark.read()
    assert mark is not None
    assert (mark.pid, mark.run_id, mark.rank) == (os.getpid(), "r", 2)
    assert identity.helped(identity.Given()) is None
    identity.unmark_recording()
    assert identity._PARENT not in os.environ


@pytest.mark.parametrize(
    "mark",
    [
        *("", "no json", "[]", "5", '{"pid": "x", "rank": 0}', '{"pid": 1, "rank": 0}'),
        '{"pid": 1, "run_id": "r", "rank": 0, "given": {"other": 1}}',
        '{"pid": 1, "run_id": "r", "rank": 0, "given": 3}',
    ],
)
def test_a_mark_that_is_none_is_ignored(monkeypatch: pytest.MonkeyPatch, mark: str) -> None:
    """The environment belongs to the user."""
    monkeypatch.setenv(identity._PARENT, mark)
    assert identity.helped(identity.Given()) is None
    identity.unmark_recording()
    assert os.environ[identity._PARENT] == mark


Given = identity.Given


@pytest.mark.parametrize(
    ("parent", "child", "is_peer"),
    [
        (Given(), Given(), False),
        (Given("driver"), Given("driver"), False),
        (Given("driver"), Given("trial"), True),
        (Given("driver"), Given(env_run_id="train"), True),
        (Given("driver", env_run_id="job"), Given(env_run_id="job"), False),  # the launcher's, inherited
        (Given("driver", env_run_id="job"), Given("driver", env_run_id="job"), False),
        (Given("driver"), Given("driver", env_run_id="driver"), False),
        (Given("driver"), Given(env_rank=0), True),  # rank 0 of those that it starts
        (Given("driver"), Given("driver", rank=0), True),
        (Given("driver", rank=0), Given("driver", rank=0), False),  # the script's line, run again
        (Given("driver", rank=0), Given("driver", rank=1), True),
        (Given(env_rank=0), Given(env_rank=0), False),
        (Given(env_rank=0), Given(rank=0, env_rank=0), False),
        (Given(env_rank=0), Given(env_rank=1), True),
    ],
)
def test_who_has_an_id_or_a_rank_of_its_own_is_a_peer(
    parent: identity.Given, child: identity.Given, is_peer: bool
) -> None:
    """What is inherited, or said again by the same line, is not of its own."""
    mark = identity.Mark(1, parent.run_id or "made-up", parent.rank or parent.env_rank or 0, parent)
    assert mark.is_of_peer(child) == is_peer


def test_what_is_given_is_told_from_what_is_assumed() -> None:
    """Rank 0 of one process is what is assumed where nobody says a rank."""
    assert Given.find(environ={}) == Given()
    environ = {"RANK": "0", "ENTRENAR_RUN_ID": "job"}
    assert Given.find("r", 3, environ) == Given("r", 3, "job", 0)


def helps(run_id: str | None) -> int | None:
    """Whom a Monitor with this id would help."""
    mark = identity.helped(Given.find(run_id))
    return None if mark is None else mark.pid


def test_only_a_direct_child_is_a_worker() -> None:
    """By a fork or by multiprocessing; not a child's child, and not a program that is started anew."""
    identity.mark_recording("r", rank=0)
    context = multiprocessing.get_context("spawn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with context.Pool(1) as pool:
            assert pool.map(helps, [None, "r", "trial"]) == [os.getpid(), os.getpid(), None]
    program = "from entrenar_otel import identity; print(identity.helped(identity.Given()))"
    started = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert started.stdout == "None\n"


FORKS = """
import json, os, sys
from entrenar_otel import identity

def told(deeper=0):
    read, write = os.pipe()
    if not os.fork():
        if deeper:
            os.write(write, told(deeper - 1))
        else:
            os.write(write, str(identity.helped(identity.Given()) is not None).encode())
        os._exit(0)
    os.close(write)
    return os.read(read, 100)

identity.mark_recording("r", 0)
print(told().decode(), told(1).decode())
"""


def test_a_forked_child_is_a_worker_and_its_children_are_not() -> None:
    """Whoever made them records nothing, so that they are no help to it."""
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_helper_says_once_that_it_records_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whose it is, and what to do; a copy that is told something says the same."""
    mark = identity.Mark(4711, "sweep", 0, Given())
    identity._said_in = 0
    identity.say_helper(mark)
    identity.say_helper(mark)
    (line,) = caplog.messages
    assert "worker of process 4711, which records run sweep" in line
    assert "Monitor(run_id=…)" in line
    os.environ[identity._PARENT] = json.dumps(asdict(mark))
    identity.say_unheard()
    identity._said_in = 0
    identity.say_unheard()
    identity.say_unheard()
    del os.environ[identity._PARENT]
    assert caplog.messages == [line, line]


def test_process_started_is_when_this_process_was_created() -> None:
    """Against the kernel's own numbers: ticks since boot, and how long ago that was; to a second."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    age_seconds = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    expected = datetime.now(UTC) - timedelta(seconds=age_seconds)
    assert abs(identity.process_started() - expected) < timedelta(seconds=1.1)
    assert identity.process_started() == identity.process_started()


@pytest.mark.parametrize("stat", [None, "cpu 1 2 3\n", "btime soon\n"])
def test_process_started_without_proc_is_now(
    tmp_path: Path, stat: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel does not say, the first question is the start."""
    if stat is not None:
        own = tmp_path / str(os.getpid()) / "stat"
        own.parent.mkdir()
        own.write_bytes(Path("/proc/self/stat").read_bytes())
        (tmp_path / "stat").write_text(stat)
    monkeypatch.setattr("psutil.PROCFS_PATH", str(tmp_path))
    before = datetime.now(UTC)
    assert before <= identity.process_started() <= datetime.now(UTC)
