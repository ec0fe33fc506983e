"""Packs as `struct` does, and refuses what may be on a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from entrenar_otel.recording.device.plain_packer import plain_packer
from entrenar_otel.recording.layout import packers
from tests.recording.device.devices import Array

PLACE = (1, 2, 3, 4, 5)


@pytest.mark.parametrize("count", [0, 1, 2, 5, 64, 65, 1000])
@pytest.mark.parametrize("value", [0.5, 3, True, np.float32(0.5), np.int64(7)])
def test_plain_numbers_are_packed(count: int, value: Any) -> None:
    for values in ([value] * count, [*[0.25] * (count - 1), value][:count]):
        assert plain_packer(count)(*PLACE, *values) == packers(count)[0](*PLACE, *values)


@pytest.mark.parametrize("count", [1, 2, 5, 64, 65])
def test_another_value_at_any_place_is_refused_unread(count: int) -> None:
    value = Array(1.0)
    looks = value.looks
    for at in {0, count // 2, count - 1}:
        values: list[Any] = [0.5] * count
        values[at] = value
        with pytest.raises(TypeError, match="not plain numbers"):
            plain_packer(count)(*PLACE, *values)
    assert (value.waited, value.looks) == (0, looks)
