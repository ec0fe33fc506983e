"""Log export: the part of a run that sends its records by OTLP, where the settings ask for it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entrenar_otel.console import logger
from entrenar_otel.delivery.losses import Losses
from entrenar_otel.lake.records.runs import RunRecord
from entrenar_otel.otel.otlp import names
from entrenar_otel.otel.otlp.settings import LogSettings
from entrenar_otel.otel.resource import resource_of
from entrenar_otel.recording.recorder import Recorder

if TYPE_CHECKING:
    from datetime import datetime

    from opentelemetry.sdk.resources import Resource

    from entrenar_otel.otel.otlp.answer import Client
    from entrenar_otel.otel.otlp.exporter import LogExporter

#: Of a resource in a segment's header, in characters of JSON: what else a user gave is left out there, and
#: then texts are cut.
_MAX_RESOURCE, _MAX_TEXTS = 3_000, (1_000, 100, 10)
_OURS = ("training.", "service.", "process.", "host.")


class LogExport:
    """Where the records of a run go, known before the first of them is made."""

    def __init__(self, settings: LogSettings, client: Client) -> None:
        self.settings, self._client = settings, client

    @classmethod
    def find(
        cls, environ: Mapping[str, str] = os.environ, max_backlog_bytes: int | None = None
    ) -> LogExport | None:
        """What the environment asks for; None where nothing leaves, or nothing can, which is said."""
        settings = LogSettings.find(environ, max_backlog_bytes)
        client = None if settings is None else client_of(settings)
        return None if settings is None or client is None else cls(settings, client)

    def header(self, resource: Resource) -> dict[str, Any]:
        """What segments say of it, so that others know how to send them."""
        return {"otlp": {"samples": self.settings.samples, "resource": _short(dict(resource.attributes))}}

    def exporter(
        self, recorder: Recorder, record: RunRecord, losses: Losses, failures: Counter[str]
    ) -> LogExporter:
        """What sends them."""
        from entrenar_otel.otel.otlp.exporter import LogExporter
        from entrenar_otel.otel.otlp.process_records import Written

        def written() -> dict[int, Written]:
            return {
                int(segment.header["number"]): Written(
                    path=segment.path, is_whole=segment.end is not None, end=segment.position()
                )
                for segment in recorder.segments
            }

        return LogExporter(
            self.settings,
            self._client,
            Path(record.live),
            record.process,
            written,
            others=record.rank == 0,
            losses=losses,
            failures=failures,
        )


def _short(attributes: dict[str, Any]) -> dict[str, Any]:
    """What of them fits into a header; what tells a run from others is whole."""
    if len(json.dumps(attributes)) <= _MAX_RESOURCE:
        return attributes
    attributes = {key: value for key, value in attributes.items() if key.startswith(_OURS)}
    for longest in _MAX_TEXTS:
        if len(json.dumps(attributes)) <= _MAX_RESOURCE:
            break
        attributes = {
            key: value[:longest] if isinstance(value, str) and not key.startswith("training.") else value
            for key, value in attributes.items()
        }
    return attributes


def client_of(settings: LogSettings) -> Client | None:
    """A way to the endpoint; None where the settings do not let it be made, which is said."""
    try:
        if settings.protocol == "grpc":
            from entrenar_otel.otel.otlp.grpc_client import GrpcClient

            return GrpcClient(settings)
        from entrenar_otel.otel.otlp.http_client import HttpClient

        return HttpClient(settings)
    except Exception as error:
        logger.warning(
            "log records cannot be sent to %s (%s: %s); all else goes on",
            settings.shown,
            type(error).__name__,
            error,
        )
        return None


def resource_of_record(record: RunRecord, environ: Mapping[str, str], process_created: datetime) -> Resource:
    """The resource of a run's process."""
    return resource_of(
        run_id=record.run_id,
        attempt=record.attempt or None,
        process=record.process,
        rank=record.rank,
        world_size=max(record.world_size, record.rank + 1),
        model_id=record.model_id,
        version=record.version,
        process_created=process_created,
        environ=environ,
    )


def started_attributes(record: RunRecord, settings: LogSettings | None) -> dict[str, Any]:
    """What `training.run.started` says: all that the table `runs` needs."""
    return {
        names.STARTED_AT: record.started_at.isoformat(),
        names.WORLD_SIZE: record.world_size,
        names.CONFIG_HASH: record.config_hash,
        names.MODEL_ID: record.model_id,
        names.MODEL_VERSION: record.version,
        names.GIT_COMMIT: record.git_commit,
        names.PYTHON: record.python,
        names.HOST: record.host,
        names.PID: record.pid,
        names.SAMPLES: None if settings is None else settings.samples,
        **(
            {names.CONFIG: record.config, names.ARGV: record.argv}
            if settings is not None and settings.with_config
            else {}
        ),
    }
