"""A training loss that is not finite: AndonStop in that very call, with everything that was known."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.testing import Kit

NAN, INF = math.nan, math.inf
ALERTS = "SELECT * FROM alerts WHERE source <> 'run' ORDER BY started_at"


def by_log(monitor: Monitor, value: Any) -> None:
    monitor.log(loss=value, accuracy=0.5)


def by_mapping(monitor: Monitor, value: Any) -> None:
    monitor.log({"loss": value, "val/loss": 1.0})


def by_bind(monitor: Monitor, value: Any) -> None:
    monitor.bind("accuracy", "loss")(0.5, value)


def by_tags(monitor: Monitor, value: Any) -> None:
    monitor.log(loss=value, tags={"split": "train"})


def by_record(monitor: Monitor, value: Any) -> None:
    monitor.record("loss", value)


def by_instrument(monitor: Monitor, value: Any) -> None:
    from opentelemetry import metrics

    metrics.get_meter("mine").create_gauge("training.loss").set(value)
    monitor.raise_if_stopped()


WAYS = [by_log, by_mapping, by_bind, by_tags, by_record, by_instrument]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_every_way_of_logging_stops(judged: Any, way: Callable[[Monitor, Any], None], value: float) -> None:
    """In that very call, the callback before the loop hears of it, and the sample before the callback."""
    heard: list[Any] = []
    with judged() as one:
        monitor = one.monitor

        def stopped(alert: Any) -> None:
            heard.append((alert.name, monitor.sample_count("loss")))

        monitor.on("stop", stopped)
        for number in (2.0, 1.0, 0.5):
            way(monitor, number)
        with pytest.raises(AndonStop, match=r"Training diverged: loss.* is -?(nan|inf)") as caught:
            way(monitor, value)
        assert heard == [("nonfinite_loss", 4)]
        stop = caught.value
        assert (stop.metric, repr(stop.value)) == ("loss", repr(value))
        assert (stop.alert.name, str(stop.alert.level), str(stop.alert.action)) == (
            "nonfinite_loss", "ERROR", "stop",
        )  # fmt: skip
        assert "The last finite values were 2, 1, 0.5. The sample is recorded." in str(stop)
        assert stop.__notes__ == [f"Everything that was known then is in {stop.incident}"]


@pytest.mark.parametrize(
    "tags", [{"split": "validation"}, {"split": "test"}, {"split": "valid", "head": "a"}]
)
def test_a_validation_loss_does_not_stop(judged: Any, tags: dict[str, str]) -> None:
    """It is notified of, once."""
    with judged() as one:
        for _ in range(5):
            one.monitor.log(loss=NAN, tags=tags)
            one.advance(1)
        (alert,) = one.monitor.alerts
        assert (alert.name, str(alert.level), alert.count) == ("nonfinite_other", "WARNING", 1)


def test_a_loop_that_swallows_it_is_stopped_again_but_alerted_once(judged: Any) -> None:
    """Every call with a NaN raises; it is one episode, one incident, one row, one call of the callback."""
    heard: list[Any] = []
    notes: list[tuple[int | None, str | None]] = []
    with judged() as one:
        one.monitor.on("stop", heard.append)
        for step in range(10):
            try:
                one.monitor.log(loss=NAN, step=step)
            except AndonStop as stop:
                notes.append((stop.step, stop.incident))
            if step == 4:
                one.tick()
        one.tick()
        assert [step for step, _ in notes] == list(range(10))
        assert len({incident for _, incident in notes}) == 1
        assert len(heard) == 1
        (row,) = one.monitor.query(ALERTS).to_pylist()
        assert (row["name"], row["step"], row["state"]) == ("nonfinite_loss", 0, "firing")
        assert len(list(Path("lake/incidents").glob("*/*/*"))) == 1
        for _ in range(100):
            one.monitor.log(loss=1.0)
        one.tick()
        one.advance(61)
        assert len(one.monitor.alerts) == 1  # a hundred steps, however long they take
        one.monitor.log(loss=1.0)
        one.tick()
        assert one.monitor.alerts == []
        (row,) = one.monitor.query(ALERTS).to_pylist()
        assert (row["state"], row["count"]) == ("resolved", 10)
        with pytest.raises(AndonStop):  # a new episode
            one.monitor.log(loss=NAN)
        assert len(heard) == 2


def test_one_nan_counts_one_after_the_tick(judged: Any) -> None:
    """The call announces it, the heartbeat finds the same sample: it is counted once everywhere."""
    with judged() as one:
        with pytest.raises(AndonStop):
            one.monitor.log(loss=NAN)
        assert [alert.count for alert in one.monitor.alerts] == [1]
        one.tick()
        one.tick()
        assert [alert.count for alert in one.monitor.alerts] == [1]
        assert [point.value for point in one.points("training.anomalies")] == [1]
        assert [point.value for point in one.points("training.nonfinite")] == [1]
        alerts = {tuple(p.attributes.values()): p.value for p in one.points("training.alerts") if p.value}
        assert alerts == {("ERROR", "nonfinite"): 1}


@pytest.mark.parametrize("action", ["notify", "log"])
def test_the_file_says_otherwise(judged: Any, action: str) -> None:
    """`nonfinite.loss = notify` or `log`: the loop goes on."""
    heard: list[Any] = []
    with judged(f'[monitor.andon]\nnonfinite = {{ loss = "{action}" }}\n') as one:
        one.monitor.on("stop", heard.append)
        one.monitor.log(loss=NAN)
        one.tick()
        one.monitor.log(loss=NAN)
        one.tick()
        (alert,) = one.monitor.alerts
        assert (alert.name, str(alert.action)) == ("nonfinite_loss", action)
        assert str(alert.level) == {"notify": "WARNING", "log": "INFO"}[action]
        assert heard == []
        assert one.monitor.sample_count("loss") == 2


def test_the_file_says_pause(judged: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """`nonfinite.loss = pause` holds that very call."""
    toml = (
        '[monitor.andon]\nnonfinite = { loss = "pause" }\npause_timeout_seconds = 0.3\nafter_pause = "resume"'
    )
    with judged(toml) as one:
        one.monitor.log(loss=NAN)
        said = capfd.readouterr().err
        assert "entrenar: paused: Training diverged: loss is nan" in said
        assert "entrenar: resumed" in said


def test_a_callback_that_raises_does_not_prevent_the_stop(
    judged: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The others are called, it is counted, and AndonStop comes."""
    heard: list[str] = []

    def fail(_alert: Any) -> None:
        heard.append("first")
        raise OSError("no space for the checkpoint")

    with judged() as one:
        one.monitor.on("stop", fail)
        one.monitor.on("stop", lambda _alert: heard.append("second"))
        with pytest.raises(AndonStop):
            one.monitor.log(loss=NAN)
        assert heard == ["first", "second"]
        assert one.run.pipeline.andon.callbacks.failures == {"stop": 1}
    assert "fail on stop failed: OSError: no space for the checkpoint" in caplog.text


