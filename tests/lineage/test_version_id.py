"""Version id: split at the last @, and put in order."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from entrenar_otel.errors import LineageError
from entrenar_otel.lineage import VersionId
from entrenar_otel.lineage.version_id import version_order

SEMANTIC = ["0.9.0", "1.0.0-alpha.1", "1.0.0-rc.1", "1.0.0", "1.2.0", "1.10.0", "v2.0"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("digits@1.0", ("digits", "1.0")),
        ("org@team/digits@1.0", ("org@team/digits", "1.0")),
        ("a@b@", None),
        ("@1", None),
        ("digits", None),
        ("", None),
        (None, None),
        ("m@" + "1" * 2_000, None),
    ],
)
def test_split(text: str, parts: tuple[str, str] | None) -> None:
    if parts is None:
        with pytest.raises(LineageError, match=r"expected MODEL@VERSION, such as digits@1.2.0, got"):
            VersionId.parse(text)
    else:
        assert VersionId.parse(text) == parts
        assert str(VersionId.parse(text)) == text


def test_order() -> None:
    """Semantic versions as such; what is none by time, before them."""
    shuffled = random.Random(1).sample(SEMANTIC, len(SEMANTIC))
    assert sorted(shuffled, key=lambda text: version_order(text, None)) == SEMANTIC
    times = {"zeta": 1, "alpha": 2, "1.0.0": 0}
    ordered = sorted(times, key=lambda text: version_order(text, datetime.fromtimestamp(times[text], UTC)))
    assert ordered == ["zeta", "alpha", "1.0.0"]
