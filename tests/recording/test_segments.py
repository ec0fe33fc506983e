"""The recorder's segments: rolling loses and doubles nothing, whoever logs, dies or runs out of room."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.recording import segment_log as module
from entrenar_otel.recording.decode import decode
from entrenar_otel.recording.process.lock import is_held
from entrenar_otel.recording.segment import HEADER_BYTES, Segment, Snapshot

SMALL = HEADER_BYTES + 4096


def decode_file(path: Path) -> tuple[list[int], list[list[float]]]:
    """What another process reads: all `seq` and values, in order."""
    snapshot = Snapshot.read(path)
    assert snapshot is not None
    decoded = decode(snapshot.words, {}, start=HEADER_BYTES, first_seq=snapshot.first_seq)
    assert decoded.damage == ()
    seq = [s for block in decoded.samples.blocks for s in block.seq.tolist()]
    values = [v for block in decoded.samples.blocks for v in block.values.tolist()]
    order = sorted(range(len(seq)), key=seq.__getitem__)
    return [seq[i] for i in order], [values[i] for i in order]


@pytest.fixture(autouse=True)
def small(segment_size: Callable[[int], None]) -> None:
    segment_size(SMALL)


def test_a_full_segment_is_followed_by_the_next(recorder: Any) -> None:
    """Each file is readable on its own: it begins with all layouts and says its first seq."""
    bound = recorder.bind(["lr"], None)
    for i in range(300):
        recorder.log(loss=i)
        bound(i + 0.5)
        recorder.log(loss=i, tags={"split": "val"})
    paths = sorted(recorder.folder.glob("*.seg"))
    assert len(paths) > 10
    assert [p.name[-10:] for p in paths] == [f"{i:06d}.seg" for i in range(len(paths))]
    found = [decode_file(path) for path in paths]
    assert [s for seq, _ in found for s in seq] == list(range(900))
    assert [v for _, rows in found for (v,) in rows] == [x for i in range(300) for x in (i, i + 0.5, i)]
    assert len(recorder.rows()) == 900


def test_the_successor_is_prepared_at_half(recorder: Any, segment_size: Callable[[int], None]) -> None:
    """Not before, only once, and it is the one that is used."""
    segment_size(1 << 16)
    recorder.log(loss=0)
    recorder.prepare()
    assert recorder.standby is None
    while recorder.segment.position() <= 1 << 15:
        recorder.log(loss=1)
    recorder.prepare()
    standby = recorder.standby
    recorder.prepare()
    assert standby is recorder.standby
    assert [p.suffix for p in recorder.folder.iterdir() if p.name.startswith(".")] == [".new"]
    recorder.roll()
    assert (recorder.segment, recorder.standby) == (standby, None)


def test_draining_and_handing_over_between_rolls(recorder: Any) -> None:
    """Only what is complete and drained may go, and a drained row never comes back."""
    recorder.log(loss=1)
    assert recorder.age_seconds == 0.0
    recorder.rows()
    assert recorder.age_seconds > 0.0
    recorder.log(loss=2)
    recorder.roll()
    assert recorder.sealed() == []
    assert recorder.values() == [{"loss": 1}, {"loss": 2}]
    (segment,) = recorder.sealed()
    recorder.release(segment, unlink=True)
    assert recorder.sealed() == []
    assert not segment.path.exists()
    recorder.log(loss=3)
    recorder.sync()
    assert recorder.values()[2:] == [{"loss": 3}]


def test_rolling_while_the_heartbeat_decodes(recorder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows between a drain's look at the segment and the seal come with the next drain, once."""
    recorder.log(loss=1)

    def decode_late(*given: Any, **options: Any) -> Any:
        monkeypatch.setattr(module, "decode", decode)
        recorder.log(loss=2)
        recorder.roll()
        recorder.log(loss=3)
        return decode(*given, **options)

    monkeypatch.setattr(module, "decode", decode_late)
    recorder.keep(recorder.drain())
    recorder.roll()
    assert recorder.values() == [{"loss": 1}, {"loss": 2}, {"loss": 3}]


def log_in_every_way(recorder: Any, bound: Callable[..., None], worker: int) -> None:
    for i in range(400):
        value = worker * 400 + i
        if i % 50 == 0:
            recorder.log(**{f"new.{worker}.{i}": value})
        elif i % 3 == 0:
            bound(value)
        elif i % 3 == 1:
            recorder.log(loss=value)
        else:
            recorder.log(loss=value, tags={"worker": worker})


def test_eight_threads_log_while_others_roll_drain_and_prepare(
    recorder: Any, threads: Any, segment_size: Callable[[int], None]
) -> None:
    """Every call is one row: no seq is missing, none doubled, every value is there."""
    segment_size(1 << 16)
    bound = recorder.bind(["x"], None)
    recorder.log(loss=-1)

    def roll() -> None:
        if recorder.waiting < 1000:  # each is an open file until it is released
            assert recorder.roll()

    def tick() -> None:
        recorder.prepare()
        recorder.keep(recorder.drain())
        for segment in recorder.sealed():
            recorder.release(segment, unlink=True)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        workers = [threads.start(partial(log_in_every_way, recorder, bound, w)) for w in range(8)]
        others = [threads.repeat(roll), threads.repeat(tick)]
        for thread in workers:
            thread.join()
        threads.running.clear()
        for thread in others:
            thread.join()
    finally:
        threads.running.clear()
        sys.setswitchinterval(before)
    recorder.end("test")
    assert threads.failures == []
    assert recorder.next_number > 3  # rolled while they logged
    values = sorted(value for row in recorder.values() for value in row.values())
    assert (recorder.recorded, recorder.dropped, recorder.bad) == (3_201, 0, 0)
    assert values == list(range(-1, 3_200))


