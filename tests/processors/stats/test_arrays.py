"""Who gives way to the main thread, and how often."""

from __future__ import annotations

import threading
import time

import pytest
from entrenar_processors.stats.arrays import MANY, give_way, yielding_slices


def test_another_thread_gives_way_before_many_values_and_the_main_one_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[str] = []
    monkeypatch.setattr(time, "sleep", lambda _seconds: slept.append(threading.current_thread().name))

    def work() -> None:
        give_way(MANY)
        give_way(MANY - 1)
        assert [one.stop - one.start for one in yielding_slices(2_500)] == [1_000] * 3

    work()
    assert slept == []
    thread = threading.Thread(target=work, name="beside")
    thread.start()
    thread.join()
    assert slept == ["beside"] * 4
