"""Settings: where log records are sent, from the OTEL_* variables and our own; nothing here raises."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from entrenar_otel.console import logger
from entrenar_otel.otel.environment import INSTALL, choice_of, exporter_names, number_of
from entrenar_otel.otel.log_records import shield_exporters
from entrenar_otel.redact import origin_of

Samples = Literal["off", "blocks", "events"]
#: What waits on the disk while the endpoint is away.
MAX_BACKLOG_BYTES = 2 << 30
_SAMPLES = "ENTRENAR_OTLP_SAMPLES"
_MODES: dict[str, Samples] = {"off": "off", "blocks": "blocks", "events": "events"}
_COMPRESSIONS = {"none": False, "gzip": True}
_DELAY = "OTEL_BLRP_SCHEDULE_DELAY"
#: Events leave within a second, and samples about once a second.
INTERVAL_SECONDS = 0.9
#: OpenTelemetry's default, for one request.
_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class LogSettings:
    """How log records leave. Certificates are paths to PEM files, None where the usual ones are meant."""

    endpoint: str
    protocol: Literal["grpc", "http/protobuf"] = "grpc"
    samples: Samples = "off"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_seconds: float = _TIMEOUT_SECONDS
    gzip: bool = False
    #: Of gRPC, where the endpoint has no scheme.
    insecure: bool = False
    certificate: Path | None = None
    client_key: Path | None = None
    client_certificate: Path | None = None
    #: Whether `training.run.started` has the configuration and the command line.
    with_config: bool = False
    max_backlog_bytes: int = MAX_BACKLOG_BYTES
    #: How often what has come since is sent.
    interval_seconds: float = INTERVAL_SECONDS

    @property
    def shown(self) -> str:
        """The endpoint as it may be shown."""
        if "://" in self.endpoint:
            return origin_of(self.endpoint)
        return origin_of(f"http://{self.endpoint}").removeprefix("http://")

    @classmethod
    def find(
        cls, environ: Mapping[str, str] = os.environ, max_backlog_bytes: int | None = None
    ) -> LogSettings | None:
        """What the environment asks for; None where no log records leave, or none can."""
        samples = choice_of(environ, _SAMPLES, _MODES)
        protocols: dict[str, Literal["grpc", "http/protobuf"]] = {
            "otlp_proto_grpc": "grpc",
            "otlp_proto_http": "http/protobuf",
        }
        chosen = [protocols[name] for name in exporter_names("logs", environ) if name in protocols]
        if not chosen:
            if samples != "off":
                logger.warning(
                    "%s=%s has no effect: set OTEL_EXPORTER_OTLP_ENDPOINT to where the samples are to go",
                    _SAMPLES,
                    samples,
                )
            return None
        if not _is_installed(chosen[0]):
            return None
        shield_exporters()
        paths = {
            name: Path(given) if (given := _given(environ, name.upper())) else None
            for name in ("certificate", "client_key", "client_certificate")
        }
        return cls(
            endpoint=_endpoint(environ, chosen[0]),
            protocol=chosen[0],
            samples=samples,
            headers=_headers(environ),
            timeout_seconds=_timeout(environ),
            gzip=choice_of(environ, _name(environ, "COMPRESSION"), _COMPRESSIONS),
            insecure=_given(environ, "INSECURE").lower() == "true",
            with_config=environ.get("ENTRENAR_OTLP_CONFIG", "").strip().lower() in ("1", "true", "yes", "on"),
            max_backlog_bytes=max_backlog_bytes or MAX_BACKLOG_BYTES,
            interval_seconds=number_of(environ, _DELAY, 1000 * INTERVAL_SECONDS, "milliseconds, at least 1")
            / 1000,
            **paths,
        )


def _is_installed(protocol: str) -> bool:
    try:
        import opentelemetry.proto.collector.logs.v1.logs_service_pb2  # noqa: F401

        if protocol == "grpc":
            import grpc  # noqa: F401
    except Exception as error:  # it may be there, and of a version that does not fit
        logger.warning(
            "log records cannot be sent by OTLP (%s): %s. All else goes on", type(error).__name__, INSTALL
        )
        return False
    return True


def _name(environ: Mapping[str, str], setting: str) -> str:
    """The variable of a setting: that for logs where it is set, else that for all signals."""
    own = f"OTEL_EXPORTER_OTLP_LOGS_{setting}"
    return own if environ.get(own, "").strip() else f"OTEL_EXPORTER_OTLP_{setting}"


def _given(environ: Mapping[str, str], setting: str) -> str:
    return environ.get(_name(environ, setting), "").strip()


def _timeout(environ: Mapping[str, str]) -> float:
    """In seconds, as opentelemetry-python reads it for the other signals; from 1000 on, milliseconds are
    meant, as the specification has it."""
    given = number_of(environ, _name(environ, "TIMEOUT"), _TIMEOUT_SECONDS, "seconds above 0", least=0.001)
    return given / 1000 if given >= 1000 else given


def _endpoint(environ: Mapping[str, str], protocol: str) -> str:
    given = _given(environ, "ENDPOINT")
    if protocol == "grpc":
        return given or "http://localhost:4317"
    if environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "").strip():
        return given
    try:
        parts = urlsplit(given or "http://localhost:4318")
    except ValueError:  # whoever makes a client of it says so
        return given
    return parts._replace(path=f"{parts.path.rstrip('/')}/v1/logs").geturl()


def _headers(environ: Mapping[str, str]) -> dict[str, str]:
    """`a=1,b=2`, the values percent-encoded, as OpenTelemetry defines it; keys in lower case."""
    headers = {}
    for pair in filter(None, map(str.strip, _given(environ, "HEADERS").split(","))):
        key, equals, value = pair.partition("=")
        name, content = unquote(key.strip()).lower(), unquote(value.strip())
        if equals and name and name.isascii() and name.isprintable() and content.isprintable():
            headers[name] = content
        else:
            logger.warning("a header in %s is not used: expected name=value", _name(environ, "HEADERS"))
    return headers
