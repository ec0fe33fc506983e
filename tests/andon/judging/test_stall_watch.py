"""Stall watch: when silence is a hang, and when it is not; by the clock of the test."""

from __future__ import annotations

import contextlib
import gc
import queue
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from entrenar_processors import Samples, Series
from entrenar_processors.config.models import StalledSettings

from entrenar_otel.andon.judging.stacks import Stacks
from entrenar_otel.andon.judging.stall_watch import LoopPlace, StallWatch

SETTINGS = StalledSettings()


class Run:
    """A watch whose loop and clock the test moves, in ticks of a second."""

    def __init__(self, settings: StalledSettings = SETTINGS, interval_seconds: float = 1.0) -> None:
        self.loop: LoopPlace = ("steps", None)
        self.place: tuple[int | None, int | None, int | None] = (0, 0, 0)
        self.watch = StallWatch(settings, lambda: self.loop, lambda: self.place, interval_seconds)
        self.seconds = 1000.0
        self.is_paused = False

    def steps(self, count: int, seconds: float = 0.1) -> list[str]:
        """One tick in which so many steps were recorded."""
        return self.tick(step_duration=[seconds] * count, loss=[1.0] * count)

    def tick(self, after: float = 1.0, **columns: list[float]) -> list[str]:
        """What is said; `columns` were recorded meanwhile."""
        self.seconds += after
        if columns:
            self.watch.consume(Samples.from_columns(columns))
        now_ns = round(self.seconds * 1e9)
        findings = self.watch.on_tick(self.seconds, now_ns, is_paused=self.is_paused)
        return [("resolved: " if one.resolved else "") + one.text for one in findings]

    def silence(self, seconds: int) -> Iterator[tuple[int, str]]:
        """What is said in so many ticks in which nothing is recorded, and in which."""
        for number in range(1, seconds + 1):
            for said in self.tick():
                yield number, said


@pytest.mark.parametrize(
    ("phase", "step_seconds", "expected"),
    [("steps", 0.1, 60), ("steps", 5.0, 100), ("epochs", 0.1, 300), ("unknown", 20.0, 400)],
)
def test_when_it_is_said(phase: Any, step_seconds: float, expected: int) -> None:
    """After max(60 s, 20 × the median step) within steps(), 300 s elsewhere; once, and that it went on."""
    run = Run()
    run.loop = (phase, None)
    run.steps(10, step_seconds)
    said = [*run.silence(1000)]
    assert [number for number, _ in said] == [expected]
    assert said[0][1].startswith("no step for ")
    assert " MainThread is in " in said[0][1]
    assert run.steps(1) == ["resolved: it went on after 16m 40s"]
    assert run.steps(1) == []


@pytest.mark.parametrize("phase", ["steps", "epochs"])
def test_a_loop_that_hangs_before_its_third_step(phase: Any) -> None:
    """Nobody knows how long a step takes: it has 600 s, for a loader that starts, or a compilation."""
    run = Run()
    run.loop = (phase, None)
    ((number, said),) = run.silence(1000)
    assert (number, said.partition(";")[0]) == (601, "no step for 10m, and none before")
    assert run.steps(1) == ["resolved: it went on after 16m 39s"]
    ((number, said),) = run.silence(1000)
    assert (number, said.partition(";")[0]) == (600, "no step for 10m, after the first one")
    run.steps(1)
    assert [said.partition(";")[0] for _, said in run.silence(600)] == ["no step for 10m, after the first 2"]
    run.loop = ("steps", None)
    run.steps(1)  # what came before is not what a step takes
    run.steps(1)
    assert [number for number, _ in run.silence(1000)] == [60]


def test_a_loop_that_has_not_begun_is_no_hang() -> None:
    """A program prepares its data for hours; then its loop has all its time."""
    run = Run()
    run.loop = ("unknown", None)
    assert [*run.silence(10_000)] == []
    run.loop = ("steps", None)
    assert [number for number, _ in run.silence(1000)] == [601]


