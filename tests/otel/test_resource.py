"""Resource: who a process is, for OpenTelemetry."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import Any

from entrenar_otel.otel.resource import resource_of, service_name


def resource(environ: dict[str, str], **changes: Any) -> dict[str, Any]:
    created = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    settings: dict[str, Any] = {
        "run_id": "r",
        "attempt": 2,
        "rank": 1,
        "world_size": 4,
        "model_id": None,
        "version": "1.0",
        **changes,
    }
    return dict(resource_of(**settings, process_created=created, environ=environ).attributes)


def test_resource() -> None:
    """Who a process is; what the environment says of it stands, except what tells ranks apart."""
    environ = {"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=all,host.name=node%201,team=a, odd", "X": "y"}
    found = resource(environ, model_id="digits")
    wanted = {
        "service.name": "digits",
        "service.instance.id": "r/2/1",
        "host.name": "node 1",
        "team": "a",
        "training.run.id": "r",
        "training.run.attempt": 2,
        "training.model.id": "digits",
        "training.model.version": "1.0",
        "training.process.rank": 1,
        "training.process.world_size": 4,
        "process.pid": os.getpid(),
        "process.creation.time": "2026-01-02T03:04:05.000+00:00",
    }
    assert found.items() >= wanted.items()
    assert "training.model.id" not in resource({})
    assert resource({"OTEL_RESOURCE_ATTRIBUTES": "service.name=a"}, model_id="m")["service.name"] == "a"
    both = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=a", "OTEL_SERVICE_NAME": "b"}
    assert resource(both)["service.name"] == "b"


def test_service_name() -> None:
    """The script, where there is no model id; a module run by -m by its package."""
    assert [
        service_name(None, [one]) for one in ("a/train.py", "a/__main__.py", "ipykernel_launcher.py", "")
    ] == [
        *("train", "a", "entrenar-otel", "entrenar-otel"),
    ]
