"""What may be put on a run as a processor, and what is refused at construction."""

from __future__ import annotations

from typing import Any, cast

import pytest
from entrenar_processors import DDM, PageHinkley

from entrenar_otel import ConfigError, Monitor


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([PageHinkley], r"expected an object, got the class PageHinkley: write PageHinkley\(…\)"),
        ([object()], "without update and reset"),
        ("page_hinkley", "expected processors to be a list, got 'page_hinkley'"),
        (DDM(metrics=["error"]), "expected processors to be a list, got <"),
    ],
)
def test_what_is_no_processor(given: Any, message: str) -> None:
    """Said at construction: what was expected, what was given, what to do."""
    with pytest.raises(ConfigError, match=message):
        Monitor(processors=given, quiet=True)


def test_a_detector_of_river() -> None:
    """The adapter makes one for each series."""
    from river.drift import ADWIN

    with pytest.raises(ConfigError, match=r"got ADWIN, a detector of river: write RiverAdapter\(ADWIN\)"):
        Monitor(processors=[cast("Any", ADWIN)()], quiet=True)


def test_one_given_twice() -> None:
    """It would judge every sample twice, and count it twice."""
    processor = DDM(metrics=["error"])
    with pytest.raises(ConfigError, match="got one twice"):
        Monitor(processors=[processor, processor], quiet=True)
