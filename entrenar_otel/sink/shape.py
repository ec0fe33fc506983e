"""Shape: what is seen of a block without decoding it, so that its sender is told at once.

A block that passes here may still be none; the roll finds that out, and says so in the sink's output.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from entrenar_otel.otel.otlp.blocks import EVENT_NAME, SCOPE, VERSION


class RefusedBlocks(NamedTuple):
    """How many blocks of a request are none, and what is wrong with the first."""

    records: int
    why: str


def refused_blocks(request: Any) -> RefusedBlocks:
    """Look at the blocks of an `ExportLogsServiceRequest`; other log records are not looked at."""
    count, why = 0, ""
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            if scope.scope.name != SCOPE:
                continue
            for record in scope.log_records:
                if record.event_name == EVENT_NAME and (problem := _problem_of(record)):
                    count += 1
                    why = why or problem
    return RefusedBlocks(count, why)


def _problem_of(record: Any) -> str:
    if record.body.WhichOneof("value") != "bytes_value":
        return f"a block's body is bytes, this one's is {record.body.WhichOneof('value') or 'missing'}"
    size = len(record.body.bytes_value)
    if not size or size % 8:
        return f"a block is made of 8-byte words, this one has {size:,} bytes"
    numbers = {
        item.key: item.value.int_value
        for item in record.attributes
        if item.value.WhichOneof("value") == "int_value"
    }
    if missing := {"first_seq", "count", "clock_ns", "version"} - numbers.keys():
        return f"a block's attributes {', '.join(sorted(missing))} are missing, or no integers"
    if numbers["version"] != VERSION:
        return f"expected a block of version {VERSION}, got {numbers['version']}: a later sink reads it"
    if not (numbers["first_seq"] >= 0 and 0 < numbers["count"] <= size // 8):
        return f"first_seq {numbers['first_seq']} and count {numbers['count']} fit no block of {size:,} bytes"
    return ""
