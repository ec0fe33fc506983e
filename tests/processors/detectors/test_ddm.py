"""DDM: what it takes, and its scores; for its samples see test_river_oracle."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors import DDM, Finding, Processor, Samples, Severity
from numpy.typing import NDArray


def find(processor: Processor, values: NDArray[np.float64]) -> list[Finding]:
    return processor.update(Samples.from_columns({"error": values}))


def test_ddm_refuses_what_is_no_error_and_takes_nothing_of_it() -> None:
    """0.5 is a rate; the message says what to use for one."""
    detector = DDM()
    errors = (np.random.default_rng(1).random(400) < 0.2).astype(np.float64)
    errors[200:] = 1
    expected = [f.as_dict() for f in find(DDM(), errors)]
    assert expected
    with pytest.raises(ValueError, match=r"expected errors as 0 \(right\) or 1 \(wrong\), got 0\.5"):
        find(detector, np.array([1.0, 0.5]))
    assert [f.as_dict() for f in find(detector, errors)] == expected


def test_ddm_from_perfect_to_wrong_is_a_drift_with_a_finite_score() -> None:
    """No error so far is the flat state: the first error is above it, as in river, by p + s."""
    (finding,) = find(DDM(), np.array([0.0] * 100 + [1.0]))
    assert (finding.at.seq, finding.severity, finding.expected) == (100, Severity.HIGH, 0.0)
    assert finding.score == pytest.approx(1 / 101 + np.sqrt(1 / 101 * 100 / 101 / 101))


def test_a_drift_below_its_warning_is_refused() -> None:
    """A drift is worse than a warning."""
    with pytest.raises(ValueError, match="expected drift at least 2, got 1"):
        DDM(drift=1)
