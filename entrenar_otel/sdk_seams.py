"""The private names of OpenTelemetry that we use: here, and nowhere else.

Each function says which name, since when, and what is done without it. A test for each minor of the
SDK guards them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

logger = logging.getLogger("entrenar_otel")
_warned: set[str] = set()


def _warn_once(name: str, consequence: str) -> None:
    if name not in _warned:
        _warned.add(name)
        logger.warning("this version of OpenTelemetry has no %s: %s", name, consequence)


def span_processor_of(provider: Any) -> SpanProcessor | None:
    """Everything that was added to somebody's tracer provider, as one processor, later ones included.

    `TracerProvider._active_span_processor`, in the SDK since 1.0. There is no public way to ask a
    provider for its processors, and its own tracers cannot be used: they obey its sampler, which may
    drop the run's span. Without it None is returned, and run spans go to the environment's exporters
    only.
    """
    processor = getattr(provider, "_active_span_processor", None)
    if callable(getattr(processor, "on_start", None)) and callable(getattr(processor, "on_end", None)):
        return cast("SpanProcessor", processor)
    _warn_once(
        f"{type(provider).__name__}._active_span_processor",
        "the run's own spans do not reach the span processors of the global tracer provider",
    )
    return None


@contextlib.contextmanager
def suppress_instrumentation() -> Iterator[None]:
    """Within it, instrumented HTTP and gRPC clients make no spans: of an export, spans would never end.

    `opentelemetry.context._SUPPRESS_INSTRUMENTATION_KEY`, since 1.0. Without it exports are traced
    like any other request of the process.
    """
    from opentelemetry import context

    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", None)
    if not isinstance(key, str):
        _warn_once("context._SUPPRESS_INSTRUMENTATION_KEY", "our exports may be traced by instrumentation")
        yield
        return
    token = context.attach(context.set_value(key, True))
    try:
        yield
    finally:
        context.detach(token)
