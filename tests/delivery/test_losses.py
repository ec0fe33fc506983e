"""What was dropped is counted, exported and said: nothing that is lost is known to tests only."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from entrenar_processors import Samples, Series
from entrenar_processors.alert import Alert
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from entrenar_otel import Monitor, errors
from entrenar_otel.andon import AndonConfig
from entrenar_otel.delivery import outbox
from entrenar_otel.delivery.losses import Loss, Losses
from entrenar_otel.run import open_run as open_run_module
from entrenar_otel.testing import Kit, kit


def lost(one: Kit) -> dict[tuple[str, str], float]:
    """What an exporter sees of the losses, zeros left out."""
    points = one.points("entrenar.losses")
    return {(p.attributes["what"], p.attributes["who"]): p.value for p in points if p.value}


def lost_to(one: Kit, who: str) -> int:
    """What the run has counted for one receiver, without a beat of the heart."""
    return sum(n for loss, n in one.run.losses.snapshot() if loss.who == who)


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
        heartbeat = one.run.heartbeat
        for value in range(6):
            one.monitor.log(loss=float(value))
            heartbeat.tick()
            assert entered.wait(20)
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
    assert got == [0.5]
    assert caplog.text.count("consumer watch hangs: left behind after 0.2 s") == 1


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
    settings = tmp_path / "renacer.toml"
    settings.write_text(
        "[monitor.andon]\nmax_incidents = 4\n"
        '[[monitor.threshold]]\nname = "hot"\nmetric = "heat"\nmax = 1.0\naction = "notify"\n'
    )
    with kit(tmp_path / "kit", settings_file=settings) as one:
        for layer in range(3):
            one.monitor.log(heat=2.0, tags={"layer": layer})
            one.advance(1.0)
        assert lost(one) == {("incidents", "alert pipeline"): 2.0}


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
        monitor.log(loss=0.5, accuracy=math.pi / 4)
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
