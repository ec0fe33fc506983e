"""The boundary of steps in Python and in the native core: the same records, whoever marks a step."""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any, cast

import entrenar_native
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrenar_otel import Monitor
from entrenar_otel.monitor.loop import Loop
from entrenar_otel.monitor.loop_parts import LoopParts
from entrenar_otel.monitor.loop_threads import LoopThreads
from entrenar_otel.monitor.progress import Progress
from entrenar_otel.monitor.step_state import state_of
from entrenar_otel.recording.decode import decode
from entrenar_otel.recording.segment import HEADER_BYTES, Snapshot
from tests.recording.conftest import Kit

NEEDED = pytest.mark.skipif(entrenar_native.core is None, reason="NOT TESTED HERE: no native core")
#: A pause takes no time here: what was taken off a time for it is told by this.
PAUSE_SECONDS = 1000.0


class Failed(Exception):
    """What a body raises, or whoever obeys."""


class Bench:
    """A loop over a recorder, without a run around them."""

    def __init__(self, folder: Path) -> None:
        self.recorder = Kit(folder)
        self.pause, self.stops = SimpleNamespace(total_seconds=0.0), False
        self.recorder._on_held = self.obey
        progress = Progress(dict)
        threads = LoopThreads(self.recorder.give_threads_their_places, state_of(self.recorder.hot))
        self.loop = Loop(
            LoopParts(self.recorder, progress, threads, lambda: None, perf_counter, lambda: self.pause, False)
        )

    def single(self, call: str) -> None:
        """What else may happen meanwhile."""
        recorder, odd = self.recorder, cast(Any, np.int64(5))
        if call in ("pause", "stop"):
            self.stops = call == "stop"
            recorder.hold()
        {
            "log": lambda: recorder.log(x=1.0),
            "roll": recorder.roll,
            "odd": lambda: recorder.return_to({"BATCH": odd}),
            "wait": self.loop.begin_wait,
            "next": lambda: self.loop.begin_step(None, (at := self.loop.boundary._state).begun, at.number),
            "end of all": lambda: recorder.end("over"),
        }.get(call, lambda: None)()

    def obey(self) -> None:
        """A pause, or a stop."""
        if self.stops:
            raise Failed
        self.pause.total_seconds += PAUSE_SECONDS

    def records(self) -> list[Any]:
        """Of each record its place and its values, of times how many pauses were taken off."""
        found = []
        for epoch, batch, step, values in self.recorder.rows():
            times = {
                name: round(values[name] / PAUSE_SECONDS)
                for name in values
                if name.startswith(("step_duration", "data_wait"))
            }
            found.append((epoch, batch, step, values | times))
        return found


SIZES = st.sampled_from([None, 0, 3, True, 2.5, np.int64(4), np.float64(5.0), 10**400, "six", [7]])
BATCHES = st.lists(
    st.sampled_from(
        [1, "text", [1, 2], ([1], 2), ((), 1), {"x": [1, 2]}, [{"x": [3]}], np.zeros(4), np.float32(1)]
    ),
    max_size=4,
)
PLACES = st.dictionaries(
    st.sampled_from(["epoch", "batch", "step"]), st.sampled_from([None, 0, 7, 2**31 - 1, 2**32, -1, "two"])
)
SINGLE = st.one_of(
    st.tuples(st.just("begin"), PLACES | st.just({})),
    st.tuples(st.just("end"), SIZES),
    st.tuples(st.sampled_from(["next", "wait", "log", "pause", "stop", "fail", "roll", "odd", "end of all"])),
)


def within(bodies: Any) -> Any:
    """What has a body."""
    body = st.lists(bodies, max_size=5)
    return st.one_of(
        st.tuples(st.just("block"), SIZES, PLACES | st.just({}), body),
        st.tuples(st.just("steps"), BATCHES, st.sampled_from([None, "train", "val"]), body),
        st.tuples(st.just("loader"), BATCHES, body, body),
        st.tuples(st.just("epochs"), st.integers(0, 2), body),
    )


CALLS = st.lists(st.recursive(SINGLE, within, max_leaves=15), max_size=8)


