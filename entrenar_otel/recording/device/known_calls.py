"""Known calls: the quick way for names whose values may be on a device.

The first call of such names takes the careful path, which looks at everything and leaves a form; the next
ones need their values only. Where a process may have values on a device at all, the fast path packs plain
numbers only; elsewhere it is as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from entrenar_processors import Series

from entrenar_otel.errors import BadInput, describe, guard
from entrenar_otel.interruption import from_outside
from entrenar_otel.recording.device.host_copy import (
    KNOWN_TYPES,
    PLAIN_TYPES,
    Capturing,
    copy_of,
    is_device_here,
)
from entrenar_otel.recording.device.late_form import LateForm
from entrenar_otel.recording.device.late_recording import BadLoss, LateRecording
from entrenar_otel.recording.device.plain_packer import plain_packer
from entrenar_otel.recording.inputs import COORDINATES, number_of
from entrenar_otel.recording.layout import Packer, packers

_LARGEST_32, _LARGEST_64 = COORDINATES["epoch"][0], COORDINATES["step"][0]


class KnownCalls(LateRecording):
    """Records calls by their forms, and says which calls are for the fast path."""

    def obey(self) -> None:
        raise NotImplementedError

    # -- calls that have a form -------------------------------------------------------------------

    def _log_known(self, epoch: Any, batch: Any, step: Any, metrics: Any, tags: Any, values: Any) -> bool:
        """Record a call whose names and tags have a form; False: nothing was done, it needs more care."""
        if values is not None:
            if metrics or type(values) is not dict:
                return False
            metrics = values
        try:
            form = self._forms.find(metrics, tags)
        except TypeError:  # something in it cannot be hashed
            return False
        return form is not None and self._record_known(form, epoch, batch, step, metrics.values())

    def _record_known(
        self, form: LateForm, epoch: Any, batch: Any, step: Any, given: Collection[Any]
    ) -> bool:
        """Record one call of this form; False: nothing was done, it needs more care."""
        if self._held or self._is_slowed or self._end_reason is not None:
            return False
        place = self._plain_place(epoch, batch, step)
        if place is None or not KNOWN_TYPES.issuperset(map(type, given)):
            return False
        problems: list[str] = []
        stops: list[BadLoss] = []
        is_counted = False  # what is lost from here on
        try:
            stop = self._park_or_write(form, given, place, problems)
            if stop is not None:
                stops.append(stop)
            is_counted = True
            if self.late is not None:
                stops += self._advance(problems)
            if self._unsaid:
                self.say()
        except Exception as error:
            with guard("log"):
                if not (is_counted or from_outside(error)):
                    self.dropped += len(form.series)
                raise
        if stops or problems or self._held:
            self._act_on(stops, problems)
        return True

    def _plain_place(self, epoch: Any, batch: Any, step: Any) -> tuple[int, int, int] | None:
        """Coordinates as a record has them, of plain numbers; None: they need a closer look."""
        namespace = self.namespace
        if epoch is None:
            epoch = int(namespace["EPOCH"])
        elif type(epoch) is not int or not 0 <= epoch <= _LARGEST_32:
            return None
        if batch is None:
            batch = int(namespace["BATCH"])
        elif type(batch) is not int or not 0 <= batch <= _LARGEST_32:
            return None
        if step is None:
            step = int(namespace["STEP"])
        elif type(step) is not int or not 0 <= step <= _LARGEST_64:
            return None
        return epoch, batch, step

    def _park_or_write(
        self, form: LateForm, given: Collection[Any], place: tuple[int, int, int], problems: list[str]
    ) -> BadLoss | None:
        now = self.namespace["now"]()
        numbers: list[Any] = [*given]
        is_late = is_refused = False
        for i, value in enumerate(numbers):
            if type(value) is float:
                continue
            numbers[i] = number = self._number_of(form.series[i].metric, value, problems)
            if number is None:
                is_refused = True
            elif type(number) is not float:
                is_late = True
        if is_refused:
            kept = [i for i, number in enumerate(numbers) if number is not None]
            if not kept:
                return None
            form = self._forms.of(tuple([form.series[i] for i in kept]))
            numbers = [numbers[i] for i in kept]
        if is_late or (self.late is not None and self._is_late(form.series, ())):
            self._add_late(form, numbers, place, now)
            return None
        return self._write_known(form, numbers, place, now, problems)

    def _act_on(self, stops: Sequence[BadLoss], problems: Sequence[str]) -> None:
        for value, *place, series in stops:
            self.bad_loss(series, value, *place)
        if self._held:
            self.obey()
        if problems:
            raise BadInput("; ".join(problems))

    def _number_of(self, name: str, value: Any, problems: list[str]) -> Any:
        """The number, or the copy that becomes one; None: it was refused."""
        try:
            if self._lazy and self._end_reason is None and (copy := copy_of(value)) is not None:
                return copy
            if getattr(value, "is_cuda", False):
                self._warn_once(
                    "cuda",
                    name,
                    f"{name} is a CUDA tensor: reading it waits for the GPU (synchronises) on every "
                    "log. Log it less often, leave lazy as it is, or pass a value that is on the CPU",
                )
            return number_of(value)
        except Capturing as error:  # no repr: it would read the value, and break the graph
            self._reject(name, f"{name} was {error}: log it after the replay; not recorded", problems)
            return None
        except Exception as error:
            if from_outside(error):
                raise
            self._reject(name, f"{name} must be one number, got {describe(value)}; not recorded", problems)
            return None

    # -- plain numbers ----------------------------------------------------------------------------

    def packers(self, n_values: int) -> tuple[Packer, Packer]:
        """As those of a record; `pack` refuses what may be on a device, where there is one."""
        pack, seal = packers(n_values)
        return (plain_packer(n_values) if self._is_wary else pack), seal

    def look_for_devices(self) -> None:
        """Let the fast path pack plain numbers only, from the moment on in which there may be others."""
        if self._is_wary or not self._lazy or not (self.late is not None or is_device_here()):
            return
        self._is_wary = True
        namespace: dict[str, Any] = self.namespace
        known: Mapping[Any, Any] = dict(namespace["writers"])
        for names, (_, *more) in known.items():
            namespace["writers"][names] = (plain_packer(len(names)), *more)
        for number, bound in enumerate(list(self._bound)):
            namespace[f"pack_{number}"] = plain_packer(len(bound))
        namespace["pack_one"] = plain_packer(1)  # an instrument's

    def _is_fast(
        self, series: tuple[Series, ...], given: Collection[Any], metrics: Any = None, tags: Any = None
    ) -> bool:
        """Whether the fast path may record the next call like this one; else the form of its names is learnt.

        Without `metrics`, the caller keeps the form himself.
        """
        self.look_for_devices()
        if (self._is_wary and not PLAIN_TYPES.issuperset(map(type, given))) or not (
            self.late is None or self.late.series.isdisjoint(series)
        ):
            if metrics is not None:
                self._forms.learn(metrics, tags, series)
                self.namespace["writers"].pop((*metrics,), None)  # its refusal would be a slow one
                if self.hot is not None:
                    self.hot.forget()
            return False
        return not tags
