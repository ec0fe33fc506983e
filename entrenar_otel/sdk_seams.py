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


def extend_resource(provider: Any, attributes: Mapping[str, Any]) -> None:
    """`MeterProvider._sdk_config.resource`: say whose run it is in a resource that is somebody else's.

    Gone: their resource stays as it is, and their backend cannot tell runs apart.
    """
    config = getattr(provider, "_sdk_config", None)
    resource = getattr(config, "resource", None)
    if config is not None and resource is not None:
        with contextlib.suppress(AttributeError, TypeError):
            config.resource = resource.merge(type(resource)(dict(attributes)))


def replace_global_meter_provider(provider: Any) -> bool:
    """`opentelemetry.metrics._internal._METER_PROVIDER`: put ours in front of one that is set already.

    The API allows one `set_meter_provider`. Gone: False, and the caller says what to do instead.
    """
    from opentelemetry.metrics import _internal

    if not hasattr(_internal, "_METER_PROVIDER"):
        return False
    _internal._METER_PROVIDER = provider
    return True


def is_unset(provider: Any) -> bool:
    """`opentelemetry.metrics._internal._ProxyMeterProvider`: what is there until somebody sets one.

    Gone: told by the name of its class.
    """
    return type(provider).__name__ == "_ProxyMeterProvider"
