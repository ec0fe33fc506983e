"""Lightning: ends that are no ends, several processes, several trainers, checkpoints, other callbacks."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.integrations.lightning import EntrenarCallback, EntrenarLogger
from tests.integrations.lightning_models import PACKAGES, QUIET, data, module_class
from tests.integrations.recorded_runs import events, rows, series, states, values

# Lightning's own: of few workers, small data sets, and what it calls of PyTorch
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:UserWarning", "ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning"
)
PACKAGE = PACKAGES[0]
both = pytest.mark.parametrize("package", PACKAGES)


def trainer_of(package: str, *callbacks: Any, **settings: Any) -> Any:
    """For one epoch of four batches, or as `settings` say."""
    pl = import_module(package)
    return pl.Trainer(**{**QUIET, "max_epochs": 1, **settings}, callbacks=list(callbacks))


def losses_by(column: str) -> list[tuple[Any, ...]]:
    """How many batches have a loss, by run or rank."""
    own = "FROM metrics WHERE metric = 'loss' AND cardinality(tags) = 0"
    return rows(f"SELECT {column}, count(*) {own} GROUP BY 1 ORDER BY 1")


@pytest.mark.parametrize("where", ["training", "validation"])
def test_an_exception(where: str) -> None:
    trainer = trainer_of(PACKAGE, EntrenarCallback())
    with pytest.raises(ZeroDivisionError, match=where):
        trainer.fit(module_class(PACKAGE)(error_in=where), data(), data())
    assert states() == ["crashed"]
    ((reason,),) = rows("SELECT reason FROM runs")
    assert reason == f"ZeroDivisionError: in {where}_step"


def test_an_exception_in_the_sanity_check() -> None:
    trainer = trainer_of(PACKAGE, EntrenarCallback(), num_sanity_val_steps=1)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module_class(PACKAGE)(error_in="validation"), data(), data())
    assert states() == ["crashed"]


def test_ctrl_c() -> None:
    class CtrlC(import_module(PACKAGE).Callback):  # type: ignore[misc]
        def on_train_batch_end(self, *_given: Any) -> None:
            raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        trainer_of(PACKAGE, EntrenarCallback(), CtrlC()).fit(module_class(PACKAGE)(), data())
    assert states() == ["stopped"]


@both
@pytest.mark.parametrize("is_first", [True, False])
def test_early_stopping_before_and_after(package: str, is_first: bool) -> None:
    stopping = import_module(f"{package}.callbacks").EarlyStopping("val_loss", patience=1)
    callbacks = [EntrenarCallback(), stopping][:: 1 if is_first else -1]
    trainer = trainer_of(package, *callbacks, max_epochs=9)
    trainer.fit(module_class(package)(lr=0.0), data(), data())
    assert max(epoch for epoch, *_ in series("loss")) == 1
    assert len(values("loss", "validation")) == 2
    assert states() == ["completed"]


@both
def test_checkpoints_and_resuming(package: str) -> None:
    checkpoint = import_module(f"{package}.callbacks").ModelCheckpoint("saved", save_top_k=-1, save_last=True)
    settings = {"enable_checkpointing": True, "default_root_dir": "."}
    trainer = trainer_of(package, EntrenarCallback(run_id="first"), checkpoint, **settings)
    trainer.fit(module_class(package)(), data(), data())
    names = [Path(event["path"]).name for event in events("training.checkpoint")]
    assert sorted(names) == ["epoch=0-step=4.ckpt", "last.ckpt"]
    assert Path("saved/last.ckpt.entrenar.json").exists()

    trainer = trainer_of(package, EntrenarCallback(run_id="second"), **settings, max_epochs=2)
    trainer.fit(module_class(package)(), data(), data(), ckpt_path="saved/last.ckpt")
    losses = "metrics WHERE run_id = 'second' AND metric = 'loss' AND cardinality(tags) = 0"
    assert rows(f"SELECT epoch, step FROM {losses} ORDER BY seq") == [(1, 4), (1, 5), (1, 6), (1, 7)]
    ((parents,),) = rows("SELECT CAST(parents AS VARCHAR) FROM lineage WHERE run_id = 'second'")
    assert "first" in parents


def test_two_trainers_at_once() -> None:
    """One within a callback of the other, which is the order that mixes the most."""

    class Inner(import_module(PACKAGE).Callback):  # type: ignore[misc]
        def on_train_epoch_start(self, *_given: Any) -> None:
            trainer_of(PACKAGE, EntrenarCallback(run_id="inner")).fit(module_class(PACKAGE)(), data())

    trainer_of(PACKAGE, Inner(), EntrenarCallback(run_id="outer")).fit(module_class(PACKAGE)(), data())
    assert losses_by("run_id") == [("inner", 4), ("outer", 4)]
    assert states() == ["completed", "completed"]


def test_one_callback_for_two_trainings() -> None:
    ours = EntrenarCallback()
    for _ in range(2):
        trainer_of(PACKAGE, ours).fit(module_class(PACKAGE)(), data())
    assert rows("SELECT count(DISTINCT run_id) FROM runs") == [(2,)]


@pytest.mark.parametrize("strategy", ["ddp_fork", "ddp_spawn"])
def test_ranks(strategy: str) -> None:
    """Two processes that Lightning starts, with a callback that was made in a third one."""
    script = Path(__file__).with_name("lightning_ranks.py")
    done = subprocess.run([sys.executable, script, strategy], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
    assert losses_by("rank") == [(0, 3), (1, 3)]
    assert rows("SELECT count(DISTINCT run_id), min(state), max(state), max(world_size) FROM runs") == [
        (1, "completed", "completed", 2)
    ]
    assert done.stderr.count("entrenar: recording run") == 1  # rank 0 speaks


def test_a_copy_has_not_begun() -> None:
    ours = EntrenarCallback(on_stop="stop", run_id="copied")
    copy = pickle.loads(pickle.dumps(ours))
    assert type(copy) is type(ours)
    trainer_of(PACKAGE, copy).fit(module_class(PACKAGE)(), data())
    assert rows("SELECT DISTINCT run_id FROM metrics") == [("copied",)]


@both
def test_the_logger_alone(package: str) -> None:
    trainer = trainer_of(package, logger=EntrenarLogger(), log_every_n_steps=2)
    trainer.fit(module_class(package)(), data(), data())
    assert [step for *_, step, _ in series("loss", "train")][:2] == [1, 3]
    assert len(values("loss", "validation")) == 1
    ((model, config, state),) = rows("SELECT model_id, config, state FROM runs")
    assert (model, state) == ("Linear", "completed")
    assert '"lr": 0.01' in config


@both
def test_the_logger_beside_the_callback(package: str) -> None:
    """One run, and no value twice; what goes to the logger alone is recorded."""
    logger = EntrenarLogger()

    class Extra(import_module(package).Callback):  # type: ignore[misc]
        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            trainer.logger.log_metrics({"extra": 4.0})

    monitor = import_module(f"{package}.callbacks").LearningRateMonitor()
    trainer = trainer_of(package, EntrenarCallback(), Extra(), monitor, logger=logger, log_every_n_steps=1)
    trainer.fit(module_class(package)(), data(), data())
    assert rows("SELECT DISTINCT run_id FROM runs") == [(logger.version,)]
    assert len(values("loss")) == len(values("learning_rate")) == 4
    assert len(values("loss", "validation")) == len(values("loss", "train")) == 1
    assert len(values("even")) == 2
    assert values("extra") == [4.0]
    assert rows("SELECT metric FROM metrics WHERE metric LIKE 'lr%' OR metric = 'epoch'") == []


def test_the_logger_after_an_exception() -> None:
    trainer = trainer_of(PACKAGE, logger=EntrenarLogger())
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module_class(PACKAGE)(error_in="training"), data())
    assert states() == ["crashed"]
