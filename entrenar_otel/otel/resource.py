"""Resource: what describes the training process to OpenTelemetry."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from entrenar_otel.otel.attributes import clean_attributes

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource


def resource_of(
    *,
    run_id: str,
    attempt: int | None,
    rank: int,
    world_size: int,
    model_id: str | None,
    version: str | None,
    process_created: datetime,
    environ: Mapping[str, str],
    process: str = "",
) -> Resource:
    """The resource of a run's process.

    OTEL_RESOURCE_ATTRIBUTES wins, except over the attributes that tell processes apart: ranks that all
    had one `service.instance.id` would overwrite each other. Where the lake has not said yet which `attempt`
    this is, the name of the `process` stands for it.

    >>> made = resource_of(run_id="r", attempt=2, rank=0, world_size=1, model_id="digits", version=None,
    ...                    process_created=datetime(2026, 1, 2, tzinfo=UTC), environ={})
    >>> made.attributes["service.name"], made.attributes["service.instance.id"]
    ('digits', 'r/2/0')
    """
    from opentelemetry.sdk.resources import Resource

    given = given_attributes(environ)
    attributes: dict[str, Any] = {
        "host.name": socket.gethostname(),
        **given,
        "service.name": given.get("service.name") or service_name(model_id, sys.argv),
        "service.instance.id": f"{run_id}/{process if attempt is None else attempt}/{rank}",
        "training.run.id": run_id,
        "training.run.attempt": attempt,
        "training.model.id": model_id,
        "training.model.version": version,
        "training.process.id": process or None,
        "training.process.rank": rank,
        "training.process.world_size": world_size,
        "process.pid": os.getpid(),
        "process.creation.time": process_created.astimezone(UTC).isoformat(timespec="milliseconds"),
    }
    return Resource.create(clean_attributes(attributes))


def service_name(model_id: str | None, argv: list[str]) -> str:
    """The model's id, else the script's name: what a person looks for in a list of services.

    A constant would put all of a company's trainings into one service, and OpenTelemetry's default,
    `unknown_service:python`, would mix them with every other program.

    >>> service_name(None, ["/home/ana/train_digits.py", "--lr", "0.1"]), service_name(None, ["-c"])
    ('train_digits', 'entrenar-otel')
    """
    if model_id:
        return model_id
    script = Path(argv[0] if argv else "")
    name = script.parent.name if script.stem == "__main__" else script.stem
    # A notebook's kernel says nothing of what is trained in it.
    return "entrenar-otel" if name in ("", "-c", "-m", "ipykernel", "ipykernel_launcher") else name


def given_attributes(environ: Mapping[str, str]) -> dict[str, str]:
    """OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME, decoded as OpenTelemetry defines it."""
    pairs = (pair.partition("=") for pair in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
    given = {key.strip(): unquote(value.strip()) for key, equals, value in pairs if equals and key.strip()}
    if name := environ.get("OTEL_SERVICE_NAME", "").strip():
        given["service.name"] = name
    return given
