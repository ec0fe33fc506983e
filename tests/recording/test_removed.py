"""Somebody removes the live folder, or what is in it, while it is written to."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest

from entrenar_otel.recording.segment import HEADER_BYTES

SMALL = HEADER_BYTES + 4096


@pytest.fixture(autouse=True)
def small(segment_size: Callable[[int], None]) -> None:
    segment_size(SMALL)


def test_the_folder_is_made_again(recorder: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is dropped, and it is said once, for what it is."""
    for i in range(10):
        recorder.log(loss=i)
    shutil.rmtree(recorder.folder)
    for i in range(10, 300):
        recorder.log(loss=i)
    assert recorder.dropped == 0
    assert [row["loss"] for row in recorder.values()] == list(range(300))
    assert caplog.text.count("removed while the run uses it") == 1
    assert "disk space" not in caplog.text
    assert recorder.folder.stat().st_mode & 0o777 == 0o700


def test_the_heartbeat_goes_on_in_a_new_segment(recorder: Any, caplog: pytest.LogCaptureFixture) -> None:
    recorder.log(loss=1)
    recorder.follow_folder()
    assert recorder.waiting == 0
    shutil.rmtree(recorder.folder)
    recorder.follow_folder()
    recorder.follow_folder()
    assert recorder.waiting == 1
    assert recorder.segment.path.exists()
    recorder.log(loss=2)
    assert [row["loss"] for row in recorder.values()] == [1, 2]
    recorder.say()
    assert caplog.text.count("removed while") == 1


def test_one_segment_that_was_removed(recorder: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is not closed as others are, however many come after it: what is in it is nowhere else."""
    recorder.log(loss=0)
    recorder.segment.path.unlink()
    recorder.follow_folder()
    assert caplog.text.count("the live segment") == 1
    for i in range(1, 2000):
        recorder.log(loss=i)
    assert [row["loss"] for row in recorder.values()] == list(range(2000))


def test_a_successor_that_was_removed_is_not_used(recorder: Any) -> None:
    for i in range(30):
        recorder.log(loss=i)
    recorder.prepare()
    assert recorder.standby is not None
    recorder.standby.path.unlink()
    for i in range(30, 300):
        recorder.log(loss=i)
    assert recorder.dropped == 0
    assert [row["loss"] for row in recorder.values()] == list(range(300))
