"""How a number of things is written."""

from __future__ import annotations

import pytest
from entrenar_processors.counts import counted


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (999, "999 rows"), (1000, "1,000 rows")]
)
def test_only_one_thing_is_in_the_singular(n: int, text: str) -> None:
    assert counted(n, "row") == text
