"""wrap: a provider that was there before ours goes on seeing the whole run."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.metrics import NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource

import entrenar_otel
from entrenar_otel import ConfigError, Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.otel.metrics import provider as providers
from entrenar_otel.testing import open_run

Start = Callable[..., Monitor]
Points = Callable[..., dict[tuple[Any, ...], Any]]


class Theirs:
    """A user's provider, and what its reader finds."""

    def __init__(self, **options: Any) -> None:
        self.reader = InMemoryMetricReader(**options)
        resource = Resource({"service.name": "theirs", "team": "vision"})
        self.provider = MeterProvider([self.reader], resource=resource, shutdown_on_exit=False)

    def collect(self, monitor: Monitor | None = None) -> Any:
        if monitor is not None:
            beat(monitor)
        return self.reader.get_metrics_data()


def beat(monitor: Monitor) -> None:
    """A heartbeat, and what hangs on it."""
    run: Any = open_run(monitor)
    run.heartbeat.tick()
    for outbox in run.heartbeat.outboxes:
        assert outbox.worker.flush(10)


def use(meter: Any, rounds: int = 10) -> None:
    gauge = meter.create_gauge("training.accuracy")
    counter = meter.create_counter("training.tokens", "{token}")
    balance = meter.create_up_down_counter("training.queue", "{item}", "Items that wait")
    times = meter.create_histogram(
        "training.wait", "s", "A wait", explicit_bucket_boundaries_advisory=[0.1, 1.0, 10.0]
    )
    for i in range(rounds):
        at = {"epoch": 0, "batch": i}
        gauge.set(i / 8, {**at, "split": "train"})
        gauge.set(i / 4, {**at, "split": "validation"})
        counter.add(100, at)
        balance.add(1 if i % 3 else -1, {"gpu": 0})
        times.record(i / 2, at)


@pytest.mark.parametrize("by", ["before the run", "within the run"])
def test_their_reader_sees_the_run(
    start: Start, provider_of: Any, points: Points, metrics: Any, by: str
) -> None:
    """Every kind with its values, units and attributes, without coordinates; log's and our own too."""
    theirs = Theirs()
    if by == "before the run":
        monitor = Monitor("r", lake="lake", quiet=True, settings_file=None, interval_seconds=1e5)
        provider = provider_of(monitor, theirs.provider)
        monitor.start()
    else:
        monitor = start()
        provider = provider_of(monitor, theirs.provider)
    use(provider.get_meter("mine", "1.0"))
    monitor.log(by_log=2.5, step_duration=0.01, step=7)
    data = theirs.collect(monitor)
    assert points(data, "training.accuracy") == {
        (("split", "train"),): 9 / 8,
        (("split", "validation"),): 9 / 4,
    }
    assert points(data, "training.tokens") == {(): 1000}
    assert points(data, "training.queue") == {(("gpu", 0),): 2}
    histogram = points(data, "training.wait")[()]
    assert (histogram.count, histogram.sum, histogram.min, histogram.max) == (10, 22.5, 0.0, 4.5)
    assert (histogram.explicit_bounds, histogram.bucket_counts) == ((0.1, 1.0, 10.0), (1, 2, 7, 0))
    assert points(data, "training.by_log") == {(): 2.5}
    assert points(data, "training.step.duration")[()].count == 1
    assert points(data, "training.run.state") == {(): 1}
    assert points(data, "training.progress.step") == {(): 7}
    assert points(data, "entrenar.recorder.samples") == {(): 52}
    found = metrics(data)
    assert (found["training.queue"].unit, found["training.queue"].description) == (
        "{item}", "Items that wait",
    )  # fmt: skip
    assert found["training.tokens"].data.is_monotonic
    assert not found["training.queue"].data.is_monotonic
    attributes = dict(data.resource_metrics[0].resource.attributes)
    assert attributes["service.name"] == "theirs"
    assert (attributes["team"], attributes["training.run.id"]) == ("vision", "r")
    scopes = {scope.scope.name for scope in data.resource_metrics[0].scope_metrics}
    assert {"mine", "entrenar_otel"} <= scopes
    monitor.close()
    assert points(theirs.collect(), "training.run.state") == {(): 4}
    assert Lake("lake").query("SELECT count(*) FROM metrics").column(0)[0].as_py() == 52


