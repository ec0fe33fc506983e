"""Recipes: small real trainings, each of a kind; two of every kind, one to tune on and one held out."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from benchmarks.trainings import Run, Settings, classify, mlp, train

Recipe = Callable[[Run, Settings], None]


# -- data -------------------------------------------------------------------------------------------


@cache
def digits() -> tuple[Any, Any]:
    import torch
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    return torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)


@cache
def shapes(side: int = 12) -> tuple[Any, Any]:
    """Drawn pictures of six shapes somewhere in noise; every twentieth label is wrong."""
    import torch

    random, found, labels = np.random.default_rng(3), [], []
    down, right = np.mgrid[:side, :side]
    for _ in range(3000):
        y, x, size, label = (
            random.uniform(3, 8),
            random.uniform(3, 8),
            random.uniform(2, 4),
            int(random.integers(6)),
        )
        v, h = down - y, right - x
        far = np.hypot(v, h)
        masks = (far < size, abs(far - size) < 0.8, (abs(v) < size) & (abs(h) < size), abs(v) < 1, abs(h) < 1)
        picture = masks[label] if label < 5 else (abs(v) < 1) | (abs(h) < 1)
        found.append(picture + random.normal(0, 0.5, (side, side)))
        labels.append(int(random.integers(6)) if random.random() < 0.05 else label)
    return torch.tensor(np.array(found), dtype=torch.float32), torch.tensor(labels)


def table(name: str) -> tuple[Any, Any]:
    import sklearn.datasets
    import torch

    x, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


@cache
def text(module: Any) -> Any:
    import torch

    letters = np.frombuffer(inspect.getsource(module).encode("ascii", "replace"), np.uint8)
    return torch.tensor(letters.astype(np.int64) % 128)


# -- language, and what was learned before ----------------------------------------------------------


def _letters(model: Any, corpus: Any, made: Settings, length: int = 24) -> Callable[[], tuple[Any, None]]:
    import torch
    from torch.nn.functional import cross_entropy

    def loss_of() -> tuple[Any, None]:
        starts = torch.randint(len(corpus) - length - 1, (made.batch // 4,))
        rows = torch.stack([corpus[start : start + length + 1] for start in starts])
        return cross_entropy(model(rows[:, :-1]).flatten(0, 1), rows[:, 1:].flatten()), None

    return loss_of


def _gru(width: int = 40) -> Any:
    from torch import nn

    class Gru(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.gru = nn.Embedding(128, width), nn.GRU(width, width, batch_first=True)
            self.head = nn.Linear(width, 128)

        def forward(self, x: Any) -> Any:
            return self.head(self.gru(self.embed(x))[0])

    return Gru()


def _transformer(width: int = 32) -> Any:
    import torch
    from torch import nn

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.place = nn.Embedding(128, width), nn.Embedding(64, width)
            layer = nn.TransformerEncoderLayer(width, 4, 96, batch_first=True, dropout=0.0, norm_first=True)
            self.body, self.head = (
                nn.TransformerEncoder(layer, 1, enable_nested_tensor=False),
                nn.Linear(width, 128),
            )

        def forward(self, x: Any) -> Any:
            n = x.shape[1]
            mask = nn.Transformer.generate_square_subsequent_mask(n)
            return self.head(self.body(self.embed(x) + self.place(torch.arange(n)), mask=mask))

    return Transformer()


def lm_gru(run: Run, made: Settings) -> None:
    model = _gru()
    train(run, model, _letters(model, text(argparse_()), made), 1200, made, 3e-3)


def lm_transformer(run: Run, made: Settings) -> None:
    model = _transformer()
    train(run, model, _letters(model, text(inspect), made), 1200, made, 2e-3)


def argparse_() -> Any:
    import argparse

    return argparse


def finetune_digits(run: Run, made: Settings) -> None:
    x, y = digits()
    model, few = mlp(64, 96, 96, 10), y < 6
    classify(Run(""), model, (x[few], y[few]), made, steps=600, rate=2e-3)
    classify(run, model, (x, y), made, steps=500, rate=1e-3)


def finetune_letters(run: Run, made: Settings) -> None:
    model = _gru(40)
    train(Run(""), model, _letters(model, text(json), made), 500, made, 4e-3)
    train(run, model, _letters(model, text(argparse_()), made), 400, made, 1e-3)


# -- pictures ---------------------------------------------------------------------------------------


def _cnn(side: int, classes: int, dropout: float = 0.0, norm: bool = False) -> Any:
    from torch import nn

    left = ((side - 2) // 2) ** 2
    return nn.Sequential(
        nn.Unflatten(1, (1, side)), nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12) if norm else nn.Identity(),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(12 * left, classes),
    )  # fmt: skip


def vision_digits(run: Run, made: Settings) -> None:
    x, y = digits()
    classify(run, _cnn(8, 10), (x.reshape(-1, 8, 8), y), made, steps=2500)


def vision_shapes(run: Run, made: Settings) -> None:
    classify(run, _cnn(12, 6, 0.2, norm=True), shapes(), made, steps=2500)


def epochs_digits(run: Run, made: Settings) -> None:
    x, y = digits()
    few = slice(0, 600)
    steps = 70 * (480 // made.batch)
    classify(run, _cnn(8, 10, 0.3), (x[few].reshape(-1, 8, 8), y[few]), made, steps=steps, epochs_only=True)


def epochs_shapes(run: Run, made: Settings) -> None:
    x, y = shapes()
    few = slice(0, 3000, 3)
    steps = 80 * (800 // made.batch)
    model = _cnn(12, 6, norm=made.seed % 2 == 0)
    classify(run, model, (x[few], y[few]), made, steps=steps, epochs_only=True)


# -- tables -----------------------------------------------------------------------------------------


def tabular_cancer(run: Run, made: Settings) -> None:
    name, width, classes = ("breast_cancer", 30, 2) if made.seed % 2 else ("wine", 13, 3)
    classify(run, mlp(width, 32, classes), table(name), made, steps=1500, epochs_only=made.seed > 3)


def tabular_diabetes(run: Run, made: Settings) -> None:
    import torch
    from torch.nn.functional import mse_loss

    if made.seed % 2:
        classify(run, mlp(4, 16, 3), table("iris"), made, steps=1500, epochs_only=made.seed > 3)
        return
    x, y = table("diabetes")
    y = ((y - y.mean()) / y.std()).float()
    model = mlp(10, 32, 1)

    def loss_of() -> tuple[Any, None]:
        rows = torch.randint(350, (made.batch,))
        return mse_loss(model(x[rows])[:, 0], y[rows]), None

    def validate() -> dict[str, float]:
        return {"loss": float(mse_loss(model(x[350:])[:, 0], y[350:]))}

    train(run, model, loss_of, 1500, made, 1e-3, 350 // made.batch, validate, made.seed > 3)


# -- reinforcement ----------------------------------------------------------------------------------


class _Poles:
    """The cart and its pole, many at once, as everybody has it."""

    def __init__(self, n: int, random: np.random.Generator) -> None:
        self.random, self.state = random, random.uniform(-0.05, 0.05, (n, 4))
        self.age = np.zeros(n)

    def step(self, action: Any) -> tuple[Any, Any]:
        x, v, angle, spin = self.state.T
        force = np.where(action == 1, 10.0, -10.0)
        swing = (force + 0.05 * spin**2 * np.sin(angle)) / 1.1
        turn = (9.8 * np.sin(angle) - np.cos(angle) * swing) / (
            0.5 * (4 / 3 - 0.1 * np.cos(angle) ** 2 / 1.1)
        )
        push = swing - 0.05 * turn * np.cos(angle) / 1.1
        after = np.stack([x + 0.02 * v, v + 0.02 * push, angle + 0.02 * spin, spin + 0.02 * turn], 1)
        self.age += 1
        fell = (abs(after[:, 0]) > 2.4) | (abs(after[:, 2]) > 0.21)
        over = fell | (self.age >= 300)
        seen = after.copy()
        after[over] = self.random.uniform(-0.05, 0.05, (int(over.sum()), 4))
        self.age[over] = 0
        self.state = after
        return seen, fell


def rl_actor_critic(run: Run, made: Settings) -> None:
    import torch

    made = replace(made, optimizer="adam")
    poles = _Poles(8, np.random.default_rng(made.seed))
    model = mlp(4, 48, 3, act="Tanh")

    def loss_of() -> tuple[Any, None]:
        total: Any = 0.0
        for _ in range(5):
            state = torch.tensor(poles.state, dtype=torch.float32)
            out = model(state)
            chance = torch.distributions.Categorical(logits=out[:, :2])
            action = chance.sample()
            seen, fell = poles.step(action.numpy())
            with torch.no_grad():
                worth = model(torch.tensor(seen, dtype=torch.float32))[:, 2]
                aim = 1 + 0.98 * worth * torch.tensor(~fell)
            off = aim - out[:, 2]
            total = total + (0.5 * off**2 - chance.log_prob(action) * off.detach()).mean()
            total = total - 0.01 * chance.entropy().mean()
        return total / 5, None

    train(run, model, loss_of, 2000, made, 2e-3)


def rl_q_learning(run: Run, made: Settings) -> None:
    import torch

    made = replace(made, optimizer="adam")
    random = np.random.default_rng(made.seed)
    poles = _Poles(4, random)
    model, target = mlp(4, 48, 2), mlp(4, 48, 2)
    memory: list[Any] = []
    calls = 0

    def loss_of() -> tuple[Any, None]:
        nonlocal calls
        if calls % 200 == 0:
            target.load_state_dict(model.state_dict())
        calls += 1
        state = poles.state.copy()
        with torch.no_grad():
            best = model(torch.tensor(state, dtype=torch.float32)).argmax(1).numpy()
        action = np.where(random.random(4) < max(0.05, 1 - calls / 800), random.integers(0, 2, 4), best)
        seen, fell = poles.step(action)
        memory.extend(zip(state, action, seen, fell, strict=True))
        del memory[:-8000]
        some = [memory[i] for i in random.integers(0, len(memory), made.batch)]
        s, a, n, f = (torch.tensor(np.array(column)) for column in zip(*some, strict=True))
        with torch.no_grad():
            aim = 1 + 0.98 * target(n.float()).max(1).values * ~f
        value = model(s.float())[torch.arange(len(a)), a.long()]
        return torch.nn.functional.smooth_l1_loss(value, aim), None

    train(run, model, loss_of, 2500, made, 1e-3)


# -- diffusion --------------------------------------------------------------------------------------


def _diffusion(run: Run, made: Settings, data: Any, width: int, steps: int) -> None:
    import torch

    model = mlp(data.shape[1] + 1, width, width, data.shape[1], act="SiLU")

    def loss_of() -> tuple[Any, None]:
        x = data[torch.randint(len(data), (made.batch,))]
        time, noise = torch.rand(len(x), 1), torch.randn_like(x)
        keep = torch.cos(time * 1.57) ** 2
        mixed = keep.sqrt() * x + (1 - keep).sqrt() * noise
        return ((model(torch.cat([mixed, time], 1)) - noise) ** 2).mean(), None

    train(run, model, loss_of, steps, made)


def diffusion_digits(run: Run, made: Settings) -> None:
    _diffusion(run, made, 2 * digits()[0] - 1, 128, 2500)


def diffusion_moons(run: Run, made: Settings) -> None:
    import torch
    from sklearn.datasets import make_moons

    _diffusion(run, made, torch.tensor(make_moons(2000, noise=0.05)[0], dtype=torch.float32), 64, 2500)


# -- small ------------------------------------------------------------------------------------------


def _physics(run: Run, made: Settings, order: int) -> None:
    """A network that obeys u'' = -π² sin(πx), or u' = -3u, with its edge values."""
    import torch

    model = mlp(1, 32, 32, 1, act="Tanh")

    def slope(y: Any, x: Any) -> Any:
        return torch.autograd.grad(y.sum(), x, create_graph=True)[0]

    def loss_of() -> tuple[Any, None]:
        x = torch.rand(made.batch, 1, requires_grad=True)
        u = model(x)
        first = slope(u, x)
        zero = model(torch.zeros(1, 1))
        if order == 2:
            off = slope(first, x) + 9.87 * torch.sin(3.1416 * x)
            return (off**2).mean() + 10 * (zero**2 + model(torch.ones(1, 1)) ** 2).mean(), None
        return ((first + 3 * u) ** 2).mean() + 10 * ((zero - 1) ** 2).mean(), None

    train(run, model, loss_of, 2500, made)


