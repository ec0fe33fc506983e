"""Hugging Face: a real Trainer, its steps, its NaN, its evaluations, its ends."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import SequentialSampler

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.lake import Lake
from tests.ports import free_port

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of old versions, about new ones of what they need
    from transformers import (
        EarlyStoppingCallback,
        GPT2Config,
        GPT2LMHeadModel,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from entrenar_otel.integrations.huggingface import EntrenarCallback

# transformers and torch warn of each other's versions
pytestmark = [
    pytest.mark.filterwarnings("default"),
    pytest.mark.usefixtures("lake"),
]

STEPS = 4  # of an epoch, of 4 samples


class Net(torch.nn.Module):
    """A linear layer, whose loss a sample can make NaN."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)

    def forward(self, x: Any = None, labels: Any = None, bad: Any = None) -> dict[str, Any]:
        logits = self.layer(x)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels) + bad.max(), "logits": logits}


class InOrder(Trainer):
    """Batches in the order of the data, so that it is known in which step one is."""

    def _get_train_sampler(self, *_: Any) -> Any:
        return SequentialSampler(self.train_dataset)


def samples(bad: int | None = None) -> list[dict[str, Any]]:
    torch.manual_seed(7)
    return [
        {"x": torch.randn(4), "labels": i % 2, "bad": math.nan if i == bad else 0.0} for i in range(4 * STEPS)
    ]


def trainer_of(folder: Path, *callbacks: Any, bad: int | None = None, **settings: Any) -> Trainer:
    given: dict[str, Any] = {
        "per_device_train_batch_size": 4,
        "num_train_epochs": 1,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_steps": 500,
    }
    args = TrainingArguments(str(folder / "out"), **given | settings)
    return InOrder(
        Net(), args, train_dataset=samples(bad), eval_dataset=samples()[:4], callbacks=list(callbacks)
    )


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ENTRENAR_LIVE", str(tmp_path / "live"))
    monkeypatch.setenv("ENTRENAR_LAKE", str(tmp_path / "lake"))
    return tmp_path / "lake"


def ask(lake: Path, sql: str) -> list[dict[str, Any]]:
    return list(Lake(str(lake)).query(sql).to_pylist())


def states(lake: Path) -> list[str]:
    return [row["state"] for row in ask(lake, "SELECT state FROM runs ORDER BY started_at")]