def test_a_callback_may_log(judged: Any) -> None:
    """Also what is not finite: it stops no second time within the callback, but at the next log."""
    with judged() as one:

        def save(alert: Any) -> None:
            one.monitor.log(saved=1.0)
            if alert.series.tags == ():
                one.monitor.log(loss=NAN, tags={"split": "train"})

        one.monitor.on("stop", save)
        with pytest.raises(AndonStop, match="loss is nan"):
            one.monitor.log(loss=NAN)
        with pytest.raises(AndonStop, match="split"):
            one.monitor.log(other=1.0)
        one.monitor.log(other=1.0)


def test_with_never_swallows_it(tmp_path: Path, state_of: Any) -> None:
    """It leaves `with`, `epochs` and `steps`, and the run's state is stopped with the reason."""

    def train() -> None:
        with Monitor("swallow", lake="lake", quiet=True, settings_file=None) as monitor:
            for _ in monitor.epochs(2):
                for step in monitor.steps(range(10)):
                    monitor.log(loss=NAN if step == 3 else 1.0)

    with pytest.raises(AndonStop):
        train()
    state, reason = state_of("swallow")
    assert state == "stopped"
    assert str(reason).startswith("AndonStop: Training diverged: loss is nan at epoch 0, batch 3, step 3.")
    rows = Lake("lake").query(ALERTS, run_id="swallow").to_pylist()
    assert [(row["name"], row["state"], row["batch"], row["count"]) for row in rows] == [
        ("nonfinite_loss", "resolved", 3, 1)
    ]
    assert Path(rows[0]["incident"] or "", "window.parquet").is_file()


