"""Two ranks of Lightning on this machine: `python lightning_ranks.py ddp_fork|ddp_spawn`."""

from __future__ import annotations

import sys
import warnings

from entrenar_otel.integrations.lightning import EntrenarCallback

warnings.simplefilter("ignore")

import lightning.pytorch as pl  # noqa: E402 -- after ours, as import sorting has it
from lightning.pytorch.demos.boring_classes import BoringModel  # noqa: E402


def main(strategy: str) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        max_epochs=1,
        limit_train_batches=3,
        limit_val_batches=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[EntrenarCallback()],
    )
    trainer.fit(BoringModel())


if __name__ == "__main__":
    main(sys.argv[1])