def test_every_step_is_recorded(lake: Path, tmp_path: Path) -> None:
    """Where Trainer logs nothing but the mean at the end; its evaluations are of their split."""
    callback = EntrenarCallback(quiet=True)
    trainer = trainer_of(tmp_path, callback, num_train_epochs=2, eval_strategy="epoch")
    trainer.train()
    assert isinstance(callback.run.monitor, Monitor)
    losses = ask(
        lake,
        "SELECT epoch, batch, step, value FROM metrics "
        "WHERE metric = 'loss' AND tags['split'] IS NULL ORDER BY seq",
    )
    expected = [(n // STEPS, n % STEPS, n + 1) for n in range(2 * STEPS)]
    assert [(row["epoch"], row["batch"], row["step"]) for row in losses] == expected
    history = [row["train_loss"] for row in trainer.state.log_history if "train_loss" in row]
    assert sum(row["value"] for row in losses) / len(losses) == pytest.approx(history[0])
    own = "FROM metrics WHERE tags['split'] IS NULL GROUP BY metric"
    counts = f"SELECT metric, count(*) AS n, sum(value) AS total {own}"
    found = {row["metric"]: row for row in ask(lake, counts)}
    assert [found[name]["n"] for name in ("step_duration", "data_wait", "samples")] == [2 * STEPS] * 3
    assert found["samples"]["total"] == 8.0 * STEPS
    evaluated = ask(
        lake,
        "SELECT step, value FROM metrics WHERE metric = 'loss' AND tags['split'] = 'validation' ORDER BY seq",
    )
    assert [row["step"] for row in evaluated] == [STEPS, 2 * STEPS]
    assert [row["value"] for row in evaluated] == pytest.approx(
        [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    )
    (run,) = ask(lake, "SELECT state, model_id, config FROM runs")
    assert (run["state"], run["model_id"]) == ("completed", "Net")
    config = json.loads(run["config"])
    assert (config["learning_rate"], config["per_device_train_batch_size"]) == (5e-05, 4)
    assert not {"output_dir", "logging_dir", "hub_token", "report_to"} & config.keys()
    assert "training_step" not in trainer.__dict__


def test_a_nan_stops_at_its_own_step(lake: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which is one of two batches here; and the weights are still good."""
    callback = EntrenarCallback()
    trainer = trainer_of(tmp_path, callback, bad=13, gradient_accumulation_steps=2)
    assert trainer.args.logging_nan_inf_filter
    with pytest.raises(AndonStop) as caught:
        trainer.train()
    assert (caught.value.metric, caught.value.step, caught.value.batch) == ("loss", 2, 1)
    assert all(torch.isfinite(weights).all() for weights in trainer.model.parameters())
    assert states(lake) == ["stopped"]
    assert "logging_nan_inf_filter is off: a NaN is recorded as one" in capsys.readouterr().err
    assert "training_step" not in trainer.__dict__


def test_a_nan_by_choice_only_ends_the_training(lake: Path, tmp_path: Path) -> None:
    callback = EntrenarCallback(on_stop="stop", quiet=True)
    trainer = trainer_of(tmp_path, callback, bad=9)
    assert trainer.train().global_step == 3
    assert callback.run.stopped is not None
    assert callback.run.stopped.step == 3
    assert states(lake) == ["stopped"]


def test_a_training_that_is_resumed_goes_on(lake: Path, tmp_path: Path) -> None:
    """In the middle of its second epoch; the checkpoint has an event and a sidecar."""
    settings: dict[str, Any] = {
        "num_train_epochs": 2,
        "save_strategy": "steps",
        "save_steps": STEPS + 2,
        "save_only_model": True,
    }
    trainer_of(tmp_path, EntrenarCallback(run_id="first", quiet=True), **settings).train()
    checkpoint = tmp_path / "out" / f"checkpoint-{STEPS + 2}"
    sidecar = json.loads((tmp_path / "out" / f"{checkpoint.name}.entrenar.json").read_text(encoding="utf-8"))
    assert (sidecar["model_id"], sidecar["step"]) == ("Net", STEPS + 2)
    trainer = trainer_of(tmp_path, EntrenarCallback(run_id="again", quiet=True), **settings)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    rows = ask(
        lake, "SELECT epoch, batch, step FROM metrics WHERE run_id = 'again' AND metric = 'loss' ORDER BY seq"
    )
    assert [tuple(row.values()) for row in rows] == [(1, 2, STEPS + 3), (1, 3, STEPS + 4)]
    saved = ask(
        lake, "SELECT DISTINCT attributes['step'] AS step FROM events WHERE name = 'training.checkpoint'"
    )
    assert str(STEPS + 2) in [row["step"] for row in saved]


class Broken(InOrder):
    def evaluate(self, *_: Any, **__: Any) -> Any:
        raise OSError("no data to evaluate on")


def test_an_exception_in_the_evaluation_ends_the_run(lake: Path, tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, EntrenarCallback(quiet=True), eval_strategy="steps", eval_steps=2)
    trainer.__class__ = Broken
    with pytest.raises(OSError, match="no data"):
        trainer.train()
    (run,) = ask(lake, "SELECT state, reason FROM runs")
    assert (run["state"], run["reason"]) == ("crashed", "OSError: no data to evaluate on")
    trainer.__class__ = InOrder
    trainer.train()  # the same trainer again
    assert states(lake) == ["crashed", "completed"]


class Greedy(TrainerCallback):
    """Somebody else's, that logs too."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self.heard += list(logs)


@pytest.mark.parametrize("is_first", [True, False])
def test_other_callbacks_and_an_early_end(lake: Path, tmp_path: Path, is_first: bool) -> None:
    """Ours before and after others: all hear the same, and an early stop is a completed run."""
    ours, other = EntrenarCallback(quiet=True), Greedy()
    others = [other, EarlyStoppingCallback(1)]
    trainer = trainer_of(
        tmp_path,
        *([ours, *others] if is_first else [*others, ours]),
        num_train_epochs=50,
        learning_rate=0.0,
        logging_steps=2,
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
    )
    trainer.train()
    assert trainer.state.global_step < 50 * STEPS
    assert {"loss", "grad_norm", "learning_rate", "eval_loss"} <= set(other.heard)
    found = ask(lake, "SELECT metric, count(*) AS n FROM metrics GROUP BY metric")
    counts = {row["metric"]: row["n"] for row in found}
    assert counts["gradient_norm"] == counts["learning_rate"] == trainer.state.global_step // 2
    assert counts["step_duration"] == trainer.state.global_step
    assert states(lake) == ["completed"]


def test_two_trainers_and_a_callback_added_later(lake: Path, tmp_path: Path) -> None:
    for number in range(2):
        trainer = trainer_of(tmp_path / str(number))
        trainer.add_callback(EntrenarCallback(run_id=f"r{number}", quiet=True))
        trainer.train()
        trainer.evaluate()  # after the end: nothing is recorded, and nothing said
    found = ask(lake, "SELECT run_id, count(*) AS n FROM metrics WHERE metric = 'loss' GROUP BY 1 ORDER BY 1")
    assert [tuple(row.values()) for row in found] == [("r0", STEPS), ("r1", STEPS)]


def test_a_monitor_that_is_open_has_the_evaluation_after_it_too(lake: Path, tmp_path: Path) -> None:
    with Monitor("mine", quiet=True) as monitor:
        trainer = trainer_of(tmp_path, EntrenarCallback())
        trainer.train()
        trainer.evaluate()
    assert monitor.sample_count("loss") == STEPS + 1
    assert states(lake) == ["completed"]


def test_workers_of_the_data_loader_record_nothing(lake: Path, tmp_path: Path) -> None:
    trainer_of(tmp_path, EntrenarCallback(quiet=True), dataloader_num_workers=2).train()
    assert ask(lake, "SELECT count(*) AS n FROM metrics WHERE metric = 'loss'") == [{"n": STEPS}]
    assert states(lake) == ["completed"]


def test_a_language_model_and_its_tokens(lake: Path, tmp_path: Path) -> None:
    """Running totals become what each step added; the model's configuration is the run's."""
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=64, n_positions=16)
    texts = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(8)]
    args = TrainingArguments(
        str(tmp_path / "out"), per_device_train_batch_size=2, num_train_epochs=1, report_to=[], use_cpu=True,
        disable_tqdm=True, save_strategy="no", logging_steps=1, include_num_input_tokens_seen=True,
    )  # fmt: skip
    trainer = Trainer(
        GPT2LMHeadModel(config), args, train_dataset=texts, callbacks=[EntrenarCallback(quiet=True)]
    )
    trainer.train()
    assert trainer.state.num_input_tokens_seen == 64
    tokens = ask(lake, "SELECT value FROM metrics WHERE metric = 'tokens' AND value > 0 ORDER BY seq")
    assert [row["value"] for row in tokens] == [16.0] * 4
    (run,) = ask(lake, "SELECT model_id, config FROM runs")
    assert run["model_id"] == "GPT2LMHeadModel"
    assert json.loads(run["config"])["model"]["n_embd"] == 16


def train_here(folder: str) -> None:
    """In each process that is launched."""
    trainer_of(Path(folder), EntrenarCallback()).train()


LAUNCH = """
import importlib.util, sys
from accelerate import notebook_launcher

spec = importlib.util.spec_from_file_location("launched", sys.argv[1])
launched = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launched)
notebook_launcher(launched.train_here, (sys.argv[2],), num_processes=2, use_port=sys.argv[3])
"""


def test_processes_that_are_forked_are_ranks(lake: Path, tmp_path: Path) -> None:
    """By accelerate's launcher in a notebook, which wants a process where nothing was trained yet."""
    others = ("ACCELERATE_", "PYTEST_XDIST", "COV_CORE")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, __file__, str(tmp_path), str(free_port())],
        env={**environment, "ENTRENAR_RUN_ID": "launched", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("recording run launched") == 1  # the first rank's line alone
    losses = "SELECT rank, count(*) AS n FROM metrics WHERE metric = 'loss' GROUP BY rank ORDER BY rank"
    assert [tuple(row.values()) for row in ask(lake, losses)] == [(0, STEPS // 2), (1, STEPS // 2)]
    assert states(lake) == ["completed"] * 2
