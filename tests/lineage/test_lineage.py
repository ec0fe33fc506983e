"""Lineage: the graph of a lake's versions, what it refuses, and what it says of what is odd."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from entrenar_processors.extras import MissingExtra

from entrenar_otel import Monitor
from entrenar_otel.errors import LineageError
from entrenar_otel.identity.process import new_process_name
from entrenar_otel.lake import Lake
from entrenar_otel.lake.store.catalog import run_folder
from entrenar_otel.lake.tables.schema import LINEAGE
from entrenar_otel.lineage import Lineage
from entrenar_otel.testing import recorded_run

Start = Callable[..., Monitor]


@pytest.fixture
def lineage() -> Lineage:
    return Lineage.open("lake")


@pytest.fixture
def make(start: Start) -> Callable[..., None]:
    """Trains a version, with a given accuracy."""

    def make_version(run_id: str, version: str, accuracy: float, **given: Any) -> None:
        monitor = start(run_id, model_id="digits", version=version, **given)
        monitor.log(accuracy=accuracy)
        assert recorded_run(monitor).version.wait(100)
        monitor.close()

    return make_version


def edges(lineage: Lineage) -> list[tuple[str, str, str | None]]:
    return sorted((edge.parent_id, edge.child_id, edge.change_type) for edge in lineage.edges())


def test_rebuilt_from_spans(make: Callable[..., None]) -> None:
    """Runs that differ by seed are one version, evaluated twice."""
    for seed, accuracy in enumerate((0.84, 0.86)):
        make(f"a{seed}", "1.0.0", accuracy, config={"lr": 0.1, "seed": seed})
    make("b", "1.10.0", 0.9, parents=["digits@1.0.0"], change="more_data")
    make("c", "1.9.0", 0.88, parents=["digits@1.0.0"])
    lineage = Lineage.open("lake")
    assert lineage.names() == ["digits@1.0.0", "digits@1.9.0", "digits@1.10.0"]
    assert edges(lineage) == [
        ("digits@1.0.0", "digits@1.10.0", "more_data"),
        ("digits@1.0.0", "digits@1.9.0", None),
    ]
    first = lineage.node("digits@1.0.0")
    assert first.accuracy == pytest.approx(0.85)
    assert sorted(first.accuracies) == [0.84, 0.86]
    assert (sorted(first.run_ids), first.states, first.conflict) == (["a0", "a1"], ("completed",), None)
    assert lineage.ancestry("digits@1.10.0") == ["digits@1.10.0", "digits@1.0.0"]
    assert set(lineage.to_networkx().edges) == {(a, b) for a, b, _ in edges(lineage)}


def test_what_a_person_says_wins_where_it_says_something(make: Callable[..., None]) -> None:
    """Whatever the clock: a run recorded later changes nothing of it."""
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    Lineage.open("lake").add_node("digits", "1.0.0", 0.5, metrics={"size": 3.0}, created_at=long_ago)
    make("a", "1.0.0", 0.9)
    lineage = Lineage.open("lake")
    lineage.add_node("digits", "1.0.0", metrics={"size": 4.0, "odd": float("nan")})
    for found in (lineage, Lineage.open("lake")):
        node = found.node("digits@1.0.0")
        assert (node.accuracy, node.metrics["size"], node.run_ids) == (0.5, 4.0, ("a",))
        assert "odd" not in node.metrics


def test_clocks_say_nothing_about_ancestry(lineage: Lineage) -> None:
    """A child that seems older than its parent, by the clock of another machine."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    lineage.add_node("m", "2.0.0", 0.8, parents=["m@1.0.0"], created_at=now - timedelta(days=900))
    lineage.add_node("m", "1.0.0", 0.9, created_at=now)
    assert lineage.names() == ["m@1.0.0", "m@2.0.0"]
    source = Lineage.open("lake").find_regression_source("m@2.0.0").source
    assert source is not None
    assert (source.parent, source.child) == ("m@1.0.0", "m@2.0.0")


def test_another_configuration_is_refused_and_both_are_shown(make: Callable[..., None]) -> None:
    make("a", "1.0.0", 0.9, config={"lr": 0.1})
    lineage = Lineage.open("lake")
    known = lineage.node("digits@1.0.0").config_hash
    with pytest.raises(LineageError, match=rf"known with configuration {known}, and not other"):
        lineage.add_node("digits", "1.0.0", config_hash="other")
    lineage.add_node("digits", "1.0.0", 0.7, config_hash=known)
    assert lineage.node("digits@1.0.0").conflict is None


def test_two_configurations_of_one_version(make: Callable[..., None]) -> None:
    """Shown where all versions are; asked about it, both are named."""
    make("a", "1.0.0", 0.9, config={"lr": 0.1})
    make("b", "1.0.0", 0.8, config={"lr": 0.2})
    make("c", "1.1.0", 0.7, parents=["digits@1.0.0"])
    lineage = Lineage.open("lake")
    both = lineage.node("digits@1.0.0").conflict
    assert both is not None
    assert both[0].startswith("run a: configuration ")
    assert both[1].startswith("run b: configuration ")
    with pytest.raises(LineageError, match=r"two configurations.*run a: .*run b: "):
        lineage.compare("digits@1.0.0", "digits@1.1.0")
    notes = lineage.find_regression_source("digits@1.1.0").notes
    assert any("two configurations" in note for note in notes)


