"""Labels: keys and values are what a real Collector showed, and a tag has one label everywhere."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entrenar_otel.prometheus.labels import label_names, prometheus_label, prometheus_label_value
from entrenar_otel.semconv import Kind

#: What a real Collector showed (scripts/collector_names.py asks it).
COLLECTOR: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data/collector_prometheus_names.json").read_text(encoding="utf-8")
)
LABEL = re.compile("[a-zA-Z_][a-zA-Z0-9_]*")


@pytest.mark.parametrize(("key", "label"), COLLECTOR["labels"])
def test_every_key_is_the_collector_s(key: str, label: str | None) -> None:
    """A key alone has the Collector's label; where that shows no such series, the key gets another one."""
    assert (prometheus_label(key) or None) == label
    (own,) = label_names([], [key]).values()
    assert own == label if label else own.startswith("tag_")


@pytest.mark.parametrize(("written", "kind", "label"), COLLECTOR["values"])
def test_every_value_is_the_collector_s(written: Any, kind: str, label: str) -> None:
    """Values of every type of attribute."""
    value = _read(written, kind)
    assert type(value).__name__ == kind
    assert prometheus_label_value(value) == label


def _read(written: Any, kind: str) -> Any:
    if kind in ("str", "int", "bool", "NoneType"):
        return written
    if kind == "float":
        return float(written)
    return [math.nan] if written == "[nan]" else ast.literal_eval(written)


@given(st.lists(st.text("ab.-_1", max_size=4), unique=True), st.sampled_from(Kind), st.randoms())
@example(["a.b", "a_b", "tag_a_b", "tag_a_b_"], Kind.GAUGE, None)
@example(["le", "tag_le", "__x", "2nd", "", "ü"], Kind.HISTOGRAM, None)
def test_labels_of_a_series_are_valid_and_distinct(keys: list[str], kind: Kind, random: Any) -> None:
    """Whatever the keys, in any order; none is that of a label which is taken."""
    taken = ["run_id", "a_b"]
    labels = label_names(taken, keys, kind)
    assert labels.keys() == {*keys}
    assert len({*labels.values()} - {*taken}) == len(keys)
    assert all(LABEL.fullmatch(label) and not label.startswith("__") for label in labels.values())
    assert kind is not Kind.HISTOGRAM or "le" not in labels.values()
    if random is not None:
        random.shuffle(keys)
        assert label_names(taken, keys, kind) == labels
