"""Policy: what ends with the run."""

from __future__ import annotations

from entrenar_processors.policy import Policy

from tests.processors.test_policy import SECOND, decide, found, rule


def test_the_end_of_the_run_ends_all() -> None:
    """At that time, whatever lasts; once."""
    policy = Policy([rule("a", lasting=True), rule("b")])
    decide(policy, 0, found(0, detector="a"), found(5, detector="b"))
    ended = policy.finish(3 * SECOND)
    assert [(one.name, one.state, one.ended_ns) for one in ended] == [
        ("a_rule", "resolved", 3 * SECOND),
        ("b_rule", "resolved", 5 * SECOND),  # a sample's clock may be ahead: never before its last
    ]
    assert policy.finish(4 * SECOND) == policy.active == []
    assert decide(policy, 5, found(5, detector="a")) == [("firing", "notify", "3", 1)]
