"""Samples: columns, order, presence."""

from __future__ import annotations

import numpy as np
import pytest
from entrenar_processors import ABSENT, Block, Samples, Series
from hypothesis import given
from hypothesis import strategies as st

LOSS, ACCURACY = Series("loss"), Series("accuracy")
VALIDATION = Series.of("loss", {"split": "validation"})


def rows(columns: dict[str | Series, list[float]], seq: list[int]) -> Samples:
    return Samples.from_columns(columns, seq=seq, epoch=[s * 2 for s in seq])


def test_series_is_the_same_whatever_the_order_and_type_of_its_tags() -> None:
    """Tags are identity by content: sorted by key, as text."""
    assert Series.of("loss", {"b": 2, "a": True}) == Series("loss", (("a", "True"), ("b", "2")))
    assert Series.of("loss", {}) == Series.of("loss", None) == LOSS
    assert str(Series.of("loss", {"b": 2, "a": 1})) == 'loss{a="1",b="2"}'


def test_coordinates_default_to_absent_and_keep_their_types() -> None:
    """What was not given is -1, and the types are those of the lake."""
    block = Samples.from_columns({"loss": [1.0, 2.0]}, step=[7, 2**62]).blocks[0]
    assert block.seq.tolist() == block.time_ns.tolist() == [0, 1]
    assert block.epoch.tolist() == block.batch.tolist() == [ABSENT, ABSENT]
    assert block.step.tolist() == [7, 2**62]
    assert [a.dtype for a in (block.epoch, block.batch, block.step, block.values)] == [
        np.int32,
        np.int32,
        np.int64,
        np.float64,
    ]


def test_columns_of_different_length_are_refused() -> None:
    """A row without a value would have to be invented."""
    with pytest.raises(ValueError, match=r"size|dimension"):
        Samples.from_columns({"loss": [1.0, 2.0], "accuracy": [1.0]})


def test_column_joins_blocks_in_recording_order_with_its_coordinates() -> None:
    """A series reported in two sets of names is one column, ordered by seq."""
    samples = Samples.concat(
        [rows({LOSS: [0.3, 0.1], ACCURACY: [3, 1]}, [3, 5]), rows({LOSS: [0.9, 0.2]}, [1, 4])]
    )
    column = samples.column(LOSS)
    assert column.seq.tolist() == [1, 3, 4, 5]
    assert column.values.tolist() == [0.9, 0.3, 0.2, 0.1]
    assert column.epoch.tolist() == [2, 6, 8, 10]
    assert samples.column(ACCURACY).values.tolist() == [3, 1]
    assert [len(array) for array in samples.column(VALIDATION)] == [0] * 6


def test_columns_are_sorted_and_counted() -> None:
    """`series` and `columns` list every series once, by metric, then tags."""
    samples = Samples.concat([rows({VALIDATION: [1], LOSS: [2]}, [0]), rows({LOSS: [4], ACCURACY: [5]}, [1])])
    assert samples.series == (ACCURACY, LOSS, VALIDATION)
    assert [(s, c.values.tolist()) for s, c in samples.columns()] == [
        (ACCURACY, [5]),
        (LOSS, [2, 4]),
        (VALIDATION, [1]),
    ]
    assert (len(samples), samples.n_values) == (2, 4)


def test_matrix_tells_a_reported_nan_from_a_hole() -> None:
    """Both are NaN in the table; only the mask says which was measured."""
    samples = Samples.concat([rows({LOSS: [np.nan]}, [2]), rows({ACCURACY: [0.5], LOSS: [0.1]}, [1])])
    seq, values, present = samples.matrix()
    assert seq.tolist() == [1, 2]
    np.testing.assert_array_equal(values, [[0.5, 0.1], [np.nan, np.nan]])
    assert present.tolist() == [[True, True], [False, True]]
    _, values, present = samples.matrix([VALIDATION, LOSS])
    assert not present[:, 0].any()
    np.testing.assert_array_equal(values[:, 1], [0.1, np.nan])


def test_nothing_is_no_rows_of_no_series() -> None:
    """Empty blocks vanish, and an empty matrix keeps the columns it was asked for."""
    empty = rows({LOSS: [1.0]}, [0]).blocks[0]
    nothing = Samples(
        [Block(empty.series, *(a[:0] for a in vars(empty).values() if isinstance(a, np.ndarray)))]
    )
    assert (nothing.blocks, len(nothing), nothing.series) == ((), 0, ())
    assert nothing.matrix([LOSS])[1].shape == (0, 1)


@given(st.lists(st.sets(st.sampled_from("abcd"), min_size=1), max_size=20))
def test_matrix_and_columns_agree(calls: list[set[str]]) -> None:
    """Every present cell of the table is that row of the series' column."""
    samples = Samples.concat(
        rows({name: [float(i * 10 + ord(name))] for name in sorted(names)}, [i])
        for i, names in reversed(list(enumerate(calls)))
    )
    seq, values, present = samples.matrix()
    assert seq.tolist() == list(range(len(calls)))
    for j, (series, column) in enumerate(samples.columns()):
        assert seq[present[:, j]].tolist() == column.seq.tolist()
        assert values[present[:, j], j].tolist() == column.values.tolist()
        assert column.seq.tolist() == [i for i, names in enumerate(calls) if series.metric in names]


def test_column_take_and_concat_move_all_arrays_together() -> None:
    """The rows of a column stay rows."""
    column = rows({LOSS: [1, 2, 3]}, [4, 5, 6]).column(LOSS)
    first, rest = column.take(slice(0, 1)), column.take(np.array([2, 1]))
    joined = type(column).concat([rest, first])
    assert joined.values.tolist() == [3, 2, 1]
    assert joined.seq.tolist() == [6, 5, 4]
    assert joined.epoch.tolist() == [12, 10, 8]
