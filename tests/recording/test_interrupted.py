"""Signal handlers and finalizers in the middle of recording: nothing lost, doubled, swallowed or left."""

from __future__ import annotations

import dis
import gc
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from entrenar_otel.recording import segment_log
from entrenar_otel.recording.layout import head_word
from entrenar_otel.recording.notes import EVENT, SPAN_STARTED
from entrenar_otel.recording.segment import HEADER_BYTES, Segment

SMALL = HEADER_BYTES + 4096


pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 13),
    reason="NOT TESTED HERE, BUT ON 3.11 AND 3.12: 3.13 traces few opcodes",
)


class Late(Exception):
    """A time limit, say."""


class LateTimeout(TimeoutError):
    """One that is an OSError, as a full disk's is."""


class LateValue(ValueError):
    """One that is a ValueError, as a full segment's is."""


class EveryCall:
    """Calls `act` where Python could let a signal handler in for the n-th time below `call`.

    That is behind a call, at the beginning of a function, and where a loop begins again.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._left = 0
        self._before: dict[FrameType, str] = {}
        # Python 3.12 begins to tell of opcodes with the second trace of a process.
        self.run(1 << 40, lambda: head_word(1, 1))

    def run(self, n: int, call: Callable[[], Any]) -> bool:
        """Whether there was an n-th place."""
        self._left = n
        sys.settrace(self._enter)
        try:
            call()
        finally:
            sys.settrace(None)
            self._before.clear()
        return self._left <= 0

    def _enter(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        if "entrenar_otel" not in frame.f_code.co_filename:
            return None
        frame.f_trace_opcodes = True
        return self._opcode

    def _opcode(self, frame: FrameType, event: str, _arg: Any) -> Any:
        if event == "opcode":
            before = self._before.get(frame, "RESUME")
            self._before[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
            if before.startswith(("CALL", "RESUME", "JUMP_BACKWARD")):
                self._left -= 1
                if self._left == 0:
                    sys.settrace(None)
                    self._act()
        return self._opcode


KINDS = [Late, LateTimeout, LateValue, KeyboardInterrupt]


@pytest.mark.parametrize("kind", KINDS)
def test_a_handler_that_raises_anywhere_in_a_roll(
    make: Any, segment_size: Callable[[int], None], kind: type[BaseException], on_signal: Any
) -> None:
    """It leaves `log` at once; each record is there once or not at all; nothing is left open."""
    segment_size(SMALL)

    def late(*_given: Any) -> None:
        raise kind

    on_signal(late)
    places = EveryCall(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    recorder = make()
    recorder.log(loss=0.0)
    returned = [0.0]
    before = len(os.listdir("/proc/self/fd"))
    step, n = 0, 0
    is_more = True

    def keep() -> None:
        recorder.keep(recorder.drain())
        for segment in recorder.sealed():
            recorder.release(segment, unlink=True)

    while is_more:
        n += 1
        for _ in range(3):  # some way into the segment
            step += 1
            recorder.log(loss=float(step))
            returned.append(float(step))
        step += 1
        caught = False

        def roll(step: int = step) -> None:
            recorder.roll()
            recorder.log(loss=float(step))

        try:
            is_more = places.run(n, roll)
            returned.append(float(step))
        except kind:
            caught = True
        assert caught or not is_more, "swallowed"
        is_more = caught
        keep()
    recorder.end("completed")
    keep()
    values = [value for row in recorder.drained.values() for value in row[3].values()]
    assert len(set(values)) == len(values)
    assert set(returned) <= set(values)
    assert n > 50
    assert list(recorder.folder.iterdir()) == []
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_a_handler_that_records_anywhere_in_a_roll(
    make: Any, segment_size: Callable[[int], None], on_signal: Any
) -> None:
    """Its samples, new names and spans too, and those around it are all there, once, and readable by all."""
    from tests.recording.test_segments import decode_file

    segment_size(SMALL)
    recorder = make()
    recorder.log(loss=0.0)
    inside: list[float] = []
    expected = {0.0}

    def record(*_given: Any) -> None:
        number = 1e6 + len(inside)
        inside.append(number)
        recorder.log(**{f"inside{len(inside) % 7}": number})
        if len(inside) % 3 == 0:
            recorder.roll()
        recorder.note(EVENT, {"name": "inside"}, clean=True)
        recorder.note(SPAN_STARTED, {"name": "a", "span_id": f"{len(inside) % 5:x}"}, clean=True)
        recorder.log(loss=-number)

    on_signal(record)
    places = EveryCall(lambda: os.kill(os.getpid(), signal.SIGUSR1))
    n, is_more = 0, True
    while is_more:
        n += 1

        def roll(n: int = n) -> None:
            recorder.roll()
            recorder.log(**{"outside": float(n), f"o{n % 5}": float(n)})

        is_more = places.run(n, roll)
        expected.add(float(n))
        recorder.keep(recorder.drain())
        for segment in recorder.sealed():
            recorder.release(segment, unlink=False)
    expected |= set(inside) | {-number for number in inside}
    assert n > 100
    recorder.end("completed")
    rows = recorder.rows()
    assert {value for row in rows for value in row[3].values()} == expected
    assert len(rows) == 1 + n + 2 * len(inside)
    paths = sorted(recorder.folder.glob("*.seg"))
    assert [int(path.stem[-6:]) for path in paths] == list(range(len(paths)))
    seqs, found = [], set()
    for path in paths:
        seq, values = decode_file(path)
        seqs += seq
        found |= {value for row in values for value in row}
    assert seqs == list(range(len(rows)))
    assert found == expected
    assert recorder.dropped == recorder.notes_dropped == 0


def test_a_finalizer_that_records_in_a_roll(
    make: Any, segment_size: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A garbage collection comes wherever it likes."""
    segment_size(SMALL)
    recorder = make()

    class Late:
        def __del__(self) -> None:
            recorder.log(inside=1.0)

    recorder.log(loss=0.0)
    install = Segment.install

    def collected(segment: Segment, name: str) -> None:
        late = Late()
        late.itself = late  # type: ignore[attr-defined]
        del late
        gc.collect()
        install(segment, name)

    monkeypatch.setattr(Segment, "install", collected)
    recorder.roll()
    monkeypatch.undo()
    recorder.log(loss=1.0)
    assert recorder.values() == [{"loss": 0.0}, {"inside": 1.0}, {"loss": 1.0}]


