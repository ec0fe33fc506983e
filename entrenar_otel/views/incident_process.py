"""Incident process: draws incidents, away from the training process.

Importing matplotlib and drawing hold the interpreter in pieces of up to 60 ms, which a training loop in the
same process would wait for. Only the training process knows the lake, and writes to it: each incident comes
on standard input, as its documents in JSON and its window as Parquet, and leaves as PNG on standard output,
all of them behind their length in eight bytes. An incident that cannot be drawn is an empty picture.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import BinaryIO

from entrenar_processors.extras import MissingExtra

#: What starts the process, with `python -P -c`.
COMMAND = "from entrenar_otel.views.incident_process import main; main()"
#: How the process ends where matplotlib is not installed.
NO_MATPLOTLIB = 3
#: After so many seconds the process ends itself, also when nobody is there any more to end it.
LIFE_SECONDS = 60
_NICENESS = 5
_LENGTH_BYTES = 8


def main() -> None:
    """Draw what comes on standard input, one after the other."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(LIFE_SECONDS)
    os.nice(_NICENESS)
    from entrenar_otel.views.incident import picture

    while (documents := take(sys.stdin.buffer)) is not None:
        window = take(sys.stdin.buffer) or b""
        try:
            drawn = picture(json.loads(documents), window)
        except MissingExtra:
            os._exit(NO_MATPLOTLIB)
        except Exception:  # the next one may be drawn all the same
            drawn = b""
        sys.stdout.buffer.write(packed(drawn))
        sys.stdout.buffer.flush()
    os._exit(0)  # nothing is left to do, and the training may be waiting


def packed(data: bytes) -> bytes:
    """Data behind its length.

    >>> import io
    >>> stream = io.BytesIO(packed(b"abc") + packed(b"") + b"torn")
    >>> take(stream), take(stream), take(stream)
    (b'abc', b'', None)
    """
    return len(data).to_bytes(_LENGTH_BYTES, "little") + data


def take(stream: BinaryIO) -> bytes | None:
    """The next data of a stream; None at its end, also where that is torn."""
    head = stream.read(_LENGTH_BYTES)
    length = int.from_bytes(head, "little")
    data = stream.read(length) if len(head) == _LENGTH_BYTES else b""
    return data if len(head) == _LENGTH_BYTES and len(data) == length else None
