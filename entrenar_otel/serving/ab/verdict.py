"""Verdict: from the outcomes of an A/B test to its result."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from entrenar_processors.extras import MissingExtra

from entrenar_otel.compare.sequential import MIN_VALUES, AlwaysValid, Moments, always_valid
from entrenar_otel.compare.significance import TestResult, mann_whitney, two_proportions, welch
from entrenar_otel.serving.ab.design import Design, Guardrail, Kind
from entrenar_otel.serving.ab.outcomes import Outcomes
from entrenar_otel.serving.ab.result import (
    ABResult,
    ArmResult,
    Decision,
    GuardrailResult,
    SampleRatio,
    count_text,
    interval_text,
    p_text,
    value_text,
)
from entrenar_otel.serving.assignment import ARMS, Arm


def judge(
    design: Design, outcomes: Mapping[str, Outcomes], stopped: str | None = None, *, quick: bool = False
) -> ABResult:
    """The result of a test, from the outcomes of each of its metrics; `quick` leaves out the fixed tests."""
    main = outcomes[design.metric]
    a, b = (_arm_result(design, main, arm) for arm in ARMS)
    kind: Kind = design.kind or ("binary" if main.is_binary and main.is_once else "continuous")
    if kind == "binary" and not main.is_once:
        kind = "continuous"  # of means per user
    found = always_valid(
        *(_moments(main, arm, design) for arm in ARMS),
        confidence=design.confidence,
        planned=design.planned_users,
    )
    ratio = sample_ratio(main)
    guardrails = tuple(
        _guardrail(design, guardrail, outcomes[guardrail.metric]) for guardrail in design.guardrails
    )
    decision, summary = _decide(design, kind, a, b, found, ratio, guardrails)
    notes = _notes(design, outcomes)
    fixed: dict[str, TestResult] = {}
    if not quick and min(a.users, b.users):
        try:
            fixed = _fixed_tests(design, main, kind)
        except MissingExtra as error:
            notes.append(f"the tests for a single look are left out: {error}")
    return ABResult(
        test=design.name,
        metric=design.metric,
        better=design.better or "higher",
        kind=kind,
        confidence=design.confidence,
        a=a,
        b=b,
        effect=found.effect,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        decision=decision,
        summary=summary,
        sample_ratio=ratio,
        guardrails=guardrails,
        fixed=fixed,
        stopped=stopped,
        notes=tuple(notes),
    )


def sample_ratio(outcomes: Outcomes) -> SampleRatio | None:
    """Pearson's chi-square of the users in each arm; None where one arm is to have them all, or nobody came.

    Where the share was changed, every user counts with the share of the time at which they came:
    χ² = (n_b - Σ s)² / Σ s (1 - s), which for one share s is Pearson's. With one degree of freedom
    P(X > χ²) = erfc(√(χ² / 2)).
    """
    share = outcomes.split
    variance = float((share * (1 - share)).sum())
    if not variance > 0:
        return None
    distance = float(outcomes.in_b.sum() - share.sum())
    p = math.erfc(abs(distance) / math.sqrt(variance) / math.sqrt(2))
    return SampleRatio(float(share.mean()), float(outcomes.in_b.mean()), p)


# -- the numbers --------------------------------------------------------------------------------------


def _arm_result(design: Design, outcomes: Outcomes, arm: Arm) -> ArmResult:
    values = outcomes.values(arm, design.average)
    counted = outcomes.arm(arm)
    return ArmResult(
        arm=arm,
        model=design.models[arm],
        users=len(values),
        observations=int(outcomes.count[counted].sum()),
        mean=float(values.mean()) if len(values) else math.nan,
        std=float(values.std(ddof=1)) if len(values) > 1 else math.nan,
        nonfinite=int(outcomes.nonfinite[outcomes.in_b == (arm == "B")].sum()),
    )


def _moments(outcomes: Outcomes, arm: Arm, design: Design) -> Moments:
    return Moments.of(outcomes.values(arm, design.average))


def _guardrail(design: Design, guardrail: Guardrail, outcomes: Outcomes) -> GuardrailResult:
    """One-sided: B against A's mean made worse by the tolerance, with an equal share of α each."""
    a, b = (_arm_result(design, outcomes, arm) for arm in ARMS)
    of_a, of_b = (_moments(outcomes, arm, design) for arm in ARMS)
    less_is_good = guardrail.better == "lower"
    tolerance = guardrail.tolerance * math.copysign(1.0, a.mean) * (1 if less_is_good else -1)
    limit = of_a.times(1 + tolerance)
    alpha = (1 - design.confidence) / len(design.guardrails)
    sides = (limit, of_b) if less_is_good else (of_b, limit)
    found = always_valid(*sides, confidence=1 - alpha, planned=design.planned_users)
    is_harmed = found.low > 0
    worse = (b.mean - a.mean) / abs(a.mean) * (1 if less_is_good else -1) if a.mean else math.nan
    return GuardrailResult(
        metric=guardrail.metric,
        tolerance=guardrail.tolerance,
        a=a,
        b=b,
        worse=worse,
        p_value=found.p_value if found.effect > 0 else 1.0,
        is_harmed=is_harmed,
        text=_guardrail_text(guardrail, a, b, worse, found, is_harmed),
    )


