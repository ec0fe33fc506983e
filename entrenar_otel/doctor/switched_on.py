"""Switched on: what judges, watches and sends, by renacer.toml and the environment; and ways without code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from entrenar_processors.config.build import processors_of
from entrenar_processors.counts import counted
from entrenar_processors.durations import text_of

from entrenar_otel.doctor.check import Check, note, problem
from entrenar_otel.doctor.surroundings import Surroundings
from entrenar_otel.launch.environment import SITE
from entrenar_otel.otel.environment import exporter_names, metric_exporter_names
from entrenar_otel.otel.otlp.settings import LogSettings
from entrenar_otel.system.sampler import is_wanted

#: What is found in the package's metadata, by group: the names of our entry points.
ENTRY_POINTS = {
    "opentelemetry_meter_provider": ("entrenar",),
    "opentelemetry_instrumentor": ("entrenar_keras", "entrenar_lightning", "entrenar_transformers"),
    "opentelemetry_post_instrument": ("entrenar",),
}


def checks(around: Surroundings) -> Iterator[Check]:
    """The settings file, then what is on by it and by the environment."""
    yield _file(around)
    yield from _judging(around)
    yield _system(around)
    yield _leaving(around)
    yield from _zero_code()


def _file(around: Surroundings) -> Check:
    path = around.settings_file
    facts = {"file": str(path), "exists": os.path.lexists(path)}
    if around.settings_problem is not None:
        return problem(
            "settings",
            around.settings_problem,
            f"correct it, with entrenar-otel config check {path}",
            **facts,
        )
    if around.settings.file is None:
        return Check("settings", f"no {path} in {Path.cwd()}: the defaults hold", facts=facts)
    return Check("settings", f"{Path.cwd() / path} is valid", facts=facts)


def _judging(around: Surroundings) -> Iterator[Check]:
    config = around.settings.full()
    lacking: list[tuple[str, str]] = []
    processors_of(config.monitor, failed=lambda name, error: lacking.append((name, str(error))))
    off = {name for name, _ in lacking}
    detectors = [name for name in config.monitor.detectors_on if name not in off]
    thresholds = [one.name for one in config.monitor.threshold]
    budgets = [one.name for one in around.settings.assertions]
    interval = text_of(around.settings.interval_seconds)
    more = f", {counted(len(thresholds), 'threshold')}, {counted(len(budgets), 'budget')}"
    yield Check(
        "judging",
        f"each {interval}: {', '.join(detectors) or 'no detector'}{more}",
        facts={
            "detectors": detectors,
            "thresholds": thresholds,
            "budgets": budgets,
            "interval_seconds": around.settings.interval_seconds,
        },
    )
    for name, why in lacking:
        yield problem(name, f"is asked for and would be off: {why}", why.rpartition(": ")[2] or why)


def _system(around: Surroundings) -> Check:
    seconds = around.settings.system_seconds
    is_on = seconds is not None and is_wanted(around.environ)
    text = f"read each {text_of(seconds or 0)}" if is_on else "not read"
    return Check("machine", text, facts={"interval_seconds": seconds if is_on else None})


def _leaving(around: Surroundings) -> Check:
    """What leaves the machine, by the names of the exporters."""
    environ = around.otlp_environ
    metrics, traces = metric_exporter_names(environ), exporter_names("traces", environ)
    logs = LogSettings.find(environ)
    samples = "off" if logs is None else logs.samples
    parts = [f"metrics by {', '.join(metrics)}"] if metrics else []
    parts += [f"spans by {', '.join(traces)}"] if traces else []
    parts += [f"events by {logs.protocol}, samples {samples}"] if logs is not None else []
    return Check(
        "leaving",
        "; ".join(parts) or "nothing leaves this machine, but what handlers send of alerts",
        facts={"metrics": metrics, "traces": traces, "logs": logs is not None, "samples": samples},
    )


def _zero_code() -> Iterator[Check]:
    """Whether programs without a line of ours are recorded."""
    ours: list[EntryPoint] = []
    missing = []
    for group, names in ENTRY_POINTS.items():
        for name in names:
            found = [
                point
                for point in entry_points(group=group, name=name)
                if point.value.startswith("entrenar_otel")
            ]
            ours += found
            missing += [] if found else [f"{group}:{name}"]
    launcher = "entrenar-otel run" if SITE.is_dir() else "nothing"
    if missing:
        yield note(
            "zero code",
            f"{launcher}; the installed metadata lacks {counted(len(missing), 'entry point')} for "
            "opentelemetry-instrument",
            "install the package again",
            missing=missing,
        )
        return
    frameworks = sorted(point.name.removeprefix("entrenar_") for point in ours if point.name != "entrenar")
    yield Check(
        "zero code",
        f"{launcher}, opentelemetry-instrument and OTEL_PYTHON_METER_PROVIDER=entrenar, with callbacks for "
        f"{', '.join(frameworks)}",
        facts={"entry_points": sorted({f"{point.group}:{point.name}" for point in ours})},
    )
