"""Send backlog: what runs left in a live folder to be sent by OTLP, sent at a person's command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from entrenar_otel.delivery.losses import Losses
from entrenar_otel.errors import ConfigError
from entrenar_otel.otel.environment import assumed, exporter_names
from entrenar_otel.otel.otlp.settings import LogSettings
from entrenar_otel.run.log_export import client_of
from entrenar_otel.run.settings import RunSettings

#: How long a request is tried.
_PATIENCE_SECONDS = 30.0


class Sent(NamedTuple):
    """What came of it: what was sent, how many bytes wait still, what was refused, and why it ended."""

    samples: int
    requests: int
    bytes_left: int
    refused: str
    problem: str | None


def send_backlog(live: Path, settings_file: Path, patience_seconds: float = _PATIENCE_SECONDS) -> Sent:
    """Send it to where the environment, or the file, says. Raises ConfigError where neither does."""
    with assumed(*RunSettings.find(settings_file).otlp):
        settings = LogSettings.find()
        client = None if settings is None else client_of(settings)
        has_endpoint = bool(exporter_names("logs", os.environ))
    if settings is None or client is None:
        raise ConfigError(
            "--send: nothing can be sent as things are set; the line above says why"
            if has_endpoint
            else "--send: expected an endpoint; set OTEL_EXPORTER_OTLP_ENDPOINT to where records are to "
            "go, and OTEL_LOGS_EXPORTER, where it is set, to otlp"
        )
    from entrenar_otel.otel.otlp.backlog import Backlog
    from entrenar_otel.otel.otlp.delivery import Delivery

    losses = Losses()
    delivery = Delivery(
        client,
        settings.shown,
        settings.timeout_seconds,
        losses=losses,
        patience_seconds=patience_seconds,
    )
    backlog = Backlog(live, delivery)
    try:
        backlog.send()
    finally:
        client.close()
    return Sent(backlog.values, backlog.requests, backlog.left(), losses.text(), delivery.problem)
