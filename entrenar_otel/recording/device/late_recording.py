"""Late recording: keeps the calls whose values are still on a device, and writes them when these are there.

A call with such a value never takes the fast path: no series that was ever late is among those that it knows,
so nothing overtakes it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any
from zlib import adler32

from entrenar_processors import Series

from entrenar_otel.clock import Clock
from entrenar_otel.errors import guard
from entrenar_otel.interruption import from_outside, is_foreign
from entrenar_otel.recording.device.host_copy import HostCopy
from entrenar_otel.recording.device.late_calls import LateCall, LateCalls
from entrenar_otel.recording.device.late_form import LateForm, LateForms
from entrenar_otel.recording.layout import ABSENT_32, packers
from entrenar_otel.recording.segment_log import SegmentLog
from entrenar_otel.redact import printable_text

#: A training loss that is not finite: value, epoch, batch and step as a record has them, series.
BadLoss = tuple[float, int, int, int, Series]

_FLOAT = frozenset([float])


class LateRecording(SegmentLog):
    """Keeps the late calls, and writes them. `lazy`: whether there are any, or values are waited for."""

    def __init__(self, begin: Callable[[], object], clock: Clock, *, lazy: bool) -> None:
        super().__init__(begin, clock)
        self._lazy = lazy
        self._is_wary = False
        #: None until the first value that is late.
        self.late: LateCalls[BadLoss] | None = None
        self._late_problems: list[str] = []
        self._forms = LateForms()
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

    def _set_head(self, number: int, head: int | None) -> None:
        raise NotImplementedError

    def bad_loss(self, series: Series, value: Any, epoch: Any, batch: Any, step: Any) -> None:
        raise NotImplementedError

    def _reject(self, key: str, message: str, problems: list[str] | None = None) -> None:
        raise NotImplementedError

    def look_for_devices(self) -> None:
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
        if not _FLOAT.issuperset(map(type, values)):
            return True
        late = self.late
        return late is not None and late.waits_here() and not late.series.isdisjoint(series)

    def _add_late(
        self,
        form: LateForm,
        values: list[Any],
        coordinates: tuple[int, int, int],
        monotonic_ns: int,
    ) -> None:
        if (late := self.late) is None:
            late = self.late = LateCalls(self._write_late)
            if self.hot is not None:
                self.hot.is_usual = False  # each step is asked what is due
            self.look_for_devices()  # first: what takes the careful path from here on packs nothing
        if not form.is_late and not late.series.issuperset(form.series):
            self._take_the_careful_path({*form.series})
        waiting = [i for i, value in enumerate(values) if type(value) is not float]
        call = LateCall(form, values, waiting, coordinates, monotonic_ns)
        late.add(call, is_in_step=int(self.namespace["BATCH"]) != ABSENT_32)

    def _take_the_careful_path(self, series: Collection[Series]) -> None:
        """From here on, for every combination with one of these."""
        namespace = self.namespace
        for names in list(namespace["writers"]):
            if any(Series(name) in series for name in names):
                namespace["writers"].pop(names, None)
        if self.hot is not None:
            self.hot.forget()
        for number, bound in enumerate(list(self._bound)):
            if not {*bound}.isdisjoint(series):
                self._set_head(number, None)
                namespace[f"pack_{number}"], _ = packers(len(bound))  # it refuses None in C, which is quick
        heads = {layout.head for one in series if (layout := self.layouts.get((one,))) is not None}
        for known in [value for name, value in namespace.copy().items() if name.startswith("heads_")]:
            for identity in [identity for identity, head in known.copy().items() if head in heads]:
                known.pop(identity, None)  # an instrument's

    def _advance(self, problems: list[str], *, everything: bool = False) -> list[BadLoss]:
        """Record what is ready on this thread, and what is due once it is."""
        if self.late is None:
            return []
        bad = self.late.advance(everything=everything)
        if self._late_problems:
            late, self._late_problems = self._late_problems, []
            problems += late
        return bad

    def _begin_step(self, late: LateCalls[BadLoss]) -> None:
        """Record what is due; what must stop the line does so in the next `log`."""
        try:
            late.begin_step()
            for value, *place, series in late.advance():
                self.bad_loss(series, value, *place)
            if self._unsaid:
                self.say()
        except Exception:
            with guard("log"):
                raise

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
        try:
            if call.failed is None and self._end_reason is None:
                return self._write_known(
                    call.form, call.values, call.coordinates, call.monotonic_ns, self._late_problems
                )
            return self._write_what_came(call)
        except BaseException as error:
            if not isinstance(error, Exception) or not from_outside(error):
                self.dropped += len(call.numbers())
            raise

    def _write_what_came(self, call: LateCall) -> BadLoss | None:
        for i, error in sorted((call.failed or {}).items()):
            name = call.form.series[i].metric
            text = printable_text(str(error))[:200]
            hint = " Log what a later step may free with lazy=False." if "deleted" in text else ""
            problem = f"{name} did not arrive from its device ({type(error).__name__}: {text}); not recorded."
            self._reject(name, problem + hint, self._late_problems)
        numbers = call.numbers()
        if not numbers or self._end_reason is not None:
            self.dropped += len(numbers)
            return None
        form = self._forms.of(tuple(numbers))
        values = list(numbers.values())
        return self._write_known(form, values, call.coordinates, call.monotonic_ns, self._late_problems)

    def _write_known(
        self,
        form: LateForm,
        values: Sequence[float],
        place: tuple[int, int, int],
        now: int,
        problems: list[str],
    ) -> BadLoss | None:
        """Write one record of numbers; returns a training loss that is not finite."""
        if form.head is None or self._end_reason is not None:
            self._write(form.series, tuple(values), place, problems, fast=False, monotonic_ns=now)
            if (layout := self.layouts.get(form.series)) is not None:
                form.head = layout.head
        else:
            record = form.pack(form.head, now, *place, *values)
            sealed = form.seal(record, adler32(record))
            try:
                self.namespace["put"](sealed)
            except ValueError as error:  # the segment is full
                if is_foreign(error):
                    raise
                if not self._put(sealed):
                    self.dropped += len(values)
        for i in form.training_losses:
            if values[i] - values[i]:
                return values[i], *place, form.series[i]
        return None
