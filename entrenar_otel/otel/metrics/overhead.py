"""Overhead: what monitoring costs, measured on the calls that the loop really makes.

Once per heartbeat, each function of the hot path is armed: its code is swapped for one that times the
next call and swaps the code back. So one real call per second is timed, with the caches as cold as
they are, and all others pay nothing for it: there is no clock and no branch in them.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import entrenar_native

if TYPE_CHECKING:
    from entrenar_native._core import Call

_numbers = itertools.count()
#: How much of an older measurement is left in the mean after a new one.
_MEMORY = 0.8


class Probe:
    """Times one call of a function each time it is armed; `mean_ns` is an exponential mean.

    >>> def work(number): return number + 1
    >>> probe = Probe(work)
    >>> probe.arm()
    >>> work(1), work(2), probe.calls
    (2, 3, 1)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        if not isinstance(function, FunctionType):
            raise TypeError(f"expected a function of Python, got {function!r}")
        self.calls = 0
        self.mean_ns = 0.0
        self.function = function
        self._plain: CodeType = function.__code__
        # The same code, as a function that is never armed.
        self._twin = FunctionType(self._plain, function.__globals__, function.__name__, function.__defaults__)
        self._twin.__kwdefaults__ = function.__kwdefaults__
        name = f"probe_{next(_numbers)}"
        function.__globals__[name] = self._time
        source = f"def armed(*args, **kwargs):\n    return {name}(args, kwargs)\n"
        made: dict[str, Any] = {}
        exec(compile(source, "<entrenar_otel probe>", "exec"), {}, made)  # noqa: S102 - our own text
        self._armed: CodeType = made["armed"].__code__

    def arm(self, is_armed: bool = True) -> None:
        """Time the next call, or no call."""
        self.function.__code__ = self._armed if is_armed else self._plain

    def _time(self, args: Any, kwargs: Any) -> Any:
        self.function.__code__ = self._plain
        start = time.perf_counter_ns()
        try:
            return self._twin(*args, **kwargs)
        finally:
            took = time.perf_counter_ns() - start
            self.calls += 1
            keep = _MEMORY if self.calls > 1 else 0.0
            self.mean_ns = keep * self.mean_ns + (1.0 - keep) * took


class Overhead:
    """The share of wall time that monitoring took, over the last heartbeats.

    `spent(seconds)` adds what was timed where it happened (spans). `tick` is called by the heartbeat;
    `clock` gives its seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.ratio = 0.0
        self._lock = threading.RLock()
        #: By the function's identity; one of the native core has its own.
        self.probes: dict[int, Probe | Call] = {}
        self._spent = 0.0
        self._clock = clock
        self._since = clock()
        self._cpu = 0.0
        self._first = True

    def watch(self, functions: Iterable[Callable[..., Any]]) -> None:
        """Time these functions too; those that are watched already stay as they are."""
        for function in functions:
            if id(function) in self.probes:
                continue
            if isinstance(function, FunctionType):
                self.probes[id(function)] = Probe(function)
            elif entrenar_native.core is not None and isinstance(function, entrenar_native.core.Call):
                self.probes[id(function)] = function

    def spent(self, seconds: float) -> None:
        """Time that monitoring took elsewhere."""
        with self._lock:
            self._spent += seconds

    def tick(self, calls: int, threads_cpu_seconds: float) -> float:
        """The heartbeat's turn: `calls` were recorded since the last one. Returns the new ratio."""
        now = self._clock()
        wall, self._since = now - self._since, now
        with self._lock:
            spent, self._spent = self._spent, 0.0
        cpu, self._cpu = threads_cpu_seconds - self._cpu, threads_cpu_seconds
        timed = [probe for probe in self.probes.values() if probe.calls]
        if timed:
            spent += calls * sum(probe.mean_ns for probe in timed) / len(timed) / 1e9
        if wall > 0:
            share = min(1.0, (spent + cpu) / wall)
            self.ratio = share if self._first else 0.7 * self.ratio + 0.3 * share
            self._first = False
        for probe in self.probes.values():
            probe.arm(True)
        return self.ratio

    def stop(self) -> None:
        """Leave every function as it was."""
        for probe in self.probes.values():
            probe.arm(False)
