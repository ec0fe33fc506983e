"""What `entrenar_processors` exports: names that users import."""

from __future__ import annotations

import types

import entrenar_processors
import pytest
from entrenar_processors import DriftWarning


def test_public_names() -> None:
    """`__all__` is what is public, and all of it has a docstring."""
    for name in {*entrenar_processors.__all__} - {"ABSENT"}:
        assert getattr(entrenar_processors, name).__doc__, name
    public = {
        name
        for name, value in vars(entrenar_processors).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert {*entrenar_processors.__all__, "TYPE_CHECKING"} - {"ABSENT"} == public - {"ABSENT"}


def test_the_former_name_of_drift_warning() -> None:
    """`Warning` still is importable; any other name is refused as Python does it."""
    from entrenar_processors import Warning as Former

    assert Former is DriftWarning
    assert "Warning" not in entrenar_processors.__all__
    with pytest.raises(AttributeError, match="module 'entrenar_processors' has no attribute 'Warnings'"):
        entrenar_processors.Warnings  # type: ignore[attr-defined]  # noqa: B018