def _fixed_tests(design: Design, outcomes: Outcomes, kind: Kind) -> dict[str, TestResult]:
    a, b = (outcomes.values(arm, design.average) for arm in ARMS)
    tests = {
        "welch": welch(a, b, confidence=design.confidence),
        "mann_whitney": mann_whitney(a, b, confidence=design.confidence),
    }
    if kind == "binary" and np.isin(np.concatenate([a, b]), (0.0, 1.0)).all():
        tests["two_proportions"] = two_proportions(
            float(a.sum()), len(a), float(b.sum()), len(b), confidence=design.confidence
        )
    return tests


# -- the words ----------------------------------------------------------------------------------------


def _decide(
    design: Design,
    kind: Kind,
    a: ArmResult,
    b: ArmResult,
    found: AlwaysValid,
    ratio: SampleRatio | None,
    guardrails: tuple[GuardrailResult, ...],
) -> tuple[Decision, str]:
    if ratio is not None and ratio.is_mismatch:
        return "mismatch", (
            f"Sample ratio mismatch: {100 * ratio.observed:.2f} % of the users are in B, "
            f"{100 * ratio.expected:.2f} % were to be ({p_text(ratio.p_value)}). Do not trust this "
            "result: find out first whose outcomes are missing, or there twice (crashes, timeouts, redirects)"
        )
    if any(guardrail.is_harmed for guardrail in guardrails):
        harmed = "; ".join(guardrail.text for guardrail in guardrails if guardrail.is_harmed)
        return "A", f"A stays, since B harms a guardrail: {harmed}"
    if (missing := _missing(design, a, b)) is not None:
        return "undecided", missing
    if not math.isfinite(found.low):
        return "undecided", "No decision: no outcome differs from the others of its arm, so chance is unknown"
    sign = 1.0 if design.better == "higher" else -1.0
    if found.low <= 0 <= found.high:
        text = interval_text(found.effect, found.low, found.high, kind, design.confidence)
        return "undecided", f"No decision yet: B less A is {text}, which holds 0"
    winner: Decision = "B" if sign * found.effect > 0 else "A"
    low, high = sorted(map(abs, (found.low, found.high)))
    text = interval_text(abs(found.effect), low, high, kind, design.confidence)
    return winner, f"{winner} is better by {text}"


def _missing(design: Design, a: ArmResult, b: ArmResult) -> str | None:
    """Why nothing can be said yet, or None."""
    empty = [arm for arm in (a, b) if not arm.users]
    if len(empty) == 2:
        return "No decision yet: there are no outcomes. Call record(user_id, value) where they are known"
    if empty:
        share = design.traffic_split if empty[0].arm == "B" else 1 - design.traffic_split
        reason = "traffic_split gives it none" if not share else f"{100 * share:.4g} % was to be in it"
        return f"No decision: nobody was in arm {empty[0].arm} ({empty[0].model}), and {reason}"
    if min(a.users, b.users) < MIN_VALUES:
        return (
            f"No decision yet: {count_text(a.users, 'user')} in A, {count_text(b.users, 'user')} in B; "
            f"from {MIN_VALUES} in each on there is an interval"
        )
    return None


def _guardrail_text(
    guardrail: Guardrail, a: ArmResult, b: ArmResult, worse: float, found: AlwaysValid, is_harmed: bool
) -> str:
    if not min(a.users, b.users):
        return f"{guardrail.metric}: not measured in both arms"
    state = (
        " harmed" if is_harmed else " not judged yet" if not math.isfinite(found.low) else ", no harm shown"
    )
    means = f"{value_text(b.mean, 'continuous')} in B against {value_text(a.mean, 'continuous')} in A"
    change = "" if math.isnan(worse) else f", {100 * abs(worse):.1f} % {'worse' if worse > 0 else 'better'}"
    return f"{guardrail.metric}{state}: {means}{change} ({100 * guardrail.tolerance:.4g} % worse is allowed)"


def _notes(design: Design, outcomes: Mapping[str, Outcomes]) -> list[str]:
    notes = []
    for metric, one in outcomes.items():
        if bad := int(one.nonfinite.sum()):
            notes.append(f"{metric}: {count_text(bad, 'outcome')} not finite (NaN, infinite), left out")
    main = outcomes[design.metric]
    if both := int(main.in_both.sum()):
        notes.append(f"{count_text(both, 'user')} in both arms, since traffic_split was changed: left out")
    shares = np.unique(main.split)
    if len(shares) > 1:
        listed = ", ".join(f"{share:g}" for share in shares)
        notes.append(
            f"traffic_split was changed ({listed}): users of different times are mixed, which can turn a "
            "result round (Simpson's paradox). A new name= for the last share begins a clean test"
        )
    if not main.is_once:
        what = "all outcomes of its users" if design.average == "observation" else "its users' means"
        notes.append(f"the unit of analysis is the user: an arm's mean is that of {what}")
    return notes
