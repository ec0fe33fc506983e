"""The Jidoka table: reduce_lr, escalation, callbacks, and what exporters see of it all."""

from __future__ import annotations

from typing import Any

import pytest

from entrenar_otel import AndonStop, ConfigError, Monitor
from entrenar_otel.andon.scale_lr import scale_lr

REDUCE = """
[monitor.andon]
quiet_seconds = 5.0
gradient_explosion = { metric = "gradient_norm", max_ratio = 10.0, action = "reduce_lr", factor = 0.5, \
min_factor = 0.125, after_steps = 10 }
"""
ACTIONS = (
    "SELECT attributes['outcome'] AS outcome, attributes['factor']::DOUBLE AS factor, "
    "attributes['total_factor']::DOUBLE AS total FROM events "
    "WHERE name = 'training.action' ORDER BY timestamp"
)


class Optimizer:
    """As PyTorch's: groups with a learning rate."""

    def __init__(self) -> None:
        self.param_groups = [{"lr": 0.8}]


def explode(one: Any, times: int = 1) -> None:
    """Episodes of exploding gradients, each over before the next."""
    for _ in range(times):
        for norm in (*[1.0] * 20, 50.0, 50.0, *[1.0] * 20):
            one.clock.advance(0.01)
            one.monitor.log(gradient_norm=norm)
        one.tick()
        one.monitor.log(gradient_norm=1.0)
        one.advance(6)


def test_reduce_lr_once_an_episode_down_to_its_floor(judged: Any) -> None:
    """Half an episode; at an eighth of its start it stays, and that is said."""
    optimizer, seen = Optimizer(), []
    with judged(REDUCE) as one:

        def reduce(alert: Any, factor: float) -> None:
            seen.append((alert.name, factor))
            scale_lr(optimizer, factor)

        one.monitor.on("reduce_lr", reduce)
        explode(one, 5)
        assert seen == [("gradient_explosion", 0.5)] * 3
        assert optimizer.param_groups == [{"lr": pytest.approx(0.1)}]
        done = [tuple(row.values()) for row in one.monitor.query(ACTIONS).to_pylist()]
        floor = [("at the floor", 1.0, 0.125)] * 2
        assert done == [("done", 0.5, 0.5), ("done", 0.5, 0.25), ("done", 0.5, 0.125), *floor]
        rows = one.monitor.query("SELECT * FROM alerts WHERE source = 'threshold'").to_pylist()
        assert len(rows) == 5
        assert {(row["action"], row["level"], row["state"], row["count"]) for row in rows} == {
            ("reduce_lr", "WARNING", "resolved", 2)
        }
        assert all(
            row["summary"].startswith("Gradient clipping triggered: gradient_norm is 50") for row in rows
        )


def test_a_floor_between_two_factors(judged: Any) -> None:
    """The last factor is what is left down to the floor."""
    seen = []
    with judged(REDUCE.replace("0.125", "0.2")) as one:
        one.monitor.on("reduce_lr", lambda _alert, factor: seen.append(factor))
        explode(one, 4)
    assert seen == [0.5, 0.5, pytest.approx(0.8)]


