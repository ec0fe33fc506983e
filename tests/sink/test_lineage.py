"""Lineage through a sink: the graph is that of the runs' own lake, and what was withheld is said."""

from __future__ import annotations

from typing import Any

from entrenar_otel import Monitor
from entrenar_otel.lineage import Lineage
from entrenar_otel.testing import recorded_run


def test_the_same_graph(sink: Any, monkeypatch: Any, wait_until: Any) -> None:
    """Whatever the user's sampler of traces drops."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{sink.place}")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    made: list[tuple[str, str, float, list[Any], float]] = [
        ("r1", "1.0.0", 0.9, [], 0.1),
        ("r2", "1.1.0", 0.8, ["digits@1.0.0"], 0.5),
        ("r3", "1.2.0", 0.85, ["digits@1.1.0", "gone@1"], 0.5),
    ]
    for run_id, version, accuracy, parents, lr in made:
        given: dict[str, Any] = {"model_id": "digits", "version": version, "config": {"lr": lr}}
        monitor = Monitor(
            run_id, lake="near", quiet=True, settings_file=None, parents=parents, change="tune", **given
        ).start()
        monitor.log(accuracy=accuracy)
        assert recorded_run(monitor).version.wait(100)
        monitor.close()
    near = Lineage.open("near")
    wait_until(lambda: len(Lineage.open(sink.lake).graph.statements) == 3, every_seconds=0.5)
    far = Lineage.open(sink.lake)
    assert far.nodes() == near.nodes()
    assert far.edges() == near.edges()
    found, other = (one.find_regression_source("digits@1.2.0") for one in (near, far))
    assert found.source is not None
    assert other.source is not None
    assert [(one.name, one.a, one.b) for one in found.source.settings or ()] == [("lr", (0.1,), (0.5,))]
    assert (other.source.child, other.source.settings) == ("digits@1.1.0", None)
    assert "configuration: withheld: it leaves the machine of its run with ENTRENAR_OTLP_CONFIG=1" in str(
        other
    )
