"""Lightning: what `fit`, `validate` and `test` leave in a run, with either package's Trainer."""

from __future__ import annotations

import math
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import AndonStop, Monitor
from entrenar_otel.integrations.lightning import EntrenarCallback
from tests.integrations.lightning_models import PACKAGES, QUIET, data, module_class
from tests.integrations.recorded_runs import examples, rows, series, states, values

# Lightning's own: of few workers, small data sets, and what it calls of PyTorch
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*:UserWarning", "ignore:.*:FutureWarning", "ignore:.*:DeprecationWarning"
)
README = Path(__file__).parents[2] / "README.md"
both = pytest.mark.parametrize("package", PACKAGES)


def fit(package: str, *callbacks: Any, module: Any = None, validates: bool = False, **settings: Any) -> Any:
    """Train for two epochs of four batches, or as `settings` say; the Trainer."""
    pl = import_module(package)
    trainer = pl.Trainer(**{**QUIET, "max_epochs": 2, **settings}, callbacks=list(callbacks))
    trainer.fit(module or module_class(package)(), data(), data() if validates else None)
    return trainer


@both
def test_every_batch_has_its_loss(package: str) -> None:
    fit(package, EntrenarCallback())
    losses = series("loss")
    assert [place[:3] for place in losses] == [
        (epoch, b, 4 * epoch + b) for epoch in (0, 1) for b in range(4)
    ]
    assert all(math.isfinite(loss) and loss > 0 for *_, loss in losses)
    assert values("samples") == [4.0] * 8
    assert len(values("step_duration")) == 8
    assert values("learning_rate") == [0.01] * 8
    assert states() == ["completed"]


@both
def test_what_self_log_was_given(package: str) -> None:
    fit(package, EntrenarCallback())
    # on_step and on_epoch: the batches are the loss itself, the epoch has its mean
    assert values("loss", "train") == pytest.approx(
        [sum(part) / 4 for part in (values("loss")[:4], values("loss")[4:])]
    )
    assert values("train_loss_step") == []
    # not logged at every batch, and not repeated where it was not
    assert [(batch, value) for _, batch, _, value in series("even")] == [(0, 0.0), (2, 2.0)] * 2
    assert [(epoch, value) for epoch, _, _, value in series("late", "train")] == [(0, 10.0), (1, 11.0)]


@both
def test_validation_has_its_split(package: str) -> None:
    fit(package, EntrenarCallback(), validates=True, num_sanity_val_steps=2)
    assert [epoch for epoch, *_ in series("loss", "validation")] == [0, 1]  # none of the sanity check
    assert values("score", "validation") == [0.25, 0.25]
    assert len(values("loss")) == 8


def test_evaluation_without_training_is_a_run() -> None:
    pl = import_module(PACKAGES[0])
    trainer = pl.Trainer(**QUIET, callbacks=[EntrenarCallback()])
    trainer.validate(module_class(PACKAGES[0])(), data(), verbose=False)
    trainer.test(module_class(PACKAGES[0])(), data(), verbose=False)
    assert len(values("loss", "validation")) == 1
    assert len(values("loss", "test")) == 1
    assert set(states()) == {"completed"}


@both
def test_a_nan_stops_at_its_own_step(package: str) -> None:
    with pytest.raises(AndonStop, match="step 5"):
        fit(package, EntrenarCallback(), module=module_class(package)(nan_at=5))
    *good, (epoch, batch, step, loss) = series("loss")
    assert (epoch, batch, step) == (1, 1, 5)
    assert math.isnan(loss)
    assert all(math.isfinite(value) for *_, value in good)
    assert states() == ["stopped"]


def test_a_nan_stops_softly() -> None:
    trainer = fit(PACKAGES[0], EntrenarCallback(on_stop="stop"), module=module_class(PACKAGES[0])(nan_at=2))
    assert trainer.should_stop
    assert [math.isnan(loss) for loss in values("loss")] == [False, False, True]
    assert states() == ["stopped"]


def test_the_monitor_that_was_given_stays_open() -> None:
    with Monitor("mine", config={"seed": 1}) as monitor:
        fit(PACKAGES[0], EntrenarCallback(monitor))
        assert not monitor.is_closed
        fit(PACKAGES[0], EntrenarCallback(monitor))
    assert rows("SELECT DISTINCT run_id FROM metrics") == [("mine",)]
    assert len(values("loss")) == 16


def test_hyper_parameters_are_the_configuration() -> None:
    fit(PACKAGES[0], EntrenarCallback(), gradient_clip_val=0.5)
    (config, model), *more = rows("SELECT config, model_id FROM runs")
    assert model == "Linear"
    assert more == []
    for part in ('"lr": 0.01', '"gradient_clip_val": 0.5', '"max_epochs": 2', '"name": "SGD"'):
        assert part in config


def test_accumulated_gradients() -> None:
    """The batches of one optimizer step share it, and each has the loss that it returned."""
    fit(PACKAGES[0], EntrenarCallback(), max_epochs=1, module=module_class(PACKAGES[0])(lr=0.0))
    alone = values("loss")
    fit(
        PACKAGES[0],
        EntrenarCallback(run_id="accumulated", gradient_norm=True),
        max_epochs=1,
        module=module_class(PACKAGES[0])(lr=0.0),
        accumulate_grad_batches=2,
    )
    assert len(alone) == 4
    of_run = "FROM metrics WHERE run_id = 'accumulated' AND cardinality(tags) = 0 AND metric"
    places = rows(f"SELECT batch, step, value {of_run} = 'loss' ORDER BY seq")
    assert [place[:2] for place in places] == [(0, 0), (1, 0), (2, 1), (3, 1)]
    norms = rows(f"SELECT value {of_run} = 'gradient_norm'")
    assert len(norms) == 2
    assert all(norm > 0 for (norm,) in norms)


@both
def test_manual_optimisation(package: str) -> None:
    """Two optimizers, as of a GAN: `step` counts the steps of both, as `global_step` does."""
    import torch

    class Manual(module_class(package)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> None:
            for name, optimizer in zip(("a_loss", "b_loss"), self.optimizers(), strict=True):
                loss = self.loss(batch)
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
                self.log(name, loss)

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=lr) for lr in (0.01, 0.001)]

    fit(package, EntrenarCallback(), module=Manual(), max_epochs=1)
    assert [step for _, _, step, _ in series("a_loss")] == [0, 2, 4, 6]
    assert len(values("b_loss")) == 4
    assert values("loss") == []  # nothing was returned
    rates = "SELECT DISTINCT tags['parameter_group'], value FROM metrics WHERE metric = 'learning_rate'"
    assert sorted(rows(rates)) == [("SGD", 0.01), ("SGD-1", 0.001)]


def test_the_examples_of_the_docs() -> None:
    for example in examples("lightning.md"):
        exec(example, {"__name__": "__main__"})
    assert states() == ["completed", "completed"]
    assert len(values("loss")) == 100


def test_the_example_of_the_readme() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), flags=re.M | re.S)
    (example,) = [block for block in blocks if "integrations.lightning" in block]
    exec(example, {"model": module_class(PACKAGES[0])(), "data": data()})
    assert len(values("loss")) == 12
    assert states() == ["completed"]
