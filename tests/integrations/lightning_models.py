"""Tiny modules for both packages of Lightning, and what a run of theirs left in the lake."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

import torch

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
with warnings.catch_warnings():  # of what they import, and what that imports
    warnings.simplefilter("ignore")
    for package in PACKAGES:
        import_module(package)  # as programs do, before they make a callback
#: Of a Trainer that shows and writes nothing, and reads its data in this process.
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "logger": False,
    "num_sanity_val_steps": 0,
}


def data(samples: int = 16, batch_size: int = 4) -> Any:
    """Batches of numbers and their sums, the same ones each time."""
    x = torch.randn(samples, 4, generator=torch.Generator().manual_seed(3))
    dataset = torch.utils.data.TensorDataset(x, x.sum(1, keepdim=True))
    return torch.utils.data.DataLoader(dataset, batch_size=batch_size)


def module_class(package: str) -> Any:
    """A linear model of that package's LightningModule, which logs as people do."""
    base: Any = import_module(package).LightningModule

    class Linear(base):
        def __init__(self, lr: float = 0.01, nan_at: int | None = None, error_in: str = "") -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(4, 1)

        def loss(self, batch: Any) -> Any:
            x, y = batch
            return torch.nn.functional.mse_loss(self.layer(x), y)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.loss(batch)
            if self.global_step == self.hparams.nan_at:
                loss = loss * float("nan")
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            if batch_idx % 2 == 0:
                self.log("even", float(batch_idx))
            if self.hparams.error_in == "training":
                raise ZeroDivisionError("in training_step")
            return loss

        def on_train_epoch_end(self) -> None:
            self.log("late", 10.0 + self.current_epoch)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            if self.hparams.error_in == "validation":
                raise ZeroDivisionError("in validation_step")
            self.log("val_loss", self.loss(batch))
            self.log("score", 0.25)

        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log("test_loss", self.loss(batch))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    return Linear
