"""Bring in: a foreign run is in the lake once, whatever happens in between."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Lake
from entrenar_otel.importers import bring_in as module
from entrenar_otel.importers.bring_in import Brought, Importer
from entrenar_otel.importers.foreign_run import ForeignRun
from entrenar_otel.lake.compact import compact
from entrenar_otel.lake.records.runs import CRASHED
from entrenar_otel.lake.store.storage import LocalStorage, Storage

_START = 1_700_000_000 * 10**9


def _run(steps: int = 10, **more: Any) -> ForeignRun:
    run = ForeignRun("wandb", "team/digits/abc", "golden frog", **more)
    for step in range(steps):
        run.add("loss", 1 / (step + 1), time_ns=_START + step * 10**9, step=step, epoch=step // 5)
        run.add("opt", {"lr": 0.1, "hist": {"_type": "histogram"}}, time_ns=_START, step=step, epoch=None)
    return run


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return LocalStorage(tmp_path / "lake")


def _files() -> list[str]:
    return sorted(path.name for path in Path("lake").rglob("*.parquet"))


def bring_in(storage: Storage, run: ForeignRun) -> Brought:
    return Importer(storage).bring_in(run)


def _process() -> str:
    (record,) = Lake("lake").query("SELECT process FROM runs").to_pylist()
    return str(record["process"])


def test_a_run_is_what_it_was(storage: Storage, curve: Callable[..., list[Any]]) -> None:
    run = _run(
        config={"lr": 0.1, "api_key": "s3cret"}, state=CRASHED, reason="exit code 1", host="h", argv=["t.py"]
    )
    run.labels |= {"tags": ["x"], "notes": "", "token": "s3cret"}
    assert bring_in(storage, run).outcome == "new"
    assert curve("loss") == [(i, _START // 1000 + i * 1_000_000, 1 / (i + 1)) for i in range(10)]
    assert [value for _, _, value in curve("opt.lr")] == [0.1] * 10
    (record,) = Lake("lake").query("SELECT * FROM runs").to_pylist()
    assert record["run_id"] == run.run_id
    assert (record["state"], record["reason"], record["host"], record["argv"]) == (
        CRASHED,
        "exit code 1",
        "h",
        ["t.py"],
    )
    assert (record["ended_at"] - record["started_at"]).total_seconds() == 9
    assert json.loads(record["config"])["lr"] == 0.1
    events = Lake("lake").query("SELECT name, attributes FROM events ORDER BY timestamp, name").to_pylist()
    assert [event["name"] for event in events] == [
        "training.run.started", "training.run.ended", "training.run.imported",
    ]  # fmt: skip
    about = dict(events[2]["attributes"])
    assert about["import.source_id"] == "team/digits/abc"
    assert about["import.left_out"] == '{"histogram":10}'
    assert about["import.tags"] == '["x"]'
    assert "import.notes" not in about
    assert all(b"s3cret" not in path.read_bytes() for path in Path("lake").rglob("*.parquet"))


def test_the_same_again_changes_nothing(storage: Storage) -> None:
    bring_in(storage, _run())
    before = {path: path.stat().st_mtime_ns for path in Path("lake").rglob("*.parquet")}
    assert bring_in(storage, _run()).outcome == "known"
    assert {path: path.stat().st_mtime_ns for path in Path("lake").rglob("*.parquet")} == before


def test_a_run_that_has_grown_is_replaced(storage: Storage, curve: Callable[..., list[Any]]) -> None:
    bring_in(storage, _run())
    compact(storage, "2023-11-14", _run().run_id, _process())
    assert bring_in(storage, _run(12)).outcome == "changed"
    assert len(curve("loss")) == 12
    assert Lake("lake").query("SELECT count(*) AS n FROM runs").to_pylist() == [{"n": 1}]
    assert len(_files()) == 3


def test_a_rehearsal_writes_nothing(storage: Storage) -> None:
    assert Importer(storage, is_rehearsal=True).bring_in(_run()).outcome == "new"
    assert _files() == []


@pytest.mark.parametrize("writes", range(1, 4))
def test_an_import_that_was_killed_is_finished_by_the_next(
    storage: Storage, curve: Callable[..., list[Any]], writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever file was written last: of the old state and of the new one only the new one is left."""
    bring_in(storage, _run())
    real, left = storage.write, [writes]

    def write(*arguments: Any, **settings: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write", write)
        patch.setattr(module, "_remove_others", lambda *_: None)  # it never came that far
        with pytest.raises(KeyboardInterrupt) if writes < 3 else contextlib.nullcontext():
            bring_in(storage, _run(12))
    bring_in(storage, _run(12))
    assert len(curve("loss")) == 12
    assert len(_files()) == 3


def test_a_large_run_has_several_files(
    storage: Storage, curve: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_ROWS", 7)
    bring_in(storage, _run(20))
    assert [step for step, *_ in curve("loss")] == list(range(20))
    assert len(curve("opt.lr")) == 20
    assert len(list(Path("lake/metrics").rglob("*.parquet"))) == 6


def test_a_run_without_any_value(storage: Storage) -> None:
    assert bring_in(storage, ForeignRun("mlflow", "x", "\x1b[31m/..")).outcome == "new"
    (record,) = Lake("lake").query("SELECT run_id, started_at FROM runs").to_pylist()
    assert record["run_id"].startswith("mlflow-31m-")


def test_a_run_that_got_another_name_stays_the_same_run(storage: Storage) -> None:
    first = bring_in(storage, _run())
    renamed = _run()
    renamed.name = "silver fox"
    assert bring_in(storage, renamed) == Brought(renamed, first.run_id, "known")


def test_how_far_it_is(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is told file by file."""
    monkeypatch.setattr(module, "_ROWS", 5)
    shares: list[float] = []
    Importer(storage).bring_in(_run(), shares.append)
    assert shares == [0.0, 0.25, 0.5, 0.75]
