"""Foreign files: where in the lake the rows of clients lie that are no runs."""

from __future__ import annotations

import hashlib

from entrenar_otel.sink.decoding.sender import Process

#: The folder of their tables.
FOREIGN = "otel"


def foreign_stem(process: Process | None) -> str:
    """What a client's files are named after; the aggregates of a run's processes lie beside each other."""
    if process is None:
        return "otlp"
    return f"run-{hashlib.sha256(repr(tuple(process)).encode()).hexdigest()[:16]}"
