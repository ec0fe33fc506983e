"""Helper: who records, who only helps, and what it says."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import warnings
from dataclasses import asdict

import pytest

from entrenar_otel.identity import helper


def test_the_recording_process_is_no_worker_of_itself() -> None:
    """And when it stops recording, nothing is left for later children to see."""
    helper.mark_recording("r", rank=2)
    mark = helper.Mark.read()
    assert mark is not None
    assert (mark.pid, mark.run_id, mark.rank) == (os.getpid(), "r", 2)
    assert helper.helped(helper.Given()) is None
    helper.unmark_recording()
    assert helper._PARENT not in os.environ


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
    monkeypatch.setenv(helper._PARENT, mark)
    assert helper.helped(helper.Given()) is None
    helper.unmark_recording()
    assert os.environ[helper._PARENT] == mark


Given = helper.Given


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
    parent: helper.Given, child: helper.Given, is_peer: bool
) -> None:
    """What is inherited, or said again by the same line, is not of its own."""
    mark = helper.Mark(1, parent.run_id or "made-up", parent.rank or parent.env_rank or 0, parent)
    assert mark.is_of_peer(child) == is_peer


def test_what_is_given_is_told_from_what_is_assumed() -> None:
    """Rank 0 of one process is what is assumed where nobody says a rank."""
    assert Given.find(environ={}) == Given()
    environ = {"RANK": "0", "ENTRENAR_RUN_ID": "job"}
    assert Given.find("r", 3, environ) == Given("r", 3, "job", 0)


def helps(run_id: str | None) -> int | None:
    """Whom a Monitor with this id would help."""
    mark = helper.helped(Given.find(run_id))
    return None if mark is None else mark.pid


def test_only_a_direct_child_is_a_worker() -> None:
    """By a fork or by multiprocessing; not a child's child, and not a program that is started anew."""
    helper.mark_recording("r", rank=0)
    context = multiprocessing.get_context("spawn")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with context.Pool(1) as pool:
            assert pool.map(helps, [None, "r", "trial"]) == [os.getpid(), os.getpid(), None]
    program = "from entrenar_otel.identity import helper; print(helper.helped(helper.Given()))"
    started = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert started.stdout == "None\n"


FORKS = """
import json, os, sys
from entrenar_otel.identity import helper

def told(deeper=0):
    read, write = os.pipe()
    if not os.fork():
        if deeper:
            os.write(write, told(deeper - 1))
        else:
            os.write(write, str(helper.helped(helper.Given()) is not None).encode())
        os._exit(0)
    os.close(write)
    return os.read(read, 100)

helper.mark_recording("r", 0)
print(told().decode(), told(1).decode())
"""


def test_a_forked_child_is_a_worker_and_its_children_are_not() -> None:
    """Whoever made them records nothing, so that they are no help to it."""
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_a_helper_says_once_that_it_records_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whose it is, and what to do; a copy that is told something says the same."""
    mark = helper.Mark(4711, "sweep", 0, Given())
    helper._warned_pid = 0
    helper.say_helper(mark)
    helper.say_helper(mark)
    (line,) = caplog.messages
    assert "worker of process 4711, which records run sweep" in line
    assert "Monitor(run_id=…)" in line
    os.environ[helper._PARENT] = json.dumps(asdict(mark))
    helper.say_unheard()
    helper._warned_pid = 0
    helper.say_unheard()
    helper.say_unheard()
    del os.environ[helper._PARENT]
    assert caplog.messages == [line, line]
