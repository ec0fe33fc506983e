"""Logged metrics of batches, beside what the Trainer itself shows."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

lightning: Any = pytest.importorskip("lightning")
torch: Any = pytest.importorskip("torch")

from entrenar_otel.integrations.lightning_logged import LoggedMetrics  # noqa: E402
from entrenar_otel.integrations.lightning_trainer import step_counter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning", "ignore:.*num_workers")


class Model(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.layer(batch[0]).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        if batch_idx % 3 == 1:
            self.log("rare", float(batch_idx))
        self.log("late", float(batch_idx), on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.layer(batch[0]).mean())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.01)


class Both(lightning.Callback):
    """Asks for what is new, quickly and by the Trainer."""

    def __init__(self) -> None:
        self.quick, self.asked = LoggedMetrics(), LoggedMetrics()
        self.found: list[tuple[dict[str, float], dict[str, float]]] = []
        self.steps: list[tuple[int, int]] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self._both(self.quick.new(trainer), self.asked.new(trainer))
        self.quick.begin_epoch()

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self._both(self.quick.new(trainer), self.asked.new(trainer))

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        quick = self.quick.new_of_batch(trainer)
        self._both(quick, self.asked.new(trainer))
        self.steps.append((step_counter(trainer).completed, trainer.global_step))

    def _both(self, quick: dict[str, Any], asked: dict[str, Any]) -> None:
        self.found.append(tuple({name: float(one) for name, one in all_.items()} for all_ in (quick, asked)))  # type: ignore[arg-type]


def test_a_batch_has_the_metrics_that_the_trainer_shows(tmp_path: Path) -> None:
    both, data = Both(), torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(24, 2)), 2)
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[both],
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        val_check_interval=5,
    )  # fmt: skip
    trainer.fit(Model(), data, data)
    assert [quick for quick, _ in both.found] == [asked for _, asked in both.found]
    assert [list(quick) for quick, _ in both.found] == [list(asked) for _, asked in both.found]
    assert sum("rare" in quick for quick, _ in both.found) == 12
    assert all(ours == theirs for ours, theirs in both.steps)
    assert both.quick._sizes is not None  # it was read where Lightning keeps it
    assert copy.deepcopy(both.quick)._held == {}


def test_a_trainer_that_keeps_them_elsewhere_is_asked() -> None:
    class Other:
        logged_metrics = {"loss": torch.tensor(0.5)}  # noqa: RUF012

    logged = LoggedMetrics()
    assert [*logged.new_of_batch(Other())] == ["loss"]
    assert logged.new_of_batch(Other()) == {}
    assert step_counter(Other()) is None
