"""SeriesWriters: for every set of attribute names an instrument is used with, a function made for just that.

`gauge.set(0.31, {"epoch": 1, "batch": 7, "split": "train"})` looks up the function for the names
`("epoch", "batch", "split")`. It knows which of the values are coordinates and which are the series'
identity, finds the identity's layout in a dictionary, and writes one record, as `log` does.

Invariants:

1. A generated function runs in the recorder's namespace, and raises before anything is written when
   something is unusual: an identity not met before (KeyError), no number, a full segment, a counter
   that would fall. `SeriesWriters.record_carefully` then does it with care, and nothing is written twice.
2. Identities are cached by their values only while all of them are text. Otherwise by values and
   types, since True, 1 and 1.0 are one key of a dictionary and three attributes.
3. Names that are as many as those that came last, each of them among those, are those: a dictionary has no
   key twice.
"""

from __future__ import annotations

import itertools
import json
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from entrenar_processors import Series
from entrenar_processors.metric_names import known_as

from entrenar_otel.errors import describe, guard
from entrenar_otel.identity.helper import say_unheard
from entrenar_otel.interruption import from_outside
from entrenar_otel.otel.metrics.registry import Declared, Registry
from entrenar_otel.recording.inputs import tags_problem
from entrenar_otel.recording.recorder import Recorder
from entrenar_otel.semconv import COORDINATES, Kind

#: Sets of attribute names an instrument has a function for; further ones are recorded with care.
MAX_WRITERS = 256
#: Identities a writer remembers. The recorder has a limit of its own on names.
MAX_IDENTITIES = 1 << 16

Writer = Callable[[Any, Any], None]
_numbers = itertools.count()

_SOURCE = """\
def write_series(amount, attributes):
{unpack}{check}    head = {head}
{watch}    if not one(head, {given}, amount):
        record = pack_one(
            head, now(),
            {epoch},
            {batch},
            {step},
            amount
        )
        put(seal_one(record, adler32(record)))
{stop}"""
#: With the native core, for the attribute names that came last: no tuple of names is made and looked up.
_QUICK_SOURCE = """\
def write_quickly(amount, attributes):
    try:
        if attributes.__class__ is dict and len(attributes) == {count}:
{unpack}{check}            if {sound}one({head}, {given}, amount):
                return
    except KeyError:
        missed()
    by_names(amount, attributes)
"""
_CHECKS = {
    Kind.COUNTER: "    if not amount >= 0:\n        raise ValueError\n",
    Kind.HISTOGRAM: "    if not amount >= 0:\n        raise ValueError\n",
}


