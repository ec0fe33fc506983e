"""Files of frameworks that are not installed here are not collected; `make test-frameworks` has them all."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

#: Of a test file's name: the packages that it needs.
NEEDS = {
    "huggingface": ("torch", "transformers", "accelerate"),
    "lightning": ("torch", "lightning", "pytorch_lightning"),
    "keras": ("torch", "keras"),
    "xgboost": ("xgboost",),
    "lightgbm": ("lightgbm",),
    "sklearn": ("sklearn",),
    "jax": ("jax", "flax", "optax"),
}
MISSING = {name for name, packages in NEEDS.items() if not all(find_spec(one) for one in packages)}


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """`test_lightning_faults.py` and `lightning_models.py` need what `lightning` stands for."""
    words = collection_path.stem.split("_")
    return True if MISSING.intersection(words) else None


def pytest_report_header() -> str | None:
    """What is not tested here, before anything is."""
    if not MISSING:
        return None
    return f"NOT TESTED HERE, `make test-frameworks` does: {', '.join(sorted(MISSING))}"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No framework asks a model hub for anything, or draws bars."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
