"""Ports: where /metrics would listen, and whether what a run sends to can be reached; nothing is sent."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from urllib.parse import urlsplit

from entrenar_otel.delivery.promise import Promise
from entrenar_otel.delivery.proxy import proxy_for
from entrenar_otel.doctor.check import Check, note, problem
from entrenar_otel.doctor.surroundings import Surroundings
from entrenar_otel.handlers.endpoint import checked_url
from entrenar_otel.otel.environment import INSTALL, PageAddress, Signal, exporter_names, wants_prometheus
from entrenar_otel.redact import origin_of

_SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")
_PORTS = {"http": 80, "https": 443}
#: How long one place may take to answer, its name server included.
CONNECT_SECONDS, ANSWER_SECONDS = 3.0, 4.0


def checks(around: Surroundings) -> Iterator[Check]:
    """The page, then every place that is set, asked side by side."""
    environ = around.otlp_environ
    yield from _page(environ)
    places = [*_otlp(environ), *_receivers(around)]
    asked = [(place, Promise("entrenar-doctor", partial(place.ask, environ))) for place in places]
    for place, answer in asked:
        if answer.wait(ANSWER_SECONDS):
            yield answer.result()
        else:
            yield place.silent(f"no answer within {ANSWER_SECONDS:g} s")
    if not any(place.is_otlp for place in places):
        yield Check("OTLP", "off: OTEL_EXPORTER_OTLP_ENDPOINT is not set", facts={"endpoints": []})


# -- /metrics


def _page(environ: Mapping[str, str]) -> Iterator[Check]:
    address = wants_prometheus(environ)
    if address is None:
        text = "off: OTEL_METRICS_EXPORTER does not name prometheus"
        yield Check("/metrics", text, facts={"is_on": False})
        return
    yield _port(address)
    for name in ("ENTRENAR_METRICS_CERTFILE", "ENTRENAR_METRICS_KEYFILE"):
        path = environ.get(name)
        if path and not os.access(path, os.R_OK):
            yield problem("/metrics", f"{name}={path} cannot be read: no page is served", "name a PEM file")


def _port(address: PageAddress) -> Check:
    """Whether a run could listen there now."""
    host, port, next_free = address
    facts = {"is_on": True, "host": host, "port": port}
    where = f"http://{host}:{port}/metrics"
    try:
        family, kind, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place)
    except OSError as error:
        if next_free:
            return Check("/metrics", f"{where} is taken: the next free port will be", facts=facts)
        return note(
            "/metrics",
            f"no run can listen on {where} now: {error.strerror or error}",
            f"no fault where a run has it; OTEL_EXPORTER_PROMETHEUS_PORT={port}+ takes the next free one",
            **facts,
        )
    return Check("/metrics", f"{where} is free" if port else f"any free port of {host}", facts=facts)


# -- places that something is sent to


class Place:
    """Somewhere that runs send to, by its host and port; its path, user and query are shown nowhere."""

    def __init__(self, what: str, url: str, *, is_otlp: bool = False, lacks: str = "") -> None:
        self.what, self.is_otlp, self._lacks = what, is_otlp, lacks
        self._url = url if "://" in url else f"http://{url}"
        self.origin = origin_of(self._url)

    def ask(self, environ: Mapping[str, str]) -> Check:
        """Connect, through a proxy where the environment has one, and say nothing."""
        facts = {"endpoint": self.origin}
        if self._lacks:
            name = "OTLP" if self.is_otlp else self.what
            return problem(
                name, f"{self.what} to {self.origin}: {self._lacks}", self._lacks.partition(": ")[2], **facts
            )
        by = ""
        try:
            if (proxy := proxy_for(self._url, environ)) is not None:
                by = f", by the proxy of {proxy.variable}"
            parts = urlsplit(self._url if proxy is None else proxy.url)
            port = parts.port or _PORTS.get(parts.scheme, 80)
            with socket.create_connection((parts.hostname or "", port), CONNECT_SECONDS):
                pass
        except (OSError, ValueError) as error:
            return self.silent(f"{getattr(error, 'strerror', None) or error}{by}")
        return Check(self._name, f"{self._shown} can be reached{by}", facts=facts)

    @property
    def _name(self) -> str:
        return "OTLP" if self.is_otlp else self.what

    @property
    def _shown(self) -> str:
        return f"{self.what} to {self.origin}" if self.is_otlp else self.origin

    def silent(self, why: str) -> Check:
        """It cannot be reached."""
        advice = (
            "start the Collector there, or correct OTEL_EXPORTER_OTLP_ENDPOINT; the lake has all samples"
            if self.is_otlp
            else "correct its variable; alerts are logged all the same"
        )
        return problem(self._name, f"{self._shown} cannot be reached: {why}", advice, endpoint=self.origin)


def _otlp(environ: Mapping[str, str]) -> Iterator[Place]:
    """One for each endpoint, with the signals that go there."""
    signals: dict[tuple[str, str], list[str]] = {}
    for signal in _SIGNALS:
        for name in exporter_names(signal, environ):
            if not name.startswith("otlp"):
                continue
            variables = (f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
            default = "http://localhost:4317" if name == "otlp_proto_grpc" else "http://localhost:4318"
            endpoint = next((given for one in variables if (given := environ.get(one, "").strip())), default)
            signals.setdefault((endpoint, name), []).append(signal)
    for (endpoint, name), which in signals.items():
        needed = "grpc" if name == "otlp_proto_grpc" else "opentelemetry.exporter.otlp.proto.http"
        lacks = "" if _is_installed(needed) else f"its exporter is not installed: {INSTALL}"
        yield Place(_listed(which), endpoint, is_otlp=True, lacks=lacks)


def _receivers(around: Surroundings) -> Iterator[Place]:
    """Where alerts go."""
    andon = around.settings.full().monitor.andon
    for what, variable in (("webhook", andon.webhook_env), ("Alertmanager", andon.alertmanager_env)):
        if url := around.environ.get(variable, "").strip():
            try:
                yield Place(what, checked_url(url, variable))
            except ValueError as error:
                yield Place(what, url, lacks=f"{error}: correct {variable}")
    if urls := around.environ.get("ENTRENAR_APPRISE_URLS", "").split():
        lacks = (
            ""
            if _is_installed("apprise")
            else "apprise is not installed: pip install 'entrenar-otel[apprise]'"
        )
        if lacks:
            yield Place("chats", urls[0], lacks=lacks)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _listed(words: list[str]) -> str:
    """Several words, as people list them.

    >>> _listed(["traces", "metrics", "logs"]), _listed(["logs"])
    ('traces, metrics and logs', 'logs')
    """
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
