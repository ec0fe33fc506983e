"""Variables: which of the environment are heard, without what is secret of them, and which nobody hears."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping

from entrenar_otel.doctor.check import Check, note
from entrenar_otel.identity.process import is_disabled
from entrenar_otel.redact import is_secret_name, origin_of, redacted

#: Ours, and what each says. Those that our own processes give to each other are left out.
OURS = {
    "ENTRENAR_LAKE": "the lake",
    "ENTRENAR_LIVE": "the live folder",
    "ENTRENAR_RUN_ID": "the run that ranks or restarts share",
    "ENTRENAR_MODEL_ID": "what is trained",
    "ENTRENAR_DISABLED": "whether nothing is recorded",
    "ENTRENAR_NATIVE": "whether the native core is used",
    "ENTRENAR_INSTRUMENTS": "which instruments are recorded",
    "ENTRENAR_SYSTEM_METRICS": "whether the machine is read",
    "ENTRENAR_INCIDENT_PICTURES": "whether incidents have a picture",
    "ENTRENAR_INCIDENT_REPORTS": "whether incidents have a report",
    "ENTRENAR_OTLP_SAMPLES": "whether samples leave by OTLP",
    "ENTRENAR_OTLP_CONFIG": "whether the configuration leaves by OTLP",
    "ENTRENAR_METRICS_TOKEN": "the bearer token of /metrics",
    "ENTRENAR_METRICS_CERTFILE": "the certificate of /metrics",
    "ENTRENAR_METRICS_KEYFILE": "the key of /metrics",
    "ENTRENAR_METRICS_LINGER": "how long /metrics stays at the end",
    "ENTRENAR_METRICS_TARGETS": "where /metrics says its port",
    "ENTRENAR_QUERY_MEMORY": "memory of a query",
    "ENTRENAR_QUERY_SPILL": "temporary disk of a query",
    "ENTRENAR_QUERY_TIMEOUT": "time of a query",
    "ENTRENAR_SINK_TOKEN": "the bearer token of the sink",
    "ENTRENAR_SINK_CERTFILE": "the certificate of the sink",
    "ENTRENAR_SINK_KEYFILE": "the key of the sink",
    "ENTRENAR_PAGE_TOKEN": "the bearer token of the page",
    "ENTRENAR_PAGE_CERTFILE": "the certificate of the page",
    "ENTRENAR_PAGE_KEYFILE": "the key of the page",
    "ENTRENAR_WEBHOOK_URL": "where alerts go",
    "ENTRENAR_WEBHOOK_TOKEN": "the bearer token of the webhook",
    "ENTRENAR_WEBHOOK_SECRET": "what the webhook's bodies are signed with",
    "ENTRENAR_ALERTMANAGER_URL": "where alerts go",
    "ENTRENAR_ALERTMANAGER_TOKEN": "the bearer token of Alertmanager",
    "ENTRENAR_APPRISE_URLS": "where alerts go",
}
#: What our own processes give to each other.
INTERNAL = ("ENTRENAR_PARENT", "ENTRENAR_SUPERVISOR", "ENTRENAR_ZERO_CODE")
#: OpenTelemetry's that are read here, by their beginnings; its SDK and exporters read more.
_OTEL = "OTEL_"
_URL_WORDS = ("_URL", "_URLS", "_ENDPOINT")
_MAX_SHOWN = 60


def checks(environ: Mapping[str, str]) -> Iterator[Check]:
    """What is set: ours, OpenTelemetry's, proxies, a launcher's."""
    if is_disabled(environ):
        yield note(
            "recording",
            "off: ENTRENAR_DISABLED or OTEL_SDK_DISABLED is set",
            "unset it to record",
            is_disabled=True,
        )
    ours = {name: value for name, value in environ.items() if name in OURS}
    yield Check("ENTRENAR_*", _listed(ours), facts={"set": sorted(ours)})
    otel = {name: value for name, value in environ.items() if name.startswith(_OTEL) and value}
    yield Check("OTEL_*", _listed(otel), facts={"set": sorted(otel)})
    proxies = {name: value for name, value in environ.items() if name.lower().endswith("_proxy") and value}
    if proxies:
        yield Check("proxies", _listed(proxies), facts={"set": sorted(proxies)})
    for name in sorted(environ):
        if name.startswith("ENTRENAR_") and name not in OURS and name not in INTERNAL:
            yield _unheard(name)


def _unheard(name: str) -> Check:
    near = difflib.get_close_matches(name, OURS, 1)
    meant = (
        f"perhaps {near[0]} is meant"
        if near
        else "it may be a variable that renacer.toml names, or an old one"
    )
    return note("unheard", f"{name} is set, and nothing here reads it", meant, variable=name)


def _listed(variables: Mapping[str, str]) -> str:
    return ", ".join(setting_shown(name, value) for name, value in sorted(variables.items())) or "none is set"


def setting_shown(name: str, value: str) -> str:
    """A variable and its value, as they may be shown: of a secret only that it is set.

    >>> setting_shown("ENTRENAR_METRICS_TOKEN", "abc"), setting_shown("OTEL_EXPORTER_OTLP_HEADERS", "a=b")
    ('ENTRENAR_METRICS_TOKEN (set)', 'OTEL_EXPORTER_OTLP_HEADERS (set)')
    >>> setting_shown("ENTRENAR_WEBHOOK_URL", "https://hooks.example.com/T0/B0")
    'ENTRENAR_WEBHOOK_URL=https://hooks.example.com'
    """
    if is_secret_name(name) or "HEADERS" in name or name == "ENTRENAR_APPRISE_URLS":
        return f"{name} (set)"
    is_proxy = name.lower().endswith("_proxy") and name.lower() != "no_proxy"
    if is_proxy or name.endswith(_URL_WORDS):
        return f"{name}={origin_of(value if '://' in value else f'http://{value}')}"
    text = redacted(value)
    return f"{name}={text if len(text) <= _MAX_SHOWN else f'{text[:_MAX_SHOWN]}…'}"