def test_deltas_of_theirs(start: Start, provider_of: Any, points: Points) -> None:
    """Their reader's temporality is theirs: what it collected adds up to the run."""
    kinds = (Counter, UpDownCounter, Histogram, ObservableCounter, ObservableUpDownCounter)
    theirs = Theirs(preferred_temporality=dict.fromkeys(kinds, AggregationTemporality.DELTA))
    monitor = start()
    meter = provider_of(monitor, theirs.provider).get_meter("mine")
    tokens, waits = [], []
    for _ in range(4):
        use(meter, 5)
        data = theirs.collect(monitor)
        tokens.append(points(data, "training.tokens")[()])
        waits.append(points(data, "training.wait")[()].count)
    assert tokens == [500] * 4
    assert waits == [5] * 4
    monitor.close()


def test_their_exporter_hears_the_end(
    start: Start, provider_of: Any, keeper: Any, points: Points, wait_until: Any
) -> None:
    """A periodic reader of theirs goes on by itself, through the run and after it."""
    one = keeper()
    reader = PeriodicExportingMetricReader(one, export_interval_millis=20)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    monitor = start(interval_seconds=0.01)
    use(provider_of(monitor, provider).get_meter("mine"))
    wait_until(lambda: one.exports and points(one.exports[-1], "training.tokens") == {(): 1000})
    assert points(one.exports[-1], "training.run.state") == {(): 1}
    monitor.close()
    provider.shutdown()
    assert points(one.exports[-1], "training.run.state") == {(): 4}
    assert points(one.exports[-1], "training.wait")[()].count == 10


def test_flush_and_shutdown_are_theirs_too(
    start: Start, provider_of: Any, keeper: Any, points: Points
) -> None:
    """Whoever has only the wrapped provider can flush and end what is behind it."""
    one = keeper()
    reader = PeriodicExportingMetricReader(one, export_interval_millis=math.inf)
    monitor = start()
    wrapped = provider_of(monitor, MeterProvider([reader], shutdown_on_exit=False))
    use(wrapped.get_meter("mine"))
    wrapped.get_meter("mine").create_counter("requests").add(3)
    assert wrapped.force_flush()
    assert one.exports
    assert points(one.exports[-1], "requests") == {(): 3}
    assert points(one.exports[-1], "training.tokens") == {(): 1000}
    wrapped.shutdown()
    assert monitor.is_closed
    assert one.shutdowns == 1


def test_a_flush_waits_for_what_theirs_is_to_show(start: Start, provider_of: Any, points: Points) -> None:
    """It is told on a thread of its own: a flush that is done before would leave out the newest."""
    gate = threading.Event()
    gate.set()

    class Slow(MeterProvider):
        def get_meter(self, *args: Any, **kwargs: Any) -> Any:
            assert gate.wait(100)
            return super().get_meter(*args, **kwargs)

    reader = InMemoryMetricReader()
    monitor = start()
    wrapped = provider_of(monitor, Slow([reader], shutdown_on_exit=False))
    gate.clear()
    wrapped.get_meter("mine").create_counter("training.tokens").add(3)
    assert not monitor.flush(0.1)
    gate.set()
    assert wrapped.force_flush(100_000)
    assert points(reader.get_metrics_data(), "training.tokens") == {(): 3}


def test_what_is_not_training_is_theirs(start: Start, provider_of: Any, points: Points) -> None:
    """It goes to their provider as it is, and not into the lake."""
    theirs = Theirs()
    monitor = start()
    meter = provider_of(monitor, theirs.provider).get_meter("mine", "1.0", "https://schema", {"a": 1})
    meter.create_counter("requests").add(3, {"epoch": 1})
    meter.create_histogram("latency").record(5)
    meter.create_observable_gauge("memory", [lambda _: [Observation(5.5)]])
    data = theirs.collect(monitor)
    assert points(data, "requests") == {(("epoch", 1),): 3}
    assert points(data, "memory") == {(): 5.5}
    scopes = [one.scope for one in data.resource_metrics[0].scope_metrics if one.scope.name == "mine"]
    assert [(one.version, one.schema_url) for one in scopes] == [("1.0", "https://schema")]
    monitor.close()
    assert Lake("lake").query("SELECT count(*) FROM metrics").column(0)[0].as_py() == 0


