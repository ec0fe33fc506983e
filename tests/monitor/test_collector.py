"""MetricsCollector, MonitorBuilder, and the protocols through which samples go out."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from entrenar_otel import (
    ConfigError,
    Metric,
    MetricRecord,
    MetricsCollector,
    MetricsEmitter,
    MetricsStore,
    Monitor,
    MonitorBuilder,
    configure,
    errors,
)
from entrenar_otel.lake import Lake
from entrenar_otel.testing import InMemoryEmitter, NoOpEmitter, strict


def test_collector_counts_and_keeps() -> None:
    """The specification's three methods, by enum or name, with tags and coordinates."""
    emitter = InMemoryEmitter()
    collector = MetricsCollector("r", emitter)
    before = datetime.now(UTC)
    collector.record(Metric.LOSS, 0.5, epoch=1, batch=2, step=3)
    collector.record("loss", 1)
    collector.record("loss", 4.0, tags={"split": "validation"})
    records = collector.to_records()
    assert [r[1:] for r in records] == [
        ("r", 1, 2, "loss", 0.5, {}, 3, 0, 1, 0),
        ("r", None, None, "loss", 1.0, {}, None, 0, 1, 1),
        ("r", None, None, "loss", 4.0, {"split": "validation"}, None, 0, 1, 2),
    ]
    assert before <= records[0].timestamp <= records[2].timestamp <= datetime.now(UTC)
    assert emitter.records == records
    summary = collector.summary()
    assert list(summary) == ["loss", 'loss{split="validation"}']
    assert (summary["loss"].count, summary["loss"].mean, summary["loss"].last) == (2, 0.75, 1.0)
    records.clear()
    assert len(collector.to_records()) == 3
    with pytest.raises(ValueError, match="could not convert"):
        collector.record("loss", "abc")  # type: ignore[arg-type]
    assert collector.summary()["loss"].count == 2


def test_who_implements_which_protocol() -> None:
    """Checked at run time, by everything that claims to, and by nothing that does not."""
    assert isinstance(Lake("lake"), MetricsStore)
    assert isinstance(NoOpEmitter(), MetricsEmitter)
    assert isinstance(InMemoryEmitter(), MetricsEmitter)
    assert not isinstance(MetricsCollector(), MetricsEmitter | MetricsStore)
    assert not isinstance(Lake("lake"), MetricsEmitter)


def test_noop_emitter_drops() -> None:
    """It takes everything and answers nothing."""
    emitter = NoOpEmitter()
    assert (emitter.emit(None), emitter.emit_batch([]), emitter.flush()) == (None, None, None)  # type: ignore


def test_lake_as_a_store_takes_what_a_monitor_gave(tmp_path: object) -> None:
    """write, query and range: records of one lake are the same records in another."""
    with Monitor("r", lake="lake", quiet=True) as monitor:
        monitor.log(loss=0.1, epoch=1)
        monitor.log(loss=float("-inf"), accuracy=0.2, batch=2, step=3, tags={"split": "validation"})
        records = monitor.to_records()
    store: MetricsStore = Lake("other")
    store.write(records)
    sql = "SELECT * FROM metrics ORDER BY seq, metric"
    assert store.query(sql).to_pylist() == monitor.query(sql).to_pylist()
    found = store.range(records[1].timestamp, datetime(2100, 1, 1, tzinfo=UTC))
    assert sorted(found["metric"].to_pylist()) == ["accuracy", "loss"]


def test_the_builder_makes_the_same_monitor() -> None:
    """Each method says what one keyword of Monitor says; build() raises what Monitor raises."""
    first, second = InMemoryEmitter(), InMemoryEmitter()
    builder = Monitor.builder()
    assert isinstance(builder, MonitorBuilder)
    chained = builder.run("r", quiet=True).model("digits", "1.2.3", {"lr": 0.1}).storage("lake")
    assert chained.emitter(first).emitter(second) is builder
    with builder.build() as monitor:
        monitor.log(loss=1.0)
    (run,) = Lake("lake").runs()
    assert (run.run_id, run.model_id, run.version, run.config) == ("r", "digits", "1.2.3", '{"lr": 0.1}')
    assert [r.value for r in first.records] == [r.value for r in second.records] == [1.0]
    with pytest.raises(ConfigError, match="expected resume to be one of"):
        Monitor.builder().run("r", resume="x").build()