# -- fp16 ----------------------------------------------------------------------------------------


def test_fp16_loss_scaling_is_normal(judged: Any) -> None:
    """Inf gradient norms in the first steps, as a loss scaler finds its scale: notified of once, no stop."""
    told: list[str] = []
    with judged() as one:
        one.monitor.on("alert", lambda alert: told.append(alert.name))
        for step in range(40):
            one.clock.advance(0.1)
            one.monitor.log(loss=1.0, gradient_norm=INF if step < 10 else 2.0, step=step)
            if step % 4 == 3:
                one.tick()
        one.advance(1)
        (row,) = one.monitor.query(ALERTS).to_pylist()
        assert (row["name"], row["level"], row["count"]) == ("nonfinite_other", "WARNING", 1)
        assert [alert.count for alert in one.monitor.alerts] == [10]
        assert told == ["nonfinite_other"]


def test_twenty_in_a_row_stop_at_the_next_log(judged: Any) -> None:
    """The heartbeat finds them; the next log raises, and not an earlier one."""
    with judged() as one:
        for step in range(20):
            one.monitor.log(loss=1.0, gradient_norm=INF, step=step)
        one.tick()
        with pytest.raises(AndonStop, match="20 non-finite gradients in a row") as caught:
            one.monitor.log(loss=1.0, gradient_norm=1.0, step=20)
        assert caught.value.step == 19
        assert one.monitor.sample_count("loss") == 21
        check(one)


def check(one: Kit) -> None:
    names = one.monitor.query(ALERTS).column("name").to_pylist()
    assert sorted(names) == ["nonfinite_gradients", "nonfinite_other"]


def test_a_stop_between_steps_has_no_context_of_ours(judged: Any) -> None:
    """Batches without a length: the TypeError of `len` is not shown above the AndonStop."""
    toml = """
        [[monitor.threshold]]
        name = "cap"
        metric = "load"
        max = 5
        action = "stop"
    """

    def train(one: Any) -> None:
        for number in one.monitor.steps(range(20)):
            if number == 10:
                one.monitor.log(load=9.0)
                one.advance(1)

    with judged(toml) as one, pytest.raises(AndonStop, match="cap crossed") as caught:
        train(one)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("how", ["close", "with"])
@pytest.mark.parametrize(
    ("after", "state", "reason"),
    [
        (0, "stopped", "Training diverged: loss is nan"),
        (600, "completed", None),
    ],
)
def test_a_run_that_caught_its_stop_ends_as_it_was_left(
    how: str, after: int, state: str, reason: str | None
) -> None:
    """Stopped, unless the loop went on and was well again; what is said explicitly holds."""

    def train(monitor: Monitor) -> None:
        try:
            for step in range(4):
                monitor.log(loss=1.0 if step < 3 else NAN, step=step)
        except AndonStop:
            monitor.flush()
        for step in range(after):
            monitor.log(loss=1.0 + step % 3, step=4 + step)
        monitor.flush()

    if how == "with":
        with Monitor("r", lake="lake", quiet=True) as monitor:
            train(monitor)
    else:
        monitor = Monitor("r", lake="lake", quiet=True)
        train(monitor)
        monitor.close()
    record = Lake("lake").runs()[0]
    assert (record.state, record.reason) == (state, reason)


def test_a_caught_stop_is_what_the_caller_says() -> None:
    monitor = Monitor("r", lake="lake", quiet=True)
    with pytest.raises(AndonStop):
        monitor.log(loss=NAN)
    monitor.close("completed")
    assert Lake("lake").runs()[0].state == "completed"