def play(bench: Bench, calls: list[Any]) -> Iterator[Any]:
    """Do all of this; what was raised, where steps are counted, and where the loop is."""
    loop = bench.loop
    for call, *given_now in calls:
        try:
            yield from do(bench, call, given_now)
        except Failed:
            yield "failed"
        yield call, loop.boundary.counts(), loop.where()[0]


def do(bench: Bench, call: str, given_now: list[Any]) -> Iterator[Any]:
    loop = bench.loop
    if call == "begin":
        loop.begin_step(**given_now[0])
    elif call == "end":
        loop.end_step(*given_now)
    elif call == "block":
        size, place, body = given_now
        with loop.step(None, **place) as block:
            yield from play(bench, body)
            if any(one[0] == "fail" for one in body):
                raise Failed
            block.size = size
    elif call == "steps":
        batches, split, body = given_now
        for batch in loop.steps(batches, split=split):
            yield str(batch)
            yield from play(bench, body)
    elif call == "loader":
        batches, before, body = given_now
        for _ in loop.steps(loader(bench, batches, before)):
            yield from play(bench, body)
    elif call == "epochs":
        for epoch in loop.epochs(given_now[0]):
            yield epoch
            yield from play(bench, given_now[1])
    elif call == "fail":
        raise Failed
    else:
        bench.single(call)


def loader(bench: Bench, batches: list[Any], before: list[Any]) -> Iterator[Any]:
    """Does something before each batch, and fails in the end."""
    for batch in batches:
        for _ in play(bench, before):
            pass
        yield batch
    if len(batches) > 2:
        raise Failed


@NEEDED
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(CALLS)
@pytest.mark.filterwarnings("ignore")
def test_any_steps_are_recorded_as_the_reference_records_them(
    tmp_path_factory: pytest.TempPathFactory, calls: list[Any]
) -> None:
    """Places, numbers of samples, pauses, and what is raised where: all but the times themselves."""
    outcomes = []
    for core in (None, entrenar_native.core):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(entrenar_native, "core", core)
            folder = tmp_path_factory.mktemp("live")
            bench = Bench(folder / "l")
            try:
                seen = list(play(bench, calls * 2))  # layouts are known, the second time
                recorder, state = bench.recorder, bench.loop.boundary._state
                left = (state.number, state.begun, state.thread, min(state.holder, 3), state.arrived > 0)
                outcomes.append((bench.records(), seen, left, recorder.bad, recorder.dropped))
                assert (recorder.hot is None) is (core is None)
            finally:
                bench.recorder.abandon()
                shutil.rmtree(folder)  # a segment is of megabytes
    assert outcomes[0] == outcomes[1]


