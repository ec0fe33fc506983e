"""Meter provider: what is ours and what is the SDK's, clashes of names, and the global provider."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeter, Observation

from entrenar_otel import ConfigError
from entrenar_otel.lake import Lake
from entrenar_otel.otel.metrics.instruments import Recorded
from entrenar_otel.otel.metrics.provider import WrappingMeterProvider
from entrenar_otel.testing import Kit

Rows = Callable[..., list[tuple[Any, ...]]]


def run(tmp_path: Path, program: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A process of its own: OpenTelemetry's global providers are set once a process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env={**os.environ, "ENTRENAR_LIVE": str(tmp_path / "live"), **env},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done


def counts(tmp_path: Path) -> dict[str, int]:
    table = Lake(tmp_path / "entrenar-lake", tmp_path / "live").query(
        "SELECT metric, count(*) AS n FROM metrics GROUP BY 1 ORDER BY 1"
    )
    return {row["metric"]: row["n"] for row in table.to_pylist()}


def test_what_is_ours(provider: WrappingMeterProvider) -> None:
    """Synchronous instruments whose names match, in any case; the rest is the SDK's own."""
    meter = provider.get_meter("m")
    ours = [
        meter.create_gauge("training.a"),
        meter.create_counter("Training.B"),
        meter.create_up_down_counter("training.c"),
        meter.create_histogram("training.d"),
    ]
    assert all(isinstance(one, Recorded) for one in ours)
    assert not provider.has_others
    theirs = [
        meter.create_gauge("http.a"),
        meter.create_counter("trainings"),
        meter.create_observable_gauge("training.e"),
        meter.create_observable_counter("training.f"),
        meter.create_observable_up_down_counter("training.g"),
    ]
    assert not any(isinstance(one, Recorded) for one in theirs)
    assert provider.has_others


def test_made_twice_it_is_the_same(provider: WrappingMeterProvider) -> None:
    meter = provider.get_meter("m", "1")
    assert provider.get_meter("m", "1") is meter
    assert provider.get_meter("m", "2") is not meter
    assert meter.create_gauge("training.a", "s") is meter.create_gauge("training.A", "s")
    assert meter.create_gauge("training.a", "ms") is not meter.create_gauge("training.a", "s")


def test_other_patterns(one: Kit, rows: Rows) -> None:
    """A user's names; outside of training. a metric keeps its full name."""
    provider = WrappingMeterProvider(patterns=["model.*", "training.loss"])
    one.monitor.adopt(provider)
    meter = provider.get_meter("m")
    meter.create_gauge("Model.Depth").set(3)
    meter.create_gauge("training.loss").set(0.5)
    meter.create_gauge("training.other").set(0.5)
    assert [row[:2] for row in rows()] == [("model.depth", 3.0), ("loss", 0.5)]
    for wrong in ("training.*", [""], [3]):
        with pytest.raises(ConfigError, match="expected patterns to be a list"):
            WrappingMeterProvider(patterns=wrong)  # type: ignore[arg-type]


def test_a_name_that_cannot_be(provider: WrappingMeterProvider) -> None:
    """The SDK refuses it, as it would without us."""
    for name in ("training.ä", "training.a b", "training." + "x" * 300):
        with pytest.raises(Exception, match="Expected ASCII string"):
            provider.get_meter("m").create_gauge(name)


def test_an_empty_meter_name(provider: WrappingMeterProvider, caplog: pytest.LogCaptureFixture) -> None:
    assert isinstance(provider.get_meter(""), NoOpMeter)
    assert "a meter's name must not be empty" in caplog.text


