"""A Trainer of Lightning in a program without a line of ours, under `entrenar-otel run`."""

from __future__ import annotations

import lightning.pytorch as pl
import pytest

from entrenar_otel.zero_code.instrumentors import LightningInstrumentor
from tests.integrations.zero_code import recorded

TRAIN = """
import sys

import torch
import {package} as L
from {demos}.demos.boring_classes import BoringModel


class Model(BoringModel):
    def training_step(self, batch, batch_idx):
        loss = self.step(batch)
        return loss * float("nan") if "nan" in sys.argv and batch_idx == 3 else loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.step(batch))


def ours():
    from entrenar_otel.integrations.lightning import EntrenarCallback

    return EntrenarCallback()


trainer = L.Trainer(
    max_epochs=1, limit_train_batches=8, limit_val_batches=2, accelerator="cpu", logger=False,
    enable_progress_bar=False, enable_model_summary=False, callbacks=[ours()] if "own" in sys.argv else None,
)
if "added" in sys.argv:
    trainer.callbacks.append(ours())
model = Model()
if "of_model" in sys.argv:
    model.configure_callbacks = ours
trainer.fit(model)
if "replaced" in sys.argv:
    trainer.callbacks.append(ours())
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model)
if "validate" in sys.argv:
    trainer.validate(model)
"""


@pytest.mark.parametrize(
    ("package", "argument", "code"),
    [
        ("lightning", "", 0),
        ("pytorch_lightning", "", 0),
        ("lightning", "own", 0),
        ("lightning", "added", 0),
        ("lightning", "of_model", 0),
        ("lightning", "nan", 86),
    ],
)
def test_a_trainer_has_our_callback_once(package: str, argument: str, code: int) -> None:
    """Every batch's loss once, also where the program gives the callback itself; a NaN is 86."""
    lake = recorded(program(package), argument, code=code)
    (run,) = lake.runs()
    assert (run.model_id, run.state) == ("Model", "stopped" if code else "completed")
    rows = lake.query(
        "SELECT batch FROM metrics WHERE metric = 'loss' "
        "AND coalesce(tags['split'], 'train') = 'train' ORDER BY batch"
    ).to_pylist()
    assert [row["batch"] for row in rows] == list(range(4 if code else 8))
    if not code:
        validated = "SELECT value FROM metrics WHERE tags['split'] = 'validation'"
        assert lake.query(validated).num_rows == 1
        checkpoints = "SELECT name FROM events WHERE name = 'training.checkpoint'"
        assert lake.query(checkpoints).num_rows == 1


@pytest.mark.parametrize("argument", ["replaced", "validate"])
def test_what_comes_after_a_fit_is_recorded_once(argument: str) -> None:
    """A second `fit` with the program's own callback is a run; a validation, an attempt of the first."""
    lake = recorded(program("lightning"), argument)
    sql = "SELECT run_id, attempt, count(*) AS n FROM metrics WHERE metric = 'loss' GROUP BY ALL ORDER BY ALL"
    first, *later = lake.query(sql).to_pylist()
    assert first["n"] == 9
    assert len(later) == 1
    assert later[0]["n"] == (9 if argument == "replaced" else 1)


def test_what_was_instrumented_is_given_back() -> None:
    """All three methods are those of before."""
    before = pl.Trainer.fit, pl.Trainer.validate, pl.Trainer.test
    instrumentor = LightningInstrumentor()
    instrumentor.instrument()
    assert pl.Trainer.validate is not before[1]
    instrumentor.uninstrument()
    assert (pl.Trainer.fit, pl.Trainer.validate, pl.Trainer.test) == before


def program(package: str) -> str:
    return TRAIN.replace("{package}", package).replace(
        "{demos}", "lightning.pytorch" if package == "lightning" else package
    )
