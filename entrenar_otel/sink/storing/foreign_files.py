"""Foreign files: where in the lake the rows of clients other than runs lie."""

from __future__ import annotations

import hashlib

from entrenar_processors import Series

from entrenar_otel.sink.decoding.sender import Process

#: The folder of their tables.
FOREIGN = "otel"
#: Of a run that sends its samples these say nothing that the lake does not have.
_OF_SAMPLES = ("training.", "entrenar.")


def foreign_stem(process: Process | None) -> str:
    """What a client's files are named after; the aggregates of a run's processes lie beside each other."""
    if process is None:
        return "otlp"
    return f"run-{hashlib.sha256(repr(tuple(process)).encode()).hexdigest()[:16]}"


def is_of_samples(series: Series) -> bool:
    """Whether a metric of a run is made of its samples and events, or says how its monitor does."""
    return series.metric.startswith(_OF_SAMPLES)
