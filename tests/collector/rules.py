"""What a configuration of the Collector must have so that nothing is lost on the way to the sink."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

#: Exporters that lead to the sink, by another Collector or by Kafka; the others are for metrics and for eyes.
TOWARDS_SINK = ("otlp", "otlp_grpc", "otlp_http", "otlphttp", "kafka")
FOR_EVER = ("0", "0s")


def merged(*configs: Path) -> dict[str, Any]:
    """As the Collector reads several --config: mappings are merged, all else is replaced."""
    made: dict[str, Any] = {}
    for path in configs:
        _merge(made, yaml.safe_load(path.read_text()))
    return made


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def problems(config: dict[str, Any]) -> list[str]:
    """What may lose data on the way to the sink; nothing where nothing leads there."""
    pipelines = config["service"]["pipelines"]
    leading = set(_leading(config, pipelines))
    found = [
        f"{name}: processor {processor} acknowledges what it holds in memory"
        for name in sorted(leading)
        for processor in pipelines[name].get("processors") or []
        if _kind(processor) == "batch"
    ]
    exporters = sorted({one for name in leading for one in pipelines[name]["exporters"] if _leads(one)})
    for exporter in exporters:
        settings = config["exporters"].get(exporter) or {}
        found += [f"{exporter}: {problem}" for problem in _exporter_problems(settings, config)]
    return found


def _kind(name: str) -> str:
    return name.partition("/")[0]


def _leads(exporter: str) -> bool:
    return _kind(exporter) in TOWARDS_SINK


def _leading(config: dict[str, Any], pipelines: dict[str, Any]) -> Iterator[str]:
    """Pipelines whose data reach the sink, by connectors too."""
    connectors = config.get("connectors") or {}

    def leads(name: str, seen: frozenset[str]) -> bool:
        exporters = pipelines[name]["exporters"]
        behind = {
            other
            for other, pipeline in pipelines.items()
            if other not in seen and set(pipeline["receivers"]) & set(exporters) & set(connectors)
        }
        return any(map(_leads, exporters)) or any(leads(other, seen | {name}) for other in behind)

    yield from (name for name in pipelines if leads(name, frozenset()))


def _exporter_problems(settings: dict[str, Any], config: dict[str, Any]) -> Iterator[str]:
    retry = settings.get("retry_on_failure") or {}
    if str(retry.get("enabled", True)).lower() != "true":
        yield "retry_on_failure is off"
    if str(retry.get("max_elapsed_time", "5m")) not in FOR_EVER:
        yield "retry_on_failure.max_elapsed_time is not 0: after that time data are dropped"
    queue = settings.get("sending_queue") or {}
    if str(queue.get("enabled", True)).lower() != "true":
        return  # the sender waits for the answer
    if str(queue.get("block_on_overflow", False)).lower() != "false":
        yield "sending_queue.block_on_overflow lets senders run into their timeouts"
    storage = queue.get("storage")
    if storage is None:
        if queue.get("wait_for_result") is not True:
            yield "sending_queue has neither a storage nor wait_for_result: it acknowledges what is in memory"
        return
    if not ((config.get("extensions") or {}).get(storage) or {}).get("fsync"):
        yield f"sending_queue.storage: {storage} is without fsync"
    if storage not in (config["service"].get("extensions") or []):
        yield f"sending_queue.storage: {storage} is not among service.extensions"