@pytest.mark.parametrize("bounds", [[3, 2, 1], ["a"], 5, [1.0, 1.0]])
def test_bounds_that_cannot_be(
    one: Kit, provider: WrappingMeterProvider, bounds: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Said, and the defaults are used."""
    made = provider.get_meter("m").create_histogram("training.h", explicit_bucket_boundaries_advisory=bounds)
    made.record(3.0)
    assert "to be rising numbers" in caplog.text
    assert one.points("training.h")[0].value == 1


@pytest.mark.parametrize(
    ("first", "second", "metrics", "told"),
    [
        (("gauge", "training.x", ""), ("counter", "training.x", ""), ["x", "x.counter"],
         "is two instruments"),
        (("gauge", "training.x", "s"), ("gauge", "training.x", "ms"), ["x", "x.gauge"],
         "is two instruments"),
        (("counter", "training.x", ""), ("counter", "training.x_total", ""), ["x", "x_total"],
         "'x' and 'x_total' are both training_x_total"),
        (("gauge", "training.x", ""), ("gauge", "training.run.state", ""), ["x", "user.run.state"],
         "training.run.state is the monitor's own instrument; yours is training.user.run.state"),
        (("gauge", "training.loss", ""), ("counter", "training.loss", ""), ["loss", "loss.counter"],
         "is two instruments"),
    ],
)  # fmt: skip
def test_names_that_clash(
    provider: WrappingMeterProvider,
    rows: Rows,
    first: Any,
    second: Any,
    metrics: list[str],
    told: str,
    caplog: Any,
) -> None:
    """Said once with both names; each keeps rows of its own."""
    meter = provider.get_meter("m")
    for _ in range(2):
        for value, (kind, name, unit) in ((1.0, first), (2.0, second)):
            made = getattr(meter, f"create_{kind}")(name, unit)
            (made.set if kind == "gauge" else made.add)(value)
    assert [row[:2] for row in rows()] == [(metrics[0], 1.0), (metrics[1], 2.0)] * 2
    assert caplog.text.count(told) == 1


def test_facade_names_that_clash(one: Kit, rows: Rows, caplog: pytest.LogCaptureFixture) -> None:
    """`eval/loss` and `eval_loss` are one instrument; the second is in the lake only."""
    one.monitor.log({"eval/loss": 1.0})
    one.monitor.log({"eval_loss": 2.0})
    assert [row[:2] for row in rows()] == [("eval/loss", 1.0), ("eval_loss", 2.0)]
    assert [tuple(p) for p in one.points("training.eval_loss")] == [({}, 1.0)]
    assert caplog.text.count("'eval/loss' and 'eval_loss' are both training_eval_loss") == 1


def test_asynchronous_instruments_reach_the_lake(
    one: Kit, provider: WrappingMeterProvider, rows: Rows
) -> None:
    """Each heartbeat is a sample of a gauge; of a total it is the change."""
    totals = iter([5, 5, 8, 8, 8])
    meter = provider.get_meter("m")
    meter.create_observable_gauge("training.warmth", [lambda _: [Observation(2.5, {"gpu": 0})]])
    meter.create_observable_counter("training.work", [lambda _: [Observation(next(totals))]])
    for _ in range(3):
        one.tick()
    assert [row[1:3] for row in rows("warmth")] == [(2.5, {"gpu": "0"})] * 3
    assert [row[1] for row in rows("work")] == [5.0, 3.0]
    assert [tuple(p) for p in one.points("training.work")] == [({}, 8.0)]


def test_proxies_and_a_second_run(tmp_path: Path) -> None:
    """Instruments made before `configure()` record, and go on with the next run."""
    run(tmp_path, """
        import entrenar_otel
        from opentelemetry import metrics
        early = metrics.get_meter("early").create_gauge("training.early")
        early.set(0)  # nobody is there yet
        one = entrenar_otel.configure(run_id="one", quiet=True)
        assert entrenar_otel.configure() is one and entrenar_otel.Monitor() is one
        late = metrics.get_meter("late").create_counter("training.late")
        early.set(1); late.add(1)
        one.close()
        with entrenar_otel.Monitor("two", quiet=True) as two:
            assert two is not one
            early.set(2); early.set(3); late.add(1)
        assert one.attempt == two.attempt == 1
    """)  # fmt: skip
    assert counts(tmp_path) == {"early": 3, "late": 2}
    lake = Lake(tmp_path / "entrenar-lake", tmp_path / "live")
    by_run = lake.query("SELECT run_id, count(*) n FROM metrics GROUP BY 1 ORDER BY 1").to_pylist()
    assert [(row["run_id"], row["n"]) for row in by_run] == [("one", 2), ("two", 3)]


@pytest.mark.parametrize("name", ["OTEL_SDK_DISABLED", "ENTRENAR_DISABLED"])
def test_disabled(tmp_path: Path, name: str) -> None:
    """Nothing is made, nothing is set, everything can be called."""
    done = run(tmp_path, """
        import entrenar_otel, os
        from opentelemetry import metrics
        with entrenar_otel.configure() as monitor:
            metrics.get_meter("m").create_gauge("training.loss").set(float("nan"))
            entrenar_otel.raise_if_stopped()
            with monitor.span("x"):
                monitor.event("y")
            assert monitor.flush() and monitor.traceparent is None and monitor.metrics_url is None
        assert type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"
        assert os.listdir() == []
    """, **{name: "true"})  # fmt: skip
    assert done.stderr == ""
