"""scale_lr: whatever sets the learning rate anew sets `factor` times what it would have been."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from entrenar_otel import ConfigError
from entrenar_otel.andon.scale_lr import scale_lr

STEPS, FACTOR = 40, 0.25

NO_TORCH = "NOT TESTED with real schedulers: torch is missing; scripts/setup takes its wheel from ../shared"


class Tensor:
    """What is changed in place, as a tensor is."""

    def __init__(self, value: float) -> None:
        self.value = value

    def mul_(self, factor: float) -> Tensor:
        self.value *= factor
        return self

    def __float__(self) -> float:
        return self.value


# -- without torch -------------------------------------------------------------------------------


def test_groups_and_schedulers_by_their_attributes() -> None:
    """All that holds a learning rate is scaled, once; what holds none is left alone."""
    groups = [
        {"lr": 0.1, "initial_lr": 0.2, "max_lr": 1.0, "min_lr": 0.01, "momentum": 0.9},
        {"lr": 0.4, "swa_lr": 0.04, "weight_decay": 0.5},
    ]
    inner = SimpleNamespace(base_lrs=[0.2, 0.4], eta_min=0.01, last_epoch=3)
    plateau = SimpleNamespace(min_lrs=(0.01, 0.02), eps=1e-8, patience=10)
    chain = SimpleNamespace(_schedulers=[inner, SimpleNamespace(_schedulers=[plateau])], _last_lr=[0.1, 0.4])
    assert scale_lr(SimpleNamespace(param_groups=groups), 0.5, chain) == [0.05, 0.2]
    assert groups == [
        {"lr": 0.05, "initial_lr": 0.1, "max_lr": 0.5, "min_lr": 0.005, "momentum": 0.9},
        {"lr": 0.2, "swa_lr": 0.02, "weight_decay": 0.5},
    ]
    assert vars(inner) == {"base_lrs": [0.1, 0.2], "eta_min": 0.005, "last_epoch": 3}
    assert vars(plateau) == {"min_lrs": [0.005, 0.01], "eps": 5e-9, "patience": 10}
    assert chain._last_lr == [0.05, 0.2]


def test_a_list_of_schedulers() -> None:
    """One a batch and one an epoch, as some loops have them: both are scaled."""
    both = [SimpleNamespace(base_lrs=[1.0]), SimpleNamespace(base_lrs=[2.0])]
    scale_lr(SimpleNamespace(param_groups=[{"lr": 1.0}]), 0.5, both)
    assert [one.base_lrs for one in both] == [[0.5], [1.0]]


def test_a_tensor_is_scaled_in_place_and_once() -> None:
    """A captured graph holds on to it; two groups made with one tensor share it."""
    shared = Tensor(0.4)
    optimizer = SimpleNamespace(param_groups=[{"lr": shared}, {"lr": shared}])
    assert scale_lr(optimizer, 0.5) == [0.2, 0.2]
    assert [group["lr"] for group in optimizer.param_groups] == [shared, shared]


@pytest.mark.parametrize("name", ["learning_rate", "lr", "learning_rate_init"])
def test_an_optimizer_with_a_number(name: str) -> None:
    """scikit-learn's, and whatever else has one."""
    optimizer = SimpleNamespace(**{name: 0.5})
    assert scale_lr(optimizer, 0.1) == [pytest.approx(0.05)]
    assert getattr(optimizer, name) == pytest.approx(0.05)


def test_a_keras_variable() -> None:
    """It is assigned to, not replaced."""

    class Variable(Tensor):
        def assign(self, value: float) -> None:
            self.value = value

    variable = Variable(0.5)
    optimizer = SimpleNamespace(learning_rate=variable)
    assert scale_lr(optimizer, 0.5) == [0.25]
    assert optimizer.learning_rate is variable


@pytest.mark.parametrize("factor", [0, -1, math.inf, math.nan, True, "0.5", None])
def test_a_factor_that_cannot_be(factor: Any) -> None:
    """Nothing is changed."""
    optimizer = SimpleNamespace(param_groups=[{"lr": 1.0}])
    with pytest.raises(ConfigError, match="expected a factor above 0, got"):
        scale_lr(optimizer, factor)
    assert optimizer.param_groups == [{"lr": 1.0}]


@pytest.mark.parametrize("learning_rate", [True, "auto", None])
def test_an_optimizer_that_cannot_be_scaled(learning_rate: Any) -> None:
    """It is said what was expected."""
    with pytest.raises(ConfigError, match="expected an optimizer with param_groups"):
        scale_lr(SimpleNamespace(learning_rate=learning_rate), 0.5)


# -- with torch ----------------------------------------------------------------------------------

Make = Callable[[Any, Any], Any]  # torch.optim.lr_scheduler, optimizer → scheduler

