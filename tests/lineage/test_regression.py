"""Regression: which change is named, which are noise, and what is said where it cannot be known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from entrenar_otel.compare.significance import welch
from entrenar_otel.errors import LineageError
from entrenar_otel.lake import Lake
from entrenar_otel.lake.tables.schema import LINEAGE
from entrenar_otel.lineage.by_hand import Statement
from entrenar_otel.lineage.graph import LineageGraph
from entrenar_otel.lineage.regression import RegressionSource, find_source
from entrenar_otel.lineage.statements import Statements
from entrenar_otel.lineage.version_id import VersionId


class Asked:
    """Versions of a model `m` with as many runs as there are values; nothing is written or read."""

    def __init__(
        self, values: dict[str, list[float]], parents: dict[str, list[str]], metric: str = "accuracy"
    ) -> None:
        rows = []
        for version, group in values.items():
            links = tuple((f"m@{parent}", f"{parent}>{version}") for parent in parents.get(version, ()))
            for value in group:
                numbers: dict[str, Any] = {"metrics": {metric: value}}
                if metric == "accuracy":
                    numbers = {"accuracy": value}
                statement = Statement(VersionId("m", version), parents=links, **numbers)
                rows.append(statement.row() | {"source": "run"})
        self.graph = LineageGraph(Statements(pa.Table.from_pylist(rows, schema=LINEAGE)))

    def find_regression_source(self, name: str, metric: str = "accuracy", **given: Any) -> RegressionSource:
        given = {"tolerance": None, "better": None, "alpha": 0.05} | given
        return find_source(Lake("lake"), self.graph, name, metric, **given)


CHAIN = {"2": ["1"], "3": ["2"], "4": ["3"]}


def test_the_largest_drop_beyond_noise() -> None:
    """Not the last, and not the larger one that is noise."""
    lineage = Asked(
        {
            "1": [0.90, 0.91, 0.90],
            "2": [0.85, 0.86, 0.85],
            "3": [0.99, 0.60, 0.91],
            "4": [0.80, 0.70, 0.95],
        },
        CHAIN,
    )
    found = lineage.find_regression_source("m@4")
    assert found.source is not None
    assert (found.source.parent, found.source.child, found.source.change_type) == ("m@1", "m@2", "1>2")
    expected = ttest_ind([0.90, 0.91, 0.90], [0.85, 0.86, 0.85], equal_var=False).pvalue
    assert found.source.p_value == pytest.approx(expected)
    assert found.source.p_corrected == pytest.approx(3 * expected)
    assert (found.changes, found.runners_up) == (3, ())


def test_nothing_but_noise() -> None:
    lineage = Asked({"1": [0.9, 0.8, 0.85], "2": [0.89, 0.79, 0.83]}, CHAIN)
    found = lineage.find_regression_source("m@2")
    assert found.source is None
    assert [change.child for change in found.within_noise] == ["m@2"]
    assert str(found).startswith(
        "Of 1 change on the way to m@2, none made accuracy worse beyond noise.\nWithin"
    )


def test_the_spread_of_others_judges_single_evaluations() -> None:
    """One value on either side: what repeats elsewhere differ by says what noise is."""
    accuracies = {"1": [0.90, 0.91, 0.89, 0.90], "2": [0.90], "3": [0.895], "4": [0.7]}
    found = Asked(accuracies, CHAIN).find_regression_source("m@4")
    assert found.source is not None
    assert (found.source.child, found.source.method) == ("m@4", "spread of the other versions' evaluations")
    assert found.source.p_value is not None
    assert found.source.p_value < 0.01
    assert found.runners_up == ()


def test_without_repeats_a_tolerance_judges() -> None:
    lineage = Asked({"1": [0.90], "2": [0.89], "3": [0.95], "4": [0.948]}, CHAIN)
    found = lineage.find_regression_source("m@4")
    assert [change.child for change in (found.source, *found.runners_up) if change] == ["m@2", "m@4"]
    assert found.source is not None
    assert found.source.p_value is None
    assert any("every drop counts" in note for note in found.notes)
    assert "not tested: nothing was evaluated twice" in str(found)
    tolerant = lineage.find_regression_source("m@4", tolerance=0.02)
    assert (tolerant.source, tolerant.notes) == (None, ())


def test_over_all_parents() -> None:
    """A merge: the source lies on the second parent's side."""
    parents = {"2": ["1"], "3": ["1"], "4": ["2", "3"]}
    lineage = Asked({"1": [0.9], "2": [0.91], "3": [0.5], "4": [0.6]}, parents)
    found = lineage.find_regression_source("m@4")
    assert found.source is not None
    assert (found.source.parent, found.source.child) == ("m@1", "m@3")
    assert [(change.parent, change.child) for change in found.runners_up] == [("m@2", "m@4")]