def test_a_few_steps_that_are_marked_are_a_loop() -> None:
    """Between two of `with monitor.step()` nobody says what goes on."""
    run = Run(StalledSettings(min_seconds_first=100))
    run.steps(2)
    run.loop = ("unknown", None)
    run.tick()
    assert [number for number, _ in run.silence(1000)] == [100]


class Batches:
    """Batches that do not come; `asked` is how often one was asked for."""

    def __init__(self) -> None:
        self.queue: queue.Queue[None] = queue.Queue()
        self.asked = 0
        self.is_over = False

    def get(self, timeout: float | None = None) -> None:
        self.asked += 1
        self.queue.get(timeout=timeout)

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> None:
        self.get()

    def by_generator(self) -> Iterator[None]:
        while True:
            yield self.get()

    def by_polling(self) -> Iterator[None]:
        while not self.is_over:
            with contextlib.suppress(queue.Empty):
                self.get(timeout=0.001)
        yield


@contextlib.contextmanager
def within(call: Callable[[], object], batches: Batches) -> Iterator[int]:
    """A thread that waits within this call, until the end."""
    thread = threading.Thread(target=call)
    thread.start()
    assert thread.ident is not None
    try:
        yield thread.ident
    finally:
        batches.is_over = True
        batches.queue.put(None)
        thread.join()


@pytest.mark.parametrize(
    ("call", "is_polling", "expected"),
    [
        (next, False, 60),
        (lambda batches: next(batches.by_generator()), False, 60),
        (lambda batches: next(map(id, zip(batches, strict=True))), False, 60),
        (Batches.get, False, 300),
        (lambda batches: next(batches.by_polling()), True, 300),
    ],
    ids=["iterator", "generator", "behind iterators in C", "no loader", "another call each time"],
)
def test_a_loop_that_waits_in_its_loader_between_steps(
    call: Any, is_polling: bool, expected: int, wait_until: Any
) -> None:
    """It is known by the stack: then 60 s, and 20 × the median step, are enough there too."""
    batches, run = Batches(), Run()
    run.steps(10)
    with within(lambda: call(batches), batches) as thread:
        wait_until(lambda: any(frame.module == "threading" for frame in Stacks(thread).of_loop[:1]))
        run.loop = ("epochs", thread)
        run.tick()
        number, said = 0, list[str]()
        while not said:
            number, asked = number + 1, batches.asked
            if is_polling:
                wait_until(lambda before=asked: batches.asked > before, every_seconds=0.0005)
            said = run.tick()
    assert number == expected


def test_an_evaluation_is_no_loader(wait_until: Any) -> None:
    """Its own iterator comes to its next batch again and again: it has its 300 s."""
    batches, run = Batches(), Run()
    said = list[str]()

    def evaluate() -> None:
        while not said:
            next(batches)

    run.steps(10)
    with within(evaluate, batches) as thread:
        run.loop = ("epochs", thread)
        run.tick()
        number = 0
        while not said:
            number, asked = number + 1, batches.asked
            if number % 20 == 0:
                batches.queue.put(None)
                wait_until(lambda before=asked: batches.asked > before)
            said += run.tick()
    assert number == 300


@pytest.mark.parametrize(
    "life",
    [
        lambda run, _n: run.tick(val_loss=[0.5]),
        lambda run, n: (setattr(run, "place", (0, n, 0)), run.tick())[1],
        lambda run, n: (setattr(run, "place", (n, None, None)), run.tick())[1],
        lambda run, _n: (setattr(run, "is_paused", True), run.tick())[1],
        lambda run, _n: (setattr(run, "loop", ("over", None)), run.tick())[1],
    ],
    ids=["a validation that logs", "an inner loop", "epochs", "a pause", "the loop is over"],
)
def test_what_is_no_hang(life: Any) -> None:
    run = Run()
    run.steps(10)
    for number in range(20):
        assert life(run, number) == []
        run.is_paused, run.loop = False, ("steps", None)
        assert [*run.silence(50)] == []


