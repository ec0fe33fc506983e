"""`entrenar-otel ab`: what a test says, from the lake alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.serving import ABTest, ab_test

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ab_test, "_designs", {})


def record(name: str | None = None, metric: str = "accuracy", **more: Any) -> None:
    with Monitor(lake="lake", quiet=True) as monitor:
        ab = ABTest("m@1", "m@2", 0.5, metric, name=name, monitor=monitor, check_seconds=None, **more)
        for user in range(400):
            ab.record(user, user % 2)


def test_the_only_test_is_shown(cli: Cli) -> None:
    """As text and as JSON, also with one result for each metric that decides."""
    record(guardrails={"latency": 0.05})
    answer = cli("ab")
    assert answer.code == 0
    assert answer.out.startswith("A/B test m@1 vs m@2\n\n  No decision yet: B less A is ")
    assert "guardrail latency: not measured in both arms" in answer.out
    record(metric="conversion")
    results = json.loads(cli("ab", "m@1", "--json").out)
    assert [result["metric"] for result in results] == ["accuracy", "conversion"]
    assert results[0]["decision"] == "undecided"
    assert results[0]["a"]["users"] + results[0]["b"]["users"] == 400


def test_which_test_is_meant(cli: Cli) -> None:
    """The whole name, or a part that only one has."""
    for name in ("ranking", "ranking 2", "checkout"):
        record(name)
    assert cli("ab", "ranking").out.startswith("A/B test ranking\n")
    assert cli("ab", "check").out.startswith("A/B test checkout\n")
    for arguments, told in (
        ((), "several A/B tests in "),
        (("rank",), "'rank' is in the names of 2 of 'ranking', 'ranking 2'"),
        (("price",), "there are 'ranking', 'ranking 2', 'checkout'"),
    ):
        answer = cli("ab", *arguments)
        assert answer.code == 1
        assert told in answer.err


def test_a_lake_without_any(cli: Cli) -> None:
    Monitor("r", lake="lake", quiet=True).start().close()
    answer = cli("ab")
    assert (answer.code, answer.out) == (1, "")
    assert "no A/B tests in " in answer.err
    assert "record(user_id, value) begins one (docs/ab.md)" in answer.err
