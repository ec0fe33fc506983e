"""Process memory: what this process really takes, also between two readings."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from entrenar_otel.andon.judging.process_memory import ProcessMemory

MIB = 1 << 20


@pytest.fixture
def big() -> Iterator[list[Any]]:
    """Where a test puts what takes memory."""
    held: list[Any] = []
    yield held
    held.clear()


def test_resident_memory_is_that_of_the_process(big: list[Any]) -> None:
    """64 MiB more show, at once and in the peak; between two readings the system's mark tells."""
    memory = ProcessMemory()
    before, nothing = memory.read()
    assert nothing is None
    assert before == pytest.approx(psutil.Process().memory_info().rss, rel=0.3)
    big.append(np.ones(64 * MIB // 8))
    after, _ = memory.read()
    assert after - before > 50 * MIB
    big.clear()
    assert memory.peak_rss_bytes >= after
    memory.close()


def test_a_peak_between_two_readings_is_found() -> None:
    """In a process of its own: what other tests took before would hide it."""
    program = """
import numpy as np
from entrenar_otel.andon.judging.process_memory import ProcessMemory
memory = ProcessMemory()
before, _ = memory.read()
np.ones(200 * 2**20 // 8)
after, _ = memory.read()
again, _ = memory.read()
assert after - before > 180 * 2**20, (before, after)
assert again - before < 100 * 2**20 and memory.peak_rss_bytes == after
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (0, "")


def test_allocations_of_python() -> None:
    """With what was freed again between two readings; tracemalloc runs no longer than that."""
    memory = ProcessMemory(allocations=True)
    _, before = memory.read()
    bytearray(30 * MIB)
    _, peak = memory.read()
    _, after = memory.read()
    memory.close()
    assert before is not None
    assert peak is not None
    assert after is not None
    assert before < MIB
    assert 30 * MIB <= peak < 31 * MIB
    assert after < MIB
    assert memory.peak_allocated_bytes == peak
    assert not tracemalloc.is_tracing()
    assert memory.read()[1] is None
