"""Lineage through a Collector and a sink, each a process: the graph is that of the runs' own lake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.otlp_kills import Sink
from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.lineage import Lineage
from entrenar_otel.testing import recorded_run

from .process import Collector


def test_the_same_graph(
    make_collector: Callable[..., Collector],
    sink: Sink,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    """A merge of two versions, with what was changed on each link."""
    sink.start()
    one = make_collector("one", "all-in-one.yaml", SINK_ENDPOINT=f"127.0.0.1:{sink.port}").start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", one.endpoint)
    made: list[tuple[str, float, list[Any]]] = [
        ("1.0.0", 0.9, []),
        ("1.1.0", 0.8, ["digits@1.0.0"]),
        ("1.2.0", 0.85, ["digits@1.1.0", "digits@1.0.0"]),
    ]
    for version, accuracy, parents in made:
        about: dict[str, Any] = {"model_id": "digits", "version": version, "config": {"of": version}}
        monitor = Monitor(
            f"r{version}", lake=tmp_path / "near", settings_file=None, quiet=True, parents=parents, **about
        )
        monitor.start()
        for parent in parents:
            monitor.add_parent(parent, f"from {parent}")
        monitor.log(accuracy=accuracy)
        assert recorded_run(monitor).version.wait(100)
        monitor.close()
    far_lake = Lake(tmp_path / "sink-lake", tmp_path / "none")
    wait_until(lambda: len(Lineage.open(far_lake).graph.statements) == 3, every_seconds=0.5)
    near, far = Lineage.open(tmp_path / "near"), Lineage.open(far_lake)
    assert far.nodes() == near.nodes()
    assert far.edges() == near.edges()
    assert {(edge.parent_id, edge.child_id, edge.change_type) for edge in far.edges()} == {
        ("digits@1.0.0", "digits@1.1.0", "from digits@1.0.0"),
        ("digits@1.1.0", "digits@1.2.0", "from digits@1.1.0"),
        ("digits@1.0.0", "digits@1.2.0", "from digits@1.0.0"),
    }
    sources = [lineage.find_regression_source("digits@1.2.0").source for lineage in (near, far)]
    assert [source.child for source in sources if source] == ["digits@1.1.0", "digits@1.1.0"]
