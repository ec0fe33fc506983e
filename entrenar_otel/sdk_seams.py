"""Seams: the only file that touches names which the OpenTelemetry SDK keeps private.

Each function says which name, and what happens where it is gone: a poorer answer, never an error.
`tests/test_sdk_seams.py` looks at each of them, with the lowest and the newest supported minor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from opentelemetry import context


def preferred_temporality(exporter: Any) -> Mapping[type, Any] | None:
    """`MetricExporter._preferred_temporality`: by instrument class. Gone: cumulative."""
    return getattr(exporter, "_preferred_temporality", None)


@contextlib.contextmanager
def suppressed_instrumentation() -> Iterator[None]:
    """`opentelemetry.context._SUPPRESS_INSTRUMENTATION_KEY`: an exporter's own calls make no spans.

    Gone: the key's text, which instrumentations of other packages use too.
    """
    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
    token = context.attach(context.set_value(key, True))
    try:
        yield
    finally:
        context.detach(token)