def test_reduce_lr_with_nothing_registered(judged: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is notified of only, and that is said."""
    with judged(REDUCE) as one:
        explode(one)
        assert one.monitor.query(ACTIONS).column("outcome").to_pylist() == ["no callback"]
    assert "nothing is registered with monitor.on('reduce_lr', …); notified only" in caplog.text


def test_reduce_lr_whose_callback_raises(judged: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The outcome is failed, training goes on, and what did not happen does not count towards the floor."""
    seen = []

    def fail(_alert: Any, factor: float) -> None:
        seen.append(factor)
        raise KeyError("lr")

    with judged(REDUCE) as one:
        one.monitor.on("reduce_lr", fail)
        explode(one, 4)
        outcomes = [tuple(row.values()) for row in one.monitor.query(ACTIONS).to_pylist()]
        assert outcomes == [("failed", 0.5, 1.0)] * 4
    assert seen == [0.5] * 4
    assert "fail on reduce_lr failed: KeyError: 'lr'" in caplog.text


ESCALATE = """
[monitor.spike]
enabled = false
[monitor.divergence]
enabled = false
[monitor.zscore]
metrics = ["loss"]
actions = { low = "log", medium = "notify", high = "stop" }
"""


def test_a_stronger_finding_escalates_the_episode(judged: Any) -> None:
    """One episode: first only logged, then it stops the line; the row shows the strongest."""
    told = []
    with judged(ESCALATE) as one:
        one.monitor.on("alert", lambda alert: told.append(str(alert.action)))
        for step in range(40):
            one.monitor.log(loss=1.0 + 0.01 * (step % 5))
        one.tick()
        for size in (1.09, 5.0):
            one.monitor.log(loss=size)
            one.tick()
        with pytest.raises(AndonStop, match="Unusual value: loss is"):
            one.monitor.log(loss=1.0)
        (row,) = one.monitor.query("SELECT * FROM alerts WHERE source = 'zscore'").to_pylist()
        assert (row["action"], row["level"], row["value"], row["peak"]) == ("stop", "ERROR", 1.09, 5.0)
        assert row["incident"]
    assert told[-1] == "stop"


def test_alert_callbacks_hear_of_every_beginning(judged: Any) -> None:
    """On the loop's thread, inside its next log; of the end nobody is told; one that raises is counted."""
    toml = """
    [monitor.andon]
    quiet_seconds = 1.0
    [[monitor.threshold]]
    name = "floor"
    metric = "accuracy"
    min = 0.8
    for_samples = 2
    labels = { team = "vision" }
    annotations = { summary = "Accuracy is low" }
    """
    told = []
    with judged(toml) as one:

        def fail(alert: Any) -> None:
            told.append((alert.name, alert.summary, alert.labels["team"], alert.value))
            raise RuntimeError("no network")

        one.monitor.on("alert", fail)
        for accuracy in (0.9, 0.7, 0.7, 0.7):
            one.monitor.log(accuracy=accuracy)
        one.tick()
        assert told == []
        one.monitor.log(accuracy=0.95)
        one.advance(2)
        one.monitor.log(accuracy=0.95)
        expected = ("floor", "Accuracy is low: accuracy is 0.7, the limit is 0.8", "vision", 0.7)
        assert told == [expected]
        assert one.run.pipeline.andon.callbacks.failures == {"alert": 1}
        assert one.monitor.alerts == []


@pytest.mark.parametrize(
    ("occasion", "call", "problem"),
    [
        ("stopped", print, "expected one of alert, reduce_lr, pause, resume, stop, got 'stopped'"),
        ("stop", "save", "expected a function to call on stop, got 'save'"),
    ],
)
def test_a_callback_that_cannot_be(occasion: str, call: Any, problem: str) -> None:
    """It is refused where it is registered, before and after the run has begun."""
    with pytest.raises(ConfigError, match=problem):
        Monitor("r", lake="lake").on(occasion, call)


def test_an_alert_about_a_loop_that_does_not_log_waits(judged: Any) -> None:
    """`raise_if_stopped` acts as the next log would."""
    toml = '[[monitor.threshold]]\nname = "hot"\nmetric = "loss"\nmax = 10.0\naction = "stop"\n'
    with judged(toml) as one:
        one.monitor.raise_if_stopped()
        one.monitor.log(loss=11.0)
        one.monitor.raise_if_stopped()  # not judged yet
        one.tick()
        with pytest.raises(AndonStop, match="hot crossed: loss is 11, the limit is 10"):
            one.monitor.raise_if_stopped()
        one.monitor.raise_if_stopped()
        one.monitor.log(loss=1.0)


def test_a_stop_does_not_wait_for_a_pause(judged: Any) -> None:
    """Both are due at once: nobody is kept waiting for five minutes before the stop."""
    toml = """
    [monitor.andon]
    pause_timeout_seconds = 100
    [[monitor.threshold]]
    name = "hot"
    metric = "heat"
    max = 10.0
    action = "pause"
    """
    with judged(toml) as one:
        one.monitor.on("pause", lambda _alert: pytest.fail("paused"))
        one.monitor.log(heat=11.0)
        one.monitor.bind("loss")
        one.tick()
        with pytest.raises(AndonStop, match="loss is nan"):
            one.monitor.log(loss=float("nan"))


def test_metrics_start_at_zero(judged: Any) -> None:
    """Every combination of level and source is there before anything happens, and gauges go up and down."""
    toml = """
    [monitor.andon]
    quiet_seconds = 1.0
    [[monitor.threshold]]
    name = "floor"
    metric = "accuracy"
    min = 0.8
    level = "CRITICAL"
    """
    with judged(toml) as one:
        one.monitor.log(accuracy=0.9)
        points = one.points("training.alerts")
        assert {point.value for point in points} == {0}
        sources = {point.attributes["source"] for point in points}
        assert sources >= {"threshold", "nonfinite", "spike", "divergence", "control", "zscore", "drift"}
        assert len(points) == 4 * len(sources)
        assert {p.attributes["level"] for p in points} == {"INFO", "WARNING", "ERROR", "CRITICAL"}

        def active() -> list[float]:
            points = one.points("training.alert.active")
            return [
                p.value
                for p in points
                if p.attributes.items() >= {"name": "floor", "level": "CRITICAL"}.items()
            ]

        assert active() == [0]
        assert {point.value for point in one.points("training.alert.active")} == {0}
        assert one.points("training.anomalies") == []
        one.monitor.log(accuracy=0.5)
        one.tick()
        assert active() == [1]
        assert {tuple(p.attributes.values()): p.value for p in one.points("training.alerts") if p.value} == {
            ("CRITICAL", "threshold"): 1
        }
        anomalies = [(p.attributes, p.value) for p in one.points("training.anomalies")]
        assert anomalies == [({"metric": "accuracy", "detector": "threshold.floor", "severity": "high"}, 1)]
        one.monitor.log(accuracy=0.9)
        one.advance(2)
        assert active() == [0]


def test_the_events_say_where_the_sample_was(judged: Any) -> None:
    """Not where the loop was a heartbeat later."""
    toml = """
        [[monitor.threshold]]
        name = "cap"
        metric = "load"
        max = 5
    """
    with judged(toml) as one:
        one.monitor.log(load=9.0, epoch=1, batch=2, step=3)
        for _ in one.monitor.epochs(5):
            for _ in one.monitor.steps(range(4)):
                one.monitor.log(load=1.0)
        one.advance(1)
        told = one.monitor.query(
            "SELECT name, epoch, batch, step FROM events "
            "WHERE name IN ('training.finding', 'training.alert') AND attributes['metric'] = 'load'"
        ).to_pylist()
        assert {row["name"] for row in told} == {"training.finding", "training.alert"}
        # the second finding says that it is over
        assert {(row["epoch"], row["batch"], row["step"]) for row in told} == {(1, 2, 3), (0, 0, 0)}
