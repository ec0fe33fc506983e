"""A Trainer in a program without a line of ours, under `entrenar-otel run`."""

from __future__ import annotations

import pytest

from tests.integrations.zero_code import recorded

TRAIN = """
import sys

import torch
from transformers import Trainer, TrainingArguments


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 1)

    def forward(self, x, labels):
        loss = ((self.linear(x) - labels) ** 2).mean()
        return {"loss": loss * float("nan") if "nan" in sys.argv and x[0, 0] == 3 else loss}


data = [{"x": torch.full((4,), float(i)), "labels": torch.ones(1)} for i in range(8)]
arguments = TrainingArguments(
    "out", max_steps=8, per_device_train_batch_size=1, use_cpu=True, report_to=[], save_strategy="no",
    learning_rate=1e-4, disable_tqdm=True, logging_steps=1, dataloader_pin_memory=False,
)
callbacks = []
if "own" in sys.argv:
    from entrenar_otel.integrations.huggingface import EntrenarCallback

    callbacks = [EntrenarCallback()]
trainer = Trainer(Model(), arguments, train_dataset=data, callbacks=callbacks)
if "added" in sys.argv:
    from entrenar_otel.integrations.huggingface import EntrenarCallback

    trainer.add_callback(EntrenarCallback())
trainer.train()
"""


@pytest.mark.parametrize(("argument", "code"), [("", 0), ("own", 0), ("added", 0), ("nan", 86)])
def test_a_trainer_has_our_callback_once(argument: str, code: int) -> None:
    """Every step's loss once, also where the program gives or adds the callback itself; a NaN is 86."""
    lake = recorded(TRAIN, argument, code=code)
    (run,) = lake.runs()
    assert (run.model_id, run.state) == ("Model", "stopped" if code else "completed")
    sql = "SELECT count(*) AS n, count(DISTINCT step) AS steps FROM metrics WHERE metric = 'loss'"
    (row,) = lake.query(sql).to_pylist()
    assert row["n"] == row["steps"]
    assert row["n"] == 8 or (code and row["n"] <= 8)
