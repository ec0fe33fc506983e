"""Run: the sink as a process, until a signal; what it tells the person at the terminal."""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from entrenar_processors.counts import counted

from entrenar_otel.console import say
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.sink import memory
from entrenar_otel.sink.roll_loop import Rolling
from entrenar_otel.sink.service import Sink, SinkSettings

_LOOK_SECONDS = 0.5
#: How long the roll may keep the interpreter from those who wait for an acknowledgement; 5 ms by default.
_SWITCH_SECONDS = 0.0005
#: Between two lines about what arrived, at least.
_REPORT_SECONDS = 60.0
#: Before the first of them: something is stored by then.
_FIRST_SECONDS = 10.0


def run_sink(storage: Storage, settings: SinkSettings) -> None:
    """Receive until SIGINT or SIGTERM, then end in order. A second signal ends at once."""
    stops = threading.Event()

    def stop(number: int, _frame: FrameType | None) -> None:
        stops.set()
        signal.signal(number, signal.SIG_DFL)

    sys.setswitchinterval(_SWITCH_SECONDS)
    memory.set_up()
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        sink = Sink(storage, settings, open_roller=_open_roller)
        say(sink.start())
        progress = _Progress(sink)
        while not stops.wait(_LOOK_SECONDS):
            progress.look()
        say("stopping: what was acknowledged is being brought into the lake")
        sink.stop()
        progress.total()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _open_roller(storage: Storage, state: Path) -> Rolling:
    from entrenar_otel.sink.roller import Roller

    return Roller(storage, state)


class _Count(NamedTuple):
    """What arrived, and what became of it."""

    requests: int
    values: int
    others: int

    @classmethod
    def of(cls, sink: Sink) -> _Count:
        """Since the sink began."""
        roller = sink.loop.roller
        requests = sink.receiver.requests.total()
        return cls(requests, *((roller.samples, roller.foreign_rows) if roller is not None else (0, 0)))

    def __str__(self) -> str:
        others = f" and {counted(self.others, 'row')} of clients other than runs" if self.others else ""
        return f"{counted(self.requests, 'request')} received, {counted(self.values, 'value')}{others} stored"


class _Progress:
    """Says now and then what arrived; nothing where nothing did."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._told = sink, _Count(0, 0, 0)
        self._due = time.monotonic() + _FIRST_SECONDS

    def look(self) -> None:
        now = _Count.of(self._sink)
        if time.monotonic() < self._due or now == self._told:
            return
        self._due = time.monotonic() + _REPORT_SECONDS
        since = _Count(*(new - old for new, old in zip(now, self._told, strict=True)))
        say(f"{since}, {self._sink.receiver.backlog_bytes():,} bytes wait")
        self._told = now

    def total(self) -> None:
        say(f"in all, {_Count.of(self._sink)}")