SCHEDULERS: dict[str, Make] = {
    "none": lambda s, o: None,
    "StepLR": lambda s, o: s.StepLR(o, 7, gamma=0.5),
    "MultiStepLR": lambda s, o: s.MultiStepLR(o, [5, 15, 30]),
    "ExponentialLR": lambda s, o: s.ExponentialLR(o, 0.95),
    "MultiplicativeLR": lambda s, o: s.MultiplicativeLR(o, lambda e: 0.9 + 0.01 * (e % 5)),
    "LambdaLR": lambda s, o: s.LambdaLR(o, lambda e: 1 / (1 + e)),
    "ConstantLR": lambda s, o: s.ConstantLR(o, 0.1, total_iters=20),
    "LinearLR": lambda s, o: s.LinearLR(o, 0.1, total_iters=20),
    "PolynomialLR": lambda s, o: s.PolynomialLR(o, 30, power=2.0),
    "CosineAnnealingLR": lambda s, o: s.CosineAnnealingLR(o, 15, eta_min=0.01),
    "CosineAnnealingLR to 0": lambda s, o: s.CosineAnnealingLR(o, STEPS),
    "WarmRestarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 6, T_mult=2, eta_min=0.01),
    "OneCycleLR": lambda s, o: s.OneCycleLR(o, 1.0, total_steps=STEPS + 1, cycle_momentum=False),
    "OneCycleLR three phases": lambda s, o: s.OneCycleLR(
        o, 1.0, total_steps=STEPS + 1, three_phase=True, anneal_strategy="linear", cycle_momentum=False
    ),
    "CyclicLR": lambda s, o: s.CyclicLR(o, 0.01, 0.5, step_size_up=5, cycle_momentum=False),
    "CyclicLR exp": lambda s, o: s.CyclicLR(
        o, 0.01, 0.5, step_size_up=5, mode="exp_range", gamma=0.97, cycle_momentum=False
    ),
    "SequentialLR": lambda s, o: s.SequentialLR(
        o, [s.LinearLR(o, 0.1, total_iters=10), s.CosineAnnealingLR(o, 25, eta_min=0.02)], [10]
    ),
    "SequentialLR of three": lambda s, o: s.SequentialLR(
        o, [s.ConstantLR(o, 0.1), s.LambdaLR(o, lambda e: 0.9**e), s.StepLR(o, 3)], [8, 20]
    ),
    "ChainedScheduler": lambda s, o: s.ChainedScheduler(
        [s.ConstantLR(o, 0.1, total_iters=12), s.ExponentialLR(o, 0.9)], optimizer=o
    ),
    "ReduceLROnPlateau": lambda s, o: s.ReduceLROnPlateau(o, factor=0.3, patience=1, min_lr=0.003),
    "ReduceLROnPlateau to eps": lambda s, o: s.ReduceLROnPlateau(o, factor=0.1, patience=0),
    "SWALR": lambda s, o: __import__("torch").optim.swa_utils.SWALR(o, swa_lr=0.05, anneal_epochs=20),
}


def curves(
    name: str, optimizer_name: str, scale_at: int | None, *, tensor: bool = False
) -> list[list[float]]:
    """The learning rates of every step, the optimizer's as it steps; scaled before step `scale_at`."""
    torch = pytest.importorskip("torch", reason=NO_TORCH)
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.ones(2)  # what the steps do with it is not looked at: no loss, no backward()
    number = torch.tensor(0.4) if tensor else 0.4
    groups: list[dict[str, Any]] = [{"params": [weight]} for weight in weights]
    if not tensor:
        groups[1]["lr"] = 0.2
    optimizer = getattr(torch.optim, optimizer_name)(groups, lr=number)
    scheduler = SCHEDULERS[name](torch.optim.lr_scheduler, optimizer)
    seen = []
    for step in range(STEPS):
        if step == scale_at:
            scale_lr(optimizer, FACTOR, scheduler)
        seen.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        if scheduler is not None:
            scheduler.step(*([1.0] if "Plateau" in name else []))
            if hasattr(scheduler, "_last_lr"):
                assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
    return seen


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_rest_of_the_schedule_is_scaled(name: str, optimizer: str) -> None:
    """Scaled before any step, the curve from there on is `factor` times the one that would have been."""
    plain = curves(name, optimizer, None)
    for at in (0, 1, 7, 10, 17, 33):
        scaled = curves(name, optimizer, at)
        assert scaled[:at] == plain[:at]
        for step in range(at, STEPS):
            expected = [FACTOR * rate for rate in plain[step]]
            assert scaled[step] == pytest.approx(expected, rel=1e-9, abs=1e-15), (
                f"step {step}, scaled at {at}"
            )


@pytest.mark.parametrize("name", [one for one in SCHEDULERS if one != "MultiplicativeLR"])
def test_a_learning_rate_that_is_a_tensor(name: str) -> None:
    """As `capturable` optimizers want it; both groups were made with the same one."""
    plain = curves(name, "Adam", None, tensor=True)
    for at in (1, 17):
        scaled = curves(name, "Adam", at, tensor=True)
        for step in range(at, STEPS):
            assert scaled[step] == pytest.approx([FACTOR * rate for rate in plain[step]], rel=1e-4, abs=1e-9)


def test_twice_and_over_a_checkpoint() -> None:
    """Reduced twice, saved, and loaded into new objects: the schedule goes on at a sixteenth."""
    torch = pytest.importorskip("torch", reason=NO_TORCH)

    def make() -> tuple[Any, Any]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.4)
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS, eta_min=0.01)

    def rates(optimizer: Any, scheduler: Any, steps: int) -> list[float]:
        found = []
        for _ in range(steps):
            optimizer.step()
            scheduler.step()
            found += scheduler.get_last_lr()
        return found

    expected = rates(*make(), STEPS)
    optimizer, scheduler = make()
    rates(optimizer, scheduler, 10)
    scale_lr(optimizer, FACTOR, scheduler)
    rates(optimizer, scheduler, 5)
    scale_lr(optimizer, FACTOR, scheduler)
    saved = copy.deepcopy((optimizer.state_dict(), scheduler.state_dict()))
    again, schedule = make()
    again.load_state_dict(saved[0])
    schedule.load_state_dict(saved[1])
    assert rates(again, schedule, 25) == pytest.approx([FACTOR**2 * rate for rate in expected[15:]])
