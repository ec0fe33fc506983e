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


def bound_source(metrics: Sequence[str], number: int, watched: int | None) -> str:
    """Source of the function that records exactly `metrics` (cf. how dataclasses makes `__init__`).

    It runs in the recorder's namespace; `watched` is the position of the value whose being
    non-finite is judged at once.
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
    if watched is not None:
        value = names[watched]
        watch = f"        broken = {value} - {value}\n"
        stop = f"        if broken:\n            stop_line({value}, epoch, batch, step, series_{number})\n"
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
