"""The private names of OpenTelemetry that we use: here, and nowhere else.

Each function says which name, since when, and what is done without it. A test for each minor of the
SDK guards them.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import os
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from entrenar_otel.console import logger

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

_warned: set[str] = set()
#: How long another thread may be within a span.
_LOCK_SECONDS = 0.05
_ENCODING = "opentelemetry.exporter.otlp.proto."
_DRAWING = ("opentelemetry.exporter.otlp.", "opentelemetry.sdk.metrics._internal.exemplar.")


def _warn_once(name: str, consequence: str) -> None:
    if name not in _warned:
        _warned.add(name)
        logger.warning("this version of OpenTelemetry has no %s: %s", name, consequence)


def import_sdk() -> None:
    """Import the SDK, where a limit in the environment that is not a number makes its import fail.

    `opentelemetry.sdk.trace` reads OTEL_*_LIMIT when it is imported, and raises ValueError. Then
    values that are not numbers are removed during the import, with a warning.
    """
    try:
        importlib.import_module("opentelemetry.sdk.trace")
        return
    except ValueError as error:
        logger.warning("%s: OpenTelemetry's default is used", error)
    odd = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("OTEL_") and name.endswith("_LIMIT") and not value.strip().isdigit()
    }
    try:
        for name in odd:
            del os.environ[name]
        importlib.import_module("opentelemetry.sdk.trace")
    finally:
        os.environ.update(odd)


def leave_random_alone() -> None:
    """Let retries of the OTLP exporters and exemplars draw from elsewhere than the global `random`.

    An endpoint that cannot be reached, or a counter within a span, would change what a seeded training
    draws. `random` as a name of `opentelemetry.exporter.otlp.common.http` (before 1.45 of
    `….proto.http.…_exporter`) and of `….proto.grpc.exporter`; `randrange` as one of
    `opentelemetry.sdk.metrics._internal.exemplar.exemplar_reservoir`, since 1.28. Without them nothing is
    done.
    """
    # A copy: for the pairs of `items` garbage is collected, and a thread that imports may come between.
    for module in [module for name, module in sys.modules.copy().items() if name.startswith(_DRAWING)]:
        if getattr(module, "random", None) is random:
            module.random = random.Random()  # type: ignore[attr-defined]  # noqa: S311
        if getattr(module, "randrange", None) == random.randrange:
            module.randrange = random.Random().randrange  # type: ignore[attr-defined]  # noqa: S311


def encode_spans_by(make: Callable[[Callable[..., Any]], Any]) -> None:
    """Let the OTLP exporters that are imported encode spans by `make(what they use)`.

    `encode_spans` as a name of `opentelemetry.exporter.otlp.proto.{grpc,http}.trace_exporter`, since 1.11.
    Without it they go on as they are.
    """
    for module in [module for name, module in sys.modules.copy().items() if name.startswith(_ENCODING)]:
        encode: Any = getattr(module, "encode_spans", None)
        is_theirs = callable(encode) and not getattr(encode, "is_ours", False)
        if is_theirs and module.__name__.endswith(".trace_exporter"):
            module.encode_spans = make(encode)  # type: ignore[attr-defined]


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


def is_free(span: Any) -> bool:
    """Whether nobody is within a call to this span: not this thread, whose call would wait for itself.

    `Span._lock` of the SDK, since 1.0: no public way says it. A log line of the SDK's, a signal handler or
    a finalizer may come while it is held. Without it the span is taken to be free.
    """
    lock = getattr(span, "_lock", None)
    if lock is None or not callable(getattr(lock, "acquire", None)):
        return True
    if not lock.acquire(timeout=_LOCK_SECONDS):
        return False
    lock.release()
    return True


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


def is_export() -> bool:
    """Whether this is within `suppress_instrumentation`."""
    from opentelemetry import context

    key = getattr(context, "_SUPPRESS_INSTRUMENTATION_KEY", None)
    return isinstance(key, str) and bool(context.get_value(key))


def preferred_temporality(exporter: Any) -> Mapping[type, Any] | None:
    """How an exporter wants its data, by instrument class.

    `MetricExporter._preferred_temporality`, since 1.14: only the SDK's own reader may ask otherwise.
    Without it everything is cumulative.
    """
    if not hasattr(exporter, "_preferred_temporality"):
        _warn_once(f"{type(exporter).__name__}._preferred_temporality", "it gets cumulative data")
        return None
    return cast("Mapping[type, Any] | None", exporter._preferred_temporality)


def extend_resource(provider: Any, attributes: Mapping[str, Any], service_name: str) -> None:
    """Say whose run it is in the resource of a provider that is somebody else's, and what it is called
    where nobody has named the service.

    `MeterProvider._sdk_config.resource`, since 1.14. Without it the resource stays as it is, and their
    backend cannot tell runs apart.
    """
    config = getattr(provider, "_sdk_config", None)
    resource: Any = getattr(config, "resource", None)
    if config is None or not callable(getattr(resource, "merge", None)):
        _warn_once(
            f"{type(provider).__name__}._sdk_config.resource", "its exporters do not say which run it is"
        )
        return
    known = dict(attributes)
    if not is_service_named(resource.attributes.get("service.name")):
        known["service.name"] = service_name
    config.resource = resource.merge(type(resource)(known))


def is_service_named(name: object) -> bool:
    """Whether somebody has named the service: the SDK's stand-in for a name is `unknown_service:python`.

    >>> is_service_named("digits"), is_service_named("unknown_service:python"), is_service_named(None)
    (True, False, False)
    """
    return bool(name) and not str(name).startswith("unknown_service")


def is_unset(provider: Any) -> bool:
    """Whether this is what stands for the global meter provider until somebody sets one.

    `opentelemetry.metrics._internal._ProxyMeterProvider`, since 1.12, told by the name of its class.
    """
    return type(provider).__name__ == "_ProxyMeterProvider"


def replace_global_meter_provider(provider: Any) -> bool:
    """Put ours in front of a global meter provider that is set already: the API allows one setting.

    `opentelemetry.metrics._internal._METER_PROVIDER`, since 1.12. Without it False is returned, and the
    caller says what to do instead.
    """
    from opentelemetry.metrics import _internal

    if not hasattr(_internal, "_METER_PROVIDER"):
        return False
    _internal._METER_PROVIDER = provider
    return True


def readers_of(provider: Any) -> tuple[Any, ...]:
    """The metric readers of somebody's provider.

    `MeterProvider._metric_readers`, in earlier minors `MeterProvider._sdk_config.metric_readers`. Without
    either none are known.
    """
    of_config = getattr(getattr(provider, "_sdk_config", None), "metric_readers", ())
    return tuple(getattr(provider, "_metric_readers", of_config))


def current_meter_provider() -> Any:
    """The global meter provider, without making the one that OTEL_PYTHON_METER_PROVIDER names; or None.

    `opentelemetry.metrics._internal._METER_PROVIDER`, since 1.12. Without it None.
    """
    from opentelemetry.metrics import _internal

    return getattr(_internal, "_METER_PROVIDER", None)


def meet_meter_providers(meet: Callable[[Any], Any]) -> None:
    """Have whoever sets the global meter provider from now on set `meet(provider)`; nothing where it is None.

    The API allows one setting, and refuses a second with a warning: without this, whoever comes second loses
    everything. Replaces `opentelemetry.metrics.set_meter_provider`, which is public, and the name in
    `opentelemetry.metrics._internal` and in `opentelemetry.sdk._configuration`.
    """
    from opentelemetry import metrics
    from opentelemetry.metrics import _internal

    original = metrics.set_meter_provider

    @functools.wraps(original)
    def set_meter_provider(meter_provider: Any) -> None:
        if (met := meet(meter_provider)) is not None:
            original(met)

    for module in (metrics, _internal, sys.modules.get("opentelemetry.sdk._configuration")):
        if getattr(module, "set_meter_provider", None) is original:
            module.set_meter_provider = set_meter_provider  # type: ignore[union-attr]