class SeriesWriters(dict[tuple[str, ...], Writer]):
    """The functions of one instrument in one run, by attribute names."""

    def __init__(self, declared: Declared, recorder: Recorder, registry: Registry) -> None:
        super().__init__()
        self.declared = declared
        self._recorder = recorder
        self._registry = registry
        #: What instruments call.
        self.quick: Writer = self.by_names
        self._quick: dict[tuple[str, ...], Writer] = {}
        self._heads: dict[tuple[str, ...], dict[Any, int]] = {}
        self._typed: set[tuple[str, ...]] = set()

    def by_names(self, amount: Any, attributes: Any) -> None:
        """Record by the function for these attribute names. Raises KeyError where there is none yet."""
        self[(*attributes,) if attributes else ()](amount, attributes)

    def record_carefully(self, amount: Any, attributes: Any) -> None:
        """Record what can be recorded; what cannot is warned of and counted. Never raises."""
        with guard("instrument"):
            if self._recorder.is_abandoned:
                say_unheard()
                return
            if attributes is None:
                attributes = {}
            elif not isinstance(attributes, Mapping):
                self._recorder.refuse(
                    f"attributes of {self.declared.metric}",
                    f"attributes must be a mapping of names to values, got {describe(attributes)}; left out",
                )
                attributes = {}
            if self._falls(amount):
                return
            identity = {
                str(key): value
                for key, value in attributes.items()
                if key not in COORDINATES and key != "seq" and value is not None
            }
            series = Series.of(self.declared.metric, {key: text_of(value) for key, value in identity.items()})
            if problem := tags_problem(series):
                self._recorder.refuse(
                    f"attributes of {self.declared.metric}", f"attributes {describe(identity)}: {problem}"
                )
                series, identity = Series(self.declared.metric), {}
            places = (attributes.get(name) for name in ("epoch", "batch", "step"))
            if identity:  # first: a heartbeat may come before the next line is over
                self._registry.keep_attributes(series, identity)
            head = self._recorder.record_one(series, amount, *places)
            if head is None:
                self._registry.forget_attributes(series)
            elif head:
                self._learn(attributes, identity, head)

    def _falls(self, amount: Any) -> bool:
        """Counters do not fall and histograms have no negative values, as OpenTelemetry has it."""
        if self.declared.instrument.kind not in _CHECKS:
            return False
        try:
            falls = bool(amount < 0)
        except Exception as error:
            if from_outside(error):
                raise
            return False  # not a number: recording warns of it
        if falls:
            self._recorder.refuse(
                self.declared.metric,
                f"{self.declared.instrument.name} is a {self.declared.instrument.kind}: expected an amount "
                f"of at least 0, got {describe(amount)}; not recorded",
            )
        return falls

    def _learn(self, attributes: Mapping[str, Any], identity: Mapping[str, Any], head: int) -> None:
        """Make the next call of this kind quick."""
        names = (*attributes,)
        values = [attributes[name] for name in names if name not in COORDINATES]
        if len(values) != len(identity) or not all(isinstance(v, str | bool | int | float) for v in values):
            return  # something odd: an absent value, a list, `seq`
        heads = self._heads.setdefault(names, {})
        typed = not all(type(value) is str for value in values)
        if names not in self or (typed and names not in self._typed):
            if len(self) >= MAX_WRITERS:
                return
            if typed:
                self._typed.add(names)
                heads = self._heads[names] = {}
            self[names] = self._make(names, heads)
            self._quick[names] = self._make_quick(names, heads)
        if len(heads) < MAX_IDENTITIES:
            heads[_key(values, typed=names in self._typed)] = head
        self.quick = self._quick[names]

    def _make(self, names: tuple[str, ...], heads: dict[Any, int]) -> Writer:
        number = next(_numbers)
        namespace = self._recorder.namespace
        pack, seal = self._recorder.packers(1)
        namespace |= {
            "pack_one": pack,
            "seal_one": seal,
            "one": _not_native if self._recorder.hot is None else self._recorder.hot.one,
            f"heads_{number}": heads,
            f"hold_{number}": self._hold,
        }
        variables = [name if name in COORDINATES else f"a_{i}" for i, name in enumerate(names)]
        identity = [variable for variable in variables if variable not in COORDINATES]
        if names in self._typed:
            identity += [f"{variable}.__class__" for variable in identity]
        watched = self._is_watched
        source = _SOURCE.format(
            unpack=f"    {', '.join(variables)}, = attributes.values()\n" if variables else "",
            check=_CHECKS.get(self.declared.instrument.kind, ""),
            head=f"heads_{number}[{', '.join(identity) or '()'}]",
            watch="    broken = amount - amount\n" if watched else "",
            given=", ".join(name if name in variables else "None" for name in ("epoch", "batch", "step")),
            stop=f"    if broken:\n        hold_{number}(amount, attributes)\n" if watched else "",
            **{name: name if name in variables else name.upper() for name in ("epoch", "batch", "step")},
        )
        local: dict[str, Any] = {}
        code = compile(source, f"<entrenar_otel writer of {self.declared.metric}>", "exec")
        exec(code, namespace, local)  # noqa: S102 - nothing of the user's is in the source
        writer: Writer = local["write_series"]
        return writer

    @property
    def _is_watched(self) -> bool:
        return known_as(self.declared.metric)[0] == "loss"

    def _missed(self) -> None:
        """Other names, or a series that is new and learnt next: who changes names is looked up by them."""
        self.quick = self.by_names

    def _make_quick(self, names: tuple[str, ...], heads: dict[Any, int]) -> Writer:
        """The function for the case that these names come again, with the native core.

        Its globals are few, and its own: after a step that has filled the caches they are in one place.
        """
        if self._recorder.hot is None or any(type(name) is not str for name in names):
            return self.by_names
        identity = [name for name in names if name not in COORDINATES]
        variables = [f"a_{i}" for i in range(len(identity))]
        keys = [*variables]
        if names in self._typed:
            keys += [f"{variable}.__class__" for variable in variables]
        check = _CHECKS.get(self.declared.instrument.kind, "")
        source = _QUICK_SOURCE.format(
            count=len(names),
            unpack="".join(
                f"            {variable} = attributes[{name!r}]\n"
                for variable, name in zip(variables, identity, strict=True)
            ),
            check=textwrap.indent(check, 8 * " "),
            sound="amount - amount == 0.0 and " if self._is_watched else "",
            head=f"heads[{', '.join(keys) or '()'}]",
            given=", ".join(
                f"attributes[{name!r}]" if name in names else "None" for name in ("epoch", "batch", "step")
            ),
        )
        made: dict[str, Any] = {
            "heads": heads,
            "one": self._recorder.hot.one,
            "by_names": self.by_names,
            "missed": self._missed,
            "len": len,
        }
        code = compile(source, f"<entrenar_otel quick writer of {self.declared.metric}>", "exec")
        exec(code, made)  # noqa: S102 - of the user's only names are in the source, as literals
        writer: Writer = made["write_quickly"]
        return writer

    def _hold(self, amount: Any, attributes: Mapping[str, Any] | None) -> None:
        """A non-finite loss was recorded: the line stops at the next `log` or `raise_if_stopped()`."""
        at = attributes or {}
        series = Series.of(
            self.declared.metric, {key: text_of(v) for key, v in at.items() if key not in COORDINATES}
        )
        self._recorder.bad_loss(series, amount, at.get("epoch"), at.get("batch"), at.get("step"))


def _not_native(*_given: Any) -> bool:
    """Without the native core, each record is packed here."""
    return False


def _key(values: list[Any], *, typed: bool) -> Any:
    parts = [*values, *(value.__class__ for value in values)] if typed else values
    return parts[0] if len(parts) == 1 else tuple(parts)


def text_of(value: Any) -> str:
    """An attribute value as a tag: text as it is, everything else as OpenTelemetry writes it in JSON.

    >>> text_of("a"), text_of(True), text_of(3), text_of((1, 2))
    ('a', 'true', '3', '[1, 2]')
    """
    if isinstance(value, str):
        return str.__str__(value)  # of an enumeration of texts, its text
    try:
        return json.dumps(value, default=str)
    except Exception as error:  # circles, depth, a `__str__` that raises
        if from_outside(error):
            raise
        return describe(value)
