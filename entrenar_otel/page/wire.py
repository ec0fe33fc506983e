"""Wire: curves as bytes that a browser reads without parsing, as arrays of Float64."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from entrenar_processors.samples import Floats

MAGIC = b"EOCURVE1"
_HEAD = 16


class DrawnLine(NamedTuple):
    """A line as it is drawn: whose it is, and its points; `of` is how many values they stand for."""

    run: str
    label: str
    metric: str
    split: str
    of: int
    x: Floats
    y: Floats
    tags: Mapping[str, str] = MappingProxyType({})


def encode(lines: Sequence[DrawnLine], **more: Any) -> bytes:
    """Magic, the length of a JSON header (uint32) and 4 zero bytes, the header, then x and y of each line.

    All numbers are little-endian; the arrays begin at multiples of 8.

    >>> body = encode([DrawnLine("r", "", "loss", "", 2, np.array([0.0, 1.0]), np.array([3.0, np.nan]))])
    >>> len(body) % 8, decode(body)[1][0][1].tolist()
    (0, [3.0, nan])
    """
    told = [{**line._asdict(), "tags": dict(line.tags), "n": len(line.x)} for line in lines]
    for each in told:
        del each["x"], each["y"]
    header = json.dumps({**more, "lines": told}).encode()
    header += b" " * (-(_HEAD + len(header)) % 8)
    arrays = [np.ascontiguousarray(part, "<f8").tobytes() for line in lines for part in (line.x, line.y)]
    return b"".join([MAGIC, len(header).to_bytes(4, "little"), bytes(4), header, *arrays])


def decode(body: bytes) -> tuple[Mapping[str, Any], list[tuple[Floats, Floats]]]:
    """What `encode` made, for whoever reads it with Python. Raises ValueError."""
    if body[:8] != MAGIC:
        raise ValueError(f"expected {MAGIC!r}, got {body[:8]!r}")
    length = int.from_bytes(body[8:12], "little")
    header = json.loads(body[_HEAD : _HEAD + length])
    numbers, at, lines = np.frombuffer(body, "<f8", offset=_HEAD + length), 0, []
    for line in header["lines"]:
        n = line["n"]
        lines.append((numbers[at : at + n], numbers[at + n : at + 2 * n]))
        at += 2 * n
    return header, lines
