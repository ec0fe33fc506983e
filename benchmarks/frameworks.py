"""Frameworks: what the callback of each costs a training, in CPU time of the thread that trains.

What counts is the time in those hooks that each step calls and that the callback has itself, not from the
framework's own class, and of Hugging Face what surrounds `training_step` as well. What the hooks of a step
take is added up, and of all steps the lower quartile is told, beside the lower quartile of what a training
without it takes a step: on a machine that others share most of the mean is what they do to its caches. The
mean is in the note. A training of some dozen steps without it takes turns with one that has it, in one
process, on one thread; what the whole one takes more is told in the note: it holds the beginning and the end,
and what a framework does for any callback, but has to be found in steps that vary by more. The heartbeat
beats by the clock, not by the step: what all threads take more is told too. The models are small, with steps
of some milliseconds: of a larger one's step, the same microseconds are a smaller share.
"""

from __future__ import annotations

import functools
import gc
import importlib
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time, thread_time
from typing import Any

import numpy as np

from benchmarks.harness import Row, bootstrap_median, temporary
from entrenar_otel import Monitor

PAIRS, STEPS, LIMIT_PERCENT = 12, 60, 1.0
_BATCH = 64
_HOOKS = ("on_", "before_", "after_")  # as callbacks name them
#: By name: what makes a training of so many steps with these callbacks; it is imported where it is installed.
Training = Callable[[Path, list[Any]], Callable[[], object]]
#: By name of the hook: the CPU seconds of each call.
Hooks = dict[str, list[float]]


def measure() -> Iterator[Row]:
    for name, training in TRAININGS.items():
        what = f"what the callback costs a step of {name}, CPU of its thread"
        try:
            importlib.import_module(f"entrenar_otel.integrations.{name}")
        except ImportError as error:
            yield Row(what, LIMIT_PERCENT, None, "", f"needs {error.name}: make test-frameworks")
            continue
        yield _compare(name, what, training)


