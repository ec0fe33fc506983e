"""A recorder that begins by itself, and what came out of it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from entrenar_processors import Samples

from entrenar_otel.recording.recorder import Recorder

Stop = tuple[float, int | None, int | None, int | None]


class Kit(Recorder):
    """A recorder of its own folder, which notes its stops and keeps what was drained."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(
            begin=self.start,
            on_bad_loss=lambda _series, *stop: self.stops.append(stop),
            on_held=lambda: None,
            **options,
        )
        self.folder = folder
        self.stops: list[Stop] = []
        self.drained: dict[int, tuple[int, int, int, dict[str, float]]] = {}

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        self.open(self.folder, {"run_id": "r"})

    def keep(self, samples: Samples) -> None:
        for block in samples.blocks:
            coordinates = (block.epoch.tolist(), block.batch.tolist(), block.step.tolist())
            rows = zip(block.seq.tolist(), *coordinates, block.values.tolist(), strict=True)
            for seq, epoch, batch, step, values in rows:
                assert seq not in self.drained, "a row came out twice"
                named = dict(zip(map(str, block.series), values, strict=True))
                self.drained[seq] = (epoch, batch, step, named)

    def rows(self) -> list[tuple[int, int, int, dict[str, float]]]:
        """All rows so far, in order of their seq, which has no gap."""
        self.keep(self.drain())
        assert sorted(self.drained) == list(range(len(self.drained)))
        return [self.drained[seq] for seq in range(len(self.drained))]

    def values(self) -> list[dict[str, float]]:
        return [row[3] for row in self.rows()]

    def without_slow_path(self) -> None:
        """From here on, whatever is not the fast path fails the test."""

        def slow(*given: Any) -> None:
            raise AssertionError(f"not the fast path: {given}")

        for name in [n for n in self.namespace if n.startswith("slow")]:
            self.namespace[name] = slow


@pytest.fixture
def make(tmp_path: Path, core: str) -> Iterator[Callable[..., Kit]]:
    """Makes a recorder, whose files are closed in the end; `raise_on_bad_value` is an option."""
    kits: list[Kit] = []

    def make_kit(**options: Any) -> Kit:
        kits.append(Kit(tmp_path / "live", **options))
        return kits[-1]

    yield make_kit
    for kit in kits:
        kit.abandon()


@pytest.fixture
def recorder(make: Callable[..., Kit]) -> Kit:
    return make()


class Threads:
    """Threads that work until they are joined; what they raise is in `failures`."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.running = threading.Event()
        self.running.set()

    def start(self, work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:
                self.failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def repeat(self, work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            while self.running.is_set():
                work()

        return self.start(run)


@pytest.fixture
def threads() -> Threads:
    return Threads()


@pytest.fixture
def on_signal() -> Iterator[Callable[[Any], None]]:
    """Sets what SIGUSR1 does."""
    before = signal.getsignal(signal.SIGUSR1)

    def set_handler(handler: Any) -> None:
        signal.signal(signal.SIGUSR1, handler)

    yield set_handler
    signal.signal(signal.SIGUSR1, before)
