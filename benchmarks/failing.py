"""Failing: small real trainings that are made to fail in one way each, to judge a post-mortem on.

Each is a network of numpy on data of scikit-learn; what differs between copies (data, width, activation,
how it is broken) is decided by the seed. `log` is what a loop calls, `monitor.log` for one.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Log = Callable[..., None]
#: Copies that rules were tuned on, and those that were only judged.
TUNED, HELD_OUT = range(10), range(10, 20)
_VALIDATE_EVERY = 20


@dataclass
class Data:
    """A table of scikit-learn's, standardised: rows to train on, rows to validate with."""

    x: Floats
    y: NDArray[np.int64]
    held_x: Floats
    held_y: NDArray[np.int64]

    @classmethod
    def of(cls, random: np.random.Generator, rows: int | None = None) -> Data:
        """One of three data sets; at most `rows` of it to train on."""
        import sklearn.datasets

        name = str(random.choice(["digits", "wine", "breast_cancer"]))
        x, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
        x = (x - x.mean(0)) / (x.std(0) + 1e-9)
        order = random.permutation(len(x))
        x, y = x[order], y[order]
        cut = 4 * len(x) // 5
        return cls(x[: min(cut, rows or cut)], y[: min(cut, rows or cut)], x[cut:], y[cut:])

    @property
    def classes(self) -> int:
        return int(self.held_y.max()) + 1


class Net:
    """A perceptron of many layers with softmax and cross-entropy, trained by SGD with momentum."""

    def __init__(
        self, sizes: Sequence[int], random: np.random.Generator, activation: str = "relu", gain: float = 1.4
    ) -> None:
        self.activation = activation
        self.is_squared = False  # the error of the shares and not cross-entropy
        pairs = list(itertools.pairwise(sizes))
        self.weights = [random.normal(0, gain / np.sqrt(a), (a, b)) for a, b in pairs]
        self.biases = [np.zeros(b) for _, b in pairs]
        self._speed = [np.zeros_like(one) for one in (*self.weights, *self.biases)]

    def _forward(self, x: Floats) -> tuple[list[Floats], Floats]:
        outs = [x]
        for at, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            z = outs[-1] @ weight + bias
            if at < len(self.weights) - 1:
                if self.activation == "relu":
                    z = np.maximum(z, 0)
                else:
                    z = np.tanh(z) if self.activation == "tanh" else 1 / (1 + np.exp(-z))
            outs.append(z)
        shifted = outs[-1] - outs[-1].max(1, keepdims=True)
        share = np.exp(shifted)
        return outs, share / share.sum(1, keepdims=True)

    def judge(self, x: Floats, y: NDArray[np.int64]) -> dict[str, float]:
        outs, share = self._forward(x)
        shifted = outs[-1] - outs[-1].max(1, keepdims=True)
        log_share = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        right = float((share.argmax(1) == y).mean())
        if self.is_squared:
            wrong = share - np.eye(share.shape[1])[y]
            return {"loss": float(np.square(wrong).sum(1).mean()), "accuracy": right}
        return {"loss": float(-log_share[np.arange(len(y)), y].mean()), "accuracy": right}

    def step(self, x: Floats, y: NDArray[np.int64], rate: float, momentum: float = 0.9) -> dict[str, float]:
        """One update; what a loop logs of it."""
        told = self.judge(x, y)
        outs, share = self._forward(x)
        delta = (share - np.eye(share.shape[1])[y]) / len(y)
        if self.is_squared:
            delta = 2 * share * (delta - (delta * share).sum(1, keepdims=True))
        gradients: list[Floats] = []
        for at in range(len(self.weights) - 1, -1, -1):
            gradients[:0] = [outs[at].T @ delta, delta.sum(0)]
            if at:
                out = outs[at]
                slope = (
                    (out > 0) * 1.0 if self.activation == "relu" else 1 - out**2 if self.activation == "tanh"
                    else out * (1 - out)
                )  # fmt: skip
                delta = (delta @ self.weights[at].T) * slope
        self.layer_norms = [float(np.linalg.norm(one)) for one in gradients[::2]]
        told["gradient_norm"] = float(np.sqrt(sum(np.square(one).sum() for one in gradients)))
        told["learning_rate"] = rate
        parameters = [one for pair in zip(self.weights, self.biases, strict=True) for one in pair]
        for at, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            if self._speed[at].shape != gradient.shape:
                self._speed[at] = np.zeros_like(gradient)
            self._speed[at] = momentum * self._speed[at] - rate * gradient
            np.add(parameter, self._speed[at], out=parameter)
        return told


@dataclass
class Training:
    """What the copies have in common: data, a network, batches."""

    seed: int
    rows: int | None = None
    depth: int = 2
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng([7, self.seed])
        self.data = Data.of(self.random, self.rows)
        self.width = int(self.random.choice([16, 32, 48]))
        self.batch = int(self.random.choice([16, 32]))
        self.rate = float(self.random.choice([0.01, 0.02]))
        self.activation = str(self.random.choice(["relu", "tanh"]))

    def net(self, activation: str | None = None, gain: float | None = None) -> Net:
        chosen = activation or self.activation
        sizes = [self.data.x.shape[1], *[self.width] * self.depth, self.data.classes]
        return Net(sizes, self.random, chosen, gain or (1.4 if chosen == "relu" else 1.0))

    def batches(self, steps: int) -> Iterator[tuple[int, Floats, NDArray[np.int64]]]:
        for step in range(steps):
            rows = self.random.integers(len(self.data.x), size=self.batch)
            yield step, self.data.x[rows], self.data.y[rows]

    def validate(self, net: Net, log: Log, step: int) -> None:
        if step % _VALIDATE_EVERY == _VALIDATE_EVERY - 1:
            log(net.judge(self.data.held_x, self.data.held_y), step=step, tags={"split": "validation"})


