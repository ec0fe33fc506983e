"""IsolationForest: how few random cuts isolate a row from the others."""

from __future__ import annotations

import math
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from entrenar_processors.extras import require_library
from entrenar_processors.samples import Floats, Ints

#: Rows scored at once: their intermediate tables (rows × trees) stay within the processor's cache.
_ROWS = 128
#: Trees are stored as complete binary trees; this keeps 100 of them within about 30 MB.
_MAX_SUBSAMPLE = 1 << 14
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


class IsolationForest:
    """Isolation forest (Liu, Ting and Zhou, ICDM 2008): fitted by scikit-learn, scored by ourselves.

    `score(row) = 2 ** (-E[h(row)] / c(m))`: h is the depth at which a tree isolates the row (a leaf
    of n rows adds c(n)), m the rows a tree has seen, `c(n) = 2 (ln(n - 1) + γ) - 2 (n - 1) / n`.
    About 0.5 for an ordinary row, near 1 for an isolated one. `is_anomaly` compares with the
    `quantile` of the fitted rows' own scores: at 0.99, one fitted row in a hundred is above it.

    scikit-learn visits its trees one by one, which takes milliseconds per row. Here all trees are
    descended together: each is laid out as a complete binary tree, level by level, so that node i of
    a level has children 2i and 2i + 1, and a step down is one comparison over all trees. The scores
    are those of `sklearn.ensemble.IsolationForest(n_trees, max_samples=subsample, random_state=seed)`,
    which also takes values as float32. A row with a non-finite value scores NaN.
    It is weak on rows that are unusual in a single value, since most cuts fall on the others.

    >>> rows = np.random.default_rng(0).normal(size=(500, 3))
    >>> forest = IsolationForest().fit(rows)
    >>> forest.is_anomaly([0.1, 0.2, -0.3]), forest.is_anomaly([4.0, 4.0, -4.0])
    (False, True)
    """

    def __init__(
        self,
        n_trees: int = 100,
        subsample: int = 256,
        *,
        quantile: float = 0.99,
        seed: int = 0,
    ) -> None:
        if n_trees < 1:
            raise ValueError(f"expected n_trees of at least 1, got {n_trees}: 100 are usual")
        if not 2 <= subsample <= _MAX_SUBSAMPLE:
            raise ValueError(
                f"expected subsample between 2 and {_MAX_SUBSAMPLE}, got {subsample}: 256 is usual"
            )
        if not 0 <= quantile <= 1:
            raise ValueError(
                f"expected quantile between 0 and 1, got {quantile}: 1 is the highest fitted score"
            )
        require_library("sklearn", "IsolationForest")
        self.n_trees = n_trees
        self.subsample = subsample
        self.quantile = quantile
        self.seed = seed
        #: Scores above this are anomalies; NaN before `fit`.
        self.threshold = math.nan
        self.n_features = 0
        self._levels: list[tuple[Ints, Floats]] = []
        self._paths = np.empty(0)
        self._scale = 0.0

    def fit(self, data: ArrayLike) -> Self:
        """Grow the trees on rows `(n, k)`; rows with a non-finite value are left out."""
        from sklearn.ensemble import IsolationForest as Trees

        rows = _table(data)
        rows = rows[np.isfinite(rows).all(axis=1)]
        if not rows.size:
            raise ValueError("expected at least one row of finite values to fit on, got none")
        m = min(self.subsample, len(rows))  # scikit-learn warns about a subsample larger than the rows
        trees = Trees(n_estimators=self.n_trees, max_samples=m, random_state=self.seed)
        with np.errstate(over="ignore", invalid="ignore"):  # an older scikit-learn sums them in a check
            trees.fit(_as_float32(rows))
        self.n_features = rows.shape[1]
        self._flatten([estimator.tree_ for estimator in trees.estimators_])
        self._scale = self.n_trees * float(_path_length(np.array([m]))[0])
        self.threshold = float(np.quantile(-self.score_samples(rows), self.quantile))
        return self

    def _flatten(self, trees: list[Any]) -> None:
        """Complete trees, one array of features and of thresholds per level; a leaf continues to the left."""
        starts = np.cumsum([0, *(tree.node_count for tree in trees)])
        offset = np.repeat(starts[:-1], np.diff(starts))
        left = np.concatenate([tree.children_left for tree in trees])
        right = np.concatenate([tree.children_right for tree in trees]) + offset
        leaf = left < 0
        left = left + offset
        feature = np.concatenate([tree.feature for tree in trees])
        threshold = np.concatenate([tree.threshold for tree in trees])
        size = np.concatenate([tree.n_node_samples for tree in trees])

        nodes = starts[:-1]
        depth = np.zeros(len(nodes))
        self._levels = []
        while not (done := leaf[nodes]).all():
            self._levels.append(
                (
                    np.where(done, 0, feature[nodes]).astype(np.intp),
                    np.where(done, np.inf, threshold[nodes]),
                )
            )
            children = np.where(done, nodes, left[nodes]), np.where(done, nodes, right[nodes])
            nodes = np.column_stack(children).ravel()
            depth = np.repeat(depth + ~done, 2)
        self._paths = depth + _path_length(size[nodes])

    def score_samples(self, data: ArrayLike) -> Floats:
        """The negated score of rows `(n, k)`, as scikit-learn has it: lower is more abnormal.

        The trees are summed row by row, so a row's score is equal to the bit whatever rows are beside it.
        """
        rows = _table(data)
        if not self.n_features:
            raise ValueError("expected a fitted forest: call fit(rows) first")
        if rows.shape[1] != self.n_features:
            raise ValueError(f"expected rows of {self.n_features} values as fitted, got {rows.shape[1]}")
        scores = np.empty(len(rows))
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            scores[part] = self._score(_as_float32(rows[part]))
        whole = np.isfinite(rows).all(axis=1)
        if not whole.all():
            scores[~whole] = np.nan
        return scores

    def _score(self, rows: NDArray[np.float32]) -> Floats:
        n, k = rows.shape
        # flat.take is what makes it fast: it broadcasts no index arrays.
        flat = rows.astype(np.float64).ravel()
        first = (np.arange(n) * k)[:, np.newaxis]
        at = np.broadcast_to(np.arange(self.n_trees), (n, self.n_trees))
        for feature, threshold in self._levels:
            column = feature.take(at)
            column += first
            at = at * 2 + (flat.take(column) > threshold.take(at))
        if not self._scale:
            return np.full(n, -0.5)  # fitted on one row: nothing to isolate
        scores: Floats = -(2.0 ** (-self._paths.take(at).sum(axis=1) / self._scale))
        return scores

    def anomaly_score(self, sample: ArrayLike) -> float:
        """The score of one row `(k,)`: 0.5 is ordinary, 1 is isolated, NaN where a value is not finite."""
        return -float(self.score_samples(np.asarray(sample, np.float64).reshape(1, -1))[0])

    def is_anomaly(self, sample: ArrayLike) -> bool:
        """Whether one row `(k,)` scores above `threshold`; never true with a non-finite value."""
        return self.anomaly_score(sample) > self.threshold


def _table(data: ArrayLike) -> Floats:
    rows = np.asarray(data, np.float64)
    if rows.ndim != 2:
        raise ValueError(f"expected rows of shape (n, k), got shape {rows.shape}")
    return rows


def _as_float32(rows: Floats) -> NDArray[np.float32]:
    """The values as scikit-learn's trees see them; 1e308 becomes the largest float32, not infinity."""
    with np.errstate(under="ignore"):
        return np.clip(np.nan_to_num(rows, nan=0.0), -_LARGEST_FLOAT32, _LARGEST_FLOAT32).astype(np.float32)


def _path_length(n: NDArray[Any]) -> Floats:
    """c(n): the mean depth of an unsuccessful search among n rows; 0 for one row, 1 for two."""
    n = np.asarray(n, np.float64)
    large = np.maximum(n, 3)
    length = 2 * (np.log(large - 1) + np.euler_gamma) - 2 * (large - 1) / large
    return np.where(n <= 1, 0.0, np.where(n == 2, 1.0, length))
