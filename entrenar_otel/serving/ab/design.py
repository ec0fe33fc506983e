"""Design: what an A/B test compares and by what, decided before its first user."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self, get_args

from entrenar_processors.metric_names import LESS_IS_BETTER, MORE_IS_BETTER

from entrenar_otel.compare.sequential import PLANNED
from entrenar_otel.errors import ConfigError, describe
from entrenar_otel.recording.inputs import name_problem
from entrenar_otel.semconv import AB_UNIT
from entrenar_otel.serving.assignment import Arm, checked_share

Better = Literal["higher", "lower"]
Kind = Literal["binary", "continuous"]
Average = Literal["user", "observation"]
OnHarm = Literal["stop", "notify"]

#: Behind `ab.<metric>`: what is published of a test while it goes on.
PUBLISHED = (".effect", ".low", ".high", ".p_value", ".users")
#: The events of a test: a process began to record it, an alert told of a guardrail, it was stopped.
STARTED, HARMED, STOPPED = "ab.test.started", "ab.test.harmed", "ab.test.stopped"

_LESS = LESS_IS_BETTER | {
    *("latency", "duration", "time", "seconds", "cost", "memory", "bytes", "age", "churn"),
    *("errors", "failure", "failures", "timeout", "timeouts", "crash", "crashes", "complaints"),
}
_MORE = MORE_IS_BETTER | {
    *("conversion", "conversions", "click", "clicks", "ctr", "revenue", "retention", "success"),
    *("rating", "throughput", "satisfaction", "purchase", "purchases"),
}


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that B must not make worse than A by more than `tolerance`, a share of A's mean.

    `better` says whether more or less of it is good, where its name does not. Raises ConfigError.

    >>> Guardrail("latency", 0.05)
    Guardrail(metric='latency', tolerance=0.05, better='lower')
    """

    metric: str
    tolerance: float = 0.0
    better: Better | None = None

    def __post_init__(self) -> None:
        _check_metric(self.metric)
        tolerance = self.tolerance
        if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or not 0 <= tolerance < 10:
            raise ConfigError(
                f"guardrail {self.metric!r}: expected the share by which it may get worse (0.05 for 5 %), "
                f"or a Guardrail, got {describe(tolerance)}"
            )
        better = _better(self.metric, self.better, f"guardrails={{…: Guardrail({self.metric!r}, …, better=")
        object.__setattr__(self, "better", better)


@dataclass(frozen=True, kw_only=True)
class Design:
    """All that must be the same in every process of a test, and known to whoever reads its result.

    `traffic_split` alone may differ, while it is raised from a few users to many. Raises ConfigError.
    """

    model_a: str
    model_b: str
    metric: str
    traffic_split: float
    name: str = ""
    salt: str = ""
    better: Better | None = None
    kind: Kind | None = None
    average: Average = "user"
    guardrails: tuple[Guardrail, ...] = ()
    confidence: float = 0.95
    planned_users: int = PLANNED

    def __post_init__(self) -> None:
        for key in ("model_a", "model_b"):
            _check_text(key, getattr(self, key), "MODEL@VERSION")
        if self.model_a == self.model_b:
            raise ConfigError(
                f"expected two models, got {self.model_a!r} twice: a test of a model against itself (A/A) "
                "needs two names, such as 'digits@1.1.0' and 'digits@1.1.0 again'"
            )
        set_ = object.__setattr__
        set_(self, "traffic_split", checked_share(self.traffic_split))
        set_(self, "name", self.name or f"{self.model_a} vs {self.model_b}")
        _check_text("name", self.name, "text")
        set_(self, "salt", self.salt or self.name)
        _check_text("salt", self.salt, "text")
        _check_metric(self.metric)
        set_(self, "better", _better(self.metric, self.better, "better="))
        for key, value, choices in (("kind", self.kind, Kind), ("average", self.average, Average)):
            if value is not None and value not in get_args(choices):
                options = " or ".join(map(repr, get_args(choices)))
                raise ConfigError(f"expected {key} {options}, got {describe(value)}")
        if not (isinstance(self.confidence, float) and 0.5 <= self.confidence < 1):
            raise ConfigError(
                f"expected confidence from 0.5 to below 1 (0.95 is 95 %), got {describe(self.confidence)}"
            )
        if type(self.planned_users) is not int or self.planned_users < 1:
            raise ConfigError(
                f"expected planned_users to be a whole number from 1, got {describe(self.planned_users)}"
            )
        names = [self.metric, *(guardrail.metric for guardrail in self.guardrails)]
        if len(set(names)) < len(names):
            raise ConfigError(f"expected the metric and every guardrail once, got {', '.join(names)}")

    @property
    def models(self) -> dict[Arm, str]:
        """The model of each arm."""
        return {"A": self.model_a, "B": self.model_b}

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metric that decides, then those of the guardrails."""
        return self.metric, *(guardrail.metric for guardrail in self.guardrails)

    def difference(self, other: Design) -> str | None:
        """In what another design of this name is another test; None where it is the same.

        Several metrics of one test may decide, each in a design of its own.
        """
        keys = ("model_a", "model_b", "salt", *(("average",) if self.metric == other.metric else ()))
        for key in keys:
            mine, theirs = getattr(self, key), getattr(other, key)
            if mine != theirs:
                return f"{key} {theirs!r} and {mine!r}"
        return None

    def as_text(self) -> str:
        """As JSON, for the event that begins a test."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Back from JSON. Raises ConfigError where it is no design, or one of a later version."""
        try:
            document = json.loads(text)
            guardrails = tuple(Guardrail(**one) for one in document.pop("guardrails"))
            return cls(**document, guardrails=guardrails)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"not the design of an A/B test: {describe(text)}") from error


def guardrails_of(given: Mapping[str, Any] | None) -> tuple[Guardrail, ...]:
    """From `{"latency": 0.05}` or `{"latency": Guardrail("latency", 0.05)}`. Raises ConfigError."""
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise ConfigError(f'expected guardrails as {{"latency": 0.05}}, got {describe(given)}')
    guardrails = []
    for metric, value in given.items():
        guardrail = value if isinstance(value, Guardrail) else Guardrail(metric, value)
        if guardrail.metric != metric:
            raise ConfigError(f"guardrail {metric!r}: got one of {guardrail.metric!r}")
        guardrails.append(guardrail)
    return tuple(guardrails)


def _check_text(key: str, value: Any, what: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"expected {key} to be {what}, got {describe(value)}")
    if len(value) > 200 or not value.isprintable():
        raise ConfigError(f"expected {key} to be up to 200 printable characters, got {describe(value)}")


def _check_metric(metric: Any) -> None:
    if problem := name_problem(metric):
        raise ConfigError(problem)
    if metric.endswith((AB_UNIT, *PUBLISHED)):
        raise ConfigError(
            f"expected a metric's name that ends with none of {', '.join((AB_UNIT, *PUBLISHED))}, "
            f"which the test itself records, got {metric!r}"
        )


def _better(metric: str, given: Any, advice: str) -> Better:
    if given in get_args(Better):
        chosen: Better = given
        return chosen
    if given is not None:
        raise ConfigError(f"{metric!r}: expected better 'higher' or 'lower', got {describe(given)}")
    words = set(re.split(r"[^a-z0-9]+", metric.lower()))
    less, more = bool(words & _LESS), bool(words & _MORE)
    if less == more:
        raise ConfigError(
            f"{metric!r}: its name does not tell whether more of it is good: "
            f"write {advice}'higher' or 'lower'"
        )
    return "lower" if less else "higher"