def test_versions_without_a_value_are_passed_over() -> None:
    """And said; the nearest ancestors that have one, over all of their parents, are compared with."""
    lineage = Asked(
        {"1": [0.9], "2": [float("nan")], "3": [float("nan")], "4": [0.8]}, CHAIN | {"3": ["2", "0"]}
    )
    found = lineage.find_regression_source("m@4")
    assert found.source is not None
    assert (found.source.parent, found.source.passed_over) == ("m@1", ("m@2", "m@3"))
    assert "passed over, without a value: m@2, m@3" in str(found)
    assert set(found.notes) >= {
        "missing: m@0",
        "without accuracy: m@2, m@3; changes are seen across them",
    }
    with pytest.raises(LineageError, match="m@3 has no accuracy: nobody knows"):
        lineage.find_regression_source("m@3")


@pytest.mark.parametrize(("metric", "asked"), [("latency", "latency"), ("val_loss", "loss")])
def test_less_may_be_better(metric: str, asked: str) -> None:
    lineage = Asked({"1": [1.0], "2": [0.5], "3": [0.9], "4": [0.9]}, CHAIN, metric)
    found = lineage.find_regression_source("m@4", asked)
    assert found.source is not None
    assert (found.source.child, found.better, found.metric) == ("m@3", "less", metric)
    assert found.source.ratio == pytest.approx(0.8)


def test_a_metric_of_no_known_direction() -> None:
    lineage = Asked({"1": [1.0], "2": [0.5]}, CHAIN, "size")
    with pytest.raises(LineageError, match="say better='less' or 'more'"):
        lineage.find_regression_source("m@2", "size")
    assert lineage.find_regression_source("m@2", "size", better="less").source is None
    assert lineage.find_regression_source("m@2", "size", better="more").source is not None
    with pytest.raises(LineageError, match="no version has a metric 'sise'; close to it: size"):
        lineage.find_regression_source("m@2", "sise")
    with pytest.raises(LineageError, match="expected a tolerance of 0 or more"):
        lineage.find_regression_source("m@2", "size", better="less", tolerance=-1)


def test_the_first_version_has_no_change() -> None:
    found = Asked({"1": [0.9]}, {}).find_regression_source("m@1")
    assert (found.source, found.changes) == (None, 0)
    assert found.as_dict()["source"] is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=2, max_size=6))
def test_as_welch_says_one_by_one(values: list[list[float]]) -> None:
    """All edges at once come to what the plain test says of each."""
    accuracies = {str(at): group for at, group in enumerate(values)}
    lineage = Asked(accuracies, {str(at): [str(at - 1)] for at in range(1, len(values))})
    last = f"m@{len(values) - 1}"
    found = lineage.find_regression_source(last, alpha=1.1)
    drops = {
        f"m@{at}": np.mean(values[at - 1]) - np.mean(values[at])
        for at in range(1, len(values))
        if np.mean(values[at - 1]) - np.mean(values[at]) > 1e-9
    }
    if drops:
        assert found.source is not None
        assert drops[found.source.child] == pytest.approx(max(drops.values()))
        at = int(found.source.child[2:])
        plain = welch(values[at - 1], values[at])
        if found.source.method == plain.method:
            assert found.source.p_value == pytest.approx(plain.p_value, rel=1e-6, abs=1e-9)
