"""The sink about itself, for `/metrics`: what it took and refused, what waits, and how long."""

from __future__ import annotations

from collections.abc import Iterator

from entrenar_otel.prometheus.labels import labels_text
from entrenar_otel.sink.decoding.unstorable import KINDS
from entrenar_otel.sink.receiver import Receiver
from entrenar_otel.sink.refusal import Why
from entrenar_otel.sink.request_log import Signal
from entrenar_otel.sink.roll_loop import RollLoop


def page(receiver: Receiver, loop: RollLoop) -> str:
    """In Prometheus's text format."""
    return "".join(f"{line}\n" for line in _lines(receiver, loop))


def _lines(receiver: Receiver, loop: RollLoop) -> Iterator[str]:
    yield from _family("requests_total", "counter", "Requests acknowledged.")
    for signal in Signal:
        yield f'entrenar_sink_requests_total{{signal="{signal.name.lower()}"}} {receiver.requests[signal]}'
    yield from _family("refused_total", "counter", "Requests refused.")
    # From 0 on, or the first one could not be seen to come.
    refused = {why.word: 0 for why in Why} | receiver.refused.copy()
    for why, count in sorted(refused.items()):
        yield f'entrenar_sink_refused_total{{reason="{why}"}} {count}'
    roller = loop.roller
    yield from _family(
        "unstorable_total", "counter", "Acknowledged, and found to be invalid when it was stored."
    )
    unstorable = dict.fromkeys(KINDS, 0) | (roller.unstorable.counts.copy() if roller is not None else {})
    for kind, count in sorted(unstorable.items()):
        yield f'entrenar_sink_unstorable_total{{kind="{kind}"}} {count}'
    yield from _family("run_crashed_timestamp_seconds", "gauge", "When a run was last heard of that crashed.")
    for crash in roller.crashes if roller is not None else ():
        labels = labels_text(
            (("run_id", crash.run_id), ("model_id", crash.model_id), ("rank", str(crash.rank)))
        )
        yield f"entrenar_sink_run_crashed_timestamp_seconds{{{labels}}} {crash.at}"
    for name, kind, text, value in (
        ("received_bytes_total", "counter", "Bytes acknowledged, decompressed.", receiver.received_bytes),
        ("refused_blocks_total", "counter", "Invalid blocks of samples.", receiver.refused_blocks),
        (
            "refused_points_total",
            "counter",
            "Points of metrics beyond the series that a client may have.",
            receiver.refused_points,
        ),
        ("samples_total", "counter", "Values in the lake.", roller.samples if roller else 0),
        ("repeated_total", "counter", "Values that came again.", roller.repeated if roller else 0),
        (
            "foreign_rows_total",
            "counter",
            "Rows of clients other than runs.",
            roller.foreign_rows if roller else 0,
        ),
        (
            "left_out_total",
            "counter",
            "Aggregates of runs whose samples are in the lake.",
            roller.left_out if roller else 0,
        ),
        ("backlog_bytes", "gauge", "What waits to get into the lake.", receiver.backlog_bytes()),
        ("lag_seconds", "gauge", "How long the oldest of it has waited.", round(loop.lag_seconds(), 3)),
        (
            "lake_available",
            "gauge",
            "Whether the lake could be written the last time.",
            int(not loop.problem),
        ),
    ):
        yield from _family(name, kind, text)
        yield f"entrenar_sink_{name} {value}"


def _family(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP entrenar_sink_{name} {text}"
    yield f"# TYPE entrenar_sink_{name} {kind}"
