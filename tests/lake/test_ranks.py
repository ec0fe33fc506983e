"""Ranks compared: real processes as ranks into one lake, by clocks that the test sets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from entrenar_otel.lake import Lake
from entrenar_otel.lake.ranks import STRETCHES, compare_ranks, ranks_of

RANK = """\
import sys
import numpy as np
from entrenar_otel import Monitor
from entrenar_otel.testing import FakeClock
rank, size, wait, compute, in_step = int(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:6])
clock, noise = FakeClock(), np.random.default_rng(rank)
def batches():
    for _ in range(200):
        clock.advance(wait * noise.uniform(0.9, 1.1))
        yield [0] * 8
with Monitor("r", lake="lake", rank=rank, world_size=size, quiet=True, clock=clock) as monitor:
    for _ in monitor.epochs(2):
        ends = clock.monotonic_ns() / 1e9
        for batch in monitor.steps(batches()):
            ends += in_step  # an all-reduce: every rank's step ends with that of the slowest
            left = ends - clock.monotonic_ns() / 1e9 if in_step else compute * noise.uniform(0.9, 1.1)
            clock.advance(left)
            monitor.log(loss=1.0)
"""


def trained(times: list[tuple[float, float]], in_step: float = 0.0) -> Lake:
    """A lake with a run of so many ranks; wait and compute of each."""
    size = len(times)
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, *map(str, (rank, size, wait, compute, in_step))])
        for rank, (wait, compute) in enumerate(times)
    ]
    assert [rank.wait(300) for rank in ranks] == [0] * size
    return Lake("lake")


def test_one_is_slow_by_compute_and_one_by_its_data() -> None:
    lake = trained([(0.05, 0.35), (0.05, 0.35), (0.12, 0.35), (0.05, 0.41)])
    found = compare_ranks(lake, "r")
    assert found is not None
    assert (found.steps, found.are_in_step) == (399, False)
    assert [(slow.rank, slow.by, slow.stretches) for slow in found.slow] == [
        (3, "compute", 20),
        (2, "data", 20),
    ]
    compute, data = found.lines()
    assert compute.startswith("rank 3 is 1")
    assert "slower than the median of the others (compute 4" in compute
    assert data.startswith("rank 2 waits longer for its data than the median of the others (1")
    assert [times.rank for times in found.times] == [0, 1, 2, 3]
    assert found.times[3].compute_seconds == pytest.approx(0.41, rel=0.02)
    assert found.as_dict()["slow"][0]["text"] == compute


def test_ranks_that_wait_for_each_other() -> None:
    """Their steps are all of one length: the one that waits for its data seems to compute least."""
    lake = trained([(0.05, 0), (0.05, 0), (0.12, 0)], in_step=0.5)
    found = compare_ranks(lake, "r")
    assert found is not None
    assert found.are_in_step
    assert [(slow.rank, slow.by) for slow in found.slow] == [(2, "data")]
    assert [*found.lines()][-1].startswith("the ranks go in step")


def rows(step: np.ndarray, wait: float = 0.01) -> list[dict[str, float]]:
    """Of steps by rank and stretch, `(ranks, 20)`."""
    return [
        {"rank": rank, "stretch": at, "steps": 10, "step": own, "wait": wait, "compute": own - wait}
        for rank, steps in enumerate(step)
        for at, own in enumerate(steps)
    ]


def test_what_is_not_throughout_is_not_told() -> None:
    """A slow hour of one rank, and the noise of all: none is slower in 19 of 20 stretches."""
    step = np.random.default_rng(1).normal(0.4, 0.04, (4, STRETCHES))
    step[2, :15] += 0.3
    found = ranks_of(rows(step))
    assert found is not None
    assert (found.slow, [*found.lines()]) == (
        (), ["no rank is 5% slower than the others throughout, over 200 steps"]
    )  # fmt: skip
    step[2] += 0.3
    found = ranks_of(rows(step))
    assert found is not None
    assert [slow.rank for slow in found.slow] == [2]


def test_equal_ranks_are_rarely_told_of() -> None:
    """Of 300 runs of 8 ranks whose stretches differ by a tenth, at random, one at most is wrong."""
    random = np.random.default_rng(3)
    wrong = [ranks_of(rows(random.normal(0.4, 0.04, (8, STRETCHES)))) for _ in range(300)]
    assert sum(bool(found and found.slow) for found in wrong) <= 1


def test_too_few_ranks_or_steps() -> None:
    step = np.full((2, STRETCHES), 0.4)
    assert ranks_of(rows(step[:1])) is None
    assert ranks_of([row | {"steps": 4} for row in rows(step)]) is None
    assert ranks_of(rows(step)[:-1]) is None
    assert ranks_of([]) is None


def test_a_run_of_one_rank_and_one_without_steps(tmp_path: Path) -> None:
    from entrenar_otel import Monitor

    for run, names in (("one", ["loss"]), ("none", [])):
        with Monitor(run, lake="lake", quiet=True) as monitor:
            for name in names:
                monitor.log({name: 1.0})
        assert compare_ranks(Lake("lake"), run) is None
