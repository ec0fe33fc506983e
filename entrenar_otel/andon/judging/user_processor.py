"""User processors: detectors that a program puts on a run, beside those of renacer.toml."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from entrenar_processors import Block, Coordinates, Finding, Processor, Samples, Series, Severity
from entrenar_processors.alert import Action, Rule
from entrenar_processors.policy import Policy

from entrenar_otel.errors import AndonStop, ConfigError, describe, guard

#: The source of their alerts, and the rule that findings share whose detector finds no room for its own.
SOURCE = "processor"
#: Detector names of one processor that get a rule of their own.
_MAX_NAMES = 100

#: Those that judge a run now.
_in_use: weakref.WeakSet[UserProcessor] = weakref.WeakSet()


def checked_processors(given: Sequence[Any]) -> tuple[Processor, ...]:
    """The processors as they are. Raises ConfigError where one is not a processor, or is given twice.

    >>> checked_processors([dict])
    Traceback (most recent call last):
    entrenar_otel.errors.ConfigError: processors: expected an object, got the class dict: write dict(…)
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise ConfigError(f"expected processors to be a list, got {describe(given)}")
    for processor in given:
        _check(processor)
    if len({id(processor) for processor in given}) < len(given):
        raise ConfigError("processors: expected each once, got one twice: it would judge every sample twice")
    return tuple(given)


def _check(processor: Any) -> None:
    name = type(processor).__name__
    if isinstance(processor, type):
        name = processor.__name__
        raise ConfigError(f"processors: expected an object, got the class {name}: write {name}(…)")
    is_river = hasattr(processor, "drift_detected") or hasattr(processor, "score_one")
    if is_river and not hasattr(processor, "metrics"):
        raise ConfigError(f"processors: got {name}, a detector of river: write RiverAdapter({name})")
    missing = [method for method in ("update", "reset") if not callable(getattr(processor, method, None))]
    if missing:
        raise ConfigError(
            "processors: expected an object with update(samples) -> list of Finding and reset(), got "
            f"{describe(processor)} without {' and '.join(missing)}"
        )


def user_processors(
    given: Sequence[Processor], policy: Policy, lost: Callable[[int], None] = lambda _n: None
) -> list[UserProcessor]:
    """Those that can judge this run; one that cannot is named and counted, see `guard`.

    `lost` counts findings whose detector shares a rule with others.
    """
    if not given:
        return []
    configured = {rule.detector.partition(".")[0] for rule in policy.rules}
    policy.admit(rule_for(SOURCE))
    chosen = []
    for processor in given:
        with guard(f"detector {type(processor).__name__}"):
            chosen.append(UserProcessor(processor, policy, configured=configured, lost=lost))
    return chosen


def rule_for(detector: str, configured: Rule | None = None) -> Rule:
    """What notifies of a detector's findings; `configured` is the rule of renacer.toml for its name."""
    text = "Unusual value" if detector == SOURCE else f"Unusual value ({detector})"
    return Rule(
        detector,
        detector,
        SOURCE,
        text if configured is None else configured.text,
        dict.fromkeys(Severity, Action.NOTIFY),
        lasting=configured is not None and configured.lasting,
    )


class UserProcessor:
    """A processor of the program's own, whose findings notify whatever they call their detector.

    A name that renacer.toml has rules for (`zscore`, `nonfinite.loss`) gets `processor.` in front, so that
    those rules are not applied. It belongs to one run at a time, at whose start it is reset.

    Raises ConfigError where another run of this process has it.
    """

    def __init__(
        self,
        processor: Processor,
        policy: Policy,
        *,
        configured: Iterable[str] = (),
        lost: Callable[[int], None] = lambda _n: None,
    ) -> None:
        self.name = type(processor).__name__
        self._processor = processor
        self._policy = policy
        self._configured = frozenset(configured)
        self._lost = lost
        self._detectors: dict[str, str] = {}  # its own name for a detector, and the one with a rule
        self._pid = os.getpid()
        if any(other.holds(processor) for other in tuple(_in_use)):
            raise ConfigError(f"another run of this process has the same {self.name}: make one for each run")
        processor.reset()
        _in_use.add(self)

    def holds(self, processor: object) -> bool:
        """Whether it is this processor, in this process."""
        return self._processor is processor and self._pid == os.getpid()

    def close(self) -> None:
        """The run is over: another one may have the processor."""
        _in_use.discard(self)

    def update(self, samples: Samples) -> list[Finding]:
        """Its findings, each of which has a rule now. Raises what it raises, and TypeError."""
        try:
            findings = list(self._processor.update(samples) or ())
        except (AndonStop, SystemExit) as error:  # on the heartbeat's thread these would end the judge
            kind = type(error).__name__
            raise RuntimeError(
                f"update() raised {kind}: return a Finding instead, and the rules decide"
            ) from error
        return [self._admitted(_plain(finding)) for finding in findings]

    def _admitted(self, finding: Finding) -> Finding:
        own = finding.detector
        if (name := self._detectors.get(own)) is None:
            if len(self._detectors) >= _MAX_NAMES:
                self._lost(1)
                return replace(finding, detector=SOURCE)
            name = f"{SOURCE}.{own}" if own.partition(".")[0] in self._configured else own
            self._policy.admit(rule_for(name, self._policy.rule_of(own) if name != own else None))
            self._detectors[own] = name
        return finding if name == own else replace(finding, detector=name)


def own_copy(samples: Samples) -> Samples:
    """A copy that others may keep, and cannot write into: the samples are exported after them."""

    def locked(array: Any) -> Any:
        view = array.view()
        view.flags.writeable = False
        return view

    return Samples(
        Block(block.series, *(locked(getattr(block, name)) for name in _ARRAYS))
        for block in samples.copy().blocks
    )


_ARRAYS = ("time_ns", "epoch", "batch", "step", "seq", "values")


def _plain(finding: object) -> Finding:
    """The finding with plain Python numbers, as JSON and the policy need them. Raises TypeError."""
    if not isinstance(finding, Finding):
        raise TypeError(f"expected update() to return Findings, got {describe(finding)}")
    try:
        at = Coordinates(*(int(number) for number in finding.at))
        if not (finding.detector and isinstance(finding.detector, str) and max(map(abs, at)) < 2**63):
            raise ValueError("a detector's name, and coordinates of 64 bits")
        return replace(
            finding,
            series=Series.of(str(finding.series.metric), dict(finding.series.tags)),
            severity=Severity(finding.severity),
            at=at,
            value=float(finding.value),
            expected=float(finding.expected),
            score=float(finding.score),
            resolved=bool(finding.resolved),
            count=int(finding.count),
            text=str(finding.text),
        )
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        problem = f"expected a Finding of names and numbers, got {describe(finding, 300)}"
        raise TypeError(f"{problem} ({error})") from error