# -- no room ------------------------------------------------------------------------------------


@contextlib.contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    def create(*_: Any, **__: Any) -> Segment:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "create", create)
        yield


def test_a_full_disk_drops_counts_and_warns_once(
    recorder: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Training goes on; known and new names are counted exactly, and recording resumes."""
    bound = recorder.bind(["b", "c"], None)
    recorder.log(loss=0)
    bound(0, 0)
    with full_disk(monkeypatch):
        recorder.prepare()
        for i in range(200):
            recorder.log(loss=1)
            bound(1, 1)
            recorder.log({f"d{i}": 1, f"e{i}": 1, f"f{i}": 1})
    dropped = recorder.dropped
    assert dropped > 600
    assert [m for m in caplog.messages if "no room" in m] == caplog.messages
    assert len(caplog.messages) == 1
    assert "No space left on device" in caplog.messages[0]
    recorder.retry_at = 0.0  # a second later
    recorder.log(loss=2)
    assert recorder.values()[-1] == {"loss": 2}
    assert recorder.recorded + recorder.dropped == 3 + 200 * 6 + 1
    assert recorder.dropped == dropped


def test_a_successor_too_small_for_the_layouts_is_no_successor(
    recorder: Any, segment_size: Callable[[int], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The segment in use goes on until it is full, and no file is left behind."""
    segment_size(1 << 20)
    recorder.log(**{f"a rather long name {i}": i for i in range(500)})
    segment_size(SMALL)
    assert not recorder.roll()
    recorder.log(loss=1)
    assert recorder.values()[1:] == [{"loss": 1}]
    assert len(list(recorder.folder.iterdir())) == 1
    assert "no room" in caplog.text


def test_a_failed_installation_neither_loses_nor_doubles(
    recorder: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The old segment is sealed by then; its rows are drained once, and the next try goes on."""
    recorder.log(loss=1)

    def install(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "install", install)
        assert not recorder.roll()
        recorder.log(loss=2)
    assert recorder.values() == [{"loss": 1}]
    assert recorder.dropped == 1
    recorder.release(recorder.sealed()[0], unlink=True)
    recorder.retry_at = 0.0
    recorder.log(loss=3)
    assert recorder.values() == [{"loss": 1}, {"loss": 3}]
    assert "Input/output error" in caplog.text


# -- the end and the fork -----------------------------------------------------------------------


def test_after_the_end_calls_are_counted_and_warned_of_once(
    recorder: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing reaches a file any more; what was recorded is still to be drained."""
    bound = recorder.bind(["a", "b"], None)
    bound(1, 2)
    recorder.prepare()
    assert recorder.standby is not None
    recorder.end("completed")
    recorder.end("completed")
    n = len(recorder.rows())
    recorder.log(loss=2)
    bound(3, 4)
    recorder.log({"new": 1, "names": 2, "too": 3})
    assert not recorder.is_open
    assert not recorder.roll()
    recorder.prepare()
    recorder.sync()
    assert (len(recorder.rows()), recorder.dropped, recorder.age_seconds) == (n, 6, 0.0)
    assert len(caplog.messages) == 1
    assert [p.suffix for p in recorder.folder.iterdir()] == [".seg"]


def test_ended_before_it_began(recorder: Any) -> None:
    """A run that never recorded makes no file, not even by a late call."""
    recorder.end("completed")
    recorder.log(loss=1)
    assert (recorder.dropped, recorder.folder.exists()) == (1, False)


def test_an_abandoned_recorder_is_the_no_op_twin(recorder: Any) -> None:
    """Every form, old and new, does nothing: no file, no stop, no error."""
    bound = recorder.bind(["loss"], None)
    bound(1)
    before = recorder.segment.path.read_bytes()
    path = recorder.segment.path
    recorder.abandon()
    late = recorder.bind(["loss", "x"], None)
    for _ in range(2):
        bound(float("nan"))
        bound("text")
        late(float("nan"), "text")
        recorder.log(loss=float("nan"), epoch="x")
        recorder.log({"": None}, tags=5)
    assert path.read_bytes() == before
    assert (recorder.stops, recorder.rows(), recorder.dropped, recorder.bad) == ([], [], 0, 0)
    assert not recorder.roll()
    assert not is_held(path)


FORK = """
import os, pathlib, sys
from entrenar_otel.recording.recorder import Recorder
folder = pathlib.Path(sys.argv[1])
recorder = Recorder(
    begin=lambda: recorder.open(folder, {}), on_bad_loss=lambda *_: os._exit(9), on_held=lambda: None
)
bound = recorder.bind(["loss"], None)
recorder.log(loss=1); bound(2)
view = recorder.drain()  # such a view keeps the mapping, and must not keep the lock
os.register_at_fork(after_in_child=recorder.abandon)
if os.fork():
    recorder.log(loss=3)
    os._exit(0)
recorder.log(loss=float("nan")); bound(float("nan")); recorder.log(x=5); recorder.log({"y": 6})
print("child", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_a_dead_parent_is_free_while_its_child_lives(tmp_path: Path) -> None:
    """A data loader's worker records nothing, and must not make its parent immortal."""
    with subprocess.Popen(
        [sys.executable, "-c", FORK, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        assert parent.stdout.readline() == "child\n"
        assert parent.wait(10) == 0
        (path,) = tmp_path.glob("*.seg")
        assert not is_held(path)
        parent.stdin.close()  # only now does the child end
        assert parent.stdout.read() == ""
    assert decode_file(path) == ([0, 1, 2], [[1.0], [2.0], [3.0]])