def healthy(seed: int, log: Log) -> None:
    """Learns what it should."""
    training = Training(seed)
    net = training.net()
    for step, x, y in training.batches(400):
        log(net.step(x, y, training.rate * min(1.0, (step + 1) / 20)), step=step)
        training.validate(net, log, step)


def nan(seed: int, log: Log) -> None:
    """A row of the data is NaN, or a feature that is constant in the batch is divided by its deviation."""
    training = Training(seed)
    net, bad = training.net(), int(training.random.integers(60, 300))
    for step, rows, y in training.batches(bad + (20 if seed % 3 else 1)):
        x = rows.copy()
        if step == bad:
            x[:, 0] = 1.0
            x = (x - x.mean(0)) / x.std(0) if seed % 2 else np.where(x == x[0], np.nan, x)
        log(net.step(x, y, training.rate), step=step)
        training.validate(net, log, step)


def exploding_gradients(seed: int, log: Log) -> None:
    """Weights that make every layer's output larger than its input, or data that turn into large numbers."""
    if seed % 2:
        training = Training(seed, depth=8)
        net = training.net("relu", gain=float(training.random.uniform(3.0, 5.0)))
        bad = -1
    else:
        training = Training(seed)
        net, bad = training.net("relu"), int(training.random.integers(80, 200))
    for step, rows, y in training.batches(bad + 60):
        x = training.random.normal(0, 1e4, rows.shape) if 0 <= bad <= step else rows
        log(net.step(x, y, training.rate), step=step)
        training.validate(net, log, step)


def vanishing_gradients(seed: int, log: Log) -> None:
    """Many saturated layers, whose norms are logged, or a saturated output under a squared error."""
    training = Training(seed, depth=10 + seed % 5 if seed % 2 else 2)
    if seed % 2:
        net = training.net("sigmoid", gain=float(training.random.uniform(0.5, 1.0)))
    else:
        net = training.net("tanh", gain=float(training.random.uniform(1500, 4000)))
        net.is_squared = True
    for step, x, y in training.batches(300):
        log(net.step(x, y, training.rate * 0.1), step=step)
        if seed % 2:
            for layer, norm in enumerate(net.layer_norms):
                log({"gradient_norm": norm}, step=step, tags={"layer": layer})
        training.validate(net, log, step)


def learning_rate_too_high(seed: int, log: Log) -> None:
    """Hundreds of times the rate that works."""
    training = Training(seed)
    net, rate = training.net(), training.rate * float(training.random.uniform(200, 2000))
    for step, x, y in training.batches(200):
        log(net.step(x, y, rate), step=step)
        training.validate(net, log, step)


def overfitting(seed: int, log: Log) -> None:
    """A few dozen rows, of which some have a wrong label, learned by heart."""
    training = Training(seed, rows=int(np.random.default_rng(seed).integers(30, 70)))
    training.width = 64
    wrong = training.random.random(len(training.data.y)) < 0.25
    training.data.y = np.where(
        wrong, training.random.integers(training.data.classes, size=len(wrong)), training.data.y
    )
    net = training.net()
    for step, x, y in training.batches(1200):
        log(net.step(x, y, training.rate), step=step)
        training.validate(net, log, step)


def plateau(seed: int, log: Log) -> None:
    """A rate at which nothing moves, or labels that have nothing to do with the rows."""
    training = Training(seed)
    net = training.net(gain=0.3)
    for step, x, labels in training.batches(400):
        y = training.random.integers(training.data.classes, size=len(labels)) if seed % 2 else labels
        log(net.step(x, y, training.rate * (0.3 if seed % 2 else 1e-5)), step=step)
        training.validate(net, log, step)


def data_wait(seed: int, log: Log) -> None:
    """A loader that takes longer than the step."""
    training = Training(seed)
    net, wait = training.net(), float(training.random.uniform(0.002, 0.005))
    for step, x, y in training.batches(80):
        start = time.perf_counter()
        time.sleep(wait)
        ready = time.perf_counter()
        told = net.step(x, y, training.rate)
        end = time.perf_counter()
        log(told | {"data_wait": ready - start, "step_duration": end - start}, step=step)
        training.validate(net, log, step)


def silent_expert(seed: int, log: Log) -> None:
    """Of several experts the router sends one nothing, or one has a NaN among its weights."""
    experts = [Training(100 * seed + at) for at in range(3 + seed % 4)]
    nets = [one.net() for one in experts]
    dead = seed % len(nets)
    if seed % 2:
        nets[dead].weights[0][0, 0] = np.nan
    told: list[dict[str, Any]] = [{} for _ in nets]
    loops = [one.batches(200) for one in experts]
    for step in range(200):
        for at, (net, loop) in enumerate(zip(nets, loops, strict=True)):
            _, x, y = next(loop)
            if at == dead and not seed % 2:
                told[at] = net.judge(experts[at].data.x[:50], experts[at].data.y[:50])
            else:
                told[at] = net.step(x, y, experts[at].rate)
            log({"loss": told[at]["loss"]}, step=step, tags={"expert": at})
        log(loss=float(np.mean([one["loss"] for at, one in enumerate(told) if at != dead])), step=step)


FAILING: dict[str, Callable[[int, Log], None]] = {
    one.__name__: one
    for one in (
        nan,
        exploding_gradients,
        vanishing_gradients,
        learning_rate_too_high,
        overfitting,
        plateau,
        data_wait,
        silent_expert,
    )
}