def test_an_emitter_gets_every_sample_exactly_once() -> None:
    """From four threads, while somebody asks for sums, over many ticks and the close."""
    emitter = InMemoryEmitter()
    with Monitor("r", lake="lake", quiet=True, emitters=[emitter], interval_seconds=0.002) as monitor:

        def work(number: int) -> None:
            for i in range(1500):
                monitor.log(a=number, b=i, epoch=number)
                if i % 100 == 0:
                    monitor.summary("a")
                    monitor.sample_count("b")

        threads = [threading.Thread(target=work, args=[i]) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        monitor.summary()
        monitor.log(last=1)
    expected = Counter({(n, i): 1 for n in range(4) for i in range(1500)})
    assert Counter((r.epoch, r.value) for r in emitter.records if r.metric == "b") == expected
    assert emitter.flushes == 1

    def key(record: MetricRecord) -> tuple[int, str]:
        return record.seq, record.metric

    assert sorted(emitter.records, key=key) == sorted(monitor.to_records(), key=key)


class _Raising(NoOpEmitter):
    def emit_batch(self, records: Sequence[MetricRecord]) -> None:
        raise RuntimeError("no network")

    def flush(self) -> None:
        raise RuntimeError("no network")


def test_a_raising_emitter_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """It is warned of once and counted; the other emitters and the lake miss nothing."""
    errors.set_strict(False)
    errors.failures.clear()
    caplog.set_level(logging.WARNING)
    emitter = InMemoryEmitter()
    with Monitor(
        "r", lake="lake", quiet=True, emitters=[_Raising(), emitter], interval_seconds=0.01
    ) as monitor:
        for i in range(100):
            monitor.log(loss=i)
            time.sleep(0.0005)
    assert [r.value for r in emitter.records] == list(range(100)) == [r.value for r in monitor.to_records()]
    assert errors.failures["emitter _Raising"] >= 2
    assert [r.getMessage() for r in caplog.records] == [
        "monitoring failed in emitter _Raising (RuntimeError: no network); training goes on, further "
        "failures of this kind are only counted",
        "run r ended; dropped, refused or cut on the way: 100 samples (emitter _Raising) (docs/losses.md)",
    ]


def test_strict_mode_lets_failures_out() -> None:
    """Under the test kit the same failure raises, and what is nested puts the former mode back."""
    errors.set_strict(False)
    errors.failures.clear()
    with strict(), strict(), pytest.raises(RuntimeError, match="no network"), errors.guard("here"):
        _Raising().flush()
    with errors.guard("here"):
        _Raising().flush()
    assert errors.failures["here"] == 2


class _Hanging(NoOpEmitter):
    def __init__(self) -> None:
        self.go_on = threading.Event()

    def emit_batch(self, records: Sequence[MetricRecord]) -> None:
        self.go_on.wait()


def test_a_hanging_emitter_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    """The loop and close() leave it behind; the lake has everything when close() returns."""
    hanging = _Hanging()
    monitor = Monitor("r", lake="lake", quiet=True, emitters=[hanging], interval_seconds=0.01)
    try:
        monitor.log(a=0)
        time.sleep(0.1)
        for i in range(1, 100):
            monitor.log(a=i)
        assert monitor.summary("a").count == 100
        monitor.close()
        assert (
            "emitter _Hanging did not finish in time and was abandoned; all samples are in the lake"
            in caplog.text
        )
        assert list(monitor.lake.live.glob("*.seg")) == []
        assert [r.value for r in monitor.to_records()] == list(range(100))
        assert Lake("lake").runs()[0].state == "completed"
    finally:
        hanging.go_on.set()
        for thread in threading.enumerate():
            if thread.name == "emitter _Hanging":
                thread.join(10)


def test_what_is_measured(tmp_path: Path) -> None:
    """By the collector and by the Monitor: from one value on, nothing is inferred."""
    collector = MetricsCollector()
    with Monitor("r", lake=tmp_path / "lake", live=tmp_path / "live", quiet=True) as monitor:
        for one in (collector, monitor):
            one.record("loss", 1.0)
            one.record(Metric.LOSS, float("inf"), tags={"split": "validation"})
            one.record("lr", 1.0)
        monitor.flush()
        for asked in (collector, monitor):
            assert asked.MIN_SAMPLES == 1
            assert (asked.is_measured("loss"), asked.is_measured(Metric.ACCURACY)) == (True, False)
            counts = [asked.sample_count("loss"), asked.sample_count("other"), asked.sample_count()]
            assert counts == [2, 0, 3]
        assert monitor.sample_count(split="validation") == 1


def test_a_run_id_in_the_first_place(tmp_path: Path) -> None:
    """Of auto and configure too."""
    folders = {"lake": tmp_path / "lake", "live": tmp_path / "live", "quiet": True}
    with Monitor.auto("by-auto", **folders) as monitor:
        assert monitor.run_id == "by-auto"
    assert Monitor.auto("off", lake="nosuch://lake").run_id == "off"
    configured = configure("by-configure", **folders)
    assert configured.run_id == "by-configure"
    assert configure("by-configure") is configured
    configured.close()
