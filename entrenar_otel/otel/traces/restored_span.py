"""Restored span: a span from its note, for exporters, when the process that made it is dead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope


def restored(document: Mapping[str, Any], resource: Resource) -> ReadableSpan:
    """The span of a SPAN_ENDED note, ids and times as they were; the inverse of `span_journal.ended`."""
    parent = document.get("parent_span_id")
    flags = trace.TraceFlags(0 if document.get("sampled") is False else 1)
    return ReadableSpan(
        name=document["name"],
        context=_context(document["trace_id"], document["span_id"], flags),
        parent=_context(document["trace_id"], parent, flags) if parent else None,
        resource=resource,
        attributes=document.get("attributes"),
        events=[
            Event(event["name"], event.get("attributes"), event["time_ns"])
            for event in document.get("events", ())
        ],
        links=[
            trace.Link(_context(link["trace_id"], link["span_id"]), link.get("attributes"))
            for link in document.get("links", ())
        ],
        kind=trace.SpanKind[document.get("kind", "INTERNAL")],
        status=trace.Status(
            trace.StatusCode[document.get("status", "UNSET")],
            document.get("status_message") if document.get("status") == "ERROR" else None,
        ),
        start_time=document["start_ns"],
        end_time=document["end_ns"],
        instrumentation_scope=InstrumentationScope(
            document.get("scope") or "", document.get("scope_version")
        ),
    )


def _context(
    trace_id: str, span_id: str, flags: trace.TraceFlags = trace.DEFAULT_TRACE_OPTIONS
) -> trace.SpanContext:
    return trace.SpanContext(int(trace_id, 16), int(span_id, 16), is_remote=False, trace_flags=flags)
