"""No run of another test, and nothing that was said in one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from entrenar_otel.compat import wandb
from entrenar_otel.compat.wandb import left_out


@pytest.fixture(autouse=True)
def own_run(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module that knows of none."""
    monkeypatch.setattr(wandb, "_current_run", None)
    left_out.used.clear()
    yield
    wandb.finish()