def _compare(name: str, what: str, training: Training) -> Row:
    callback_of = importlib.import_module(f"entrenar_otel.integrations.{name}").EntrenarCallback
    with temporary() as folder:
        os.environ["ENTRENAR_LIVE"] = str(folder / "live")
        with Monitor("bench", lake=folder / "lake", quiet=True) as monitor:
            hooks: Hooks = defaultdict(list)
            if name == "huggingface":
                trainers = importlib.import_module("entrenar_otel.integrations.huggingface_trainer")
                _around(trainers.SeenSteps, hooks)
            plain, watched = training(folder, []), training(folder, [_timed(callback_of(monitor), hooks)])
            turns: list[list[tuple[float, float]]] = []
            of_steps, of_the_rest = [], []
            for n in range(PAIRS + 2):
                hooks.clear()
                turns.append(_turn(plain, watched, first=bool(n % 2)))
                of_each = [times for times in hooks.values() if len(times) >= STEPS]
                of_steps.append(np.sum([times[:STEPS] for times in of_each], axis=0))
                of_the_rest.append(sum(sum(times) for times in hooks.values() if len(times) < STEPS))
    seconds = np.array(turns[2:])
    step_us = 1e6 * float(np.quantile(seconds[:, 0, 0], 0.25)) / STEPS
    all_us = 1e6 * np.median(seconds[:, 0, 1]) / STEPS
    added_us = 1e6 * (seconds[:, 1] - seconds[:, 0]) / STEPS
    hooks_us = 1e6 * np.array(of_steps[2:])
    usual, mean = float(np.quantile(hooks_us, 0.25)), hooks_us.mean()
    _, low, high = bootstrap_median(np.quantile(hooks_us, 0.25, axis=1))
    more, least, most = bootstrap_median(added_us[:, 0])
    all_more_us, begin_and_end_ms = np.median(added_us[:, 1]), 1e3 * np.median(of_the_rest[2:])
    note = (
        f"{usual:,.0f} µs a step (lower quartile; 95 % interval {low:,.0f} to {high:,.0f}; mean "
        f"{mean:,.0f}) of {step_us:,.0f}; begin and end {begin_and_end_ms:.1f} ms a training; the whole one "
        f"{more:,.0f} µs a step ({least:,.0f} to "
        f"{most:,.0f}), all threads {all_more_us:,.0f} of {all_us:,.0f}; {PAIRS} pairs of {STEPS} steps, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    return Row(what, LIMIT_PERCENT, 100 * usual / step_us, "%", note)


def _timed(callback: Any, hooks: Hooks) -> Any:
    """The callback, whose hooks put down the CPU seconds of each call."""
    is_inside = [False]

    def timed(hook: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(hook)
        def call(*args: Any, **kwargs: Any) -> Any:
            if is_inside[0]:
                return hook(*args, **kwargs)
            is_inside[0], start = True, thread_time()
            try:
                return hook(*args, **kwargs)
            finally:
                is_inside[0] = False
                hooks[name].append(thread_time() - start)

        return call

    if callable(callback):  # as LightGBM's is
        return timed(callback, "call")
    for name in dir(callback):
        if name.startswith(_HOOKS) and _is_own(callback, name):
            setattr(callback, name, timed(getattr(callback, name), name))
    return callback


def _is_own(callback: Any, name: str) -> bool:
    """Whether a hook is the callback's, not one that a framework's class has for those that have none."""
    holder = next(kind for kind in type(callback).__mro__ if name in vars(kind))
    return holder.__module__.startswith("entrenar_otel")


def _around(watched: type, hooks: Hooks) -> None:
    """What is done before and after the framework's own `training_step`, as another hook."""
    call = watched.__call__

    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        inner, within = self._inner, [0.0]

        def step(*given: Any, **named: Any) -> Any:
            start = thread_time()
            try:
                return inner(*given, **named)
            finally:
                within[0] = thread_time() - start

        self._inner, start = step, thread_time()
        try:
            return call(self, *args, **kwargs)
        finally:
            hooks["training_step"].append(thread_time() - start - within[0])
            self._inner = inner

    watched.__call__ = timed  # type: ignore[method-assign]


def _turn(
    plain: Callable[[], object], watched: Callable[[], object], *, first: bool
) -> list[tuple[float, float]]:
    """CPU seconds of this thread and of all, without and with the callback, whichever is first."""
    times = {}
    for is_watched in (first, not first):
        gc.collect()
        start, all_start = thread_time(), process_time()
        (watched if is_watched else plain)()
        times[is_watched] = thread_time() - start, process_time() - all_start
    return [times[False], times[True]]


def _huggingface(folder: Path, callbacks: list[Any]) -> Callable[[], object]:
    """A GPT of 2 layers, 64 wide, on 8 texts of 64 tokens a step."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

    torch.set_num_threads(1)
    model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=4, n_embd=64, vocab_size=256, n_positions=64))
    texts = [{"input_ids": row, "labels": row} for row in torch.randint(256, (8 * STEPS, 64))]
    args = TrainingArguments(
        str(folder / "out"),
        num_train_epochs=1,
        per_device_train_batch_size=8,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        save_strategy="no",
        logging_nan_inf_filter=False,  # what turning it off saves is not ours
    )
    train: Callable[[], object] = Trainer(model, args, train_dataset=texts, callbacks=callbacks).train
    return train


def _lightning(folder: Path, callbacks: list[Any]) -> Callable[[], object]:
    """A perceptron of 3 layers, 512 wide, on batches of 64, which logs its loss and its accuracy."""
    import lightning
    import torch

    torch.set_num_threads(1)

    class Perceptron(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            hidden = [torch.nn.Linear(512, 512), torch.nn.ReLU()] * 2
            self.layers = torch.nn.Sequential(*hidden, torch.nn.Linear(512, 10))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            logits = self.layers(x)
            loss = torch.nn.functional.cross_entropy(logits, y)
            self.log("train_loss", loss)
            self.log("train_acc", (logits.argmax(1) == y).float().mean())
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters())

    samples = _BATCH * STEPS
    data = torch.utils.data.TensorDataset(torch.randn(samples, 512), torch.randint(10, (samples,)))
    loader = torch.utils.data.DataLoader(data, batch_size=_BATCH)
    model = Perceptron()

    def train() -> None:
        lightning.Trainer(
            max_epochs=1,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(callbacks),
            default_root_dir=str(folder),
        ).fit(model, loader)

    return train


def _keras(folder: Path, callbacks: list[Any]) -> Callable[[], object]:
    """A perceptron of 3 layers, 512 wide, on batches of 64, with its accuracy; `KERAS_BACKEND` is heeded."""
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [*(layers.Dense(512, activation="relu") for _ in range(2)), layers.Dense(10, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    random = np.random.default_rng(7)
    x = random.standard_normal((_BATCH * STEPS, 512), dtype=np.float32)
    y = random.integers(0, 10, len(x))
    return lambda: model.fit(x, y, batch_size=_BATCH, verbose=0, callbacks=list(callbacks))


def _table(seed: int) -> tuple[Any, Any]:
    random = np.random.default_rng(seed)
    x = random.standard_normal((20_000, 20))
    return x, (x[:, 0] + x[:, 1] * x[:, 2] > 0).astype(float)


def _xgboost(folder: Path, callbacks: list[Any]) -> Callable[[], object]:
    """Trees of depth 6 for a table of 20,000 rows and 20 columns, scored on it and on another."""
    import xgboost

    train, other = (xgboost.DMatrix(*_table(seed)) for seed in (7, 8))
    options = {"objective": "binary:logistic", "nthread": 1}
    scored = [(train, "train"), (other, "validation")]
    return lambda: xgboost.train(
        options, train, STEPS, evals=scored, verbose_eval=False, callbacks=list(callbacks)
    )


def _lightgbm(folder: Path, callbacks: list[Any]) -> Callable[[], object]:
    """Trees of 31 leaves for a table of 20,000 rows and 20 columns, scored on it and on another."""
    import lightgbm

    train = lightgbm.Dataset(*_table(7), free_raw_data=False)
    scored = [train, lightgbm.Dataset(*_table(8), reference=train, free_raw_data=False)]
    options = {"objective": "binary", "num_threads": 1, "verbose": -1}
    return lambda: lightgbm.train(options, train, STEPS, valid_sets=scored, callbacks=list(callbacks))


#: By the name of the integration.
TRAININGS: dict[str, Training] = {
    "huggingface": _huggingface,
    "lightning": _lightning,
    "keras": _keras,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
}
