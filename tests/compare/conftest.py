"""Runs with a known course, of seeds that differ by a known amount, in a lake of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from entrenar_otel import Monitor

#: Standard deviations: between runs of different seeds, and between steps of one.
BETWEEN, WITHIN = 0.003, 0.02

Train = Callable[..., None]


def _train(
    run_id: str,
    *,
    seed: int = 0,
    gain: float = 0.0,
    epochs: int = 12,
    steps: int = 60,
    model: str | None = "digits",
    version: str | None = None,
    config: dict[str, Any] | None = None,
    names: tuple[str, str] = ("loss", "accuracy"),
    lake: str = "lake",
) -> None:
    """A training whose validation accuracy ends near 0.9 + gain, and its loss near 0.3 − gain."""
    random = np.random.default_rng([seed, sum(run_id.encode())])
    offset = random.normal(0, BETWEEN)
    settings = {"lr": 0.1, "seed": seed} | (config or {})
    loss, accuracy = names
    with Monitor(run_id, model_id=model, version=version, config=settings, lake=lake, quiet=True) as monitor:
        for epoch in range(epochs):
            for batch in range(steps):
                t = epoch * steps + batch
                value = 0.3 + 2 * np.exp(-t / 40) - gain - offset + random.normal(0, WITHIN)
                monitor.log(**{loss: value}, epoch=epoch, batch=batch, step=t)
            reached = 0.9 - 0.4 * np.exp(-epoch) + gain + offset
            monitor.log(
                **{accuracy: reached}, epoch=epoch, step=(epoch + 1) * steps - 1, tags={"split": "validation"}
            )


@pytest.fixture
def train() -> Train:
    return _train


@pytest.fixture
def versions(lake_of: Callable[..., None]) -> None:
    """Five seeds of each: 1.1.0 is two points better than 1.0.0, and 1.0.1 as good."""

    def write() -> None:
        for seed in range(5):
            _train(f"base-{seed}", seed=seed, version="1.0.0")
            _train(f"same-{seed}", seed=seed, version="1.0.1", config={"lr": 0.11})
            _train(f"good-{seed}", seed=seed, version="1.1.0", gain=0.02, config={"optim": {"name": "adam"}})

    lake_of("versions", write)
