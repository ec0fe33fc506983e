"""Names, kinds and units of metrics: the one table that everything else refers to."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What kind of OpenTelemetry instrument a metric is."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


class Instrument(NamedTuple):
    """The OpenTelemetry instrument of a façade name: dotted name, kind, UCUM unit, description."""

    name: str
    kind: Kind
    unit: str
    description: str


#: Façade name → instrument. No unit is `1`: a Collector would append `_ratio`, others would not.
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

#: Instruments that are not to be had by a user's metric.
RESERVED = frozenset(
    {
        "training.progress.epoch",
        "training.progress.step",
        "training.run.state",
        "training.last_step.timestamp",
        "training.nonfinite",
        "training.anomalies",
        "training.drift.p_value",
        "training.alert.active",
        "training.alerts",
        "training.budget.usage",
        "training.budget.limit",
        *(instrument.name for instrument in INSTRUMENTS.values()),
    }
)

#: Log-spaced bounds in seconds, 1-2-5 per decade from 100 µs to 1,000 s.
DURATION_BOUNDS_SECONDS = (
    *(float(f"{digit}e{exponent}") for exponent in range(-4, 3) for digit in (1, 2, 5)),
    1000.0,
)

_MAX_INSTRUMENT = 200


class Metric(StrEnum):
    """The metrics that have a name of their own; any other text is a metric too.

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


def instrument_of(metric: str) -> Instrument:
    """The instrument of a façade name.

    >>> instrument_of("val/loss").name
    'training.val_loss'
    """
    known = INSTRUMENTS.get(metric)
    if known is not None:
        return known
    safe = re.sub(r"[^a-z0-9_.\-/]", "_", metric.lower()).replace("/", "_")[:_MAX_INSTRUMENT]
    name = f"training.{safe}"
    if name in RESERVED:
        name = f"training.user.{safe}"
    return Instrument(name, Kind.GAUGE, "", f"{metric}, as reported by the training loop")


def prometheus_name(instrument: Instrument) -> str:
    """The name that Prometheus shows, on every route (units: `s` becomes `_seconds`, `{…}` nothing).

    >>> prometheus_name(INSTRUMENTS["step_duration"])
    'training_step_duration_seconds'
    """
    name = re.sub(r"[^a-zA-Z0-9_:]", "_", instrument.name)
    return f"{name}_seconds" if instrument.unit == "s" else name
