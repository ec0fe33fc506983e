"""Result: what an A/B test says up to now, in numbers and in plain words."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from entrenar_processors.plain import plain

from entrenar_otel.compare.significance import TestResult
from entrenar_otel.serving.ab.design import Better, Kind
from entrenar_otel.serving.assignment import Arm

Decision = Literal["A", "B", "undecided", "mismatch"]


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm: its model, how many users it had, with how many outcomes, and the metric over its users.

    `mean` and `std` are NaN where there are none, or too few. `nonfinite` outcomes (NaN, infinite, no
    number) are left out of everything else.
    """

    arm: Arm
    model: str
    users: int
    observations: int
    mean: float
    std: float
    nonfinite: int


@dataclass(frozen=True, slots=True)
class SampleRatio:
    """Whether as many users are in B as were to be; `expected` and `observed` are shares of B.

    `p_value` is Pearson's chi-square test's. Below `threshold` users are missing, or counted twice, in one
    arm, and the two are no longer alike (Fabijan et al., KDD 2019). The threshold, 0.001, is that of
    Kohavi, Tang & Xu, Trustworthy Online Controlled Experiments, 2020, chapter 21.
    """

    expected: float
    observed: float
    p_value: float
    threshold: float = 0.001

    @property
    def is_mismatch(self) -> bool:
        """Whether the result must not be trusted."""
        return self.p_value < self.threshold


@dataclass(frozen=True, slots=True)
class GuardrailResult:
    """Whether B harms a metric that it must not: `worse` is the share of A's mean by which B is worse.

    `p_value` is always valid, of the hypothesis that B is worse by `tolerance` or less; below `alpha`, the
    test's share of α for this guardrail, it is harmed.
    """

    metric: str
    tolerance: float
    a: ArmResult
    b: ArmResult
    worse: float
    p_value: float
    is_harmed: bool
    text: str


@dataclass(frozen=True, slots=True)
class ABResult:
    """What a test says up to now; `str()` is what a person reads.

    `effect` is the mean of B less that of A, `low` and `high` its always-valid interval, `p_value` its
    always-valid p-value (compare/sequential.py): all three may be looked at whenever one likes, and the
    test may end as soon as there is a `decision`. `fixed` are tests that hold for one look only, at a size
    that was planned: welch, mann_whitney and, of a binary metric, two_proportions.
    """

    test: str
    metric: str
    better: Better
    kind: Kind
    confidence: float
    a: ArmResult
    b: ArmResult
    effect: float
    low: float
    high: float
    p_value: float
    decision: Decision
    summary: str
    sample_ratio: SampleRatio | None
    guardrails: tuple[GuardrailResult, ...]
    fixed: dict[str, TestResult]
    stopped: str | None
    notes: tuple[str, ...]

    @property
    def relative_effect(self) -> float:
        """The effect as a share of A's mean; NaN where that is 0."""
        return self.effect / abs(self.a.mean) if self.a.mean else math.nan

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain numbers and text, for JSON."""
        document: dict[str, Any] = plain(asdict(self) | {"relative_effect": self.relative_effect})
        return document

    def __str__(self) -> str:
        lines = [f"A/B test {self.test}", "", f"  {self.summary}."]
        if self.stopped is not None:
            lines.append(f"  Stopped, everybody is in A: {self.stopped}.")
        lines.append("")
        lines += [f"  {_arm(arm, self.metric, self.kind)}" for arm in (self.a, self.b)]
        if self.guardrails or self.fixed or self.notes:
            lines.append("")
        lines += [f"  guardrail {guardrail.text}" for guardrail in self.guardrails]
        if self.fixed:
            tests = (f"{name.replace('_', ' ')} {p_text(test.p_value)}" for name, test in self.fixed.items())
            lines.append(f"  for a single look at a planned size: {', '.join(tests)}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)


def _arm(arm: ArmResult, metric: str, kind: Kind) -> str:
    who = f"{arm.arm}  {arm.model}: {count_text(arm.users, 'user')}"
    if not arm.users:
        return who
    outcomes = f", {count_text(arm.observations, 'outcome')}" if arm.observations != arm.users else ""
    spread = f" ± {value_text(arm.std, 'continuous')}" if kind == "continuous" and arm.users > 1 else ""
    return f"{who}{outcomes}, {metric} {value_text(arm.mean, kind)}{spread}"


# -- words --------------------------------------------------------------------------------------------


def value_text(value: float, kind: Kind) -> str:
    """A mean as one reads it: a proportion in per cent, anything else with four digits.

    >>> value_text(0.8213, "binary"), value_text(0.123456, "continuous"), value_text(4.0, "binary")
    ('82.13 %', '0.1235', '400.00 %')
    """
    if not math.isfinite(value):
        return "unknown"
    return f"{100 * value:.2f} %" if kind == "binary" else f"{value:.4g}"


def interval_text(effect: float, low: float, high: float, kind: Kind, confidence: float) -> str:
    """An effect with its interval; of a proportion in (percentage) points.

    >>> interval_text(0.012, 0.004, 0.02, "binary", 0.95)
    '1.2 points (95 % always-valid interval 0.4 to 2.0)'
    >>> interval_text(-0.0110, -0.0142, -0.0078, "continuous", 0.9)
    '-0.0110 (90 % always-valid interval -0.0142 to -0.0078)'
    """
    scale, unit = (100.0, " points") if kind == "binary" else (1.0, "")
    numbers = [scale * number for number in (effect, low, high)]
    # as many decimals as show the width of the interval in two digits, and one at least of points
    width = numbers[2] - numbers[1]
    digits = 0 if not 0 < width < math.inf else 1 - math.floor(math.log10(width))
    digits = max(1 if kind == "binary" else 0, min(digits, 12))
    texts = [f"{number + 0.0:,.{digits}f}" for number in numbers]
    of = f"{100 * confidence:.4g} % always-valid interval"
    return f"{texts[0]}{unit} ({of} {texts[1]} to {texts[2]})"


def p_text(p: float) -> str:
    """A p-value with two digits.

    >>> p_text(0.0312), p_text(1e-9), p_text(math.nan)
    ('p = 0.031', 'p < 0.0001', 'p unknown')
    """
    if math.isnan(p):
        return "p unknown"
    return "p < 0.0001" if p < 1e-4 else f"p = {p:.2g}"


def count_text(count: int, what: str) -> str:
    """A number of things.

    >>> count_text(1, "user"), count_text(12345, "user")
    ('1 user', '12,345 users')
    """
    return f"{count:,} {what}" + ("" if count == 1 else "s")
