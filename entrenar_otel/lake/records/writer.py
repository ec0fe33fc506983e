"""Writer: which kind of writer a lake has, runs on the spot or a sink. Both on one would store a run twice.

A sink's lake has a marker in its root. A lake without one, in which there are runs, is written by them.
"""

from __future__ import annotations

import json

from entrenar_otel.errors import LakeError
from entrenar_otel.lake.records.runs import RunRecord, claim
from entrenar_otel.lake.store.storage import Storage, is_gone

MARKER = "writer.json"
_SINK = "sink"
_MAX_BYTES = 10_000
_TABLES = ("runs", "metrics", "events", "spans")


class SinksLake(LakeError):
    """A run was to write a lake that a sink writes."""


def is_of_sink(storage: Storage) -> bool:
    """Whether a sink writes this lake. Raises OSError where it cannot be asked."""
    try:
        marker = json.loads(storage.read_bytes(MARKER, _MAX_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except ValueError:
        raise LakeError(f"{storage.location(MARKER)} cannot be read: it says what writes this lake") from None
    except OSError as error:
        if is_gone(error):
            return False
        raise
    return isinstance(marker, dict) and marker.get("writer") == _SINK


def claim_on_the_spot(storage: Storage, record: RunRecord) -> RunRecord:
    """Claim an attempt for a run that writes the lake itself. Raises SinksLake where a sink does."""
    if is_of_sink(storage):
        raise SinksLake(
            "a sink writes this lake: give the run a lake of its own (lake=, ENTRENAR_LAKE), and send to the "
            "sink by OTEL_EXPORTER_OTLP_ENDPOINT with ENTRENAR_OTLP_SAMPLES=blocks"
        )
    return claim(storage, record)


def mark_for_sink(storage: Storage) -> None:
    """Make it a sink's lake. Raises LakeError where runs write it themselves."""
    if is_of_sink(storage):
        return
    if any(storage.list(table) for table in _TABLES):
        raise LakeError(
            f"{storage.url} is written by runs themselves: give the sink a lake of its own with --lake"
        )
    storage.write_bytes(MARKER, json.dumps({"writer": _SINK}).encode())
