"""training_views: what a view keeps of every sample, and what becomes identity."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider

from entrenar_otel import ConfigError
from entrenar_otel.lake import Lake
from entrenar_otel.otel.metrics.exemplar_views import AllButCoordinates, SampleReservoir
from entrenar_otel.sdk import TrainingMetricReader, training_views

Make = Callable[..., MeterProvider]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a provider with views of these arguments, whose reader records into `lake`."""
    monkeypatch.setattr(SampleReservoir, "dropped", 0)

    def make_provider(*, patterns: Any = ("training.*",), **views: Any) -> MeterProvider:
        reader = TrainingMetricReader(
            run_id="r", lake="lake", quiet=True, settings_file=None, interval_seconds=1e5, patterns=patterns
        )
        return MeterProvider(
            metric_readers=[reader],
            views=training_views(patterns=patterns, **views),
            exemplar_filter=AlwaysOnExemplarFilter(),
            shutdown_on_exit=False,
        )

    return make_provider


def rows() -> list[tuple[Any, ...]]:
    sql = "SELECT value, tags, epoch, batch, step FROM metrics ORDER BY seq"
    found = Lake("lake").query(sql).to_pylist()
    return [(r["value"], dict(r["tags"]), r["epoch"], r["batch"], r["step"]) for r in found]


AT: dict[str, Any] = {"epoch": 1, "batch": 2, "step": 12, "split": "train", "host": "a"}


@pytest.mark.parametrize(
    ("keep", "tags"),
    [
        (None, {"split": "train", "host": "a"}),
        ({"split"}, {"split": "train"}),
        (["host", "split"], {"split": "train", "host": "a"}),
        ((), {}),
        ({"split", "epoch", "batch", "step"}, {"split": "train"}),
    ],
)
def test_what_is_identity(make: Make, keep: Any, tags: dict[str, str]) -> None:
    """What `keep` names, by default all; coordinates never are, and always arrive as coordinates."""
    provider = make(keep=keep)
    gauge = provider.get_meter("mine").create_gauge("training.accuracy")
    gauge.set(0.5, AT)
    gauge.set(0.25, {**AT, "epoch": 3, "batch": 4, "step": 34})
    provider.shutdown()
    assert rows() == [(0.5, tags, 1, 2, 12), (0.25, tags, 3, 4, 34)]


