"""Names, kinds and units of metrics: the table that everything else refers to."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """The kind of OpenTelemetry instrument."""

    GAUGE = "gauge"
    COUNTER = "counter"
    UP_DOWN_COUNTER = "up_down_counter"
    #: As a gauge a sample is the value itself, and no increment; exported as the sum that it is.
    OBSERVABLE_UP_DOWN_COUNTER = "observable_up_down_counter"
    HISTOGRAM = "histogram"


class Instrument(NamedTuple):
    """An OpenTelemetry instrument: dotted name, kind, UCUM unit, description."""

    name: str
    kind: Kind
    unit: str
    description: str


#: Metric name in `monitor.log` → instrument. No unit is `1`: the Collector would append `_ratio` and
#: other exporters would not.
INSTRUMENTS = {
    "loss": Instrument("training.loss", Kind.GAUGE, "", "Loss"),
    "accuracy": Instrument("training.accuracy", Kind.GAUGE, "", "Accuracy, from 0 to 1"),
    "learning_rate": Instrument("training.learning_rate", Kind.GAUGE, "", "Learning rate"),
    "gradient_norm": Instrument("training.gradient.norm", Kind.GAUGE, "", "Norm of the gradient"),
    "step_duration": Instrument(
        "training.step.duration", Kind.HISTOGRAM, "s", "Time of a whole step, data included"
    ),
    "data_wait": Instrument(
        "training.data_wait.duration", Kind.HISTOGRAM, "s", "Time a step waited for its data"
    ),
    "samples": Instrument("training.samples", Kind.COUNTER, "{sample}", "Samples trained on"),
    "tokens": Instrument("training.tokens", Kind.COUNTER, "{token}", "Tokens trained on"),
}

#: What `[monitor.system]` reads of the machine, by the names, kinds and units of OpenTelemetry's conventions
#: for processes, systems, containers and hardware (but no unit `1`). These keep their full names in the lake.
#: A sample of a counter is what was added since the reading before.
MACHINE = {
    name: Instrument(name, kind, unit, description)
    for name, kind, unit, description in (
        ("process.cpu.utilization", Kind.GAUGE, "", "CPU time of the process over that of its CPUs, 0 to 1"),
        ("process.memory.usage", Kind.OBSERVABLE_UP_DOWN_COUNTER, "By", "Physical memory in use"),
        ("process.memory.utilization", Kind.GAUGE, "", "Share of all physical memory, 0 to 1"),
        ("process.disk.io", Kind.COUNTER, "By", "Bytes that the process read from and wrote to disks"),
        ("process.thread.count", Kind.OBSERVABLE_UP_DOWN_COUNTER, "{thread}", "Threads of the process"),
        (
            "process.unix.file_descriptor.count",
            Kind.OBSERVABLE_UP_DOWN_COUNTER,
            "{file_descriptor}",
            "Open file descriptors of the process",
        ),
        ("system.cpu.utilization", Kind.GAUGE, "", "CPU time over all CPUs of the host, 0 to 1"),
        ("system.memory.usage", Kind.OBSERVABLE_UP_DOWN_COUNTER, "By", "Memory of the host in use"),
        ("system.memory.utilization", Kind.GAUGE, "", "Share of the host's memory in use, 0 to 1"),
        ("system.disk.io", Kind.COUNTER, "By", "Bytes that the host read from and wrote to disks"),
        ("system.network.io", Kind.COUNTER, "By", "Bytes that the host received and transmitted"),
        (
            "container.memory.usage",
            Kind.OBSERVABLE_UP_DOWN_COUNTER,
            "By",
            "Memory that is charged to the container",
        ),
        (
            "container.memory.available",
            Kind.OBSERVABLE_UP_DOWN_COUNTER,
            "By",
            "Memory that the container may still take: its limit less its working set",
        ),
        ("hw.gpu.utilization", Kind.GAUGE, "", "Share of time in which the GPU was busy, 0 to 1"),
        ("hw.gpu.memory.usage", Kind.OBSERVABLE_UP_DOWN_COUNTER, "By", "Memory of the GPU in use"),
        ("hw.gpu.memory.limit", Kind.OBSERVABLE_UP_DOWN_COUNTER, "By", "Memory of the GPU"),
        ("hw.gpu.memory.utilization", Kind.GAUGE, "", "Share of the GPU's memory in use, 0 to 1"),
        ("hw.power", Kind.GAUGE, "W", "Power that the component takes"),
        ("hw.energy", Kind.COUNTER, "J", "Energy that the component took"),
        ("hw.temperature", Kind.GAUGE, "Cel", "Temperature"),
    )
}

#: The prefix of our instruments, before the name in `monitor.log`.
PREFIX = "training."

#: Attributes for the place of a sample in its run; never part of a series' identity.
COORDINATES = frozenset({"epoch", "batch", "step"})

#: What the run reports about itself: instrument → kind, unit, description.
STATE = {
    "training.progress.epoch": (Kind.GAUGE, "", "Epoch of the latest sample"),
    "training.progress.step": (Kind.GAUGE, "", "Step of the latest sample"),
    "training.run.state": (
        Kind.GAUGE,
        "",
        "0 starting, 1 running, 2 paused, 3 stopped, 4 completed, 5 crashed",
    ),
    "training.run.start.timestamp": (Kind.GAUGE, "s", "Unix time at which this attempt of the run started"),
    "training.last_step.timestamp": (Kind.GAUGE, "s", "Unix time of the latest sample"),
    "training.nonfinite": (Kind.COUNTER, "{sample}", "Samples that were NaN or infinite"),
    "training.anomalies": (Kind.COUNTER, "{anomaly}", "Samples that a detector judged abnormal"),
    "training.drift.p_value": (Kind.GAUGE, "", "p-value of the latest drift"),
    "training.alert.active": (Kind.GAUGE, "", "1 while an alert fires, else 0"),
    "training.alerts": (Kind.COUNTER, "{alert}", "Alerts that fired"),
    "training.budget.usage": (Kind.GAUGE, "", "Use of a budget: value over limit"),
    "training.budget.limit": (Kind.GAUGE, "", "Limit of a budget, in its unit"),
    "training.model.age": (Kind.GAUGE, "s", "Time since the model in service was made"),
    "entrenar.recorder.samples": (Kind.COUNTER, "{sample}", "Samples recorded"),
    "entrenar.recorder.dropped": (Kind.COUNTER, "{sample}", "Samples that were lost"),
    "entrenar.tick.duration": (Kind.HISTOGRAM, "s", "Time of a heartbeat"),
    "entrenar.overhead": (Kind.GAUGE, "", "Share of wall time spent in monitoring"),
    "entrenar.export.failures": (Kind.COUNTER, "{failure}", "Exports that failed"),
    "entrenar.losses": (Kind.COUNTER, "{item}", "What monitoring dropped or cut, and who was to have it"),
    "entrenar.failures": (
        Kind.COUNTER,
        "{failure}",
        "Failures inside monitoring, by place; training went on",
    ),
}

#: Values of `training.run.state`.
RUN_STATES = {"starting": 0, "running": 1, "paused": 2, "stopped": 3, "completed": 4, "crashed": 5}

#: Instrument names that a user's metric cannot take.
RESERVED = frozenset({*STATE, *(instrument.name for instrument in INSTRUMENTS.values())})

#: Log-spaced bounds in seconds, 1-2-5 per decade from 100 µs to 1,000 s.
DURATION_BOUNDS_SECONDS = (
    *(float(f"{digit}e{exponent}") for exponent in range(-4, 3) for digit in (1, 2, 5)),
    1000.0,
)

#: OpenTelemetry's default bounds, for histograms of anything but durations.
DEFAULT_BOUNDS = (0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1e3, 2.5e3, 5e3, 7.5e3, 1e4)

#: The span and the event that a run ends with where it made a version of a model, and what they say of it.
MODEL_VERSION = "model.version"
MODEL_ID, MODEL_VERSION_NAME, MODEL_ACCURACY = "model.id", "model.version", "model.accuracy"
#: Hashes of the configuration, of all of it and without the keys of seeds.
MODEL_CONFIG_HASH, MODEL_CONFIG_GROUP = "model.config_hash", "model.config_group"
#: Of all parents, in one order: MODEL@VERSION, and what was changed since (empty where nobody said).
MODEL_PARENTS, MODEL_CHANGES = "model.parents", "model.change_types"
#: Before the name of a series: its last finite value.
MODEL_METRIC = "model.metric."
#: Of a link to a parent.
LINK_PARENT, LINK_CHANGE = "model.parent", "change_type"
#: The event with Python's version and the installed packages, at the start of a run.
ENVIRONMENT = "training.environment"

#: The event with how long an epoch's steps took, and waited for their data.
EPOCH_DATA_WAIT = "training.epoch.data_wait"

#: Events with what only the process knew: its peak memory, and the arguments of `check_latency` and
#: `check_memory`.
BUDGET_FACTS, BUDGET_CHECK = "training.budget.facts", "training.budget.check"
PEAK_RSS, PEAK_ALLOCATED = "peak_rss_bytes", "peak_allocated_bytes"

#: Outcomes of an A/B test: `ab.<metric>`, and in the same record `ab.<metric>.unit`, who had it.
AB_PREFIX, AB_UNIT = "ab.", ".unit"

_MAX_INSTRUMENT = 200


class Metric(StrEnum):
    """The metrics with names of their own; any other text is a metric too.

    >>> Metric.LOSS == "loss"
    True
    """

    LOSS = "loss"
    ACCURACY = "accuracy"
    LEARNING_RATE = "learning_rate"
    GRADIENT_NORM = "gradient_norm"
    STEP_DURATION = "step_duration"
    DATA_WAIT = "data_wait"
    SAMPLES = "samples"
    TOKENS = "tokens"


_METRIC_OF = {instrument.name: metric for metric, instrument in INSTRUMENTS.items()}


def metric_of(instrument: str) -> str:
    """The metric name of an instrument, as in `monitor.log` and the lake's `metric` column.

    >>> metric_of("training.gradient.norm"), metric_of("training.temperature"), metric_of("my.gauge")
    ('gradient_norm', 'temperature', 'my.gauge')
    """
    return _METRIC_OF.get(instrument) or instrument.removeprefix(PREFIX)


def is_exported(metric: str) -> bool:
    """Whether a metric is for exporters: pseudonyms of users are no measurement, and stay in the lake.

    >>> is_exported("ab.accuracy"), is_exported("ab.accuracy.unit")
    (True, False)
    """
    return not (metric.startswith(AB_PREFIX) and metric.endswith(AB_UNIT))


def is_of_machine(metric: str) -> bool:
    """Whether a metric is of the machine and not of the training: views and comparisons put it last.

    >>> is_of_machine("process.cpu.utilization"), is_of_machine("loss")
    (True, False)
    """
    return metric in MACHINE


def instrument_of(metric: str) -> Instrument:
    """The instrument of a metric name.

    >>> instrument_of("val/loss").name, instrument_of("hw.power").name
    ('training.val_loss', 'hw.power')
    """
    known = INSTRUMENTS.get(metric) or MACHINE.get(metric)
    if known is not None:
        return known
    safe = re.sub(r"[^a-z0-9_.\-/]", "_", metric.lower()).replace("/", "_")[:_MAX_INSTRUMENT]
    name = f"training.{safe}"
    if name in RESERVED:
        name = f"training.user.{safe}"
    return Instrument(name, Kind.GAUGE, "", f"{metric}, as reported by the training loop")
