"""Late recording: the part of the recorder for values that are still on a device.

A call with such a value always takes the careful path: no series that was ever late is among those that the
fast path knows, so nothing overtakes it. Where a process may have values on a device at all, the fast path
packs plain numbers only; elsewhere it is as it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from entrenar_processors import Series
from entrenar_processors.detectors.nonfinite import is_training_loss

from entrenar_otel.clock import Clock
from entrenar_otel.errors import guard
from entrenar_otel.interruption import from_outside
from entrenar_otel.recording.device.host_copy import PLAIN_TYPES, HostCopy, is_device_here
from entrenar_otel.recording.device.late_calls import LateCall, LateCalls
from entrenar_otel.recording.layout import ABSENT_32, Packer, packers
from entrenar_otel.recording.segment_log import SegmentLog
from entrenar_otel.redact import printable_text

#: A training loss that is not finite: value, epoch, batch and step as a record has them, series.
BadLoss = tuple[float, int, int, int, Series]


class LateRecording(SegmentLog):
    """Keeps the late calls, and writes them. `lazy`: whether there are any, or values are waited for."""

    def __init__(self, begin: Callable[[], object], clock: Clock, *, lazy: bool) -> None:
        super().__init__(begin, clock)
        self._lazy = lazy
        self._is_wary = False
        #: None until the first value that is late.
        self.late: LateCalls[BadLoss] | None = None
        self._late_problems: list[str] = []
        self._bound: dict[tuple[Series, ...], Callable[..., None]] = {}

    def _write(
        self,
        series: tuple[Series, ...],
        values: tuple[float, ...],
        coordinates: tuple[int, int, int],
        problems: list[str],
        *,
        fast: bool,
        monotonic_ns: int | None = None,
    ) -> None:
        raise NotImplementedError

    def _stop(self, value: Any, epoch: Any, batch: Any, step: Any, series: Series) -> None:
        raise NotImplementedError

    def bad_loss(self, series: Series, value: Any, epoch: Any, batch: Any, step: Any) -> None:
        raise NotImplementedError

    def _reject(self, key: str, message: str, problems: list[str] | None = None) -> None:
        raise NotImplementedError

    # -- life -----------------------------------------------------------------------------------

    def end(self, why: str) -> None:
        if self.late is not None and (lost := self.late.drop()):
            self.dropped += lost
            self._warn_once(
                "late",
                "",
                f"{lost} values were still on their device when the run ended; they are not recorded",
            )
        super().end(why)
        self.say()

    def abandon(self) -> None:
        super().abandon()
        if self.late is not None:
            self.late.abandon()

    # -- the loop's thread ----------------------------------------------------------------------

    def _is_late(self, series: Sequence[Series], values: Collection[float | HostCopy]) -> bool:
        """Whether this call cannot be recorded now: for a value of its own, or for one that comes before."""
        if any(not isinstance(value, float) for value in values):
            return True
        late = self.late
        return late is not None and late.waits_here() and not late.series.isdisjoint(series)

    def _add_late(self, call: LateCall) -> None:
        if (late := self.late) is None:
            late = self.late = LateCalls(self._write_late)
        if not late.series.issuperset(call.series):
            self._take_the_careful_path({*call.series})
        late.add(call, is_in_step=int(self.namespace["BATCH"]) != ABSENT_32)

    def _take_the_careful_path(self, series: Collection[Series]) -> None:
        """From here on, for every combination with one of these."""
        namespace = self.namespace
        for names in list(namespace["writers"]):
            if any(Series(name) in series for name in names):
                namespace["writers"].pop(names, None)
        for number, bound in enumerate(list(self._bound)):
            if not {*bound}.isdisjoint(series):
                namespace[f"head_{number}"] = None
                namespace[f"pack_{number}"], _ = packers(len(bound))  # it refuses None in C, which is quick

    def _is_fast(self, series: Sequence[Series], given: Collection[Any]) -> bool:
        """Whether the fast path may record the next call like this one."""
        self.look_for_devices()
        if self._is_wary and not PLAIN_TYPES.issuperset(map(type, given)):
            return False
        return self.late is None or self.late.series.isdisjoint(series)

    def _advance(self, problems: list[str], *, everything: bool = False) -> list[BadLoss]:
        """Record what is ready on this thread, and what is due once it is."""
        if self.late is None:
            return []
        bad = self.late.advance(everything=everything)
        late, self._late_problems = self._late_problems, []
        problems += late
        return bad

    def _begin_step(self, late: LateCalls[BadLoss]) -> None:
        """Record what is due; what must stop the line does so in the next `log`."""
        with guard("log"):
            late.begin_step()
            for value, *place, series in late.advance():
                self.bad_loss(series, value, *place)
            self.say()

    # -- any thread -----------------------------------------------------------------------------

    def record_ready(self) -> None:
        """Record what has arrived meanwhile, and look whether this process has devices (the heartbeat's)."""
        self.look_for_devices()
        if self.late is not None:
            self._judge(self.late.take_ready())

    def settle(self, seconds: float) -> bool:
        """Wait until nothing is late any more; False where that takes longer."""
        late = self.late
        if late is None or self._end_reason is not None:
            return True
        self._judge(late.settle(seconds))
        return not len(late)

    def _judge(self, bad: Sequence[BadLoss]) -> None:
        problems, self._late_problems = self._late_problems, []
        for problem in problems:
            self._warn_once("bad", problem, problem)
        for value, epoch, batch, step, series in bad:
            self.bad_loss(series, value, epoch, batch, step)
        self.say()

    def _write_late(self, call: LateCall) -> BadLoss | None:
        """Write a call that is complete, as of its own time; returns a training loss that is not finite."""
        for i, error in call.failed.items():
            name = call.series[i].metric
            text = printable_text(str(error))[:200]
            hint = " Log what a later step may free with lazy=False." if "deleted" in text else ""
            problem = f"{name} did not arrive from its device ({type(error).__name__}: {text}); not recorded."
            self._reject(name, problem + hint, self._late_problems)
        numbers = call.numbers()
        if not numbers or self._end_reason is not None:
            self.dropped += len(numbers)
            return None
        try:
            self._write(
                tuple(numbers),
                tuple(numbers.values()),
                call.coordinates,
                self._late_problems,
                fast=False,
                monotonic_ns=call.monotonic_ns,
            )
        except BaseException as error:
            if not isinstance(error, Exception) or not from_outside(error):
                self.dropped += len(numbers)
            raise
        for series, value in numbers.items():
            if is_training_loss(series) and not math.isfinite(value):
                return value, *call.coordinates, series
        return None

    # -- plain numbers --------------------------------------------------------------------------

    def packers(self, n_values: int) -> tuple[Packer, Packer]:
        """As those of a record; `pack` refuses what may be on a device, where there is one."""
        pack, seal = packers(n_values)
        return (_of_plain_numbers(pack) if self._is_wary else pack), seal

    def look_for_devices(self) -> None:
        """Let the fast path pack plain numbers only, from the moment on in which there may be others."""
        if self._is_wary or not self._lazy or not (self.late is not None or is_device_here()):
            return
        self._is_wary = True
        namespace: dict[str, Any] = self.namespace
        known: Mapping[Any, Any] = dict(namespace["writers"])
        for names, (pack, *more) in known.items():
            namespace["writers"][names] = (_of_plain_numbers(pack), *more)
        for name in [key for key in namespace if key.startswith("pack_")]:
            namespace[name] = _of_plain_numbers(namespace[name])


def _of_plain_numbers(pack: Packer) -> Packer:
    is_plain = PLAIN_TYPES.issuperset

    def pack_plain(head: int, now: int, epoch: int, batch: int, step: int, *values: float) -> bytes:
        if not is_plain(map(type, values)):
            raise TypeError("not plain numbers")  # the careful path asks each what it is
        return pack(head, now, epoch, batch, step, *values)

    return pack_plain