def test_values_that_are_not_finite(start: Start, provider_of: Any, points: Points, caplog: Any) -> None:
    """They are in the lake and counted; the SDK, which refuses them, is not asked, nor does it complain."""
    theirs = Theirs()
    monitor = start()
    meter = provider_of(monitor, theirs.provider).get_meter("mine")
    gauge, times = meter.create_gauge("training.accuracy"), meter.create_histogram("training.wait")
    for value in (1.0, math.nan, math.inf):
        gauge.set(value)
        times.record(value)
    data = theirs.collect(monitor)
    assert points(data, "training.accuracy") == {}
    assert points(data, "training.wait")[()].count == 1
    assert points(data, "training.nonfinite") == {
        (("metric", "accuracy"),): 2,
        (("metric", "wait"),): 2,
    }
    gauge.set(2.0)
    assert points(theirs.collect(monitor), "training.accuracy") == {(): 2.0}
    monitor.close()
    assert [one.message for one in caplog.records if one.name != "entrenar_otel.alert"] == []


def test_a_second_run_takes_over(start: Start, provider_of: Any, points: Points) -> None:
    """Its values and its id are shown from then on; what only the first reported is not."""
    theirs = Theirs()
    first = start("first")
    provider = provider_of(first, theirs.provider)
    use(provider.get_meter("mine"))
    first.log(only_first=1)
    theirs.collect(first)
    first.close()
    second = Monitor("second", lake="lake", quiet=True, settings_file=None, interval_seconds=1e5)
    second.adopt(provider)
    second.start()
    use(provider.get_meter("mine"), 3)
    data = theirs.collect(second)
    assert points(data, "training.tokens") == {(): 1300}  # what was read must not fall
    assert points(data, "training.run.state") == {(): 1}
    assert points(data, "training.only_first") == {}
    assert data.resource_metrics[0].resource.attributes["training.run.id"] == "second"
    second.close()
    counts = Lake("lake").query("SELECT run_id, count(*) AS n FROM metrics GROUP BY 1 ORDER BY 1").to_pylist()
    assert counts == [{"run_id": "first", "n": 51}, {"run_id": "second", "n": 15}]


def test_their_collection_while_threads_log(start: Start, provider_of: Any, points: Points) -> None:
    """Nothing deadlocks, no total ever falls, and the last one is exact."""
    theirs = Theirs()
    monitor = start(interval_seconds=0.002)
    meter = provider_of(monitor, theirs.provider).get_meter("mine")
    counter, times = meter.create_counter("training.tokens"), meter.create_histogram("training.wait")

    def work() -> None:
        for _ in range(2000):
            counter.add(1)
            times.record(1.0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    totals: list[float] = []
    while any(thread.is_alive() for thread in threads):
        totals += points(theirs.collect(), "training.tokens").values()
    for thread in threads:
        thread.join()
    data = theirs.collect(monitor)
    assert totals == sorted(totals)
    assert points(data, "training.tokens") == {(): 16_000}
    assert points(data, "training.wait")[()].count == 16_000
    monitor.close()


def test_wrapping() -> None:
    """Twice is once; what makes no meters is no provider."""
    wrapped = providers.wrap(NoOpMeterProvider())
    assert providers.wrap(wrapped) is wrapped
    for wrong in (None, 7, "provider", object(), NoOpMeterProvider):  # the last is a class
        with pytest.raises(ConfigError, match="expected an OpenTelemetry MeterProvider, got"):
            entrenar_otel.wrap(wrong)  # type: ignore[arg-type]


def test_a_provider_that_is_not_the_sdks(start: Start, provider_of: Any) -> None:
    """Whatever implements the API can stand behind ours; nothing private of it is needed."""
    monitor = start()
    meter = provider_of(monitor, NoOpMeterProvider()).get_meter("mine")
    use(meter)
    meter.create_counter("requests").add(1)
    beat(monitor)
    monitor.close()
    assert Lake("lake").query("SELECT count(*) FROM metrics").column(0)[0].as_py() == 50
