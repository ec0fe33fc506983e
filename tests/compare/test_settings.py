"""Settings: what differs between configurations and environments, and which settings are seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrenar_otel import Lake, Monitor
from entrenar_otel.compare.reader import RunReader
from entrenar_otel.compare.runs import compare_runs
from entrenar_otel.compare.settings import (
    Setting,
    differences,
    environments_of,
    flat,
    group_of,
    is_seed,
    without_seeds,
)

configs = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.dictionaries(st.text("abc.", min_size=1, max_size=4), inner, max_size=4) | st.lists(inner)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("name", ["seed", "a.b.seed", "random_state", "data_seed", "x.Random_Seed", "SEED"])
def test_seeds_at_any_depth(name: str) -> None:
    assert is_seed(name)
    assert not is_seed(f"{name}s")


@given(st.dictionaries(st.text("abc", min_size=1), configs))
def test_a_group_is_of_all_seeds(config: dict[str, Any]) -> None:
    assert group_of(config) == group_of(config | {"seed": 1}) == group_of({**config, "random_state": None})
    assert group_of(config) != group_of(config | {"seeds": 1})


@given(configs)
def test_what_is_the_same_has_no_differences(config: object) -> None:
    one = flat(config)
    assert differences([one], [json.loads(json.dumps(one))]) == []


def test_nested_settings_and_those_of_one_side() -> None:
    a = {"lr": 0.1, "optim": {"name": "sgd", "betas": [0.9, 0.99]}, "data": {}, "seed": 1}
    b = {"lr": 0.1, "optim": {"name": "adam", "betas": [0.9, 0.999]}, "extra": None, "seed": 2}
    assert differences([without_seeds(a)], [without_seeds(b)]) == [
        Setting("data", ({},), ()),
        Setting("extra", (), (None,)),
        Setting("optim.betas", ([0.9, 0.99],), ([0.9, 0.999],)),
        Setting("optim.name", ("sgd",), ("adam",)),
    ]
    assert flat("text") == {"value": "text"}
    assert differences([{"x": 1}, {"x": 2}], [{"x": 2}, {"x": 1}]) == []
    assert differences([{"x": 1}, {"x": 2}], [{"x": 1}]) == [Setting("x", (1, 2), (1,))]


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, dict[str, Any]], None]:
    """Records a run that finds this environment."""

    def call(run_id: str, environment: dict[str, Any]) -> None:
        monkeypatch.setattr("entrenar_otel.run.environment.environment", lambda: environment)
        with Monitor(run_id, lake="lake", quiet=True) as monitor:
            monitor.log(loss=1.0)

    return call


def test_packages_that_differ(record: Callable[[str, dict[str, Any]], None]) -> None:
    """From the events of the runs; of a run without one nothing is claimed."""
    record("a", {"python": "3.11.7", "packages": {"numpy": "2.4.0", "torch": "2.9.0"}})
    record("b", {"python": "3.11.7", "packages": {"numpy": "2.4.6"}})
    with Monitor("odd", rank=1, world_size=2, lake="lake", quiet=True) as monitor:
        monitor.event("training.environment", body='"of another program"')
    found = compare_runs("lake", "a", "b")
    assert found.environment == (
        Setting("packages.numpy", ("2.4.0",), ("2.4.6",)),
        Setting("packages.torch", ("2.9.0",), ()),
    )
    found = compare_runs("lake", "a", "odd")
    assert found.environment is None
    assert "environment: not recorded on both sides" in found.notes
    assert environments_of(RunReader(Lake("lake"), 3), ["odd"]) == {}


def test_settings_that_were_withheld(train: Callable[..., None]) -> None:
    from dataclasses import replace

    from entrenar_otel.compare.runs import compare_sides
    from entrenar_otel.compare.side import find_side

    train("a")
    train("b", config={"lr": 0.2})
    lake = Lake("lake")
    a, b = find_side(lake, "a"), find_side(lake, "b")
    b = replace(b, runs=tuple(run | {"config": "withheld"} for run in b.runs))
    found = compare_sides(lake, a, b, known=[*a.runs, *b.runs])
    assert found.settings == ()
    assert "settings: withheld, they leave their machine with ENTRENAR_OTLP_CONFIG=1" in found.notes
