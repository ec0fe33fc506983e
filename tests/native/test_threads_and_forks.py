"""The native kernels have no lock of their own, and let go of Python's: threads beside them, and forks."""

from __future__ import annotations

import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import entrenar_native
import numpy as np
import pytest
from entrenar_processors.detectors.divergence import DivergenceCore
from entrenar_processors.detectors.spike import SpikeCore
from entrenar_processors.detectors.zscore import ZScoreCore
from entrenar_processors.stats.cusum import Cusum
from entrenar_processors.stats.robust_window import RobustWindow

if entrenar_native.core is None:
    pytest.skip(f"NOT TESTED HERE: {entrenar_native.state()}", allow_module_level=True)


def judge(seed: int, n: int = 3000) -> list[list[Any]]:
    """What new cores find in a stream of three series."""
    values = np.random.default_rng(seed).standard_t(3, (n, 3)) + 2.0
    cores = (
        SpikeCore(RobustWindow(125, 30, 3.0, relative=True), Cusum(4.0, 1.0, 3.0)),
        DivergenceCore((0.01, 4.0, 100), 30, 0.1, 5.0),
        ZScoreCore(100, 10, 3.0),
    )
    found = []
    for core in cores:
        core.reserve(3)
        for part in np.array_split(values, 4):
            found += [one.tolist() for one in core.update(slice(0, 3), part)]
    return found


def test_threads_judge_beside_each_other() -> None:
    """Each its own series, all at once: what each finds alone."""
    alone = [judge(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(judge, [*range(8)] * 3)) == alone * 3


def test_other_threads_run_meanwhile() -> None:
    """A long series does not keep Python's lock: nobody else is given it by force here."""
    window = RobustWindow(125, 30, 3.0)
    window.reserve(1)
    values = np.random.default_rng(1).normal(size=(1_000_000, 1))
    before = sys.getswitchinterval()
    turns, over = [0], threading.Event()

    def run() -> None:
        while not over.is_set():
            turns[0] += 1
            time.sleep(0)

    other = threading.Thread(target=run)
    sys.setswitchinterval(1000.0)
    try:
        other.start()
        at_first = turns[0]
        for _ in range(100):  # on a busy machine the other may not come to it at once
            window.update(slice(0, 1), values)
            if turns[0] > at_first:
                break
        during = turns[0] - at_first
    finally:
        over.set()
        other.join()
        sys.setswitchinterval(before)
    assert during > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forks_judge_on() -> None:
    """A process that was forked while other threads were within kernels judges as if alone."""
    expected, over = judge(5), threading.Event()

    def run() -> None:
        while not over.is_set():
            judge(6)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore", DeprecationWarning
                )  # of forks beside threads, which is the point
                child = os.fork()
            if child == 0:
                os._exit(0 if judge(5) == expected else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        over.set()
        for thread in threads:
            thread.join()
