"""Environment: the settings in the OTEL_* variables, and the exporters that they ask for.

Nothing here raises: an invalid value is one warning (what was expected, what is used) and the default.
The exporters themselves (endpoints, headers, timeouts) read `os.environ`.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import os
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from entrenar_otel.console import logger
from entrenar_otel.delivery.proxy import is_loopback
from entrenar_otel.otel.log_records import shield_exporters
from entrenar_otel.otel.sdk_seams import leave_random_alone
from entrenar_otel.redact import without_secrets

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

T = TypeVar("T")
Signal = Literal["traces", "metrics", "logs"]

_PROTOCOLS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}
INSTALL = "pip install 'entrenar-otel[otlp]'"


@contextlib.contextmanager
def assumed(endpoint: str | None, service_name: str | None) -> Iterator[None]:
    """For this block, put `[otlp]` of renacer.toml into the environment where the variable is not set.

    For making a run's exporters, which read `os.environ` themselves.
    """
    file = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SERVICE_NAME": service_name}
    new = {name: value for name, value in file.items() if value is not None and name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            os.environ.pop(name, None)


def exporter_names(signal: Signal, environ: Mapping[str, str]) -> list[str]:
    """The exporters of a signal, by their entry points' names, in the order given.

    >>> exporter_names("traces", {"OTEL_TRACES_EXPORTER": "console, otlp"})
    ['console', 'otlp_proto_grpc']
    >>> exporter_names("traces", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"})
    ['otlp_proto_grpc']
    >>> exporter_names("traces", {})
    []
    """
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    given = environ.get(variable, "").strip()
    if not given and any(
        environ.get(name, "").strip()
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    ):
        given = "otlp"
    names = []
    for name in map(str.strip, given.split(",")):
        if name and name.lower() != "none":
            names.append(_otlp(signal, environ) if name == "otlp" else name)
    return list(dict.fromkeys(names))


def metric_exporter_names(environ: Mapping[str, str]) -> list[str]:
    """The exporters that OTEL_METRICS_EXPORTER asks for, `prometheus` among them."""
    return exporter_names("metrics", environ)


def _otlp(signal: Signal, environ: Mapping[str, str]) -> str:
    for variable in (f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        given = environ.get(variable, "").strip().lower()
        if given in _PROTOCOLS:
            return _PROTOCOLS[given]
        if given:
            # the same port takes http/json and http/protobuf
            used = "http/protobuf" if given.startswith("http") else "grpc"
            _warn(environ, variable, " or ".join(_PROTOCOLS), used)
            return _PROTOCOLS[used]
    return _PROTOCOLS["grpc"]


def span_exporters(environ: Mapping[str, str]) -> list[SpanExporter]:
    """The span exporters that the environment asks for; warns of those that are unavailable."""
    from opentelemetry.sdk.trace.export import SpanExporter

    return _made("traces", exporter_names("traces", environ), SpanExporter, environ)


def metric_exporters(environ: Mapping[str, str]) -> list[MetricExporter]:
    """The same for metrics, less `prometheus`, which is not an exporter here: see `wants_prometheus`."""
    from opentelemetry.sdk.metrics.export import MetricExporter

    names = [name for name in metric_exporter_names(environ) if name != "prometheus"]
    return _made("metrics", names, MetricExporter, environ)


def _made(signal: Signal, names: list[str], kind: type[Any], environ: Mapping[str, str]) -> list[Any]:
    group = f"opentelemetry_{signal}_exporter"
    shield_exporters()
    exporters = []
    for name in names:
        asked = f"the {signal} exporter {name!r} (OTEL_{signal.upper()}_EXPORTER, OTEL_EXPORTER_OTLP_*)"
        try:
            entry_point = next(iter(entry_points(group=group, name=name)), None)
            if entry_point is None:
                known = sorted({point.name for point in entry_points(group=group)} | {"none"})
                logger.warning(
                    "%s is not installed; available: %s. For OTLP: %s", asked, ", ".join(known), INSTALL
                )
                continue
            make = entry_point.load()
            shield_exporters()  # those that were imported just now
            exporter = make(**_direct(make, signal, environ))
        except Exception as error:
            hint = f" ({INSTALL})" if isinstance(error, ImportError) else ""
            text = without_secrets(str(error))
            logger.warning("%s cannot be used: %s: %s%s", asked, type(error).__name__, text, hint)
            continue
        if isinstance(exporter, kind):
            exporters.append(exporter)
        else:
            logger.warning(
                "%s cannot be used: expected a %s, got %s", asked, kind.__name__, type(exporter).__name__
            )
    leave_random_alone()
    return exporters


def _direct(make: Any, signal: Signal, environ: Mapping[str, str]) -> dict[str, Any]:
    """Arguments with which an OTLP exporter does not ask a proxy for a collector on this host.

    By gRPC also that it measures nothing with each answer, see `otlp/grpc_client.py`.
    """
    variables = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    endpoint = next((given for name in variables if (given := environ.get(name, "").strip())), "localhost")
    try:
        known = inspect.signature(make).parameters
        is_here = is_loopback(endpoint if "://" in endpoint else f"//{endpoint}")
    except (TypeError, ValueError):
        return {}
    if "channel_options" in known:
        direct = (("grpc.enable_http_proxy", 0),) if is_here else ()
        return {"channel_options": (("grpc.http2.bdp_probe", 0), *direct)}
    if not is_here:
        return {}
    if "session" in known and "endpoint" in known:
        import requests

        session = requests.Session()
        session.trust_env = False
        return {"session": session}
    return {}


class PageAddress(NamedTuple):
    """Where `/metrics` is to listen; `next_free`: or on the next port that is free."""

    host: str
    port: int
    next_free: bool = False


def wants_prometheus(environ: Mapping[str, str]) -> PageAddress | None:
    """Where `/metrics` is to listen, if OTEL_METRICS_EXPORTER names prometheus.

    >>> wants_prometheus({"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "9464+"})
    PageAddress(host='localhost', port=9464, next_free=True)
    """
    if "prometheus" not in metric_exporter_names(environ):
        return None
    host = environ.get("OTEL_EXPORTER_PROMETHEUS_HOST", "").strip() or "localhost"
    variable, expected = "OTEL_EXPORTER_PROMETHEUS_PORT", "a port from 0 to 65535, or 9464+ for the next free"
    given = environ.get(variable, "").strip()
    start = given.removesuffix("+")
    port = number_of(environ if start == given else {variable: start}, variable, 9464, expected, 0, 65535)
    return PageAddress(host, int(port), start != given)


def linger_seconds(environ: Mapping[str, str], default: float) -> float:
    """How long `/metrics` stays after the end of a run for one last scrape, at most 15 s."""
    return number_of(environ, "ENTRENAR_METRICS_LINGER", default, "seconds from 0 to 15", 0, 15)


def export_interval_seconds(environ: Mapping[str, str]) -> float:
    """How often aggregates are exported: OTEL_METRIC_EXPORT_INTERVAL (ms), default 5 s."""
    return number_of(environ, "OTEL_METRIC_EXPORT_INTERVAL", 5000, "milliseconds, at least 1") / 1000


def export_timeout_seconds(environ: Mapping[str, str]) -> float:
    """How long one export may take: OTEL_METRIC_EXPORT_TIMEOUT (ms), default 30 s."""
    return number_of(environ, "OTEL_METRIC_EXPORT_TIMEOUT", 30000, "milliseconds, at least 1") / 1000


def span_export_settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """OTEL_BSP_* as arguments of SpanPipeline; only of those that are set."""
    settings: dict[str, Any] = {}
    if (delay := number_of(environ, "OTEL_BSP_SCHEDULE_DELAY", 0, "milliseconds, at least 1")) > 0:
        settings["delay_seconds"] = delay / 1000
    for variable, name in (
        ("OTEL_BSP_MAX_QUEUE_SIZE", "max_queue"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "max_batch"),
    ):
        if (size := int(number_of(environ, variable, 0, "a whole number, at least 1"))) > 0:
            settings[name] = size
    return settings


def histogram_aggregation(environ: Mapping[str, str]) -> Literal["explicit", "exponential"]:
    """OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION, default explicit buckets."""
    choices: dict[str, Literal["explicit", "exponential"]] = {
        "explicit_bucket_histogram": "explicit",
        "base2_exponential_bucket_histogram": "exponential",
    }
    return choice_of(environ, "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", choices)


#: OTEL_LOG_LEVEL, as OpenTelemetry's other languages have it.
_LEVELS = {
    "info": logging.INFO,
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
    "none": logging.CRITICAL + 1,
}


def heed_log_level(environ: Mapping[str, str]) -> None:
    """OTEL_LOG_LEVEL: the level from which our logger speaks, unless the program has set one."""
    if environ.get("OTEL_LOG_LEVEL", "").strip():
        logger.default_level(choice_of(environ, "OTEL_LOG_LEVEL", _LEVELS))


def name_unsupported(environ: Mapping[str, str], *, has_other: bool) -> None:
    """Say, once per process, which settings have no effect here.

    `has_other`: OpenTelemetry was set up by somebody else, opentelemetry-instrument say, who reads them.
    """
    if has_other:
        return
    for variable, text in _UNSUPPORTED.items():
        if variable not in _named and environ.get(variable, "").strip().lower() not in ("", "none"):
            _named.add(variable)
            logger.warning("%s=%s: %s", variable, without_secrets(environ[variable]), text)


_NO_FILE = (
    "entrenar-otel reads the OTEL_* variables (docs/otel.md), and no configuration file of OpenTelemetry's. "
    "Under opentelemetry-instrument, what that file sets up is used"
)
_UNSUPPORTED = {
    "OTEL_CONFIG_FILE": _NO_FILE,
    "OTEL_EXPERIMENTAL_CONFIG_FILE": _NO_FILE,
}
_named: set[str] = set()


def number_of(
    environ: Mapping[str, str],
    name: str,
    default: float,
    expected: str,
    least: float = 1,
    most: float = 86_400_000,
) -> float:
    """The number in a variable; warns of what is none, or out of bounds."""
    given = environ.get(name, "").strip()
    if not given:
        return default
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if least <= number <= most:
        return number
    _warn(environ, name, expected, f"{default:g}" if default else "the default")
    return default


def choice_of(environ: Mapping[str, str], name: str, choices: Mapping[str, T]) -> T:
    """What a variable chooses, by default the first; warns of a word that is no choice."""
    default = next(iter(choices))
    given = environ.get(name, "").strip().lower()
    if given and given not in choices:
        _warn(environ, name, " or ".join(choices), default)
    return choices.get(given, choices[default])


def _warn(environ: Mapping[str, str], variable: str, expected: str, used: str) -> None:
    given = without_secrets(environ[variable])
    logger.warning("%s=%s: expected %s; using %s", variable, given, expected, used)
