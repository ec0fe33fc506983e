"""A pytest fixture of the test kit: `pytest_plugins = ["entrenar_otel.pytest_plugin"]` in conftest.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from entrenar_otel.testing import Kit, kit


@pytest.fixture
def training_kit(tmp_path: Path) -> Iterator[Kit]:
    """A started run in a temporary folder, whose clock and heartbeat the test moves."""
    with kit(tmp_path / "training-kit") as opened_kit:
        yield opened_kit
