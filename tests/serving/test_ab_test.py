"""ABTest in one process: what is recorded, where, what is refused, how a guardrail ends the test."""

from __future__ import annotations

import math
import pickle
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry import metrics

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.errors import BadInput, ConfigError
from entrenar_otel.lake import Lake
from entrenar_otel.run import lifetime
from entrenar_otel.serving import ABTest, Guardrail, ab_test
from entrenar_otel.serving.ab.outcomes import Known, Outcomes
from entrenar_otel.testing import Kit, kit

MODELS = {"model_a": "digits@1.1.0", "model_b": "digits@1.2.0"}
NAME = "digits@1.1.0 vs digits@1.2.0"


@pytest.fixture(autouse=True)
def unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has had no test."""
    monkeypatch.setattr(ab_test, "_designs", {})


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Kit]:
    with kit(tmp_path) as it:
        yield it


def made(monitor: Monitor | None = None, **change: Any) -> ABTest:
    given: dict[str, Any] = {**MODELS, "metric": "accuracy", "check_seconds": None, "monitor": monitor}
    return ABTest(**given | change)


def test_outcomes_are_ordinary_samples(one: Kit) -> None:
    """`ab.<metric>` with its tags in the lake and as an instrument; who had it is in the lake alone."""
    ab = made(one.monitor, traffic_split=0.5)
    for user in range(20):
        ab.record(user, user % 2)
    rows = one.monitor.query("SELECT metric, value, tags FROM metrics ORDER BY seq, metric").to_pylist()
    assert len(rows) == 40
    arms = {
        arm: {"arm": arm, "split": "0.5", "test": NAME, "model": ab.design.models[arm]} for arm in ("A", "B")
    }
    for user in range(20):
        outcome, unit = rows[2 * user : 2 * user + 2]
        assert (outcome["metric"], outcome["value"]) == ("ab.accuracy", user % 2)
        assert (unit["metric"], unit["value"]) == ("ab.accuracy.unit", ab._split.pseudonym(user))
        assert dict(outcome["tags"]) == dict(unit["tags"]) == arms[ab.assign(user)]
    assert {point.attributes["arm"] for point in one.points("training.ab.accuracy")} == {"A", "B"}
    assert one.points("training.ab.accuracy.unit") == []


def test_the_result_is_that_of_all_outcomes_up_to_now(one: Kit) -> None:
    ab = made(one.monitor, traffic_split=0.3)
    values = np.random.default_rng(0).integers(0, 2, 3000)
    for user, value in enumerate(values.tolist()):
        ab.record(f"user-{user}", value)
    in_b = np.array([ab.assign(f"user-{user}") == "B" for user in range(3000)])
    result = ab.result()
    assert (result.a.users, result.b.users) == (int((~in_b).sum()), int(in_b.sum()))
    assert result.a.mean == pytest.approx(values[~in_b].mean())
    assert result.b.mean == pytest.approx(values[in_b].mean())
    assert (result.kind, result.decision) == ("binary", "undecided")
    assert {ab.model(user) for user in range(99)} == set(MODELS.values())


def test_without_a_monitor_it_takes_the_current_run_else_its_own(tmp_path: Path) -> None:
    """And reads from there; its own run is ended by `close`, with all that was recorded in the lake."""
    with Monitor("training", lake="elsewhere", quiet=True) as monitor:
        ab = made()
        ab.record("ada", 1)
        assert monitor.sample_count("ab.accuracy") == 1
        assert ab.result().a.users + ab.result().b.users == 1
    with made(lake=tmp_path / "own") as ab:
        ab.record("ada", 1)
        (own,) = lifetime.open_runs()
        assert ab.result().a.users + ab.result().b.users == 1
    assert own.is_closed
    assert len(Lake(tmp_path / "own").query("SELECT * FROM metrics WHERE metric = 'ab.accuracy'")) == 1
    assert made(lake=tmp_path / "own").result().a.observations == ab.result().a.observations


def test_before_anything_is_recorded() -> None:
    result = made(lake="nothing").result()
    assert result.summary.startswith("No decision yet: there are no outcomes")
    assert lifetime.open_runs() == ()


def test_what_is_not_finite_is_counted_and_said(one: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """NaN, infinite, no number at all: never in a mean, never an error of the program that serves."""
    ab = made(one.monitor, traffic_split=0)
    for user, value in enumerate([1.0, math.nan, math.inf, "bad", 0.0]):
        ab.record(user, value)
    result = ab.result()
    assert (result.a.users, result.a.mean, result.a.nonfinite) == (2, 0.5, 3)
    assert "accuracy: 3 outcomes not finite (NaN, infinite), left out" in result.notes
    assert "bad" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("ada", 1.0, {"metric": "loss"}), "expected a metric of this test (accuracy, latency), got 'loss'"),
        (("ada", 1.0, {"arm": "C"}), "expected arm 'A' (digits@1.1.0) or 'B' (digits@1.2.0), got 'C'"),
        ((None, 1.0, {}), "expected a user's id"),
        ((None, 1.0, {"arm": "A"}), "expected a user's id"),
        (("ada", 0.5, {}), "expected 0 or 1 (kind='binary'), got 0.5"),
        (("ada", "x", {}), "expected 0 or 1 (kind='binary'), got 'x'"),
    ],
)
def test_what_record_refuses(arguments: Any, told: str, one: Kit) -> None:
    ab = made(one.monitor, kind="binary", guardrails={"latency": 0.1})
    user, value, more = arguments
    with pytest.raises(BadInput, match=re.escape(told)):
        ab.record(user, value, **more)
    assert one.records == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model_b": "digits@1.1.0"}, "expected two models, got 'digits@1.1.0' twice"),
        ({"traffic_split": 1.2}, "expected traffic_split from 0 to 1"),
        ({"on_harm": "panic"}, "expected on_harm 'stop' or 'notify', got 'panic'"),
        ({"check_seconds": 0}, "expected check_seconds above 0, or None, got 0"),
        ({"monitor": "lake"}, "expected monitor to be a Monitor, got 'lake'"),
        ({"name": ""}, "expected name to be text, got ''"),
    ],
)
def test_what_a_test_refuses(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        made(**change)


def test_a_name_is_of_one_test(one: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process at construction; in the lake, where another process recorded it, in the result."""
    made(one.monitor, name="ranking", traffic_split=0.1).record("ada", 1)
    made(one.monitor, name="ranking", traffic_split=0.5)  # raised
    told = "an A/B test 'ranking' is there already, with model_b 'digits@1.2.0' and 'digits@9'"
    with pytest.raises(ConfigError, match=re.escape(told)):
        made(one.monitor, name="ranking", model_b="digits@9")
    monkeypatch.setattr(ab_test, "_designs", {})  # as in another process
    other = made(one.monitor, name="ranking", model_b="digits@9")
    other.record("ada", 1)
    with pytest.raises(ConfigError, match="two A/B tests are recorded under the name 'ranking'"):
        other.result()