def test_missing_parents(start: Start, make: Callable[..., None]) -> None:
    """They are shown; where a run crashed that was to make one, that is said."""
    monitor = start("boom", model_id="digits", version="1.0.0")
    monitor.log(accuracy=0.5)
    monitor.close("crashed", "boom")
    make("b", "1.1.0", 0.9, parents=["digits@1.0.0", "other@7"])
    lineage = Lineage.open("lake")
    crashed, other = lineage.node("digits@1.0.0"), lineage.node("other@7")
    assert (crashed.is_missing, crashed.reason) == (True, "run boom crashed before it was made")
    assert (other.is_missing, other.reason) == (True, None)
    with pytest.raises(LineageError, match=r"nothing is known of digits@1\.0\.0 .*run boom crashed"):
        lineage.compare("digits@1.0.0", "digits@1.1.0")


def test_links_without_a_name(make: Callable[..., None]) -> None:
    """By the span of a version or of its run; else the link itself is the missing parent's name."""
    make("a", "1.0.0", 0.9)
    (row,) = Lake("lake").query("SELECT * FROM lineage").to_pylist()
    ids = [
        *((row["trace_id"], row[name]) for name in ("span_id", "parent_span_id")),
        ("f" * 32, "e" * 16),
    ]
    rows = [
        row
        | {"version": f"2.{at}", "trace_id": None, "parents": [{"trace_id": trace_id, "span_id": span_id}]}
        for at, (trace_id, span_id) in enumerate(ids)
    ]
    more = pa.Table.from_pylist(rows, schema=LINEAGE)
    name = f"{run_folder('lineage', '2026-01-01', 'digits')}/{new_process_name()}-000000.parquet"
    Lake("lake").storage.write(name, LINEAGE, iter(more.to_batches()))
    assert edges(Lineage.open("lake")) == [
        (f"?@{'f' * 32}-{'e' * 16}", "digits@2.2", None),
        ("digits@1.0.0", "digits@2.0", None),
        ("digits@1.0.0", "digits@2.1", None),
    ]


def test_cycles_are_refused_with_their_path(lineage: Lineage) -> None:
    lineage.add_node("m", "1", 0.9)
    lineage.add_node("m", "2", 0.8, parents=["m@1"])
    lineage.add_edge("m@2", "m@3", "tune")
    with pytest.raises(LineageError, match="m@1 → m@2 → m@3 → m@1"):
        lineage.add_edge("m@3", "m@1")
    with pytest.raises(LineageError, match="m@1 → m@1"):
        lineage.add_node("m", "1", parents=["m@1"])
    assert len(lineage.edges()) == len(Lineage.open("lake").edges()) == 2


def test_cycles_of_others_are_told(lineage: Lineage) -> None:
    """Two writers that did not know of each other: an answer, a note, and no endless loop."""
    other = Lineage.open("lake")
    lineage.add_node("m", "1", 0.9, parents=["m@2"])
    other.add_node("m", "2", 0.8, parents=["m@1"])
    other.add_node("m", "3", 0.7, parents=["m@2", "m@3x"])
    lineage.refresh()
    assert lineage.cycles == [("m@1", "m@2", "m@1")]
    found = lineage.find_regression_source("m@3")
    assert found.source is not None
    assert any("m@1 → m@2 → m@1" in note for note in found.notes)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digits@1.0.1", r"close to it: digits@1\.0\.0"),
        ("digit@1.0.0", "close to it: digits"),
        ("zzz@1", "models: digits"),
        ("digits", "expected MODEL@VERSION"),
    ],
)
def test_unknown_versions(lineage: Lineage, name: str, told: str) -> None:
    lineage.add_node("digits", "1.0.0", 0.9)
    with pytest.raises(LineageError, match=told):
        lineage.find_regression_source(name)


def test_nothing_is_known_yet(lineage: Lineage) -> None:
    assert (lineage.names(), lineage.edges(), len(lineage), lineage.cycles) == ([], [], 0, [])
    with pytest.raises(LineageError, match="no run has recorded a version yet"):
        lineage.node("a@1")
    with pytest.raises(LineageError, match="expected a number, got 'x'"):
        lineage.add_node("a", "1", accuracy="x")  # type: ignore[arg-type]


def test_many_writers_at_once() -> None:
    """Processes that add versions at the same time lose nothing."""
    program = (
        "import sys; from entrenar_otel.lineage import Lineage; lineage = Lineage.open('lake')\n"
        "for at in range(5): lineage.add_node('m', f'{sys.argv[1]}.{at}', 0.5, parents=['m@0'])"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(at)]) for at in (1, 2, 3)]
    assert [writer.wait(300) for writer in writers] == [0, 0, 0]
    lineage = Lineage.open("lake")
    assert lineage.names() == ["m@0", *(f"m@{one}.{at}" for one in (1, 2, 3) for at in range(5))]
    assert len(lineage.edges()) == 15


def test_statements_of_one_parent_are_one_edge(lineage: Lineage) -> None:
    """The last that says what was changed is believed."""
    lineage.add_edge("m@1", "m@2")
    lineage.add_edge("m@1", "m@2", "tune")
    lineage.add_edge("m@1", "m@2")
    assert edges(lineage) == edges(Lineage.open("lake")) == [("m@1", "m@2", "tune")]


def test_without_its_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to install."""
    monkeypatch.setattr("entrenar_processors.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"lineage needs networkx: pip install 'entrenar-otel\[lineage\]'"):
        Lineage.open("lake")
