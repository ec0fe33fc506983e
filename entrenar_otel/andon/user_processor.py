"""User processors: detectors that a program puts on a run, beside those of renacer.toml."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from entrenar_processors import Finding, Processor, Samples, Severity
from entrenar_processors.alert import Action, Rule
from entrenar_processors.policy import Policy

from entrenar_otel.errors import ConfigError, describe

#: The source of their alerts, and the rule for what finds no rule of its own.
SOURCE = "processor"
#: Detector names that get a rule of their own; further ones share one.
_MAX_NAMES = 100


def checked_processors(given: Sequence[Any]) -> tuple[Processor, ...]:
    """The processors as they are. Raises ConfigError where one is none, or is given twice.

    >>> checked_processors([dict])
    Traceback (most recent call last):
    entrenar_otel.errors.ConfigError: processors: expected an object, got the class dict: write dict(…)
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ConfigError(f"expected processors to be a list, got {describe(given)}")
    for processor in given:
        if isinstance(processor, type):
            name = processor.__name__
            raise ConfigError(f"processors: expected an object, got the class {name}: write {name}(…)")
        missing = [name for name in ("update", "reset") if not callable(getattr(processor, name, None))]
        if missing:
            raise ConfigError(
                "processors: expected an object with update(samples) -> list of Finding and reset(), got "
                f"{describe(processor)} without {' and '.join(missing)}"
            )
    if len({id(processor) for processor in given}) < len(given):
        raise ConfigError("processors: expected each once, got one twice: it would judge every sample twice")
    return tuple(given)


def rule_for(detector: str) -> Rule:
    """What notifies of a detector's findings."""
    text = "Unusual value" if detector == SOURCE else f"Unusual value ({detector})"
    return Rule(detector, detector, SOURCE, text, dict.fromkeys(Severity, Action.NOTIFY))


class UserProcessor:
    """A processor of the user's, whose findings notify whatever they call their detector.

    It belongs to one run, at whose start it is reset.
    """

    def __init__(self, processor: Processor, policy: Policy) -> None:
        self.name = type(processor).__name__
        self._processor = processor
        self._policy = policy
        self._n_names = 0
        processor.reset()

    def update(self, samples: Samples) -> list[Finding]:
        """Its findings, each of which now has a rule. Raises what it raises, and TypeError."""
        findings: list[Finding] = []
        for finding in self._processor.update(samples) or ():
            if not isinstance(finding, Finding):
                raise TypeError(f"expected update() to return Findings, got {describe(finding)}")
            if self._policy.rule_of(finding.detector) is None:
                self._n_names += 1
                own = finding.detector if self._n_names <= _MAX_NAMES else SOURCE
                self._policy.admit(rule_for(own), finding.detector)
            findings.append(finding)
        return findings
