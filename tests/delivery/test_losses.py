"""What was dropped is counted, exported and said: nothing that is lost is known to tests only."""

from __future__ import annotations

import errno
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from entrenar_processors import Samples, Series
from entrenar_processors.alert import Alert
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from entrenar_otel import Monitor, errors
from entrenar_otel.andon import AndonConfig, andon
from entrenar_otel.andon.judging import numerical_warnings
from entrenar_otel.delivery import outbox
from entrenar_otel.delivery.losses import Loss, Losses
from entrenar_otel.handlers import Alertmanager, alertmanager
from entrenar_otel.otel.traces import span_events
from entrenar_otel.recording.segment import Segment
from entrenar_otel.run import open_run as open_run_module
from entrenar_otel.sdk import TrainingMetricReader, training_views
from entrenar_otel.testing import Kit, kit, open_run


def lost(one: Kit) -> dict[tuple[str, str], float]:
    """What an exporter sees of the losses, zeros left out."""
    found = {(p.attributes["what"], p.attributes["who"]): p.value for p in one.points("entrenar.losses")}
    return {of: count for of, count in found.items() if count}


def lost_to(one: Kit, who: str) -> int:
    """What the run has counted for one receiver, without a beat of the heart."""
    return sum(n for loss, n in one.run.losses.snapshot() if loss.who == who)


def hot(folder: Path, limits: str = "") -> Path:
    """Settings in which every series of `heat` above 1 is an alert of its own."""
    settings = folder / "renacer.toml"
    settings.write_text(
        f'{limits}\n[[monitor.threshold]]\nname = "hot"\nmetric = "heat"\nmax = 1.0\naction = "notify"\n'
    )
    return settings


def heat(one: Kit, count: int) -> None:
    """One alert per tick, each of a series of its own."""
    for layer in range(count):
        one.monitor.log(heat=2.0, tags={"layer": layer})
        one.advance(1.0)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def test_every_loss_starts_at_zero(tmp_path: Path) -> None:
    """Prometheus does not see an increase from nothing."""

    def watch(_samples: Any) -> None: ...

    def tell(_alert: Alert) -> None: ...

    with kit(tmp_path, consumers=[watch], alerting=AndonConfig(handlers=[tell])) as one:
        points = one.points("entrenar.losses")
    assert {(p.attributes["what"], p.attributes["who"]): p.value for p in points} == {
        ("alerts", "loop"): 0,
        ("findings", "events"): 0,
        ("findings", "shared alert"): 0,
        ("findings", "shared rule"): 0,
        ("findings", "training.anomalies"): 0,
        ("incidents", "alert pipeline"): 0,
        ("notes", "journal"): 0,
        ("notes cut", "journal"): 0,
        ("notices", "handler InMemoryHandler"): 0,
        ("notices", "handler log"): 0,
        ("notices", "handler tell"): 0,
        ("samples", "consumer watch"): 0,
        ("samples", "emitter InMemoryEmitter"): 0,
        ("samples", "lake"): 0,
        ("samples", "training_views"): 0,
        ("span events", "training.run"): 0,
        ("values", "recorder (refused)"): 0,
        ("warnings", "alert pipeline"): 0,
    }


