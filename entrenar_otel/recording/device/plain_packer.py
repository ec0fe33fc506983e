"""Plain packer: packs a record of plain numbers, and refuses what may be on a device."""

from __future__ import annotations

from functools import cache
from typing import Any

from entrenar_otel.recording.device.host_copy import PLAIN_TYPES
from entrenar_otel.recording.layout import Packer, packers

#: Of more values, each has its turn in a loop.
_MAX_UNROLLED = 64
_SOURCE = """\
def pack_plain(head, now, epoch, batch, step, {values}):
    if ({is_other}) and not is_plain([{types}]):
        raise TypeError("not plain numbers")  # the careful path asks each what it is
    return pack(head, now, epoch, batch, step, {values})
"""


@cache
def plain_packer(n_values: int) -> Packer:
    """As `pack` of so many values; what is no plain number raises TypeError.

    It is made for this count, since every record of a loop on a GPU passes it.

    >>> plain_packer(1)(1, 2, 3, 4, 5, 0.5) == packers(1)[0](1, 2, 3, 4, 5, 0.5)
    True
    """
    pack, _ = packers(n_values)
    is_plain = PLAIN_TYPES.issuperset
    if not 0 < n_values <= _MAX_UNROLLED:

        def pack_plain(head: int, now: int, epoch: int, batch: int, step: int, *values: float) -> bytes:
            if not is_plain(map(type, values)):
                raise TypeError("not plain numbers")
            return pack(head, now, epoch, batch, step, *values)

        return pack_plain
    values = [f"v_{i}" for i in range(n_values)]
    source = _SOURCE.format(
        values=", ".join(values),
        is_other=" or ".join(f"type({value}) is not float" for value in values),
        types=", ".join(f"type({value})" for value in values),
    )
    made: dict[str, Any] = {"pack": pack, "is_plain": is_plain}
    exec(source, made)  # noqa: S102 - nothing in it is from outside
    packer: Packer = made["pack_plain"]
    return packer
