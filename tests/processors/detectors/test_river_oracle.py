"""Page-Hinkley and DDM against river, their reference: the same samples, for any chunks."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors.detectors.ddm import DDMCore
from entrenar_processors.stats.core import Core
from entrenar_processors.stats.page_hinkley import Mode, PageHinkleyCore
from numpy.typing import NDArray
from river import drift

pytestmark = pytest.mark.usefixtures("each_core")

STREAMS = 1000


def chunked(
    core: Core, stream: NDArray[np.float64], random: np.random.Generator
) -> list[tuple[int, int, float]]:
    """(sample, level, score) of one series that comes in chunks of random size."""
    core.reserve(1)
    typical = random.choice([1, 5, 40, 300, 5000])
    found, start = [], 0
    while start < len(stream):
        size = int(random.integers(1, 2 * typical + 1))
        hits = core.update(slice(0, 1), stream[start : start + size, np.newaxis])
        found += [
            (start + int(h), int(level), float(s))
            for h, level, s in zip(hits.step, hits.level, hits.score, strict=True)
        ]
        start += size
    return found


def page_hinkley_case(seed: int) -> tuple[NDArray[np.float64], tuple[int, float, float, float, Mode]]:
    """A stream with steps and drifts in its mean, and settings that make some of them detections."""
    random = np.random.default_rng(seed)
    n = int(random.integers(1, 700))
    scale = 10.0 ** random.integers(-3, 4)
    stream = random.normal(0, 1, n) if seed % 3 else random.integers(0, 5, n).astype(np.float64)
    for place in random.integers(0, n, 3):
        stream[place:] += random.normal(0, 3)
    stream += random.normal(0, 0.01) * np.arange(n) + random.normal(0, 10)
    mode: Mode = ("both", "up", "down")[seed % 3]
    alpha = float(random.choice([0.9999, 1.0, 0.99, 0.5, 0.05]))
    settings = (
        int(random.integers(1, 60)),
        scale * float(random.choice([0.0049, 0.31])),
        scale * random.uniform(1, 30),
        alpha,
        mode,
    )
    return stream * scale, settings


@pytest.mark.parametrize("part", range(4))
def test_page_hinkley_detects_at_the_same_samples_as_river(part: int) -> None:
    """1,000 streams, each in chunks of its own: same samples, same direction."""
    detections = 0
    for seed in range(part, STREAMS, 4):
        stream, (min_instances, delta, threshold, alpha, mode) = page_hinkley_case(seed)
        reference = drift.PageHinkley(min_instances, delta, threshold, alpha, mode)
        expected = []
        for i, value in enumerate(stream.tolist()):
            reference.update(value)
            if reference.drift_detected:
                rise = reference._sum_increase - reference._min_increase
                expected.append((i, rise > threshold and mode != "down"))
        core = PageHinkleyCore(min_instances, delta, threshold, alpha, mode)
        found = chunked(core, stream, np.random.default_rng(seed))
        assert [i for i, _, _ in found] == [i for i, _ in expected], f"seed {seed}"
        assert all(score > threshold or score < -threshold for _, _, score in found)
        if mode != "both":
            assert all((score > 0) == up for (_, _, score), (_, up) in zip(found, expected, strict=True))
        detections += len(found)
    assert detections > 250


@pytest.mark.parametrize("part", range(4))
def test_ddm_warns_and_detects_at_the_same_samples_as_river(part: int) -> None:
    """1,000 streams of errors, each in chunks of its own: drifts, and first samples of warnings."""
    drifts = warnings = 0
    for seed in range(part, STREAMS, 4):
        random = np.random.default_rng(seed)
        n = int(random.integers(1, 900))
        rate = np.repeat(random.uniform(0, 1, 5) ** 3, -(-n // 5))[:n]
        stream = (random.random(n) < rate).astype(np.float64)
        if seed % 10 == 0:
            stream[: n // 2] = seed % 20 == 0  # all right or all wrong: ties of p + s
        settings = (int(random.integers(1, 50)), random.uniform(0.5, 2.5), random.uniform(2.5, 4))
        reference = drift.binary.DDM(*settings)
        expected, warned = [], False
        for i, value in enumerate(stream.tolist()):
            reference.update(int(value))
            if reference.drift_detected:
                expected.append((i, 2))
            elif reference.warning_detected and not warned:
                expected.append((i, 0))
            warned = reference.warning_detected
        found = [(i, level) for i, level, _ in chunked(DDMCore(*settings), stream, random)]
        assert found == expected, f"seed {seed}"
        drifts += sum(level == 2 for _, level in found)
        warnings += sum(level == 0 for _, level in found)
    assert drifts > 100
    assert warnings > 100


def test_one_nan_does_not_end_page_hinkley_as_it_ends_rivers() -> None:
    """The difference that matters: river never fires again."""
    from entrenar_processors import PageHinkley, Samples

    random = np.random.default_rng(7)
    stream = np.concatenate([random.normal(0, 1, 500), random.normal(9, 1, 100)])
    stream[100] = np.nan
    reference = drift.PageHinkley()
    fired = []
    for value in stream.tolist():
        reference.update(value)
        fired.append(reference.drift_detected)
    assert not any(fired)
    found = PageHinkley(metrics=["x"]).update(Samples.from_columns({"x": stream}))
    assert [500 <= finding.at.seq < 510 for finding in found][:1] == [True]
    assert found[0].score > 50
