"""A share of what scripts/fuzz_sink.py does a million times: no request makes the decoder fail."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from .seeds import SEEDS


@pytest.fixture
def fuzz() -> Any:
    path = Path(__file__).parents[2] / "scripts/fuzz_sink.py"
    spec = importlib.util.spec_from_file_location("fuzz_sink", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Fuzz(SEEDS, seed=20261129)


def test_damaged_requests_are_refused_or_stored_and_never_raise(fuzz: Any, caplog: Any) -> None:
    caplog.set_level("CRITICAL")
    fuzz.run(3_000)
    assert fuzz.rows > 1_000
    assert fuzz.unstorable["records of samples"] > 100
    assert fuzz.unstorable["requests"] > 100


def test_the_seeds_are_whole(fuzz: Any) -> None:
    for signal, data in SEEDS:
        fuzz.take(signal, data)
    assert not fuzz.unstorable
    assert fuzz.rows > 30