def test_what_a_slow_consumer_misses(
    tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted in samples, exported, warned of once, and named at the end of the run."""
    monkeypatch.setattr(outbox, "MAX_WAITING_VALUES", 2)
    entered = threading.Event()

    def slow(_samples: Any) -> None:
        entered.set()
        gate.wait()

    with kit(tmp_path, consumers=[slow]) as one:
        boxes = one.run.heartbeat.outboxes
        for value in range(6):
            one.monitor.log(loss=float(value))
            one.run.heartbeat.tick()
            assert all([entered.wait(20), *(box.flush(20) for box in boxes if box.name != "consumer slow")])
        assert dict(one.run.losses.snapshot())[Loss("samples", "consumer slow")] == 3
        gate.set()
        assert lost(one) == {("samples", "consumer slow"): 3.0}
    assert caplog.text.count("consumer slow is too slow") == 1
    assert "run kit ended; dropped, refused or cut on the way: 3 samples (consumer slow)" in caplog.text


def test_one_consumer_of_two_that_hang_by_the_same_name(
    tmp_path: Path, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """What is said is said of the one that hangs: the other has everything."""
    got: list[float] = []

    def make(waits: bool) -> Callable[[Samples], None]:
        def watch(samples: Samples) -> None:
            if waits:
                gate.wait()
            got.extend(samples.column(Series("loss")).values.tolist())

        return watch

    with kit(tmp_path, consumers=[make(True), make(False)]) as one:
        one.monitor.log(loss=0.5)
        one.run.heartbeat.tick()
        one.run.heartbeat.empty_outboxes(0.2)
        assert lost_to(one, "consumer watch") == 1
        assert caplog.text.count("consumer watch did not finish in time") == 1
    assert got == [0.5]


def test_receivers_have_their_threads_from_the_start(tmp_path: Path) -> None:
    """From Python 3.12 on none can be started at exit, and without a thread there is no deadline."""

    def watch(_samples: Samples) -> None: ...

    def tell(_alert: Alert) -> None: ...

    with kit(tmp_path, consumers=[watch], alerting=AndonConfig(handlers=[tell])):
        running = {thread.name for thread in threading.enumerate()}
    assert {"consumer watch", "handler tell"} <= running


def test_spans_that_an_exporter_did_not_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each failed export is counted under the exporter's name, and its spans are lost to it."""

    class Failing(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            raise ConnectionError("nobody there")

        def shutdown(self) -> None: ...

    monkeypatch.setattr(open_run_module, "span_exporters", lambda _environ: [Failing()])
    with kit(tmp_path) as one:
        with one.monitor.span("evaluate"):
            pass
        assert one.run.spans.flush(20)
        assert lost(one) == {("spans", "Failing"): 2.0}  # training.run.started is the other
        failed = {p.attributes["exporter"]: p.value for p in one.points("entrenar.export.failures")}
        assert failed["Failing"] >= 1
    assert caplog.text.count("Failing could not export spans") == 1
    assert "3 spans (Failing)" in caplog.text  # with training.run itself


def test_values_that_were_refused(tmp_path: Path) -> None:
    """A word for a number, an epoch below zero: counted where everything else that is missing is counted."""
    with kit(tmp_path) as one:
        one.monitor.log(loss="high", accuracy=0.5, epoch=-1)
        assert lost(one) == {("values", "recorder (refused)"): 2.0}


def test_notes_that_were_cut(tmp_path: Path) -> None:
    """An event with a text of a megabyte is kept, shortened."""
    with kit(tmp_path) as one:
        one.monitor.event("large", {"text": "x" * 1_000_000})
        assert lost(one) == {("notes cut", "journal"): 1.0}


def test_incidents_beyond_the_limit(tmp_path: Path) -> None:
    """The first of a name have their incident; of the rest it is known that they have none."""
    settings = hot(tmp_path, "[monitor.andon]\nmax_incidents = 4")
    with kit(tmp_path / "kit", settings_file=settings) as one:
        heat(one, 3)
        assert lost(one) == {("incidents", "alert pipeline"): 2.0}


def test_notices_for_a_handler_that_hangs(tmp_path: Path, gate: threading.Event) -> None:
    """Counted when it is left behind: the one that it hangs with, and those behind it."""
    entered = threading.Event()

    def tell(_alert: Alert) -> None:
        entered.set()
        gate.wait()

    alerting = AndonConfig(handlers=[tell])
    with kit(tmp_path / "kit", settings_file=hot(tmp_path), alerting=alerting) as one:
        heat(one, 3)
        assert entered.wait(20)
        assert one.run.pipeline is not None
        assert one.run.pipeline.deliveries.close(0.2) == ["tell"]
        assert lost(one) == {("notices", "handler tell"): 3.0}


def test_alerts_that_alertmanager_forgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond its limit the oldest that fire are not posted again."""
    monkeypatch.setattr(alertmanager, "MAX_ACTIVE", 2)
    handler = Alertmanager("http://127.0.0.1:9", timeout_seconds=0.1, deadline_seconds=0.1)
    alerting = AndonConfig(handlers=[handler])
    with kit(tmp_path / "kit", settings_file=hot(tmp_path), alerting=alerting) as one:
        heat(one, 5)
        assert one.flush_handlers()
        assert lost(one) == {("alerts", "handler alertmanager"): 3.0}
    assert caplog.text.count("more than 2 alerts fire: the oldest are not kept alive") == 1


def test_alerts_for_a_loop_that_does_not_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait for its next `log`, up to a limit; all were told by then."""
    monkeypatch.setattr(andon, "_MAX_PENDING", 2)
    told: list[Alert] = []
    with kit(tmp_path / "kit", settings_file=hot(tmp_path)) as one:
        one.monitor.on("alert", told.append)
        for layer in range(5):  # at once: no log comes between the alerts
            one.monitor.log(heat=2.0, tags={"layer": layer})
        one.advance(1.0)
        assert lost(one) == {("alerts", "loop"): 3.0}
        one.monitor.log(other=1.0)
        assert len(told) == 2
        assert len(one.alerts) == 5


def test_numerical_warnings_between_two_ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest are judged; all are events."""
    monkeypatch.setattr(numerical_warnings, "MAX_WAITING", 2)
    monkeypatch.setattr(warnings, "showwarning", lambda *_: None)  # pytest's would show them
    with kit(tmp_path) as one, warnings.catch_warnings():
        warnings.simplefilter("always")
        for line in range(5):
            warnings.warn_explicit("overflow encountered in exp", RuntimeWarning, "model.py", line)
        assert lost(one) == {("warnings", "alert pipeline"): 3.0}


def test_events_that_wait_for_their_span(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The span has the newest, the lake has all."""
    monkeypatch.setattr(span_events, "MAX_WAITING", 3)
    monkeypatch.setattr(open_run_module, "record_environment", lambda _spans: None)  # comes when it comes
    with kit(tmp_path) as one:
        for number in range(5):
            one.monitor.event("tick", {"number": number})
        assert lost(one) == {("span events", "training.run"): 3.0}  # training.run.started is the first
        assert len(one.monitor.query("SELECT * FROM events WHERE name = 'tick'")) == 5


def test_a_disk_that_is_full(
    tmp_path: Path,
    segment_size: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Samples and notes that found no room; a full disk is said once, and at the end how much it cost."""
    segment_size(1 << 16)

    def create(*_arguments: Any, **_settings: Any) -> Segment:
        raise OSError(errno.ENOSPC, "No space left on device")

    with kit(tmp_path) as one:
        monkeypatch.setattr(Segment, "create", create)
        count = 0
        while not one.monitor.dropped:
            one.monitor.log(loss=0.5)
            count += 1
        one.monitor.log(loss=0.5)
        one.monitor.event("late", {"text": "x" * 200})
        counted = lost(one)
        assert counted["samples", "lake"] == one.monitor.dropped == 2.0
        assert counted["notes", "journal"] >= 1.0
    assert caplog.text.count("no room for the next segment") == 1
    assert "2 samples (lake)" in caplog.text


def test_samples_of_a_provider_of_ones_own(caplog: pytest.LogCaptureFixture) -> None:
    """More of one series than its view keeps between two heartbeats."""
    reader = TrainingMetricReader(lake="lake", quiet=True, settings_file=None, interval_seconds=1e5)
    provider = MeterProvider(
        metric_readers=[reader],
        views=training_views(max_samples=10),
        exemplar_filter=AlwaysOnExemplarFilter(),
        shutdown_on_exit=False,
    )
    gauge = provider.get_meter("mine").create_gauge("training.accuracy")
    gauge.set(0.5)
    provider.force_flush()
    run = open_run(reader.monitor)
    before = dict(run.losses.snapshot())[Loss("samples", "training_views")]
    for _ in range(14):
        gauge.set(0.5)
    assert dict(run.losses.snapshot())[Loss("samples", "training_views")] == before + 4
    provider.shutdown()
    assert f"{before + 4} samples (training_views)" in caplog.text


def test_failures_inside_monitoring_are_exported(tmp_path: Path) -> None:
    """By the place of the guard that they passed."""

    def broken(_samples: Any) -> None:
        raise RuntimeError("broken")

    errors.failures.clear()
    with kit(tmp_path, consumers=[broken]) as one:
        errors.set_strict(False)
        one.monitor.log(loss=0.5)
        one.tick()
        found = {p.attributes["place"]: p.value for p in one.points("entrenar.failures")}
        assert found == {"consumer broken": 1.0}


def test_a_run_without_losses_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No line at the end that everybody learns to skip."""
    caplog.set_level(logging.WARNING)
    with Monitor("clean", lake=tmp_path / "lake", quiet=True, settings_file=None) as monitor:
        monitor.log(loss=0.5)
    assert [record.getMessage() for record in caplog.records] == []


def test_counts_of_several_threads() -> None:
    """None is lost while losses are counted."""
    losses = Losses()
    count = losses.counter("spans", "x")
    threads = [threading.Thread(target=lambda: [count(1) for _ in range(2000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert losses.text() == "16,000 spans (x)"
