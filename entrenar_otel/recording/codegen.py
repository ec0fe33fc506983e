"""Code generation: the source of a function made for exactly these metric names."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

_COORDINATES = frozenset(["epoch", "batch", "step"])
#: Names that the generated function uses itself, and the one that Python keeps from everybody.
_TAKEN = frozenset(
    "record broken write now adler32 stop_line is_foreign error EPOCH BATCH STEP Exception __debug__".split()  # noqa: SIM905
)

_BOUND = '''\
def bound({arguments}, *, epoch=None, batch=None, step=None):
    """Record {doc} in one call; coordinates default to those of epochs() and steps()."""
    try:
        record = pack_{n}(
            head_{n}, now(),
            EPOCH if epoch is None else epoch,
            BATCH if batch is None else batch,
            STEP if step is None else step,
            {values}
        )
{watch}        write(seal_{n}(record, adler32(record)))
    except Exception as error:
        if is_foreign(error):
            raise
    else:
{stop}        return
    slow_{n}(epoch, batch, step, {values})
'''


def bound_source(metrics: Sequence[str], number: int, watched: Sequence[int]) -> str:
    """Source of the function that records exactly `metrics` (cf. how dataclasses makes `__init__`).

    It runs in the recorder's namespace; `watched` are the positions of the values whose being
    non-finite is judged at once: the first such stops the line.
    """
    taken = _TAKEN | {f"{own}_{number}" for own in ("pack", "head", "seal", "slow", "series")}
    names: list[str] = []
    for i, metric in enumerate(metrics):
        name = unicodedata.normalize("NFKC", metric)  # as Python reads identifiers
        if not name.isidentifier() or keyword.iskeyword(name) or name in _COORDINATES:
            name = f"m_{i}"
        while name in taken or name in names:
            name = f"_{name}"
        names.append(name)
    watch = stop = ""
    if watched:  # x - x is 0 for what is finite, else NaN, which is true
        watch = f"        broken = {' or '.join(f'{names[i]} - {names[i]}' for i in watched)}\n"
        stop = "        if broken:\n"
        for place, value in enumerate(names[i] for i in watched):
            stop += f"            {'elif' if place else 'if'} {value} - {value}:\n"
            stop += f"                stop_line({value}, epoch, batch, step, series_{number}[{place}])\n"
    return _BOUND.format(
        arguments=", ".join(names),
        values=", ".join(names) + ",",
        n=number,
        doc=", ".join(repr(m).replace('"', "'").replace("\\", "/") for m in metrics)[:500],
        watch=watch,
        stop=stop,
    )


def with_globals(function: Any, namespace: dict[str, Any], name: str) -> Callable[..., None]:
    """The same code, with this namespace as its globals."""
    copy = FunctionType(function.__code__, namespace, name, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
