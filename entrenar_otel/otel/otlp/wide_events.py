"""Wide events: samples as `training.step` log records, for backends that know no blocks.

One record for each call of `log`; where its values have several sets of tags, one for each set.
"""

from __future__ import annotations

from collections.abc import Iterator

from entrenar_processors import Samples, Series
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from entrenar_otel.otel.attributes import clean_text
from entrenar_otel.otel.otlp import names

_Tags = tuple[tuple[str, str], ...]


def wide_records(samples: Samples) -> Iterator[LogRecord]:
    """The records of these samples, in the order in which they were logged as far as layouts let it."""
    for block in samples.blocks:
        groups = _by_tags(block.series)
        times, seqs = block.time_ns.tolist(), block.seq.tolist()
        places = zip(block.epoch.tolist(), block.batch.tolist(), block.step.tolist(), strict=True)
        for time_ns, seq, place, values in zip(times, seqs, places, block.values.tolist(), strict=True):
            where = [
                KeyValue(key=key, value=AnyValue(int_value=value))
                for key, value in zip((names.EPOCH, names.BATCH, names.STEP), place, strict=True)
                if value >= 0
            ]
            where.append(KeyValue(key=names.SEQ, value=AnyValue(int_value=seq)))
            for tags, metrics in groups:
                yield LogRecord(
                    event_name=names.WIDE_EVENT,
                    time_unix_nano=max(0, time_ns),
                    observed_time_unix_nano=max(0, time_ns),
                    attributes=[
                        *where,
                        *tags,
                        *(
                            KeyValue(key=key, value=AnyValue(double_value=values[column]))
                            for key, column in metrics
                        ),
                    ],
                )


def _by_tags(series: tuple[Series, ...]) -> list[tuple[list[KeyValue], list[tuple[str, int]]]]:
    """For each set of tags in a layout: these as attributes, and which columns have which metric."""
    groups: dict[_Tags, list[tuple[str, int]]] = {}
    for column, known in enumerate(series):
        key = f"{names.METRIC_PREFIX}{clean_text(known.metric)}"
        groups.setdefault(tuple(known.tags), []).append((key, column))
    return [
        (
            [
                KeyValue(
                    key=f"{names.TAG_PREFIX}{clean_text(key)}",
                    value=AnyValue(string_value=clean_text(value)),
                )
                for key, value in tags
            ],
            columns,
        )
        for tags, columns in groups.items()
    ]