def small_physics(run: Run, made: Settings) -> None:
    import torch

    if made.seed % 2 == 0:
        _physics(run, made, 2)
        return
    model = mlp(1, 32, 1, act="Tanh")

    def loss_of() -> tuple[Any, None]:
        x = 6 * torch.rand(made.batch, 1) - 3
        return ((model(x) - torch.sin(2 * x)) ** 2).mean(), None

    train(run, model, loss_of, 2500, made, 3e-3)


def small_others(run: Run, made: Settings) -> None:
    import torch

    if made.seed % 3 == 0:
        _physics(run, made, 1)
        return
    if made.seed % 3 == 1:  # an autoencoder
        data = digits()[0]
        model = mlp(64, 32, 8, 32, 64)

        def loss_of() -> tuple[Any, None]:
            x = data[torch.randint(len(data), (made.batch,))]
            return ((model(x) - x) ** 2).mean(), None

    else:  # the first toy of everybody: a straight line
        model = mlp(3, 1)

        def loss_of() -> tuple[Any, None]:
            x = torch.randn(made.batch, 3)
            y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.1 * torch.randn(made.batch, 1)
            return ((model(x) - y) ** 2).mean(), None

    train(run, model, loss_of, 2000, made)


TUNED: dict[str, Recipe] = {
    "lm/gru": lm_gru,
    "finetune/digits": finetune_digits,
    "vision/digits": vision_digits,
    "epochs/digits": epochs_digits,
    "tabular/cancer": tabular_cancer,
    "rl/actor_critic": rl_actor_critic,
    "diffusion/digits": diffusion_digits,
    "small/physics": small_physics,
}
HELD_OUT: dict[str, Recipe] = {
    "lm/transformer": lm_transformer,
    "finetune/letters": finetune_letters,
    "vision/shapes": vision_shapes,
    "epochs/shapes": epochs_shapes,
    "tabular/diabetes": tabular_diabetes,
    "rl/q_learning": rl_q_learning,
    "diffusion/moons": diffusion_moons,
    "small/others": small_others,
}
