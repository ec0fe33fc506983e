"""Doctests get `np`, `monkeypatch`-like isolation from tests/conftest.py, and a `tmp_path`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def doctest_names(doctest_namespace: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that doctests use."""
    monkeypatch.setenv("ENTRENAR_LIVE", str(tmp_path / "live"))
    doctest_namespace |= {"np": np, "tmp_path": tmp_path}
