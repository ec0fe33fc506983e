"""A request in OTLP's JSON, which is protobuf's but for the ids: those are hexadecimal, not base64."""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf import json_format

from entrenar_otel.sink.pieces import REQUESTS
from entrenar_otel.sink.refusal import Refusal, Why
from entrenar_otel.sink.request_log import Signal
from entrenar_otel.sink.shape import parsing

#: Parsed, it takes many times as much; so much at most, of two bytes an object of 300.
MAX_JSON_BYTES, _MAX_OBJECTS = 4 << 20, 200_000
_IDS = frozenset(
    ["traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"],
)


def from_json(signal: Signal, text: bytes) -> bytes:
    """The same request in protobuf. Raises Refusal."""
    if len(text) > MAX_JSON_BYTES:
        raise Refusal(
            Why.TOO_LARGE,
            f"{len(text):,} bytes of JSON, at most {MAX_JSON_BYTES:,} are taken at once: send protobuf",
        )
    if (objects := text.count(b"{") + text.count(b"[")) > _MAX_OBJECTS:
        raise Refusal(
            Why.TOO_LARGE,
            f"{objects:,} objects of JSON, at most {_MAX_OBJECTS:,} are taken at once: send protobuf",
        )
    try:
        with parsing:
            message = _parsed(text, REQUESTS[signal]())
    except (ValueError, TypeError, RecursionError, json_format.ParseError) as error:
        why = str(error)[:200] if not isinstance(error, RecursionError) else "it is nested too deep"
        raise Refusal(Why.INVALID, f"expected an {REQUESTS[signal].__name__} in OTLP's JSON: {why}") from None
    data: bytes = message.SerializeToString()
    return data


def _parsed(text: bytes, message: Any) -> Any:
    parsed = json.loads(text)
    if not isinstance(parsed, dict):
        raise ValueError("expected an object")
    _ids_to_base64(parsed)
    return json_format.ParseDict(parsed, message, ignore_unknown_fields=True)


def _ids_to_base64(parsed: Any) -> None:
    waiting = [parsed]
    while waiting:
        here = waiting.pop()
        if isinstance(here, list):
            waiting += here
        elif isinstance(here, dict):
            for key, value in here.items():
                if key in _IDS and isinstance(value, str):
                    here[key] = base64.b64encode(bytes.fromhex(value)).decode()
                elif isinstance(value, dict | list):
                    waiting.append(value)
