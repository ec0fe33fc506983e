"""W&B's log: the records of an offline `.wandb` file.

The frame is LevelDB's log format (https://github.com/google/leveldb/blob/main/doc/log_format.md) behind seven
bytes of W&B's own; what is in it is a message of W&B, which its own classes read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from entrenar_otel.importers.foreign_run import Watcher, unwatched

_BLOCK = 32 << 10
_HEADER = struct.Struct("<IHB")  # checksum, length, kind
_BEGINNING = b":W&B"
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def read_records(path: Path, watch: Watcher = unwatched) -> Iterator[Any]:
    """The records of a file, as far as it is whole: a run may be writing it. `watch` is told how far it is.

    Raises ValueError where it is no file of W&B, OSError where it cannot be read.
    """
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    record: Any = wandb_internal_pb2.Record
    with path.open("rb") as file:
        if file.read(7)[:4] != _BEGINNING:
            raise ValueError(f"{path} is no file of W&B")
        size = max(1, path.stat().st_size)

        def next_block() -> bytes:
            watch(min(1.0, file.tell() / size))
            return file.read(_BLOCK)

        for data in _frames(file.read(_BLOCK - 7), iter(next_block, b"")):
            try:
                yield record.FromString(data)
            except DecodeError:
                return


def _frames(first: bytes, others: Iterator[bytes]) -> Iterator[bytes]:
    """The records, whole, of a file's blocks. What was begun and not ended is left out."""
    parts: list[bytes] | None = None
    block: bytes | None = first
    while block:
        at = 0
        while at + _HEADER.size <= len(block):
            _checksum, length, kind = _HEADER.unpack_from(block, at)
            at += _HEADER.size
            data = block[at : at + length]
            if len(data) < length or not _FULL <= kind <= _LAST:
                break
            at += length
            if kind in (_FULL, _FIRST):
                parts = [data]
            elif parts is not None:
                parts.append(data)
            if kind in (_FULL, _LAST) and parts is not None:
                yield b"".join(parts)
                parts = None
        block = next(others, None)