def test_what_is_measured_of_the_machine_is_no_sign_of_life() -> None:
    run = Run()
    run.steps(10)
    machine: dict[str, Any] = {"process.cpu.utilization": [0.5], "hw.gpu.utilization": [0.0]}
    said = [run.tick(1.0, **machine) for _ in range(61)]
    assert [len(one) for one in said] == [*[0] * 59, 1, 0]


def test_time_in_which_nobody_looked_does_not_count() -> None:
    """A suspended process: its heartbeat stood still as well."""
    run = Run()
    run.steps(10)
    assert [*run.silence(30)] == []
    assert run.tick(after=100_000) == []
    assert [*run.silence(27)] == []
    assert [number for number, _ in run.silence(3)] == [1]


def test_a_silence_that_ended_by_itself_is_normal_from_then_on() -> None:
    """An evaluation that logs nothing is told of once, not each time; but a hang is."""
    run = Run()
    run.steps(10)
    assert len([*run.silence(100)]) == 1
    run.steps(10)
    for _ in range(3):
        assert [*run.silence(150)] == []
        run.steps(10)
    assert [number for number, _ in run.silence(1000)] == [300]


def test_what_lasted_a_night_does_not_make_it_blind() -> None:
    run = Run()
    run.steps(10)
    assert len([*run.silence(30_000)]) == 1
    run.steps(10)
    assert [number for number, _ in run.silence(4000)] == [3600]


def test_a_program_that_only_logs() -> None:
    """Its usual step is the time between two steps it logs, however many calls there are for each."""
    run = Run()
    run.loop = ("unknown", None)
    for step in range(1, 6):
        for metric in ("loss", "accuracy"):
            run.seconds += 20
            columns = {metric: [1.0]}
            run.watch.consume(Samples.from_columns(columns, step=[step], time_ns=[round(run.seconds * 1e9)]))
        run.tick()
    assert [number for number, _ in run.silence(1000)] == [820]


def test_a_program_that_logs_no_steps() -> None:
    run = Run()
    run.loop = ("unknown", None)
    for _ in range(5):
        run.seconds += 29
        run.watch.consume(Samples.from_columns({"loss": [1.0]}, time_ns=[round(run.seconds * 1e9)]))
        run.tick()
    assert [number for number, _ in run.silence(1000)] == [600]


def test_validation_steps_do_not_count_as_steps() -> None:
    """Their times are others: the median is that of training steps."""
    run = Run()
    run.steps(5, 10.0)
    validation = Series.of("step_duration", {"split": "validation"})
    run.watch.consume(Samples.from_columns({validation: [0.01] * 100}))
    run.tick()
    assert [number for number, _ in run.silence(1000)] == [200]


def test_the_stacks_are_those_of_all_threads() -> None:
    """The loop's comes first, with the function that waits; others are there too."""
    waits, go = threading.Event(), threading.Event()

    def batches_that_never_come() -> None:
        waits.set()
        go.wait()

    thread = threading.Thread(target=batches_that_never_come, name="loop \x1b[31m")
    thread.start()
    waits.wait()
    try:
        run = Run()
        run.steps(10)
        run.loop = ("steps", thread.ident)
        ((_, said),) = run.silence(60)
    finally:
        go.set()
        thread.join()
    assert "; loop ?[31m is in batches_that_never_come (test_stall_watch.py:" in said
    text = run.watch.stacks
    assert text.startswith("Training stalled: no step for 1m")
    assert text.index("Thread loop ?[31m") < text.index("Thread MainThread")
    assert ", in Condition.wait\n" in text
    assert "\x1b" not in text


def test_what_it_keeps_of_a_tick_is_little() -> None:
    """Where no steps are timed it keeps some times of the last ticks, and not the ticks that they are of."""
    run = Run()
    values = [1.0] * 20_000
    run.tick(loss=values)
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(20):
            run.tick(loss=values)
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 5 * 20_000 * 8  # less than the times of five ticks, whatever other threads hold
