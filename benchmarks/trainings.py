"""Real trainings of many kinds, small enough for two cores, to judge the defaults on beside language models.

Each recipe is made six times, with other settings by its seed. Those of `TUNED` were tuned on, those of
`HELD_OUT` are other data and other models of the same kinds, and were only judged. All are healthy: they
learn what they should, however roughly. The curves are kept in a folder, since they take minutes to make.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
COPIES = 6
#: Where the curves are kept once they were made.
CACHE = Path(os.environ.get("ENTRENAR_TRAININGS", Path(tempfile.gettempdir()) / "entrenar-trainings"))


@dataclass
class Run:
    """What one training logged: for each series `(metric, split)` the steps and the values."""

    name: str
    series: dict[tuple[str, str], tuple[list[int], list[float]]] = field(default_factory=dict)

    def log(self, step: int, values: Mapping[str, float], split: str = "") -> None:
        for metric, value in values.items():
            steps, column = self.series.setdefault((metric, split), ([], []))
            steps.append(step)
            column.append(float(f"{float(value):.6g}"))

    @property
    def kind(self) -> str:
        return self.name.partition("/")[0]

    @property
    def steps(self) -> int:
        return max(steps[-1] for steps, _ in self.series.values()) + 1


@dataclass(frozen=True)
class Settings:
    """What differs between the copies of a recipe."""

    seed: int
    optimizer: str
    schedule: str
    batch: int
    pace: float  # times the recipe's learning rate


def settings(seed: int) -> Settings:
    random = np.random.default_rng([19, seed])
    return Settings(
        seed,
        str(random.choice(["adam", "adamw", "sgd"])),
        str(random.choice(["constant", "cosine", "steps", "warmup"])),
        int(random.choice([16, 32, 64])),
        float(random.choice([0.3, 1.0, 2.0])),
    )


def _factor(schedule: str, progress: float) -> float:
    """What the learning rate is multiplied by."""
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if schedule == "steps":
        return 0.1 ** int(3 * progress)
    return min(1.0, 20 * progress + 0.01) * (1 - 0.9 * progress) if schedule == "warmup" else 1.0


def train(
    run: Run,
    model: Any,
    loss_of: Callable[[], tuple[Any, float | None]],
    steps: int,
    made: Settings,
    rate: float = 1e-3,
    per_epoch: int = 0,
    validate: Callable[[], dict[str, float]] | None = None,
    epochs_only: bool = False,
) -> None:
    """`steps` updates; loss and gradient norm (and accuracy) of each are logged, or the means of epochs."""
    import torch

    rate *= made.pace
    kinds: dict[str, Callable[..., Any]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    if made.optimizer in kinds:
        optimizer = kinds[made.optimizer](model.parameters(), lr=rate)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=20 * rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: _factor(made.schedule, at / steps))
    seen: list[dict[str, float]] = []
    for step in range(steps):
        loss, accuracy = loss_of()
        optimizer.zero_grad()
        loss.backward()
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0))
        optimizer.step()
        schedule.step()
        values = {"loss": float(loss.detach()), "gradient_norm": norm}
        if accuracy is not None:
            values["accuracy"] = accuracy
        if not epochs_only:
            run.log(step, values)
        seen.append(values)
        if per_epoch and (step + 1) % per_epoch == 0:
            epoch = (step + 1) // per_epoch - 1
            if epochs_only:
                run.log(epoch, {name: float(np.mean([one[name] for one in seen])) for name in values})
            if validate is not None:
                model.eval()
                with torch.no_grad():
                    run.log(epoch if epochs_only else step, validate(), "validation")
                model.train()
            seen = []


def classify(
    run: Run, model: Any, data: tuple[Any, Any], made: Settings, *, steps: int, rate: float = 1e-3, **kw: Any
) -> None:
    """A classifier of rows; the last fifth validates."""
    import torch
    from torch.nn.functional import cross_entropy

    x, y = data
    order = torch.randperm(len(x))
    x, y = x[order], y[order]
    n = 4 * len(x) // 5

    def loss_of() -> tuple[Any, float]:
        rows = torch.randint(n, (made.batch,))
        out = model(x[rows])
        return cross_entropy(out, y[rows]), float((out.argmax(1) == y[rows]).float().mean())

    def validate() -> dict[str, float]:
        out = model(x[n:])
        right = float((out.argmax(1) == y[n:]).float().mean())
        return {"loss": float(cross_entropy(out, y[n:])), "accuracy": right}

    train(run, model, loss_of, steps, made, rate, max(1, n // made.batch), validate, **kw)


def mlp(*sizes: int, act: str = "ReLU", dropout: float = 0.0) -> Any:
    from torch import nn

    layers: list[Any] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), getattr(nn, act)(), nn.Dropout(dropout)]
    return nn.Sequential(*layers[:-2])


def save(run: Run, folder: Path) -> None:
    rows = [[metric, split, *columns] for (metric, split), columns in run.series.items()]
    path = folder / f"{run.name.replace('/', '-')}.json"
    path.write_text(json.dumps({"name": run.name, "series": rows}))


def load(path: Path) -> Run:
    stored = json.loads(path.read_text())
    return Run(stored["name"], {(m, s): (steps, values) for m, s, steps, values in stored["series"]})


def runs(half: str) -> list[Run]:
    """All runs of `tuned` or `held_out`; those that are not kept yet are made."""
    from benchmarks.recipes import HELD_OUT, TUNED

    made = []
    for name, recipe in {"tuned": TUNED, "held_out": HELD_OUT}[half].items():
        for copy in range(COPIES):
            path = CACHE / f"{name.replace('/', '-')}-{copy}.json"
            made.append(load(path) if path.exists() else _make(f"{name}/{copy}", recipe, copy))
    return made


def _make(name: str, recipe: Callable[[Run, Settings], None], copy: int) -> Run:
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(1000 + copy)
    CACHE.mkdir(parents=True, exist_ok=True)
    run = Run(name)
    recipe(run, settings(copy))
    save(run, CACHE)
    return run
