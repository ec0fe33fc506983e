"""The one queue: nothing waits for a receiver, what finds no room is counted, and the policy says which."""

from __future__ import annotations

import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel import errors
from entrenar_otel.delivery import bounded_queue
from entrenar_otel.delivery.bounded_queue import BoundedQueue
from entrenar_otel.delivery.losses import Losses
from entrenar_otel.delivery.overflow import DropOldest, DropStale, Overflow
from entrenar_otel.delivery.worker import stop_all


class Receiver:
    """Keeps what it gets; while `gate` is shut it hangs."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = threading.Event()
        self.entered = threading.Event()

    def take(self, batch: Sequence[str]) -> None:
        self.entered.set()
        self.gate.wait()
        self.batches.append(list(batch))

    @property
    def got(self) -> str:
        return "".join(item for batch in self.batches for item in batch)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.gate.set()


def queue_of(
    deliver: Callable[[Sequence[str]], object],
    losses: Losses,
    *,
    overflow: Overflow[str] | None = None,
    limit: int = 3,
    max_batch: int = 1,
    delay_seconds: float | None = None,
    weigh: Callable[[str], int] | None = None,
    finish: Callable[[], object] = lambda: None,
) -> BoundedQueue[str]:
    return BoundedQueue(
        "receiver",
        deliver,
        limit=limit,
        overflow=overflow or Overflow(),
        lost=losses.counter("items", "receiver"),
        too_slow="receiver is too slow",
        max_batch=max_batch,
        delay_seconds=delay_seconds,
        weigh=weigh,
        finish=finish,
    )


def refuse_to_start(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread at interpreter shutdown")


def case_of(item: str) -> tuple[str, bool]:
    """Letters are news about the letter; the capital is the last word."""
    return item.lower(), item.isupper()


@pytest.mark.parametrize(
    ("overflow", "items", "left", "lost"),
    [
        (Overflow[str](), "abcdef", "abc", 3),
        (DropOldest[str](), "abcdef", "def", 3),
        (DropStale(case_of), "aba", "aba", 0),
        (DropStale(case_of), "abac", "bac", 1),  # the first a is no news any more
        (DropStale(case_of), "abAcd", "Acd", 2),  # a firing, replaced by its end, then b, the oldest firing
        (DropStale(case_of), "ABCd", "BCd", 1),  # nothing is replaceable: the oldest end
    ],
)
def test_what_makes_room(
    overflow: Overflow[str],
    items: str,
    left: str,
    lost: int,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By the policy; counted, and said once."""
    losses = Losses()
    queue = queue_of(receiver.take, losses, overflow=overflow)
    queue.put("!")
    assert receiver.entered.wait(20)
    for item in items:
        queue.put(item)
    assert "".join(queue.waiting()) == left
    receiver.gate.set()
    assert queue.stop(20)
    assert (receiver.got, losses.snapshot()) == (f"!{left}", [(("items", "receiver"), lost)])
    assert caplog.text.count("receiver is too slow") == bool(lost)


@given(items=st.lists(st.integers(1, 5), max_size=40), limit=st.integers(1, 12), oldest=st.booleans())
def test_weights_add_up(items: list[int], limit: int, oldest: bool) -> None:
    """What waits, what was lost: together all there was, and never more than the limit but for one item."""
    losses, gate, entered = Losses(), threading.Event(), threading.Event()
    delivered: list[str] = []

    def take(batch: Sequence[str]) -> None:
        entered.set()
        gate.wait()
        delivered.extend(batch)

    queue = queue_of(take, losses, overflow=DropOldest() if oldest else Overflow(), limit=limit, weigh=len)
    queue.put("x")
    assert entered.wait(20)
    for weight in items:
        queue.put("y" * weight)
        waiting = queue.waiting()
        assert sum(map(len, waiting)) <= limit or len(waiting) == 1
    gate.set()
    assert queue.stop(20)
    (lost,) = (n for _, n in losses.snapshot())
    assert sum(map(len, delivered)) + lost == sum(items) + 1


def test_batches_wait_for_their_delay(receiver: Receiver) -> None:
    """A full batch leaves at once, a part of one when it is hurried, flushed, or the queue is stopped."""
    receiver.gate.set()
    queue = queue_of(receiver.take, Losses(), limit=100, max_batch=2, delay_seconds=1000.0)
    for item in "ab":
        queue.put(item)
    assert receiver.entered.wait(20)
    queue.put("c")
    assert queue.flush(20)
    queue.put("d")
    assert queue.stop(20)
    assert receiver.batches == [["a", "b"], ["c"], ["d"]]