def test_finalizers_that_record_new_names_in_a_roll(make: Any, segment_size: Callable[[int], None]) -> None:
    """Each allocation in it may collect garbage, which changes what the roll is looking through."""
    segment_size(HEADER_BYTES + (64 << 10))
    recorder = make()
    logged = 0

    class Late:
        def __del__(self) -> None:
            nonlocal logged
            if logged < 200:
                logged += 1
                late = Late()  # the next collection finds it
                late.itself = late  # type: ignore[attr-defined]
                recorder.log({f"inside_{logged}": 1.0})

    recorder.log(loss=0.0)
    late = Late()
    late.itself = late  # type: ignore[attr-defined]
    del late
    before = gc.get_threshold()
    try:
        for i in range(20):
            gc.set_threshold(1)
            recorder.roll()
            gc.set_threshold(*before)
            recorder.log(loss=i + 1.0)
    finally:
        gc.set_threshold(*before)
    logged, count = 200, logged
    names = [name for row in recorder.values() for name in row]
    assert sorted(names) == sorted(["loss"] * 21 + [f"inside_{i + 1}" for i in range(count)])
    assert recorder.dropped == 0
    assert count > 20


def test_a_layout_whose_definition_was_interrupted_names_nothing_else(recorder: Any, on_signal: Any) -> None:
    """The next one has an id of its own: else its samples would have other names."""
    recorder.log(loss=0.0)
    put = recorder.namespace["put"]

    def late(record: bytes) -> None:
        put(record)
        raise KeyboardInterrupt

    recorder.namespace["put"] = late
    with pytest.raises(KeyboardInterrupt):
        recorder.log(a=1.0)
    recorder.namespace["put"] = put
    recorder.log(b=2.0)
    recorder.log(a=3.0)
    assert recorder.values() == [{"loss": 0.0}, {"b": 2.0}, {"a": 3.0}]
    from tests.recording.test_segments import decode_file

    assert decode_file(recorder.segment.path)[1] == [[0.0], [2.0], [3.0]]


def test_the_end_in_the_middle_of_a_roll(
    make: Any, segment_size: Callable[[int], None], on_signal: Any
) -> None:
    """A handler that closes the run: nothing is written behind the end, and no file stays behind."""
    segment_size(SMALL)
    n, is_more = 0, True
    while is_more:
        n += 1
        recorder = make()
        recorder.log(loss=0.0)
        on_signal(lambda *_, recorder=recorder: recorder.end("by hand"))
        places = EveryCall(lambda: os.kill(os.getpid(), signal.SIGUSR1))
        is_more = places.run(n, recorder.roll)
        if not is_more:
            recorder.end("completed")
        recorder.log(loss=1.0)
        assert recorder.values() == [{"loss": 0.0}]
        assert recorder.dropped == 1
        assert [path.suffix for path in recorder.folder.glob(".*")] == []
        for segment in recorder.sealed():
            recorder.release(segment, unlink=True)
        assert list(recorder.folder.iterdir()) == []
    assert n > 50
    assert segment_log.not_ready is recorder.namespace["put"]
