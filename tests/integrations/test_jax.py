"""JAX and Flax: a loop with `monitor.step()`, and losses that are still being computed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from entrenar_otel import AndonStop, Monitor
from tests.integrations.recorded_runs import examples, series, states, values

X = np.random.default_rng(5).normal(size=(80, 4)).astype("float32")
Y = X.sum(1, keepdims=True)
MODEL, OPTIMIZER = nn.Dense(1), optax.sgd(0.05)


@jax.jit  # type: ignore[untyped-decorator]
def update(weights: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any, Any]:
    loss, gradients = jax.value_and_grad(lambda w: jnp.mean((MODEL.apply(w, x) - y) ** 2))(weights)
    updates, state = OPTIMIZER.update(gradients, state)
    return optax.apply_updates(weights, updates), state, loss


def train(monitor: Monitor, *, nan_at: int | None = None, steps: int = 10) -> list[float]:
    weights = MODEL.init(jax.random.key(0), X[:1])
    state, losses = OPTIMIZER.init(weights), []
    for number in range(steps):
        rows = slice(8 * number % 80, 8 * number % 80 + 8)
        y = Y[rows] * np.nan if number == nan_at else Y[rows]
        with monitor.step(size=8):
            weights, state, loss = update(weights, state, X[rows], y)
            monitor.log(loss=loss)
        losses.append(loss)
    return [float(loss) for loss in losses]


def test_every_step_is_recorded() -> None:
    with Monitor("jax", quiet=True) as monitor:
        losses = train(monitor)
    assert values("loss") == pytest.approx(losses, rel=1e-6)
    assert values("samples") == [8.0] * 10
    assert [row[2] for row in series("loss")] == list(range(10))
    assert states() == ["completed"]


def test_a_nan_is_named_at_its_own_step() -> None:
    with pytest.raises(AndonStop, match="step 3"), Monitor("jax", quiet=True) as monitor:
        train(monitor, nan_at=3)
    bad = [row for row in series("loss") if np.isnan(row[3])]
    assert bad[0][2] == 3
    assert states() == ["stopped"]


def test_the_examples_of_the_docs() -> None:
    for example in examples("jax.md"):
        exec(example, {})
    assert states() == ["completed"]
    losses = values("loss")
    assert len(losses) == 60
    assert losses[-1] < losses[0] / 10