def test_a_raised_share_moves_users_and_leaves_them_out(one: Kit) -> None:
    for share in (0.2, 0.6):
        ab = made(one.monitor, traffic_split=share)
        for user in range(1000):
            one.clock.advance(0.001)
            ab.record(user, 1)
    arms = [
        [made(one.monitor, traffic_split=share).assign(user) for user in range(1000)] for share in (0.2, 0.6)
    ]
    moved = sum(x != y for x, y in zip(*arms, strict=True))
    result = ab.result()
    assert f"{moved} users in both arms, since traffic_split was changed: left out" in result.notes
    assert result.a.users + result.b.users == 1000 - moved
    assert result.decision != "mismatch"
    outcomes = Outcomes.read(one.monitor.lake, NAME, "accuracy")
    assert outcomes.split.tolist() == [0.2] * 1000
    assert outcomes.in_b.sum() == arms[0].count("B")


def record_harm(ab: ABTest, users: int = 600) -> None:
    random = np.random.default_rng(4)
    for user in range(users):
        ab.record(user, 1)
        ab.record(user, random.exponential(0.2 if ab.assign(user) == "B" else 0.1), metric="latency")


def test_a_guardrail_ends_the_test_through_the_andon(one: Kit) -> None:
    """An alert of the run, as ERROR; everybody in A; what comes afterwards counts for neither arm."""
    ab = made(one.monitor, guardrails={"latency": Guardrail("latency", 0.1)})
    record_harm(ab)
    assert ab.check().guardrails[0].is_harmed
    assert {ab.assign(user) for user in range(100)} == {"A"}
    (alert,) = one.alerts
    assert (alert.name, str(alert.level), alert.source) == ("ab.guardrail", "ERROR", "ab")
    assert alert.summary.startswith(f"A/B test: {NAME}: latency harmed: 0.2")
    assert alert.summary.endswith("the test is stopped")
    ab.record("late", 0)
    result = ab.result()
    assert result.a.users + result.b.users == 600
    assert result.stopped is not None
    assert result.stopped.startswith("latency harmed: 0.2")
    assert result.decision == "A"
    late = one.monitor.query("SELECT * FROM metrics WHERE tags['arm'] = 'after_stop'")
    assert len(late) == 2
    ab.check()
    assert len(one.alerts) == 1
    one.monitor.log(loss=1.0)  # the training of this run, if it is one, is not stopped


