"""Recorder: the hot path. One call of `log` is one record in one memory-mapped segment.

Invariants, on which speed and safety rest:

1. `write` is the current segment's own: it checks, copies and advances in one C call under the GIL. So
   there is no lock, no reserved slot and no hole; where there is no GIL, a lock is put around it.
2. Whatever is unusual raises before anything is written: an unknown combination of names
   (KeyError), no number (struct.error, TypeError), a full, sealed or closed segment (ValueError),
   a run not yet begun or already ended. The `except` leads to `_log_slowly`, which does it again
   with care. The fast path has no branch for any of it. What a signal handler raises meanwhile may
   come after the write: it is nobody's business here, and leaves at once.
3. A layout's definition is in the segment before its first record. So a new segment begins with
   all of them, and with the spans still open, before `write` is pointed at it.
4. `log` and the bound functions share one namespace, the only thing that changes when a segment is
   replaced, when a fork makes this the no-op twin, or when an alert waits to be acted on.
5. Where the native core is (native_path.py), `log` and the bound functions are its, and what is below is
   their reference. A native call writes where `write` does (`hot.writer`, which is changed wherever `write`
   is, and is None where that leads to the careful path), and runs no code of Python's: it is whole or
   nothing, nobody comes in, and nothing is raised. It does what is usual: plain numbers, known names, plain
   coordinates, a watched value that is finite, room. All else it gives to the reference as it came. What it
   knows of names and heads is forgotten (`hot.forget`, `head`) where the reference forgets it.
"""

from __future__ import annotations

import linecache
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from zlib import adler32

from entrenar_processors import Series
from entrenar_processors.detectors.nonfinite import is_training_loss

from entrenar_otel.clock import SYSTEM_CLOCK, Clock
from entrenar_otel.errors import BadInput, ConfigError, describe, guard
from entrenar_otel.interruption import from_outside, is_foreign
from entrenar_otel.recording.by_name import AnyLayout, give_name, unheard
from entrenar_otel.recording.codegen import bound_source, with_globals
from entrenar_otel.recording.current_place import CurrentPlace
from entrenar_otel.recording.device.host_copy import PLAIN_TYPES, HostCopy
from entrenar_otel.recording.device.late_form import LateForm
from entrenar_otel.recording.device.late_recording import BadLoss
from entrenar_otel.recording.inputs import COORDINATES, are_plain, name_problem, tags_problem, whole_number
from entrenar_otel.recording.layout import MAX_VALUES, Layout, packers
from entrenar_otel.recording.native_path import native_call
from entrenar_otel.recording.segment import SEGMENT_BYTES, Segment
from entrenar_otel.recording.segment_log import no_op, not_ready

#: Beyond this many combinations of names, a new one is recorded series by series: a loop that
#: reports a different subset each step (active experts, say) must not make layouts without end.
MAX_LAYOUTS = 1024
#: Every segment begins with all layouts; they may take a quarter of it, about 60,000 names.
MAX_LAYOUT_BYTES = SEGMENT_BYTES // 4
#: Mappings within mappings that `log` unfolds: one that holds itself has no end.
_MAX_DEPTH = 10
#: Names in a mapping that as keywords of `log` mean something else.
_KEYWORDS = frozenset({"epoch", "batch", "step", "tags"})
#: What a `log` waits from the moment on in which its run begins to end.
_SLOWED_SECONDS = 0.001

if TYPE_CHECKING:  # the recorder's namespace, in which the hot path runs (see Recorder.__init__)
    EPOCH: int
    BATCH: int
    STEP: int
    writers: dict[tuple[str, ...], tuple[Callable[..., bytes], int, Callable[..., bytes], str | None]]
    now: Callable[[], int]
    write: Callable[[bytes], Any]
    slow: Callable[..., None]
    stop_line: Callable[..., None]


def _log(
    values: Any = None,
    /,
    step: Any = None,
    *,
    epoch: Any = None,
    batch: Any = None,
    tags: Any = None,
    **metrics: Any,
) -> None:
    if values is None is tags:
        try:
            pack, head, seal, watched = writers[(*metrics,)]
            record = pack(
                head,
                now(),
                EPOCH if epoch is None else epoch,
                BATCH if batch is None else batch,
                STEP if step is None else step,
                *metrics.values(),
            )
            write(seal(record, adler32(record)))
        except Exception as error:  # nothing was written: again, with care
            if is_foreign(error):
                raise
        else:
            if watched is None:
                return
            value = metrics[watched]
            try:
                if not value - value:
                    return
            except Exception as error:  # numpy's bool cannot be subtracted, and is finite
                if is_foreign(error):
                    raise
                return
            stop_line(value, epoch, batch, step, Series(watched))
            return
    slow(epoch, batch, step, metrics, tags, values)


