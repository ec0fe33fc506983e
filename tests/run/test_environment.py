"""Environment: every run says once what is installed, and people see how much, not the list."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.run import environment


@pytest.fixture(autouse=True)
def fresh() -> None:
    environment.environment.cache_clear()


def test_what_is_installed_is_an_event_of_rank_0(
    start: Callable[..., Monitor], cli: Callable[..., Any]
) -> None:
    start("r", rank=1, world_size=2).close()
    start("r", rank=0, world_size=2).close()
    (event,) = Lake("lake").query("SELECT * FROM events WHERE name = 'training.environment'").to_pylist()
    document = json.loads(event["body"])
    assert event["rank"] == 0
    assert document["python"] == platform.python_version()
    assert document["packages"]["numpy"] == importlib.metadata.version("numpy")
    shown = cli("events", "r").out
    assert f"packages={len(document['packages'])}" in shown
    assert "pyarrow" not in shown


def test_packages_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken installation is left out; of two on the path, the first is the one that is used."""

    class Distribution:
        def __init__(self, name: Any, version: Any) -> None:
            self.metadata, self.version = {"Name": name}, version

    given = [Distribution(None, "1"), Distribution("a", None), Distribution("b", "2"), Distribution("b", "1")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: given)
    assert environment.environment()["packages"] == {"b": "2"}
