"""The founding story: four experts, one singular, one NaN, one constant, one fine. Nobody noticed.

Each bad one is named, with its cause, by the defaults: no renacer.toml, no detector asked for.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge

from entrenar_otel import Monitor
from entrenar_otel.testing import kit

EXPERTS, EPOCHS, ROWS = 4, 40, 60
SINGULAR, BROKEN, CONSTANT, FINE = range(EXPERTS)


def data(random: np.random.Generator, expert: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What the gate routes to an expert."""
    x = random.normal(size=(ROWS, 6))
    y = x @ np.arange(1.0, 7.0) + random.normal(0, 0.1, ROWS)
    if expert == SINGULAR:
        x[:, 1:] = x[:, :1]  # the router sends it one feature, copied
    return x, y


def train(monitor: Monitor) -> None:
    """Fit every expert each epoch, and report its loss on held-out rows."""
    random = np.random.default_rng(0)
    for epoch in monitor.epochs(EPOCHS):
        for expert in range(EXPERTS):
            with monitor.span("fit_expert", expert=expert):
                x, y = data(random, expert)
                model = KernelRidge(alpha=0.0 if expert == SINGULAR else 1.0)
                model.fit(x, y)
                held_out, wanted = data(random, expert)
                error = float(np.mean((model.predict(held_out) - wanted) ** 2))
                if expert == BROKEN:
                    error = float(np.log(np.float64(-1.0)) if epoch else error)
                if expert == CONSTANT:
                    error = 1.0  # its output is never used: a dead gate
            monitor.log(loss=error, tags={"expert": expert, "split": "validation"})


def test_each_bad_expert_is_named_by_the_defaults(tmp_path: Path) -> None:
    """And the fine one is not."""
    with warnings.catch_warnings(record=True):  # not printed by pytest; seen by the run all the same
        warnings.simplefilter("always")
        with kit(tmp_path) as one:
            train(one.monitor)
            one.advance(1.0)
            found: list[dict[str, Any]] = one.monitor.query(
                "SELECT name, level, action, metric, tags, summary FROM alerts WHERE source <> 'run'"
            ).to_pylist()
    by_expert: dict[str, set[tuple[str, str]]] = {}
    for alert in found:
        if alert["action"] == "log":
            continue
        expert = dict(alert["tags"]).get("expert", "?")
        by_expert.setdefault(expert, set()).add((alert["name"], alert["metric"]))
    assert {name for name, _ in by_expert.pop(str(SINGULAR))} == {"warning"}
    assert by_expert.pop(str(CONSTANT)) == {("silent", "loss")}
    broken = by_expert.pop(str(BROKEN))
    assert {("nonfinite_other", "loss"), ("silent", "loss")} <= broken
    assert broken <= {("nonfinite_other", "loss"), ("silent", "loss"), ("warning", "RuntimeWarning")}
    assert by_expert == {}
    text = "\n".join(alert["summary"] for alert in found)
    assert "Numerical warning: expert=0: Singular matrix in solving dual problem" in text
    assert 'loss{expert="1",split="validation"} is nan' in text
    assert 'Silent series: loss{expert="2",split="validation"} was the same number 30 times in a row' in text
