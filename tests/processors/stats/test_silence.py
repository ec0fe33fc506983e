"""The numeric part of SilentMembers: the short cut for a group in which all is well."""

from __future__ import annotations

import numpy as np
from entrenar_processors import Series
from entrenar_processors.stats.silence import Group, Rules
from hypothesis import given, settings
from hypothesis import strategies as st


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_short_cut_is_one(data: st.DataObject) -> None:
    """Rows in which every member moves are taken at once: state and findings are those of the long way."""
    k = data.draw(st.integers(2, 4))
    rules = Rules(*(data.draw(st.integers(1, 6)) for _ in range(5)))
    quick, slow = Group(rules), Group(rules)
    slow._all_move = lambda values, present: False  # type: ignore[method-assign]
    for group in (quick, slow):
        for i in range(k):
            group.add(Series.of("loss", {"expert": i}))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    for _ in range(data.draw(st.integers(1, 12))):
        n = data.draw(st.integers(1, 9))
        values, present = random.normal(size=(n, k)), np.ones((n, k), bool)
        fault = data.draw(st.sampled_from(["", "", "nan", "constant", "stopped"]))
        member = int(random.integers(k))
        if fault == "nan":
            values[:, member] = np.nan
        elif fault == "constant":
            values[:, member] = 0.5
        elif fault == "stopped":
            present[:, member], values[:, member] = False, np.nan
        before = quick._tick
        assert quick.update(values, present) == slow.update(values, present)
        assert quick._tick == slow._tick == before + n
        np.testing.assert_array_equal(quick._state, slow._state)
        np.testing.assert_array_equal(quick._last_value, slow._last_value)
    assert quick._open == slow._open


def test_the_short_cut_is_taken() -> None:
    """By the second table of a healthy group; not while a silence is open, nor where one member waits."""
    group = Group(Rules(2, 2, 2, 1, 1))
    for i in range(2):
        group.add(Series.of("loss", {"expert": i}))
    values, present = np.arange(8.0).reshape(4, 2), np.ones((4, 2), bool)
    assert not group._all_move(values, present)  # nothing is known yet
    group.update(values, present)
    assert group._all_move(values + 100, present)
    assert not group._all_move(np.full((1, 2), 106.0), present[:1])  # one of them stands still
    assert not group._all_move(values, present & (values > 0))
    group._open["nan"].add(0)
    assert not group._all_move(values, present)
