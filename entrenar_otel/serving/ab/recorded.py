"""Recorded tests: the results of A/B tests that a lake holds, for who has only the lake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from entrenar_otel.errors import RunError
from entrenar_otel.serving.ab.outcomes import Known, Outcomes
from entrenar_otel.serving.ab.result import ABResult
from entrenar_otel.serving.ab.verdict import judge

if TYPE_CHECKING:
    from entrenar_otel.lake import Lake


def recorded_results(lake: Lake, name: str | None = None) -> list[ABResult]:
    """The results of one test, one for each metric that decides; without a name, of the only test.

    `name` may be a part of it that no other test has. Raises RunError where it is none, or several.
    """
    known = {test: one for test, one in Known.read(lake).items() if one.designs}
    test = _chosen(known, name, lake.url)
    designs = {design.metric: design for design in known[test].designs}  # the latest of each
    results = []
    for design in designs.values():
        known[test].check(design)
        outcomes = {metric: Outcomes.read(lake, test, metric) for metric in design.metrics}
        results.append(judge(design, outcomes, known[test].stopped))
    return results


def _chosen(known: dict[str, Known], name: str | None, url: str) -> str:
    if not known:
        raise RunError(f"no A/B tests in {url}: ABTest(…).record(user_id, value) begins one (docs/ab.md)")
    matches = [test for test in known if name is None or name in test]
    if name in known:
        return str(name)
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(map(repr, matches or known))
    if not matches:
        raise RunError(f"no A/B test {name!r} in {url}; there are {listed}")
    asked = "name one" if name is None else f"{name!r} is in the names of {len(matches)}"
    raise RunError(f"several A/B tests in {url}: {asked} of {listed}")