def test_a_receiver_that_hangs_is_left_behind(receiver: Receiver) -> None:
    """What waits for it is lost then, and what it hangs with: whether that arrives yet, nobody knows."""
    losses = Losses()
    queue = queue_of(receiver.take, losses)
    for item in "abcd":
        queue.put(item)
        assert receiver.entered.wait(20)
    assert not queue.stop(0.05)
    assert (queue.give_up(), queue.waiting(), losses.text()) == (4, [], "4 items (receiver)")


@pytest.mark.parametrize("how", ["raises", "says False"])
def test_a_batch_that_was_not_taken_is_lost(how: str) -> None:
    """By its weight, once; the next one is delivered."""
    losses, got = Losses(), list[str]()
    errors.set_strict(False)

    def take(batch: Sequence[str]) -> bool:
        if batch[0] != "bad":
            got.extend(batch)
            return True
        if how == "raises":
            raise ConnectionError("nobody there")
        return False

    queue = queue_of(take, losses, limit=20, weigh=len)
    for item in ("good", "bad", "fine"):
        queue.put(item)
    assert queue.stop(20)
    assert (got, losses.text()) == (["good", "fine"], "3 items (receiver)")


def test_a_failure_after_it_was_given_up_is_not_counted_twice() -> None:
    """The receiver comes back when the run has ended, and fails."""
    losses, gate, entered = Losses(), threading.Event(), threading.Event()

    def take(_batch: Sequence[str]) -> bool:
        entered.set()
        gate.wait(20)
        return False

    queue = queue_of(take, losses)
    queue.put("a")
    assert entered.wait(20)
    assert not queue.stop(0.05)
    assert queue.give_up() == 1
    gate.set()
    assert queue.stop(20)
    assert losses.text() == "1 item (receiver)"


def test_a_put_at_every_bytecode(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A garbage collection may end a span anywhere in here, in this very thread: nothing fails or is lost."""
    receiver.gate.set()
    losses = Losses()
    queue = queue_of(receiver.take, losses, limit=10**6, max_batch=4, delay_seconds=1000.0)
    monkeypatch.setattr(threading.Thread, "start", refuse_to_start)  # so that all of it happens here
    left = 3000

    def interrupt(frame: FrameType, event: str, _argument: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = True
        if event == "opcode" and left and frame.f_code.co_filename == bounded_queue.__file__:
            left -= 1
            queue.put("i")
        return interrupt

    before = sys.gettrace()
    here = inspect.currentframe()
    assert here is not None
    here.f_trace_opcodes = True  # Python 3.12 looks for it when tracing begins
    sys.settrace(interrupt)
    try:
        for _ in range(5):
            queue.put("p")
        assert queue.stop(20)
    finally:
        sys.settrace(before)
    assert left == 0
    assert (receiver.got.count("p"), receiver.got.count("i"), losses.text()) == (5, 3000, "")


def test_a_put_within_a_put(receiver: Receiver) -> None:
    """A garbage collection may end a span while another is put, by the same thread: no lock is waited for."""
    losses = Losses()

    class Nested(Overflow[str]):
        def before(self, item: str) -> None:
            if item == "outer":
                queue.put("inner")

    queue = queue_of(receiver.take, losses, overflow=Nested(), limit=5)
    queue.put("!")
    assert receiver.entered.wait(20)
    queue.put("outer")
    assert (queue.waiting(), losses.text()) == (["inner", "outer"], "")


def test_where_no_thread_can_be_started(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the end of the interpreter, from Python 3.12 on: what waits is delivered by who stops."""
    receiver.gate.set()
    ends: list[str] = []
    queue = queue_of(receiver.take, Losses(), finish=lambda: ends.append("finish"))
    monkeypatch.setattr(threading.Thread, "start", refuse_to_start)
    queue.put("a")
    assert stop_all([queue], 1) == []
    assert (receiver.batches, ends) == ([["a"]], ["finish"])


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # of forking beside threads
def test_a_forked_child_queues_nothing(receiver: Receiver) -> None:
    """It has the queue, and not the thread."""
    receiver.gate.set()
    queue = queue_of(receiver.take, Losses())
    queue.put("a")
    assert queue.flush(20)
    if (pid := os.fork()) == 0:  # pragma: no cover
        queue.put("b")
        os._exit(len(queue.waiting()) + 2 * (not queue.stop(1)))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert queue.stop(20)
    assert receiver.got == "a"
