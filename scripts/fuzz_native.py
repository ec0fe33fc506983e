"""Call the kernels of the native core at random, with what fits and what does not: none may leave its arrays.

    scripts/fuzz_native.py SECONDS [SEED]

It is `scripts/native-check` that runs it, with a core that was built with sanitizers: they end the process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import entrenar_native
import numpy as np

ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 5e-324, -1e-310, 1e150, -1e308, 1.0, 1.0 + 2**-52, 2.0]
REFUSED = (TypeError, ValueError, IndexError, BufferError, OverflowError)

Random = np.random.Generator


def numbers(random: Random, *shape: int) -> Any:
    """float64 of one kind or another, in any layout of memory."""
    wide = tuple(2 * n + 1 for n in shape)
    kind = random.integers(4)
    if kind == 0:
        values = random.standard_normal(wide)
    elif kind == 1:
        values = random.choice(ODD, wide)
    elif kind == 2:
        values = np.exp(random.uniform(-700, 700, wide)) * random.choice([-1.0, 1.0], wide)
    else:
        values = np.full(wide, random.choice(ODD))
    step = random.choice([1, 2, -1])
    cut = tuple(slice(None, None, int(step)) for _ in shape)
    values = values[cut][tuple(slice(0, n) for n in shape)]
    return np.asfortranarray(values) if random.integers(2) else values


def counts(random: Random, n: int) -> Any:
    """How many values a series had, possible or not."""
    return random.choice([0, 1, 3, 7, 29, 30, 1000, -1, -(2**40), 2**40], n)


def settings(random: Random, *kinds: str) -> list[Any]:
    """Numbers (f), sizes (i)."""
    return [
        float(random.choice([*ODD, 0.01, 3.0])) if one == "f" else int(random.integers(-1, 40))
        for one in kinds
    ]


def calls(random: Random) -> dict[str, list[Any]]:
    """The arguments of one call of each kernel, all of which fit."""
    n, k = int(random.integers(0, 300)), int(random.integers(0, 6))
    window = int(random.integers(1, 300 if random.random() < 0.2 else 40))
    places = k + int(random.integers(0, 3))
    rows = random.permutation(places)[:k]
    values = numbers(random, n, k)

    def out() -> Any:
        return numbers(random, n, k)

    def state() -> Any:
        return numbers(random, places)

    fires, fired = np.zeros((n, k), np.bool_), random.integers(0, 2, places).astype(np.bool_)
    count, weights = counts(random, places), numbers(random, window + 1)
    ring, block = (
        np.ascontiguousarray(numbers(random, places, window)),
        [numbers(random, window, places) for _ in range(3)],
    )
    room = np.empty((2, window))
    order = random.integers(0, 256, (places, window if random.random() < 0.9 else 0), np.uint8)
    return {
        "robust_window": [
            *(values, rows, out(), out(), count, ring, ring.copy(), order),
            *(counts(random, places), state(), state(), *settings(random, "f", "i")),
        ],
        "cusum": [values, rows, fires, state(), fired, state(), state(), *settings(random, "f")],
        "residuals": [values, rows, out(), out(), state(), state(), *settings(random, "f", "f")],
        "rolling_moments": [
            *(values, rows, out(), out(), count, state(), room, *block, state(), state()),
            *settings(random, "i", "i"),
        ],
        "page_hinkley": [
            *(values, rows, fires, out(), out(), count, numbers(random, 8, places), weights, weights.copy()),
            *settings(random, "i", "f", "f", "i", "i"),
        ],
    }


#: What an argument may become that fits no more, most often.
SPOILT: tuple[Callable[[Any], Any], ...] = (
    lambda _: None,
    lambda _: "text",
    lambda _: 10**40,
    lambda one: np.asarray(one)[..., :-1] if np.ndim(one) else one,
    lambda one: np.asarray(one).astype(np.float32),
    lambda one: np.asarray(one) - 1 if np.asarray(one).dtype != np.bool_ else one,
    lambda one: np.asarray(one)[np.newaxis, np.newaxis],
    lambda one: np.asarray(one).T,
    lambda one: np.asarray(one).astype(np.int64),
    lambda _: b"12345678",
)


def main(seconds: float, seed: int) -> None:
    """Call all kernels in turn."""
    core: Any = entrenar_native.core
    if core is None:
        sys.exit(f"no native core to call: {entrenar_native.state()}")
    random = np.random.default_rng(seed)
    done = refused = 0
    end = time.monotonic() + seconds
    with np.errstate(all="ignore"):
        while time.monotonic() < end:
            for name, arguments in calls(random).items():
                spoil = random.random() < 0.3
                if spoil:
                    i = int(random.integers(len(arguments)))
                    arguments[i] = SPOILT[random.integers(len(SPOILT))](arguments[i])
                try:
                    getattr(core, name)(*arguments)
                    done += 1
                except REFUSED:
                    if not spoil:
                        raise
                    refused += 1
    print(f"native core: {done:,} calls at random (seed {seed}), {refused:,} refused, none left its arrays")


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else time.time_ns() % 2**32)
