"""Comparison of versions: every metric that both have, with intervals where there are samples."""

from __future__ import annotations

import pytest

from entrenar_otel.errors import LineageError, NotMeasured
from entrenar_otel.lineage import Lineage


def test_two_versions() -> None:
    lineage = Lineage.open("lake")
    lineage.add_node("digits", "1.0.0", 0.85, metrics={"latency": 0.020, "size": 10.0, "only": 1.0})
    lineage.add_node("digits", "1.1.0", parents=["digits@1.0.0"])
    lineage.add_node(
        "digits", "1.2.0", 0.867, metrics={"latency": 0.017, "size": 9.0}, parents=["digits@1.1.0"]
    )
    found = lineage.compare("digits@1.0.0", "digits@1.2.0")
    assert str(found).splitlines() == [
        "digits@1.0.0 → digits@1.2.0",
        "  accuracy +2.0 % (0.85 → 0.867)",
        "  latency −15.0 % (0.02 → 0.017)",
        "  size −10.0 % (10 → 9)",
    ]
    assert found.path == ("digits@1.0.0", "digits@1.1.0", "digits@1.2.0")
    assert found.metric("latency").better == "less"
    assert found.as_dict()["metrics"][0]["p_value"] == "NaN"
    with pytest.raises(NotMeasured, match="'only' is not known of both; known: accuracy, latency, size"):
        found.metric("only")
    with pytest.raises(LineageError, match="no metric in common"):
        lineage.compare("digits@1.0.0", "digits@1.1.0")
