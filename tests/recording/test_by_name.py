"""Functions that pickle finds by their names: themselves here, silent ones elsewhere."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.recording import by_name

LOAD = """
import pickle, sys
for function in pickle.load(sys.stdin.buffer):
    function(0.5) if function.__name__ != "log" else function(loss=0.5)
    print(function.__module__, function.__name__)
"""


def call(log: Callable[..., None], fast: Callable[..., None]) -> None:
    log(loss=1.0)
    fast(2.0)


@pytest.fixture
def monitor(tmp_path: Path) -> Any:
    with Monitor("r", lake=tmp_path / "lake", live=tmp_path / "live", quiet=True) as monitor:
        yield monitor


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_in_the_same_process_it_is_itself(monitor: Monitor, protocol: int) -> None:
    """`log` and a bound function, by every protocol, and copied."""
    for function in (monitor.log, monitor.bind("loss")):
        assert pickle.loads(pickle.dumps(function, protocol)) is function
        assert copy.deepcopy({"f": function})["f"] is function


def test_in_another_process_it_records_nothing(monitor: Monitor) -> None:
    """A worker that is handed a callback of these runs on; the first call says that it is not heard."""
    data = pickle.dumps([monitor.log, monitor.bind("loss")])
    done = subprocess.run(
        [sys.executable, "-c", LOAD], input=data, capture_output=True, check=True, timeout=100
    )
    assert done.stdout.decode().split("\n")[:2] == [f"{by_name.__name__} unheard"] * 2
    monitor.flush()
    assert monitor.sample_count() == 0


def test_a_spawned_worker(monitor: Monitor) -> None:
    """By multiprocessing, as an argument."""
    fast = monitor.bind("loss")
    process = multiprocessing.get_context("spawn").Process(target=call, args=(monitor.log, fast))
    process.start()
    process.join(100)
    assert process.exitcode == 0
    call(monitor.log, fast)
    monitor.flush()
    assert monitor.sample_count("loss") == 2


def test_names_of_a_parent_and_its_child_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that goes on counting where its parent was must not name what the parent has named."""

    def first() -> None: ...
    def second() -> None: ...

    monkeypatch.setattr(by_name, "_numbers", iter([7, 7]))
    by_name.give_name(first)
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    by_name.give_name(second)
    assert first.__qualname__ != second.__qualname__


def test_what_is_gone() -> None:
    """A function whose run is forgotten is a silent one; other names are none."""

    def made() -> None: ...

    by_name.give_name(made)
    data = pickle.dumps(made)
    del made
    assert pickle.loads(data) is by_name.unheard
    assert not hasattr(by_name, "something")
