"""Current place: epoch, batch and step of now, which a record has where the caller gives none.

They are among the globals of `log`: plain numbers, what the native core keeps instead, or each thread's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from entrenar_otel.clock import Clock
from entrenar_otel.recording.device.known_calls import KnownCalls
from entrenar_otel.recording.layout import ABSENT_32, ABSENT_64
from entrenar_otel.recording.native_path import HeldPlace
from entrenar_otel.recording.thread_place import ThreadPlace

#: The coordinates among the globals of `log`.
_PLACE = ("EPOCH", "BATCH", "STEP")


class CurrentPlace(KnownCalls):
    """A recorder's coordinates."""

    def __init__(self, begin: Callable[[], object], clock: Clock, *, lazy: bool) -> None:
        super().__init__(begin, clock, lazy=lazy)
        self._places: dict[str, ThreadPlace] | None = None  # None: one loop, plain numbers
        for name, absent in zip(_PLACE, (ABSENT_32, ABSENT_32, ABSENT_64), strict=True):
            self._put_place(name, absent)

    def set_coordinates(
        self, epoch: int | None = None, batch: int | None = None, step: int | None = None
    ) -> None:
        """What `log` uses where the caller gives no coordinates; None keeps the current one."""
        put = self._put_place if self._places is None else self._put_aside
        if epoch is not None:
            put("EPOCH", epoch)
        if batch is not None:
            put("BATCH", batch)
        if step is not None:
            put("STEP", step)

    def move_to(self, batch: int, step: int) -> None:
        """The next step: as `set_coordinates`, without its questions."""
        if self.late is not None:
            self._begin_step(self.late)
        if self._places is not None or self.hot is not None:
            self.return_to({"BATCH": batch, "STEP": step})
            return
        namespace = self.namespace
        namespace["BATCH"] = batch
        namespace["STEP"] = step

    def place(self) -> dict[str, int | None]:
        """The coordinates now, for `return_to`; None: another thread's, which go on."""
        if self._places is not None:
            return {name: place.own for name, place in self._places.items()}
        return {name: self._at(name) for name in _PLACE}

    def _at(self, name: str) -> Any:
        """Epoch, batch or step of now as it was given, or whoever knows a thread's."""
        value = self.namespace[name]
        return value.__index__() if type(value) is HeldPlace else value

    def return_to(self, place: Mapping[str, int | None]) -> None:
        """Take up the coordinates of an outer loop again."""
        put = self._put_place if self._places is None else self._put_aside
        for name, value in place.items():
            put(name, value)

    def _put_aside(self, name: str, value: int | None) -> None:
        """This is the thread's coordinate from now on."""
        assert self._places is not None
        self._places[name].put(value)
        self.namespace[name] = self._places[name]

    def give_threads_their_places(self, epoch_of: int, step_of: int) -> None:
        """From now on each thread has coordinates of its own; those of now belong to the threads named."""
        with self._lock:
            if self._places is None:
                self._places = {
                    name: ThreadPlace(epoch_of if name == "EPOCH" else step_of, self._at(name))
                    for name in _PLACE
                }
                for name, place in self._places.items():
                    self._put_place(name, place)

    def _put_place(self, name: str, value: Any) -> None:
        """From now on this is the coordinate; the native core keeps a plain number, and nothing else."""
        if (hot := self.hot) is not None and hot.put(which := _PLACE.index(name), value):
            if self.namespace.get(name).__class__ is HeldPlace:
                return
            value = HeldPlace(hot, which)
        self.namespace[name] = value

    def places(self, epoch: int | None, batch: int | None, step: int | None) -> tuple[int, int, int]:
        """Coordinates as a record has them; those that are not given are the current ones."""
        return (
            self._at("EPOCH") if epoch is None else epoch,
            self._at("BATCH") if batch is None else batch,
            self._at("STEP") if step is None else step,
        )

    def coordinates(self) -> tuple[int | None, int | None, int | None]:
        """Epoch, batch and step as `epochs()` and `steps()` have set them."""
        namespace, hot = self.namespace, self.hot
        epoch, batch, step = namespace["EPOCH"], namespace["BATCH"], namespace["STEP"]
        if hot is None or not epoch.__class__ is batch.__class__ is step.__class__ is HeldPlace:
            return self._where(None, None, None)
        epoch, batch, step = hot.epoch, hot.batch, hot.step
        return (
            None if epoch == ABSENT_32 else epoch,
            None if batch == ABSENT_32 else batch,
            None if step == ABSENT_64 else step,
        )

    def _where(self, epoch: Any, batch: Any, step: Any) -> tuple[int | None, int | None, int | None]:
        def known(name: str, given: Any, absent: int) -> int | None:
            at = self.namespace[name] if given is None else given
            try:
                return None if int(at) == absent else int(at)
            except (TypeError, ValueError, OverflowError):  # refused where it was recorded
                return None

        return (
            known("EPOCH", epoch, ABSENT_32),
            known("BATCH", batch, ABSENT_32),
            known("STEP", step, ABSENT_64),
        )