def test_a_guardrail_may_only_notify(one: Kit) -> None:
    ab = made(one.monitor, guardrails={"latency": 0.1}, on_harm="notify")
    record_harm(ab)
    ab.check()
    assert one.alerts[0].summary.endswith("the test goes on (on_harm='notify')")
    assert "B" in {ab.assign(user) for user in range(100)}
    assert ab.result().stopped is None


def test_one_alert_for_all_processes(one: Kit) -> None:
    """What one has told of, no other tells of again, nor the same after a new start."""
    ab, other = (made(one.monitor, guardrails={"latency": 0.1}, on_harm="notify") for _ in range(2))
    record_harm(ab)
    for test in (ab, other, ab):
        assert test.check().guardrails[0].is_harmed
    assert len(one.alerts) == 1


def test_looking_does_nothing_in_place_of_the_loop(one: Kit) -> None:
    """A stop that waits for the loop's next `log` still waits for it after a check on another thread."""
    ab = made(one.monitor)
    ab.record("ada", 1)
    metrics.get_meter("training").create_gauge("training.loss").set(math.nan)
    thread = threading.Thread(target=ab.check)
    thread.start()
    thread.join()
    assert one.monitor.is_measured("ab.accuracy.users")
    with pytest.raises(AndonStop):
        one.monitor.log(loss=1.0)


def test_a_stop_is_heard_elsewhere(one: Kit) -> None:
    """By the next check of another process (here of another object), and by one that begins later."""
    ab, other = made(one.monitor), made(one.monitor)
    ab.record("ada", 1)
    ab.stop("rolled back")
    assert repr(ab) == f"<ABTest {NAME}, accuracy, 0.5 in B, stopped>"
    assert other.stopped is None
    other.check()
    assert other.stopped is not None
    assert other.stopped.startswith("rolled back (")
    assert {other.assign(user) for user in range(100)} == {"A"}
    ab.stop("again")
    events = one.monitor.query(
        "SELECT attributes['reason'] AS reason FROM events WHERE name = 'ab.test.stopped'"
    )
    assert events.to_pylist() == [{"reason": "rolled back"}]


def test_it_watches_by_itself(tmp_path: Path) -> None:
    with Monitor("watched", lake=tmp_path / "lake", quiet=True, settings_file=None) as monitor:
        ab = made(monitor, guardrails={"latency": 0.1}, check_seconds=0.05)
        record_harm(ab)
        deadline = time.monotonic() + 300
        while ab.stopped is None and time.monotonic() < deadline:
            ab.record(0, 1)
            time.sleep(0.02)
        assert ab.stopped is not None
        assert ab.is_watched
        assert monitor.is_measured("ab.accuracy.effect")
        ab.close()
        assert not ab.is_watched


def test_what_it_says_is_exported(one: Kit) -> None:
    ab = made(one.monitor)
    for user in range(1000):
        ab.record(user, user % 3 == 0)
    result = ab.check()
    for key in ("effect", "low", "high", "p_value"):
        (point,) = one.points(f"training.ab.accuracy.{key}")
        assert (point.attributes, point.value) == ({"test": NAME}, getattr(result, key))
    assert one.points("training.ab.accuracy.users")[0].value == 1000


def test_many_threads_record(one: Kit) -> None:
    ab = made(one.monitor)
    threads = [
        threading.Thread(target=lambda part=part: [ab.record(user, 1) for user in range(part, 4000, 8)])
        for part in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result = ab.result()
    assert result.a.observations + result.b.observations == 4000


def test_where_monitoring_is_off_users_are_still_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTRENAR_DISABLED", "1")
    ab = made(lake="off")
    assert {ab.assign(user) for user in range(100)} == {"A", "B"}
    ab.record("ada", 1)
    ab.check()
    ab.stop()
    ab.close()
    assert ab.assign("ada") == "A"


def test_a_copy_in_another_process_is_the_same_test(monkeypatch: pytest.MonkeyPatch) -> None:
    ab = made(name="pickled", guardrails={"latency": 0.2}, traffic_split=0.3)
    text = pickle.dumps(ab)
    monkeypatch.setattr(ab_test, "_designs", {})
    copy = pickle.loads(text)
    assert copy.design == ab.design
    assert [copy.assign(user) for user in range(50)] == [ab.assign(user) for user in range(50)]


def test_a_design_that_cannot_be_read_hides_no_other(one: Kit, caplog: pytest.LogCaptureFixture) -> None:
    made(one.monitor).record("ada", 1)
    one.monitor.event("ab.test.started", {"test": "later", "design": '{"guardrails": [], "invented": 1}'})
    known = Known.read(one.monitor.lake)
    assert [*known] == [NAME, "later"] or [*known] == [NAME]
    assert "A/B test later: not the design of an A/B test" in caplog.text