def test_coordinates_make_no_series(make: Make, keeper: Any) -> None:
    """5,000 steps are one series in the SDK, below its limit of 2,000, and 5,000 rows."""
    provider = make()
    gauge = provider.get_meter("mine").create_gauge("training.accuracy")
    for i in range(5000):
        gauge.set(i, {"epoch": i // 100, "batch": i % 100, "step": i})
    provider.shutdown()
    assert rows() == [(float(i), {}, i // 100, i % 100, i) for i in range(5000)]


def test_a_dictionary_that_is_used_again(make: Make) -> None:
    """Where each sample was taken is kept at that moment, not when it is collected."""
    provider = make()
    gauge = provider.get_meter("mine").create_gauge("training.accuracy")
    at: dict[str, Any] = {"split": "train"}
    for i in range(20):
        at["batch"] = i
        gauge.set(i, at)
    provider.shutdown()
    assert rows() == [(float(i), {"split": "train"}, None, i, None) for i in range(20)]


def test_more_samples_than_fit(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The rest until the next heartbeat is dropped, counted, and warned of once a process."""
    provider = make(max_samples=10)
    meter = provider.get_meter("mine")
    one, other = meter.create_gauge("training.accuracy"), meter.create_gauge("training.x")
    for i in range(25):
        one.set(i)
    for i in range(10):
        other.set(100 + i)
    provider.force_flush()
    for i in range(12):
        other.set(200 + i)
    provider.shutdown()
    values = sorted(row[0] for row in rows())
    assert values == [*range(10), *range(100, 110), *range(200, 210)]
    assert SampleReservoir.dropped == 17
    assert caplog.text.count("more than 10 samples of one series between two heartbeats") == 1
    assert "max_samples" in caplog.text


def test_other_patterns(make: Make) -> None:
    """They are as in a shell, and must be the reader's too."""
    provider = make(patterns=["model.*", "loss"])
    meter = provider.get_meter("mine")
    for i, name in enumerate(("model.loss", "loss", "training.loss", "losses")):
        gauge = meter.create_gauge(name)
        gauge.set(i, {"epoch": 1})
        gauge.set(i, {"epoch": 2})
    provider.shutdown()
    found = Lake("lake").query("SELECT metric, count(*) AS n FROM metrics GROUP BY metric ORDER BY metric")
    assert found.to_pylist() == [{"metric": "loss", "n": 2}, {"metric": "model.loss", "n": 2}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": "split"}, "expected keep to be a set of attribute names, got 'split'"),
        ({"keep": [1]}, r"expected keep to be a set of attribute names, got \[1\]"),
        ({"patterns": "training.*"}, "expected patterns to be a list"),
        ({"patterns": ()}, "expected patterns to be a list"),
        ({"max_samples": 0}, "expected max_samples to be a whole number from 1, got 0"),
        ({"max_samples": True}, "got True"),
        ({"max_samples": 1.5}, "got 1.5"),
    ],
)
def test_what_cannot_be(arguments: dict[str, Any], message: str) -> None:
    """It is said when the views are made."""
    with pytest.raises(ConfigError, match=message):
        training_views(**arguments)


def test_all_but_coordinates() -> None:
    """A set of all names."""
    names = AllButCoordinates()
    assert [name in names for name in ("epoch", "batch", "step", "split", "")] == [False] * 3 + [True] * 2


def test_a_reservoir_collects_each_sample_once() -> None:
    """From threads that offer, while others collect; in each thread's order."""
    reservoir = SampleReservoir(10**6)
    found: list[Any] = []
    done = threading.Event()

    def offer(number: int) -> None:
        for i in range(2000):
            reservoir.offer(i, i, {"thread": number, "held": 1}, None)

    def collect() -> None:
        while not done.is_set():
            found.extend(reservoir.collect({"held": 1}))

    collector = threading.Thread(target=collect)
    threads = [threading.Thread(target=offer, args=[i]) for i in range(8)]
    for thread in (collector, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    collector.join()
    found.extend(reservoir.collect(None))
    assert len(found) == 16_000
    for number in range(8):
        mine = [one.value for one in found if one.filtered_attributes.get("thread") == number]
        assert mine == list(range(2000))


def test_a_forked_child(run_script: Any) -> None:
    """It records nothing, exports nothing, says so once and keeps no memory; the parent misses nothing."""
    done = run_script(
        """
        import warnings
        warnings.simplefilter("ignore")
        from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExporter, MetricExportResult
        from entrenar_otel.lake import Lake
        from entrenar_otel.otel.metrics.exemplar_views import SampleReservoir
        from entrenar_otel.sdk import TrainingMetricReader, training_views

        class Exporter(MetricExporter):
            def export(self, *args, **kwargs):
                open("exports", "a").write(f"{os.getpid()}\\n")
                return MetricExportResult.SUCCESS
            def force_flush(self, *args): return True
            def shutdown(self, *args, **kwargs): pass

        reader = TrainingMetricReader(run_id="r", quiet=True, exporters=[Exporter()], interval_seconds=0.01)
        provider = MeterProvider(
            metric_readers=[reader],
            views=training_views(max_samples=100),
            exemplar_filter=AlwaysOnExemplarFilter(),
        )
        gauge = provider.get_meter("mine").create_gauge("training.accuracy")
        gauge.set(1.0)
        provider.force_flush()
        children = []
        for _ in range(3):
            pid = os.fork()
            if not pid:
                for i in range(300):
                    gauge.set(-1.0)
                    reader.monitor.log(by_log=-1.0)
                provider.force_flush()
                provider.shutdown()
                provider.force_flush()
                os._exit(0 if SampleReservoir.dropped == 0 else 3)
            children.append(pid)
        gauge.set(2.0)
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        gauge.set(3.0)
        provider.shutdown()
        values = Lake("lake").query("SELECT value FROM metrics ORDER BY seq").column(0).to_pylist()
        say([codes, values, sorted(set(open("exports").read().split())) == [str(os.getpid())]])
        """
    )
    assert done.stdout.strip() == "[[0, 0, 0], [1.0, 2.0, 3.0], true]"
    assert done.stderr.count("entrenar_otel this process is a worker of process ") == 3
    assert done.stderr.count("entrenar_otel") == 3
