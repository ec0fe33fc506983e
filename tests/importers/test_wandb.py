"""W&B: values are those that were logged, read from files that W&B wrote offline."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Lake
from entrenar_otel.errors import ConfigError
from entrenar_otel.importers import wandb
from entrenar_otel.importers.foreign_run import unwatched
from tests.conftest import Answer

_PROGRAM = """
import os, sys
import wandb
run = wandb.init(project="digits", name="golden frog", group="g", tags=["x"], notes="first", mode="offline",
                 config={"lr": 0.1, "layers": [64, 10], "optimizer": {"name": "adam"}, "api_key": "s3cret"})
for step in range(300):
    wandb.log({"loss": 1 / (step + 1), "epoch": step // 100, "opt": {"lr": 0.1 * step}, "word": "x",
               "weights": wandb.Histogram([1.0, 2.0]), "note" + "x" * 200: step})
wandb.log({"loss": float("nan"), "other": float("-inf")})
wandb.log({"late": 1.0}, step=1000)
run.config.update({"added": 3})
run.summary["best"] = 0.1
if sys.argv[1:] == ["die"]:
    import time
    time.sleep(float(os.environ.get("WAIT", "3")))
    os._exit(9)
wandb.finish(exit_code=int((sys.argv[1:] or ["0"])[0]))
"""


@pytest.fixture(scope="session")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with one offline run, that ended as the argument says."""
    made: dict[str, Path] = {}

    def folder(end: str = "0") -> Path:
        if end not in made:
            made[end] = tmp_path_factory.mktemp("wandb")
            environment = {
                **os.environ,
                "WANDB_SILENT": "true",
                "WANDB_MODE": "offline",
                "HOME": str(made[end]),
            }
            command = [sys.executable, "-c", _PROGRAM, end]
            done = subprocess.run(command, cwd=made[end], env=environment, capture_output=True, text=True)
            assert done.returncode in (0, 1, 9), done.stderr
        return made[end] / "wandb"

    return folder


def test_a_run_is_what_was_logged(
    cli: Callable[..., Answer], curve: Callable[..., list[Any]], offline: Callable[..., Path]
) -> None:
    answer = cli("import", "wandb", str(offline()))
    assert (answer.code, answer.err) == (0, "")
    assert "300 × histogram" in answer.out
    assert "300 × text" in answer.out
    loss = [(step, repr(value)) for step, _, value in curve("loss")]
    assert loss == [(i, repr(1 / (i + 1))) for i in range(300)] + [(300, "nan")]
    assert [(step, value) for step, _, value in curve("opt.lr")] == [(i, 0.1 * i) for i in range(300)]
    assert [(step, value) for step, _, value in curve("other")] == [(300, -math.inf)]
    assert [(step, value) for step, _, value in curve("late")] == [(1000, 1.0)]
    times = [at for _, at, _ in curve("loss")]
    assert times == sorted(times)
    (record,) = Lake("lake").query("SELECT * FROM runs").to_pylist()
    config = json.loads(record["config"])
    assert {key: config[key] for key in ("lr", "layers", "optimizer", "added")} == {
        "lr": 0.1, "layers": [64, 10], "optimizer": {"name": "adam"}, "added": 3,
    }  # fmt: skip
    assert record["run_id"].startswith("wandb-golden-frog-")
    assert record["state"] == "completed"
    assert Lake("lake").query("SELECT max(epoch) AS e FROM metrics WHERE metric = 'loss'").to_pylist() == [
        {"e": 2}
    ]
    (event,) = (
        Lake("lake").query("SELECT attributes FROM events WHERE name = 'training.run.imported'").to_pylist()
    )
    about = dict(event["attributes"])
    assert about["import.summary"] == '{"best":0.1}'
    assert (about["import.project"], about["import.group"], about["import.notes"]) == ("digits", "g", "first")
    assert all(b"s3cret" not in path.read_bytes() for path in Path("lake").rglob("*.parquet"))
    assert "there already" in cli("import", "wandb", str(offline())).out


@pytest.mark.skipif(
    find_spec("wandb.sdk.internal.datastore") is None,
    reason="NOT TESTED HERE: this W&B has no reader in Python",
)
def test_the_records_are_those_of_its_own_reader(offline: Callable[..., Path]) -> None:
    """Earlier versions had one."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    from entrenar_otel.importers.wandb_log import read_records

    (file,) = offline().rglob("*.wandb")
    store, theirs = DataStore(), []
    store.open_for_scan(str(file))
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        theirs.append(record)
    store.close()
    assert len(theirs) > 300
    assert list(read_records(file)) == theirs


@pytest.mark.parametrize(
    ("end", "state", "reason"), [("1", "crashed", "exit code 1"), ("die", "stopped", "no end")]
)
def test_how_it_ended(
    cli: Callable[..., Answer], offline: Callable[..., Path], end: str, state: str, reason: str
) -> None:
    assert cli("import", "wandb", str(offline(end))).code == 0
    (record,) = Lake("lake").query("SELECT state, reason FROM runs").to_pylist()
    assert record["state"] == state
    assert reason in record["reason"]


def test_a_file_that_is_cut_or_damaged_gives_what_is_whole(
    offline: Callable[..., Path], tmp_path: Path
) -> None:
    (file,) = offline().rglob("*.wandb")
    whole = file.read_bytes()
    copy = tmp_path / "x.wandb"
    before = math.inf
    for end in (len(whole), len(whole) - 1, len(whole) // 2, 40_000, 32_768, 100, 8, 7):
        copy.write_bytes(whole[:end])
        (read,) = wandb.find_runs(str(copy))
        count = len(read(unwatched).points)
        assert count <= before
        before = count
    shares: list[float] = []
    copy.write_bytes(whole)
    (read,) = wandb.find_runs(str(copy))
    read(shares.append)
    assert shares == sorted(shares)
    assert (len(shares) > len(whole) // 32_768, shares[-1]) == (True, 1.0)
    copy.write_bytes(b"no W&B")
    (read,) = wandb.find_runs(str(copy))
    with pytest.raises(ValueError, match=r"x\.wandb is no file of W&B"):
        read(unwatched)


def test_one_damaged_file_keeps_no_other_back(
    cli: Callable[..., Answer], offline: Callable[..., Path]
) -> None:
    Path("w").mkdir()
    (file,) = offline().rglob("*.wandb")
    Path("w/good.wandb").write_bytes(file.read_bytes())
    Path("w/bad.wandb").write_bytes(b"\x1b[31m")
    answer = cli("import", "wandb", "w")
    assert answer.code == 1
    assert "1 run of wandb" in answer.out
    assert "bad.wandb is no file of W&B" in answer.err


def test_a_folder_without_runs() -> None:
    Path("w").mkdir()
    with pytest.raises(ConfigError, match="no runs of W&B"):
        list(wandb.find_runs("w"))
