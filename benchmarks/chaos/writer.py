"""Writer: a process that records until it is killed, in every way, and says what was acknowledged."""

from __future__ import annotations

import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from benchmarks.chaos.acks import CALLS, CAUGHT, DONE, RAISED, Acks
from benchmarks.chaos.place import Place
from entrenar_otel import Monitor
from entrenar_otel.recording.segment import Segment

WIDTH = 5
NAMES = [f"m{j}" for j in range(WIDTH)]
_BURST = 100


class Interrupt(Exception):
    """What a signal handler raises, somewhere in the loop."""


class Garbage:
    """Logs when it is collected, wherever that is."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self.me = self  # only the collector of cycles finds it

    def __del__(self) -> None:
        self.log()


class Writer:
    """One run. `kinds`: `raising` signal handlers, `reentrant` logs from handlers and finalisers."""

    def __init__(self, place: Place, run_id: str, seed: int, kinds: list[str]) -> None:
        self.random = random.Random(seed)
        self.kinds = kinds
        self.acks = Acks(place.acks / run_id)
        self.stop = place.stop / run_id
        Segment.create.__func__.__defaults__ = (self.random.choice((64, 128, 256)) << 10,)  # type: ignore[attr-defined]
        self.monitor = Monitor(
            run_id,
            lake=place.lake,
            quiet=True,
            settings_file=None,
            interval_seconds=0.02,
            on_bad_value="warn",
        )
        self.log = self.monitor.log
        self.bound = self.monitor.bind(*NAMES)
        self.next = [0, 0, 0, 0]
        self.raises: list[type[BaseException]] = [Interrupt, KeyboardInterrupt]

    def run(self) -> None:
        self.monitor.start()
        threading.Thread(target=self.second_thread, daemon=True).start()
        if self.kinds:
            signal.signal(signal.SIGALRM, self.on_alarm)
            self.arm()
        over = False
        while not over:
            try:
                self.loop()
                over = True
            except (Interrupt, KeyboardInterrupt):
                self.acks.add(CAUGHT)
        signal.setitimer(signal.ITIMER_REAL, 0)
        self.monitor.close()
        self.acks.add(DONE)

    def arm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, self.random.uniform(0.002, 0.03))

    def on_alarm(self, _number: int, frame: FrameType | None) -> None:
        if self.stop.exists():
            return
        self.arm()
        if "reentrant" in self.kinds:
            self.once(2)
        if "raising" in self.kinds and _is_below(Writer.loop, frame):
            self.acks.add(RAISED)
            raise self.random.choice(self.raises)

    def once(self, stream: int) -> None:
        """One call that interrupts others: its number is taken first, and given to nobody again."""
        i = self.next[stream]
        self.next[stream] = i + 1
        if i < CALLS:
            at, map_ = self.acks.start(stream) + i, self.acks.map
            map_[at] = 2
            self.log(epoch=stream, step=i, **values(stream, i))
            if not self.monitor.dropped:
                map_[at] = 1

    def loop(self) -> None:
        """The main thread's calls, until it is stopped or interrupted."""
        map_, start, log, monitor = self.acks.map, self.acks.start(0), self.log, self.monitor
        while self.next[0] < CALLS and not self.stop.exists():
            for _ in range(_BURST):
                i = self.next[0]
                self.next[0] = i + 1
                if i >= CALLS:
                    return
                map_[start + i] = 2
                tags = {"group": i // 1000 % 3} if not i % 500 else None
                log(epoch=0, step=i, tags=tags, **values(0, i))
                if not monitor.dropped:  # the run has ended, and says so
                    map_[start + i] = 1
            if "reentrant" in self.kinds:
                Garbage(lambda: self.once(3))
            time.sleep(0.005)

    def second_thread(self) -> None:
        map_, start, bound, monitor = self.acks.map, self.acks.start(1), self.bound, self.monitor
        for i in range(CALLS):
            map_[start + i] = 2
            bound(*values(1, i).values(), epoch=1, step=i)
            if not monitor.dropped:
                map_[start + i] = 1
            if not i % _BURST:
                time.sleep(0.005)
                if self.stop.exists():
                    return


def _is_below(function: Callable[..., Any], frame: FrameType | None) -> bool:
    """Whether this frame was called by the function: what is raised elsewhere, nobody here would catch."""
    while frame is not None:
        if frame.f_code is function.__code__:
            return True
        frame = frame.f_back
    return False


def values(stream: int, i: int) -> dict[str, float]:
    """What call `i` of a stream records: every value says where it belongs."""
    return {name: stream * 1e9 + i + j / 64 for j, name in enumerate(NAMES)}


def write(place: Place, run_id: str, seed: int, kinds: list[str]) -> None:
    """The role."""
    if os.environ.get("LD_PRELOAD"):
        # libfaketime refuses a sleep that is over by the time it is asked for
        time.sleep = lambda seconds: select.select((), (), (), float(seconds)) and None
    Writer(place, run_id, seed, kinds).run()
