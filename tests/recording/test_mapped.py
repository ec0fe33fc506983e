"""Mapped: what the kernel is only advised of is done without where it is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from entrenar_otel.recording.mapped import Mapped
from entrenar_otel.recording.process.lock import create_locked, let_go


def test_a_system_that_takes_no_advice_maps_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_given: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    file = create_locked(tmp_path / "segment")
    body = Mapped(file, 1 << 16)
    body.prefault(0, 1 << 16)
    body.restart(0)
    body.write(b"\x01" * 16)
    assert body.position() == 16
    assert body.words()[:3].tolist() == [0x0101010101010101] * 2 + [0]
    body.close()
    let_go(file)
