"""Every test has live and lake folders of its own, and monitoring's own failures raise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from entrenar_otel import identity, lifetime
from entrenar_otel.testing import strict


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder, live folder and environment that no other test sees."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ENTRENAR_LIVE", str(tmp_path / "live"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in (
        *("ENTRENAR_LAKE", "ENTRENAR_RUN_ID", "ENTRENAR_DISABLED", "OTEL_SDK_DISABLED", "ENTRENAR_PARENT"),
        *("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_JOB_ID", "TORCHELASTIC_RUN_ID"),
    ):
        monkeypatch.delenv(name, raising=False)
    with strict():
        yield
    for monitor in list(lifetime._open):
        monitor.close()
    identity.unmark_recording()
