"""Frameworks: what the callback of each costs a training, in CPU time of all threads.

A training of some hundred steps without the callback takes turns with one that has it, in one process, on one
thread of PyTorch; the median of the ratios of neighbours is what counts, so that each sees the same machine.
CPU time is that of the whole process: the callback, and the heartbeat beside it. What happens once a run, its
start and its end, is left out: a training that is worth watching takes longer than these.
"""

from __future__ import annotations

import gc
import importlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

from benchmarks.harness import Row, bootstrap_median, temporary
from entrenar_otel import Monitor

PAIRS, STEPS, LIMIT_PERCENT = 16, 100, 1.0
#: By name: what makes a training of so many steps with these callbacks; it is imported where it is installed.
Training = Callable[[Path, list[Any]], Callable[[], object]]


def measure() -> Iterator[Row]:
    for name, training in TRAININGS.items():
        what = f"what the callback costs a step of {name}, CPU of all threads"
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
            plain, watched = training(folder, []), training(folder, [callback_of(monitor)])
            seconds = np.array([_turn(plain, watched, first=bool(n % 2)) for n in range(PAIRS + 2)][2:])
    ratios = 100 * (seconds[:, 1] / seconds[:, 0] - 1)
    middle, low, high = bootstrap_median(ratios)
    step_us = 1e6 * float(np.median(seconds[:, 0])) / STEPS
    note = f"95 % interval {low:.2f} to {high:.2f} %, {PAIRS} pairs of {STEPS} steps of {step_us:,.0f} µs"
    return Row(what, LIMIT_PERCENT, middle, "%", note)


def _turn(plain: Callable[[], object], watched: Callable[[], object], *, first: bool) -> tuple[float, float]:
    """CPU seconds of both, whichever is first."""
    times = {}
    for is_watched in (first, not first):
        gc.collect()
        start = process_time()
        (watched if is_watched else plain)()
        times[is_watched] = process_time() - start
    return times[False], times[True]


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


#: Each integration adds its own.
TRAININGS: dict[str, Training] = {"huggingface": _huggingface}