class Recorder(CurrentPlace):
    """Takes samples from the loop's threads and gives them to the heartbeat.

    `begin` is called once, by whoever records first; it must call `open`. `on_bad_loss(series, value,
    epoch, batch, step)` is called after a non-finite training loss was recorded; it may `hold` the line.
    `on_held()` is what happens on a loop's thread, within its next `log`, while the line is held; it may
    raise. `lazy`: values on a device are not waited for.
    """

    def __init__(
        self,
        *,
        begin: Callable[[], object],
        on_bad_loss: Callable[[Series, float, int | None, int | None, int | None], object],
        on_held: Callable[[], object],
        raise_on_bad_value: bool = False,
        lazy: bool = True,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        super().__init__(begin, clock, lazy=lazy)
        self.on_bad_loss = on_bad_loss
        self._on_held = on_held
        self._raise = raise_on_bad_value
        self.bound_functions: list[Callable[..., None]] = []
        #: What else records, once there are steps: what ends one.
        self.step_functions: list[Callable[..., None]] = []
        self.bad = 0
        self.namespace |= {
            "slow": self._log_slowly,
            "stop_line": self._stop,
            "Series": Series,
            "is_foreign": is_foreign,
        }
        self.log: Callable[..., None] = with_globals(_log, self.namespace, "log")
        if (hot := self.hot) is not None:
            self.log = native_call(hot, self.log)
        give_name(self.log)

    def abandon(self) -> None:
        super().abandon()
        self._held = False
        for name in ("slow", "stop_line", *(f"slow_{i}" for i in range(len(self.bound_functions)))):
            self.namespace[name] = no_op if name == "stop_line" else unheard
        self.namespace["writers"] = AnyLayout()

    # -- bound functions --------------------------------------------------------------------------

    def bind(self, metrics: Sequence[str], tags: Mapping[str, Any] | None) -> Callable[..., None]:
        """A function made for exactly these metrics. Raises ConfigError on invalid names."""
        if not metrics:
            raise ConfigError("bind() needs at least one metric name, as in bind('loss', 'accuracy')")
        for metric in metrics:
            if problem := name_problem(metric):
                raise ConfigError(f"bind(): {problem}")
        if len(set(metrics)) < len(metrics):
            raise ConfigError(f"bind() got a metric twice: {', '.join(metrics)}")
        if tags is not None and not isinstance(tags, Mapping):
            raise ConfigError(f"bind(): tags must be a mapping of text to text, got {describe(tags)}")
        series = tuple(Series.of(metric, tags) for metric in metrics)
        if problem := tags_problem(series[0]):
            raise ConfigError(f"bind(): tags {describe(tags)}: {problem}")
        with self._lock:  # two threads would take one number
            known = self._bound.get(series)
            return self._bind(metrics, tags, series) if known is None else known

    def _bind(
        self, metrics: Sequence[str], tags: Mapping[str, Any] | None, series: tuple[Series, ...]
    ) -> Callable[..., None]:
        number = len(self.bound_functions)
        pack, seal = packers(len(series))
        namespace = self.namespace

        form: LateForm | None = None  # where a value may come late

        def slowly(epoch: Any, batch: Any, step: Any, *values: Any) -> None:
            nonlocal form
            if form is not None and self._record_known(form, epoch, batch, step, values):
                return
            given = dict(zip(metrics, values, strict=True))
            self._log_slowly(epoch, batch, step, given, tags)
            layout = self.layouts.get(series)
            if not self._is_fast(series, values):
                form = self._forms.of(series)
                self._set_head(number, None)
                namespace[f"pack_{number}"] = pack
            elif layout is not None:
                namespace[f"pack_{number}"], _ = self.packers(len(series))
                self._set_head(number, layout.head)

        watched = [i for i, one in enumerate(series) if is_training_loss(one)]
        # head is None until the first call: struct.error leads it through `slowly`, where the
        # layout is defined and the values' types are looked at once
        namespace.update(
            {
                f"pack_{number}": pack,
                f"seal_{number}": seal,
                f"head_{number}": None,
                f"series_{number}": [series[i] for i in watched],
                f"slow_{number}": slowly if not self.is_abandoned else unheard,
            }
        )
        source = bound_source(metrics, number, watched)
        filename = f"<entrenar_otel bind {number}>"
        linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
        local: dict[str, Any] = {}
        exec(compile(source, filename, "exec"), namespace, local)  # noqa: S102 - names are checked
        bound: Callable[..., None] = local["bound"]
        if self.hot is not None and len(watched) <= 1:  # the native core looks at one value
            bound = native_call(self.hot, bound, len(series), watched[0] if watched else None)
        give_name(bound)
        self.bound_functions.append(bound)
        self._bound[series] = bound
        return bound

    def _set_head(self, number: int, head: int | None) -> None:
        """What a bound function's records begin with from now on; None: it takes the careful path."""
        self.namespace[f"head_{number}"] = head
        if self.hot is not None:
            self.bound_functions[number].head = head or 0  # type: ignore[attr-defined]

    # -- the careful path -------------------------------------------------------------------------

    def _log_slowly(
        self,
        epoch: Any,
        batch: Any,
        step: Any,
        metrics: Mapping[str, Any],
        tags: Mapping[str, Any] | None,
        values: Mapping[str, Any] | None = None,
    ) -> None:
        if type(values) is dict and tags is None and not metrics and self._is_as_keywords(values):
            self.log(epoch=epoch, batch=batch, step=step, **values)  # or it comes back here
            return
        if self._log_known(epoch, batch, step, metrics, tags, values):
            return
        if self._is_slowed:
            time.sleep(_SLOWED_SECONDS)
        stops: list[BadLoss] = []
        problems: list[str] = []  # meant for the loop: past the guard
        lost = max(1, len(metrics))  # where we fail: some of it may be recorded nevertheless
        with guard("log"):
            try:
                given = self._merged(values, metrics, problems)
                lost = max(1, len(given))
                if (stop := self._record(epoch, batch, step, given, tags, problems)) is not None:
                    stops.append(stop)
            except Exception as error:
                if not from_outside(error):
                    self._drop(lost)
                raise
            stops += self._advance(problems)
            self.say()
        self._act_on(stops, problems)

    def _is_as_keywords(self, values: dict[Any, Any]) -> bool:
        """Whether a mapping is of plain numbers by names that the fast path knows from keywords."""
        return (
            (*values,) in self.namespace["writers"]
            and _KEYWORDS.isdisjoint(values)
            and PLAIN_TYPES.issuperset(map(type, values.values()))
        )

    def catch_up(self) -> None:
        """Wait for what is late on this thread, and record it. Raises AndonStop."""
        if self.late is None and not self._unsaid and not self._held:  # a loop comes here at every epoch
            return
        stops: list[BadLoss] = []
        problems: list[str] = []
        with guard("log"):
            stops = self._advance(problems, everything=True)
            self.say()
        self._act_on(stops, problems)

    def record_one(
        self, series: Series, value: Any, epoch: Any, batch: Any, step: Any, *, time_ns: int | None = None
    ) -> int | None:
        """Record one value with care, for an instrument; returns its layout's head, for the next ones.

        `time_ns` is wall time, by default now. A value that must stop the line holds it: instruments do
        not raise. None: it is not recorded; 0: that is not for a fast path, since it may come late.
        """
        problems: list[str] = []
        if self.segment is None and self._end_reason is None:
            self._begin()
        at = self.namespace["now"]() if time_ns is None else max(0, self.clock.monotonic_of(time_ns))
        number = self._number_of(series.metric, value, problems)
        if number is not None:
            try:
                coordinates = self._coordinates(epoch, batch, step, problems)
                if self._is_late((series,), (number,)):
                    self._add_late(self._forms.of((series,)), [number], coordinates, at)
                    self._judge(self._advance(problems))
                    number = None
                else:
                    self._write((series,), (number,), coordinates, problems, fast=False, monotonic_ns=at)
            except Exception as error:
                if not from_outside(error):
                    self._drop(1)
                raise
            if number is not None and not math.isfinite(number):
                self.bad_loss(series, number, epoch, batch, step)
        for problem in problems:
            self._warn_once("bad", series.metric, problem)
        self.say()
        if self.late is not None and series in self.late.series:
            return 0
        layout = self.layouts.get((series,))
        return layout.head if layout is not None else None

    def record_row(self, series: Sequence[Series], values: Sequence[float]) -> None:
        """Record one row of what is read beside the loop; nothing where no run goes on."""
        if self.segment is not None and self._end_reason is None and not self.is_abandoned:
            place = self._coordinates(None, None, None, [])
            self._write(tuple(series), tuple(values), place, [], fast=False)
            self.say()

    def coordinate(self, name: str, value: Any) -> int | None:
        """A coordinate that is given outside of `log`; None, counted and warned of, where it is invalid."""
        if value is None or (type(value) is int and 0 <= value <= 0x7FFF_FFFF):
            return value
        number = self._coordinate(name, value, None)
        return None if number == COORDINATES[name][1] else number

    def refuse(self, key: str, message: str) -> None:
        """Count bad input, and warn of it once per key."""
        self.bad += 1
        self._warn_once("bad", key, message)

    def bad_loss(self, series: Series, value: Any, epoch: Any, batch: Any, step: Any) -> None:
        """A non-finite value was recorded by somebody who does not raise: judge it if it is training loss."""
        if is_training_loss(series) and not self.is_abandoned:
            self.on_bad_loss(series, float(value), *self._where(epoch, batch, step))

    def hold(self) -> None:
        """Let the next `log` take the careful path, and with it `obey`."""
        with self._lock:  # a roll puts `write` in place
            if not self._held and self._end_reason is None:
                self._held = True
                self._point(not_ready, None)

    def slow_down(self) -> None:
        """The run is about to end: a thread that logs without pause leaves the others time for it."""
        with self._lock:
            self._is_slowed = True
            if self._end_reason is None:
                self._point(not_ready, None)

    def obey(self) -> None:
        """Do what the line is held for, on this thread. Does nothing when nothing holds it."""
        with self._lock:
            held, self._held = self._held, False
            if held and self._end_reason is None and not self._is_slowed:
                self._point(self.namespace["put"], self.segment)
        if held:
            try:
                self._on_held()
            finally:
                if self.hot is not None:
                    self.hot.is_usual = False  # a pause perhaps, which is no part of a step

    def _point(self, write: Callable[[bytes], Any], segment: Segment | None) -> None:
        self.namespace["write"] = write
        if self.hot is not None:
            self.hot.writer = None if segment is None else segment.body.writer

    def _merged(self, values: Any, metrics: Mapping[str, Any], problems: list[str]) -> dict[Any, Any]:
        if values is None:
            return dict(metrics)
        if not isinstance(values, Mapping):
            self._reject(
                "values",
                f"log() takes a mapping of names to numbers, or keywords; got {describe(values)}",
                problems,
            )
            return dict(metrics)
        for name in values.keys() & metrics.keys():
            self._reject(name, f"log() got {name!r} twice; the keyword's value was kept", problems)
        return {**values, **metrics}

    def _record(
        self, epoch: Any, batch: Any, step: Any, metrics: Mapping[Any, Any], tags: Any, problems: list[str]
    ) -> tuple[float, int, int, int, Series] | None:
        """Record what can be recorded; returns a training loss that is not finite, and where."""
        if self.segment is None and self._end_reason is None:
            self._begin()
        coordinates, now = self._coordinates(epoch, batch, step, problems), self.namespace["now"]()
        if tags is not None and not isinstance(tags, Mapping):
            self._reject("tags", f"tags must be a mapping of text to text, got {describe(tags)}", problems)
            tags = None
        numbers = self._numbers_of(metrics, problems)
        if numbers:
            series = Series.each_of(numbers, tags)
            if bad := tags_problem(series[0]):
                self._reject("tags", f"tags {describe(tags)}: {bad}", problems)
                series = tuple(Series(name) for name in numbers)
            if is_late := self._is_late(series, numbers.values()):
                self._add_late(self._forms.of(series), [*numbers.values()], coordinates, now)
            fast = self._is_fast(series, metrics.values(), metrics, tags)
            if is_late:
                return None
            self._write(series, tuple(numbers.values()), coordinates, problems, fast=fast, monotonic_ns=now)
            if not all(map(math.isfinite, numbers.values())):
                for single, value in zip(series, numbers.values(), strict=True):
                    if not math.isfinite(value) and is_training_loss(single):
                        return value, *coordinates, single
        return None

    def _numbers_of(
        self, metrics: Mapping[Any, Any], problems: list[str], above: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """The numbers by name, or their copies; of a mapping in a mapping they are `outer/inner`."""
        if not above and are_plain(metrics):
            return dict(metrics)
        numbers: dict[str, float | HostCopy] = {}
        for key, value in metrics.items():
            name = "/".join((*above, str(key))) if above and isinstance(key, str | int) else key
            if problem := name_problem(name):
                self._reject(f"name {describe(name)}", problem, problems)
            elif type(value) is float:  # as most are
                numbers[name] = value
            elif not isinstance(value, float) and isinstance(value, Mapping) and len(value):
                if len(above) >= _MAX_DEPTH:
                    self._reject(name, f"{name}: mappings are nested too deeply here; not recorded", problems)
                    continue
                inner = self._numbers_of(value, problems, (*above, str(key)))
                for twice in inner.keys() & (metrics.keys() | numbers.keys()):
                    self._reject(twice, f"log() got {twice!r} twice; one of them was kept", problems)
                numbers = inner | numbers
            elif (number := self._number_of(name, value, problems)) is not None:
                numbers[name] = number
        return numbers

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
        if self._end_reason is not None:
            self._drop(len(values))
            self._warn_once(
                "ended",
                "",
                f"log() after the run ended ({self._end_reason}): dropped and counted. "
                "Make a new Monitor for a new run",
            )
            return
        layout = self._layout(series, problems)
        if layout is None:
            for single, value in zip(series, values, strict=True) if len(series) > 1 else ():
                self._write((single,), (value,), coordinates, problems, fast=False)
            return
        pack, seal = self.packers(len(series))
        now = self.namespace["now"]() if monotonic_ns is None else monotonic_ns
        record = pack(layout.head, now, *coordinates, *values)
        if not self._put(seal(record, adler32(record))):
            self._drop(len(values))
        elif fast:
            names = tuple([one.metric for one in series])
            may_be = series if "loss" in " ".join(names).lower() else ()  # asked once, of thousands of names
            losses = [one.metric for one in may_be if is_training_loss(one)]
            if len(losses) <= 1:  # one is watched there, and each of them stops at once
                watched = losses[0] if losses else None
                self.namespace["writers"][names] = (pack, layout.head, seal, watched)

    def _layout(self, series: tuple[Series, ...], problems: list[str]) -> Layout | None:
        """The layout of these series, defined in the segment; None: record them one by one."""
        if (known := self.layouts.get(series)) is not None:
            return known
        with self._lock:
            if (known := self.layouts.get(series)) is not None:
                return known
            if len(series) > MAX_VALUES or (len(series) > 1 and len(self.layouts) >= MAX_LAYOUTS):
                return None
            layout = Layout(next(self._layout_ids), series)
            size = len(layout.definition)
            room = min(MAX_LAYOUT_BYTES, self.segment.size // 4 if self.segment else 0)
            if self._layout_bytes + size > room:
                if len(series) == 1:
                    self._reject(
                        "too many names",
                        f"more than {len(self.layouts):,} different names or tags, "
                        f"so {describe(str(series[0]))} is not recorded. A part of the name seems to "
                        "change with every call: put it into step=, epoch= or batch=",
                        problems,
                    )
                return None
            # Noted before it is written, and known after: the next segment may begin in between.
            self._by_id[layout.id] = layout
            self._layout_bytes += size
            if not self._put(layout.definition):
                del self._by_id[layout.id]
                self._layout_bytes -= size
                if len(series) == 1:  # several are tried one by one
                    self._drop(1)
                return None
            self.layouts[series] = layout
            return layout

    def _coordinates(self, epoch: Any, batch: Any, step: Any, problems: list[str]) -> tuple[int, int, int]:
        return (
            self._coordinate("epoch", epoch, problems),
            self._coordinate("batch", batch, problems),
            self._coordinate("step", step, problems),
        )

    def _coordinate(self, name: str, value: Any, problems: list[str] | None) -> int:
        if value is None:
            return int(self.namespace[name.upper()])
        limit, absent = COORDINATES[name]
        if (number := whole_number(value, limit)) is not None:
            return number
        self._reject(
            name,
            f"{name} must be a whole number from 0 to {limit}, got {describe(value)}; left empty",
            problems,
        )
        return absent

    def _reject(self, key: str, message: str, problems: list[str] | None = None) -> None:
        """Bad input: counted; warned of once per name, or raised once what was good is recorded."""
        self.bad += 1
        if self._raise:
            if problems is None:
                raise BadInput(message)
            problems.append(message)
        else:
            self._warn_once("bad", key, message)

    def _drop(self, samples: int) -> None:
        self.dropped += samples

    def _stop(self, value: Any, epoch: Any, batch: Any, step: Any, series: Series) -> None:
        self.bad_loss(series, value, epoch, batch, step)
        if self._held:
            self.obey()
