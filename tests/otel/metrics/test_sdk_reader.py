"""TrainingMetricReader on a provider that a user builds with the SDK."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.metrics import Observation
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider

from entrenar_otel import Monitor, errors
from entrenar_otel.lake import Lake
from entrenar_otel.run import lifetime
from entrenar_otel.sdk import TrainingMetricReader, training_views
from entrenar_otel.testing import recorded_run

Make = Callable[..., tuple[MeterProvider, TrainingMetricReader]]


def make_provider(
    run_id: str = "r", *, bare: bool = False, views: dict[str, Any] | None = None, **settings: Any
) -> tuple[MeterProvider, TrainingMetricReader]:
    """A provider as the documentation shows it; `bare` leaves views and filter out."""
    given = {"lake": "lake", "quiet": True, "settings_file": None, "interval_seconds": 1e5, **settings}
    reader = TrainingMetricReader(run_id=run_id, **given)
    more: Any = {}
    if not bare:
        more = {"views": training_views(**(views or {})), "exemplar_filter": AlwaysOnExemplarFilter()}
    return MeterProvider(metric_readers=[reader], shutdown_on_exit=False, **more), reader


@pytest.fixture
def make() -> Make:
    """Makes a provider and its reader."""
    return make_provider


def rows(run_id: str = "r", where: str = "true") -> list[tuple[Any, ...]]:
    """Metric, value, tags, epoch, batch, step of a run in the lake, sorted."""
    sql = f"SELECT metric, value, tags, epoch, batch, step FROM metrics WHERE {where}"
    found = Lake("lake").query(sql, run_id=run_id).to_pylist()
    flat = [(r["metric"], r["value"], str(sorted(r["tags"])), *list(r.values())[3:]) for r in found]
    return sorted(flat, key=str)


def count(run_id: str = "r", where: str = "true") -> int:
    sql = f"SELECT count(*) FROM metrics WHERE {where}"
    return int(Lake("lake").query(sql, run_id=run_id).column(0)[0].as_py())


def test_every_sample_of_every_kind(make: Make) -> None:
    """Gauges, counters, up-down counters, histograms: value by value, with coordinates and tags."""
    provider, reader = make()
    meter = provider.get_meter("mine", "1.0")
    loss, tokens = meter.create_gauge("training.loss"), meter.create_counter("training.tokens", "{token}")
    queue = meter.create_up_down_counter("training.queue")
    times = meter.create_histogram("training.step.duration", "s")
    for i in range(5):
        at = {"epoch": 1, "batch": i, "step": 10 + i}
        loss.set(i / 4, {**at, "split": "train"})
        tokens.add(100 + i, at)
        queue.add(1 - 2 * (i % 2), {"name": "gpu"})
        times.record(0.5 * i, at)
        if i == 2:
            assert provider.force_flush()
    loss.set(9.0)
    provider.shutdown()
    at_ = [(1, i, 10 + i) for i in range(5)]
    assert rows() == sorted(
        [
            *(("loss", i / 4, "[('split', 'train')]", *at_[i]) for i in range(5)),
            ("loss", 9.0, "[]", None, None, None),
            *(("tokens", 100.0 + i, "[]", *at_[i]) for i in range(5)),
            *(("queue", 1.0 - 2 * (i % 2), "[('name', 'gpu')]", None, None, None) for i in range(5)),
            *(("step_duration", 0.5 * i, "[]", *at_[i]) for i in range(5)),
        ],
        key=str,
    )
    assert reader.monitor.is_closed
    assert Lake("lake").runs()[0].state == "completed"


def test_three_ways_in_one_lake(make: Make, start: Any, provider_of: Any) -> None:
    """`log`, a plain meter of ours, a plain meter of the user's own provider: the same rows."""

    def by_meter(provider: Any) -> None:
        meter = provider.get_meter("mine")
        gauges = {name: meter.create_gauge(f"training.{name}") for name in ("loss", "accuracy", "x.y")}
        tokens = meter.create_counter("training.tokens", "{token}")
        waits = meter.create_histogram("training.data_wait.duration", "s")
        for i in range(30):
            at = {"epoch": i // 10, "batch": i % 10, "step": i}
            for gauge in gauges.values():
                gauge.set(i / 8, {**at, "split": "train" if i % 2 else "validation"})
            tokens.add(64 + i, at)
            waits.record(i / 16, at)

    by_log = start("by log")
    for i in range(30):
        at = {"epoch": i // 10, "batch": i % 10, "step": i}
        tags = {"split": "train" if i % 2 else "validation"}
        by_log.log({"loss": i / 8, "accuracy": i / 8, "x.y": i / 8}, tags=tags, **at)
        by_log.log(tokens=64 + i, data_wait=i / 16, **at)
    by_log.close()
    ours = start("by our provider")
    by_meter(provider_of(ours))
    ours.close()
    theirs, _reader = make("by their provider")
    by_meter(theirs)
    theirs.shutdown()
    expected = rows("by log")
    assert len(expected) == 150
    assert rows("by our provider") == expected
    assert rows("by their provider") == expected


def test_what_was_measured_just_before_the_end_is_there(make: Make) -> None:
    """What takes longer than a heartbeat waits: the end of the run is the last chance there is."""
    provider, reader = make()
    gauge = provider.get_meter("mine").create_gauge("training.accuracy")
    for i in range(30_000):
        gauge.set(i)
    provider.shutdown()
    assert count() == 30_000
    assert reader.monitor.dropped == 0


def test_force_flush_is_over_when_all_is_recorded(make: Make) -> None:
    """True says so: a query after it sees everything."""
    provider, reader = make()
    gauge = provider.get_meter("mine").create_gauge("training.accuracy")
    for i in range(90_000):
        gauge.set(i)
    assert provider.force_flush(30_000)
    assert reader.monitor.sample_count("accuracy") == 90_000
    provider.shutdown()
    assert count() == 90_000


def test_sixteen_threads(make: Make) -> None:
    """Every sample once, while the heart beats and somebody flushes."""
    provider, reader = make(interval_seconds=0.01)
    meter = provider.get_meter("mine")
    gauge, counter = meter.create_gauge("training.accuracy"), meter.create_counter("training.samples")

    def work(number: int) -> None:
        for i in range(1000):
            gauge.set(i, {"thread": str(number), "step": i})
            counter.add(1)
            if i % 250 == 0:
                provider.force_flush()

    threads = [threading.Thread(target=work, args=[i]) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    provider.shutdown()
    sql = "SELECT tags['thread'] AS t, count(*) AS n, count(DISTINCT step) AS d, sum(value) AS s FROM metrics"
    found = Lake("lake").query(f"{sql} WHERE metric = 'accuracy' GROUP BY t").to_pylist()
    assert len(found) == 16
    assert {(r["n"], r["d"], r["s"]) for r in found} == {(1000, 1000, 499_500.0)}
    assert count(where="metric = 'samples' AND value = 1") == 16_000
    assert reader.monitor.dropped == 0


def test_flush_and_shutdown_never_raise(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Twice, in any order, before and after the end, and where monitoring itself fails."""
    provider, reader = make()
    gauge = provider.get_meter("mine").create_gauge("training.accuracy")
    gauge.set(1.0)
    assert provider.force_flush()
    assert provider.force_flush(1)  # in a millisecond or not
    reader.shutdown()
    reader.shutdown()
    assert reader.force_flush()
    gauge.set(2.0)
    provider.shutdown()
    provider.shutdown()
    assert provider.force_flush()
    assert [row[1] for row in rows()] == [1.0]
    assert not [record for record in caplog.records if record.name == "entrenar_otel"]


def test_a_failure_of_ours_does_not_reach_the_provider(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken recorder, say: force_flush and shutdown return."""
    errors.set_strict(False)
    provider, reader = make()
    gauge = provider.get_meter("mine").create_gauge("training.accuracy")
    gauge.set(1.0)
    monkeypatch.setattr(recorded_run(reader.monitor).recorder, "record_one", lambda *a, **k: 1 / 0)
    provider.force_flush()
    provider.shutdown()
    assert errors.failures["samples from the SDK"]


def test_without_exemplars_it_is_said_once(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What to do about it; of each series the last value between two heartbeats is kept."""
    provider, _reader = make(bare=True)
    meter = provider.get_meter("mine")
    gauge, counter = meter.create_gauge("training.accuracy"), meter.create_counter("training.samples")
    for i in range(3):
        for j in range(4):
            gauge.set(10 * i + j)
            counter.add(1)
        provider.force_flush()
    provider.force_flush()
    provider.shutdown()
    told = [r.getMessage() for r in caplog.records if r.name == "entrenar_otel"]
    assert len(told) == 1
    assert "exemplar_filter=AlwaysOnExemplarFilter()" in told[0]
    assert [row[1] for row in rows(where="metric = 'accuracy'")] == [13.0, 23.0, 3.0]
    assert [row[1] for row in rows(where="metric = 'samples'")] == [4.0, 4.0, 4.0]


def test_other_instruments_reach_our_exporters(make: Make, keeper: Any, points: Any, metrics: Any) -> None:
    """Those that are no `training.*` go on as they are; the run's own are beside them."""
    one = keeper()
    provider, _reader = make(exporters=[one])
    meter = provider.get_meter("mine")
    meter.create_counter("requests", "{request}").add(3, {"path": "/"})
    meter.create_observable_gauge("memory", [lambda _: [Observation(5.5)]], "By")
    meter.create_gauge("training.accuracy").set(0.5, {"epoch": 1})
    provider.force_flush()
    data = one.exports[-1]
    assert points(data, "requests") == {(("path", "/"),): 3}
    assert points(data, "memory") == {(): 5.5}
    assert metrics(data)["memory"].unit == "By"
    assert points(data, "training.accuracy") == {(): 0.5}
    provider.shutdown()
    assert points(one.exports[-1], "training.run.state") == {(): 4}
    assert {row[0] for row in rows()} == {"accuracy"}


def test_asynchronous_training_instruments(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Each observation is a row of the lake; of totals it is the change."""
    provider, _reader = make()
    values, totals = iter([5, 5, 8]), iter([10.0, 30.0, 30.0, 31.0])
    meter = provider.get_meter("mine")
    meter.create_observable_gauge(
        "training.temperature", [lambda _: [Observation(next(values, 9), {"gpu": 0})]]
    )
    meter.create_observable_counter("training.energy", [lambda _: [Observation(next(totals, 31.0))]])
    for _ in range(3):
        provider.force_flush()
    provider.shutdown()
    assert [row[1] for row in rows(where="metric = 'energy'")] == [1.0, 10.0, 20.0]
    temperatures = rows(where="metric = 'temperature'")
    assert [row[1:3] for row in temperatures] == [(v, "[('gpu', '0')]") for v in (5.0, 5.0, 8.0, 9.0)]
    assert not [record for record in caplog.records if record.name == "entrenar_otel"]


def test_a_callback_that_hangs(make: Make, wait_until: Any) -> None:
    """The heart goes on to beat, what is in the lake stays current, and the end comes in time."""
    provider, reader = make(interval_seconds=0.01)
    gate, hangs = threading.Event(), threading.Event()
    meter = provider.get_meter("mine")
    gauge = meter.create_gauge("training.accuracy")
    gauge.set(1.0)
    wait_until(lambda: count() == 1)

    def callback(_options: Any) -> Any:
        hangs.set()
        gate.wait()
        return [Observation(1)]

    try:
        meter.create_observable_gauge("slow", [callback])
        assert hangs.wait(20)
        reader.monitor.log(by_log=2.0)  # this way in is still open
        wait_until(lambda: count(where="metric = 'by_log'") == 1)
        provider.force_flush(500)
        provider.shutdown()
        assert Lake("lake").runs()[0].state == "completed"
        assert count() == 2
    finally:
        gate.set()


def test_a_callback_that_raises(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """Costs nobody else anything."""
    caplog.set_level(logging.CRITICAL, "opentelemetry")
    provider, _reader = make()
    meter = provider.get_meter("mine")

    def broken(_options: Any) -> Any:
        raise ZeroDivisionError

    meter.create_observable_gauge("broken", [broken])
    gauge = meter.create_gauge("training.accuracy")
    for i in range(3):
        gauge.set(i)
        provider.force_flush()
    provider.shutdown()
    assert [row[1] for row in rows()] == [0.0, 1.0, 2.0]


def test_a_run_that_ends_before_its_provider(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """What is set afterwards goes nowhere, and nothing fails."""
    provider, reader = make(views={"max_samples": 50})
    gauge = provider.get_meter("mine").create_gauge("training.accuracy")
    gauge.set(1.0)
    reader.monitor.close()
    for i in range(20):
        gauge.set(i)
    provider.force_flush()
    provider.shutdown()
    assert [row[1] for row in rows()] == [1.0]
    assert not [record for record in caplog.records if record.name == "entrenar_otel"]


def test_disabled(make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is recorded, nothing is kept, nothing is said; the provider works as before."""
    monkeypatch.setenv("ENTRENAR_DISABLED", "1")
    provider, reader = make(views={"max_samples": 50})
    gauge = provider.get_meter("mine").create_gauge("training.accuracy")
    for i in range(200):
        gauge.set(i)
    assert provider.force_flush()
    provider.shutdown()
    assert not reader.monitor.enabled
    assert not Lake("lake").runs()
    assert caplog.text == ""


def test_settings_are_those_of_a_monitor(make: Make) -> None:
    """And what cannot be raises as there, before there is a run."""
    with pytest.raises(errors.ConfigError, match="interval_seconds"):
        make(interval_seconds=0)
    got: list[Any] = []
    provider, reader = make(model_id="digits", consumers=[got.append])
    assert lifetime.latest() is reader.monitor
    assert isinstance(reader.monitor, Monitor)
    provider.get_meter("mine").create_gauge("training.accuracy").set(0.5)
    provider.shutdown()
    assert [str(series) for samples in got for series in samples.series] == ["accuracy"]
    assert Lake("lake").runs()[0].model_id == "digits"
