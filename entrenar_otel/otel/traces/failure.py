"""Failure: how an exception, or an end without one, reads on a span."""

from __future__ import annotations

import traceback

from opentelemetry import trace

from entrenar_otel.otel.attributes import clean_text
from entrenar_otel.redact import redacted

#: What OpenTelemetry has for a failure whose type is not known.
OTHER = "_OTHER"


def set_status(span: trace.Span, problem: str | None, error: BaseException | None = None) -> None:
    """OK, or ERROR with `error.type`."""
    if problem is None:
        span.set_status(trace.StatusCode.OK)
        return
    span.set_attribute("error.type", OTHER if error is None else type_of(error))
    span.set_status(trace.StatusCode.ERROR, redacted(clean_text(problem)))


def record(span: trace.Span, error: BaseException, time_ns: int) -> None:
    """The exception as an event of the span, without secrets."""
    span.record_exception(error, _texts_of(error), timestamp=time_ns)


def type_of(error: BaseException) -> str:
    """Its class, as `exception.type` has it.

    >>> import json
    >>> type_of(ValueError()), type_of(json.JSONDecodeError("odd", "", 0))
    ('ValueError', 'json.decoder.JSONDecodeError')
    """
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def describe(error: BaseException) -> str:
    """Its class and message, for a status.

    >>> describe(ValueError("expected 3")), describe(KeyboardInterrupt())
    ('ValueError: expected 3', 'KeyboardInterrupt')
    """
    text = redacted(clean_text(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _texts_of(error: BaseException) -> dict[str, str]:
    """What the SDK records of an exception, without secrets: a URL with its password, say."""
    trace_text = "".join(traceback.format_exception(error))
    return {
        "exception.message": redacted(clean_text(error)),
        "exception.stacktrace": redacted(clean_text(trace_text)),
    }