@NEEDED
def test_what_is_usual_is_native(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a step was seen, no line of the reference runs for the next ones."""
    bench = Bench(tmp_path / "live")
    loop, recorder = bench.loop, bench.recorder
    try:
        for _ in range(2):
            loop.begin_step()
            loop.end_step(3)
            with loop.step():
                pass
        with monkeypatch.context() as patch:
            broken: Any = "the reference was called"
            for name in ("_seconds", "_pause", "_recorder"):
                patch.setattr(loop.boundary, name, broken)
            for size in (None, 4):
                state = loop.boundary._state
                loop.begin_step(*(() if size is None else (None, state.begun, state.number)))
                loop.end_step(size)
                with loop.step(size):
                    recorder.log(x=1.0)
        turns = iter(loop.steps([[1, 2]] * 4))
        next(turns), next(turns)
        with monkeypatch.context() as patch:
            patch.setattr(loop.boundary, "_seconds", broken)
            next(turns), next(turns)
        assert list(turns) == []
        sizes = [values["samples"] for *_, values in recorder.rows() if "samples" in values]
        assert sizes == [3.0, 3.0, 4.0, 4.0, 2.0, 2.0, 2.0, 2.0]
    finally:
        recorder.abandon()


def test_times_enclose_the_body(tmp_path: Path, core: str) -> None:
    """A step's time without its wait holds its body, and the steps follow each other without a gap."""
    bench = Bench(tmp_path / core)
    try:
        bodies, begun = [], perf_counter()
        for _ in bench.loop.steps(range(9)):
            start = perf_counter()
            bodies.append(perf_counter() - start)
        whole = perf_counter() - begun
        rows = [values for *_, values in bench.recorder.rows()]
        assert all(
            row["step_duration"] - row["data_wait"] >= body - 1e-9
            for row, body in zip(rows, bodies, strict=True)
        )
        assert sum(bodies) <= sum(row["step_duration"] for row in rows) <= whole
        assert all(row["data_wait"] >= 0.0 for row in rows)
    finally:
        bench.recorder.abandon()


@pytest.mark.parametrize("where", ["loader", "boundary"])
def test_a_loop_that_raises_is_over(tmp_path: Path, core: str, where: str) -> None:
    """Also where somebody keeps what `steps()` gave: it is at its end, and the next loop counts on."""
    bench = Bench(tmp_path / core)
    try:
        bench.stops = True
        kept = bench.loop.steps(loader(bench, [[1]] * 3, []))
        next(kept), next(kept)
        if where == "boundary":
            bench.recorder.hold()
        else:
            next(kept)
        with pytest.raises(Failed):
            next(kept)
        assert list(kept) == []
        assert bench.loop.where() == ("over", None)
        for _ in bench.loop.steps(range(2)):
            pass
        count = 3 if where == "loader" else 1  # what stops is no step that is over
        assert [row[1:3] for row in bench.recorder.rows()][-2:] == [(0, count), (1, count + 1)]
    finally:
        bench.recorder.abandon()


_WORK = """
import mmap, os, struct, sys
from entrenar_otel import Monitor

monitor = Monitor("r", lake=sys.argv[1], live=sys.argv[2], quiet=True)
with open(sys.argv[3], "r+b") as file:
    done = mmap.mmap(file.fileno(), 8)
def marked():
    while True:
        monitor.begin_step()
        yield
        monitor.end_step(2)
for i, _ in enumerate(monitor.steps(iter(int, 1)) if sys.argv[4] == "steps" else marked()):
    done[:8] = struct.pack("<q", i)
"""


@pytest.mark.parametrize("way", ["steps", "marked"])
@pytest.mark.parametrize("turn", range(2))
def test_killed_anywhere(tmp_path: Path, core: str, way: str, turn: int) -> None:
    """kill -9: every step that was over is there, in its place, and no other."""
    acks = tmp_path / "acks"
    acks.write_bytes(bytes(8))
    command = [sys.executable, "-c", _WORK, *(str(tmp_path / name) for name in ("lake", "live", "acks")), way]
    process = subprocess.Popen(command)
    with acks.open("r+b") as file:
        done = mmap.mmap(file.fileno(), 8)
        ends = time.monotonic() + 300
        while struct.unpack("<q", done[:8])[0] < 500 * (turn + 1):
            if time.monotonic() > ends:
                process.kill()
            assert process.poll() is None
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        last = struct.unpack("<q", done[:8])[0]
    steps = []
    for path in sorted((tmp_path / "live").rglob("*.seg")):
        snapshot = Snapshot.read(path)
        assert snapshot is not None
        for block in decode(snapshot.words, {}, start=HEADER_BYTES).samples.blocks:
            if "step_duration" in map(str, block.series):
                assert block.batch.tolist() == block.step.tolist()
                steps += block.step.tolist()
    assert sorted(steps) == list(range(len(steps)))
    assert last <= len(steps) <= last + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize("way", ["steps", "marked"])
def test_a_forked_child_goes_on_without_a_trace(tmp_path: Path, core: str, way: str) -> None:
    """Within a step: the child's own are recorded nowhere, the parent's all."""

    def marked(monitor: Monitor) -> Iterator[int]:
        for i in range(9):
            monitor.begin_step()
            yield i
            monitor.end_step(1)

    with Monitor("r", lake=tmp_path / "lake", quiet=True) as monitor:
        child = -1
        for i in monitor.steps(range(9)) if way == "steps" else marked(monitor):
            if i == 4:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)  # a fork beside threads
                    child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert monitor.sample_count("step_duration") == 9
    steps = monitor.query("SELECT step FROM metrics WHERE metric = 'step_duration' ORDER BY seq")
    assert [row["step"] for row in steps.to_pylist()] == list(range(9))
