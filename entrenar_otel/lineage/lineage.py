"""Lineage: the versions of a lake's models as a graph that is asked questions, and added to by hand."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from entrenar_processors.counts import counted
from entrenar_processors.extras import require_library

from entrenar_otel.errors import LineageError, describe
from entrenar_otel.lineage.by_hand import Statement, write_statements
from entrenar_otel.lineage.graph import LineageGraph
from entrenar_otel.lineage.node import LineageEdge, LineageNode
from entrenar_otel.lineage.statements import ACCURACY, Statements
from entrenar_otel.lineage.version_id import VersionId, version_order

if TYPE_CHECKING:
    import networkx

    from entrenar_otel.lake import Lake
    from entrenar_otel.lineage.comparison import VersionComparison
    from entrenar_otel.lineage.regression import RegressionSource

_CLOSE = 0.5
#: So many names are looked through for one that is close.
_MOST_NAMES = 5_000
_CRASHED = """
SELECT model_id || '@' || coalesce(version, run_id) AS name, max(run_id) AS run_id FROM runs
WHERE list_contains(?, model_id || '@' || coalesce(version, run_id)) AND state = 'crashed' GROUP BY ALL
"""


class Lineage:
    """All versions of all models of a lake, rebuilt from its view `lineage` alone.

    What others add meanwhile is there after `refresh`. Raises MissingExtra without networkx and packaging,
    LakeError, QueryError.
    """

    def __init__(self, lake: Lake) -> None:
        for library in ("networkx", "packaging"):
            require_library(library, "lineage")
        self.lake = lake
        self._reasons: dict[str, str] | None = None
        self.graph = LineageGraph(Statements.read(lake))
        _ = self.graph.numbered  # now, so that the first question is as fast as others

    @classmethod
    def open(cls, lake: Lake | str | os.PathLike[str]) -> Lineage:
        """That of a lake: an open one, a folder or a URL."""
        from entrenar_otel.lake import Lake

        return cls(lake if isinstance(lake, Lake) else Lake(lake))

    def refresh(self) -> None:
        """Read again what is known."""
        self._reasons = None
        self.graph = LineageGraph(Statements.read(self.lake))

    def __len__(self) -> int:
        return len(self.graph.places)

    def __contains__(self, name: object) -> bool:
        return str(name) in self.graph

    # -- what is known ----------------------------------------------------------------------------

    def models(self) -> list[str]:
        """The ids of all models of which a version is known, by name."""
        return sorted(set(self.graph.statements.column("model_id")))

    def names(self, model: str | None = None) -> list[str]:
        """All versions as `MODEL@VERSION`, missing ones too, or those of one model with their ancestors.

        By model, and by version: semantic ones as such. Raises LineageError of a model that is not there.
        """
        graph = self.graph
        wanted = list(graph.places)
        if model is not None:
            own = [name for name in graph.rows if name.rpartition("@")[0] == model]
            if not own:
                raise LineageError(
                    f"no versions of a model {model!r} in {self.lake.url}; {self._close_to(model)}"
                )
            wanted = list(dict.fromkeys(one for name in own for one in graph.ancestry(name)))
        times = graph.statements.column("created_at")

        def order(name: str) -> tuple[Any, ...]:
            model_id, _, version = name.rpartition("@")
            rows = graph.rows.get(name)
            return model_id, version_order(version, min(times[row] for row in rows) if rows else None)

        return sorted(wanted, key=order)

    def node(self, version: str | VersionId) -> LineageNode:
        """What is known of `MODEL@VERSION`. Raises LineageError where it is not there."""
        name = self._known(version)
        return self.graph.node(name, self._reason(name))

    def nodes(self, model: str | None = None) -> list[LineageNode]:
        """As `names`, with all that is known of each."""
        return [self.graph.node(name, self._reason(name)) for name in self.names(model)]

    def edges(self, model: str | None = None) -> list[LineageEdge]:
        """From parents to children, of all versions or those of a model and their ancestors."""
        return list(self.graph.edges(self.names(model)))

    def ancestry(self, version: str | VersionId) -> list[str]:
        """A version and all that it was made from, over all parents, nearest first."""
        return self.graph.ancestry(self._known(version))

    @property
    def cycles(self) -> list[tuple[str, ...]]:
        """Versions that links make their own ancestors, each as the way around."""
        return self.graph.cycles

    def to_networkx(self, model: str | None = None) -> networkx.DiGraph[str]:
        """A copy for networkx: `node` at each node, `change_type` at each edge."""
        import networkx

        made: networkx.DiGraph[str] = networkx.DiGraph()
        for node in self.nodes(model):
            made.add_node(str(node.id), node=node)
        for edge in self.graph.edges(list(made)):
            made.add_edge(edge.parent_id, edge.child_id, change_type=edge.change_type)
        return made

    # -- questions --------------------------------------------------------------------------------

    def find_regression_source(
        self,
        version: str | VersionId,
        metric: str = ACCURACY,
        *,
        tolerance: float | None = None,
        better: Literal["less", "more"] | None = None,
        alpha: float = 0.05,
    ) -> RegressionSource:
        """Which change on the way to a version made a metric worse, the most of all that are beyond noise.

        See `lineage.regression`. `tolerance`, in the metric's unit, is what may be lost without being a
        regression; `better` says which values are good of a metric whose name does not. Raises LineageError.
        """
        from entrenar_otel.lineage.regression import find_source

        name = self.settled(version)
        return find_source(
            self.lake, self.graph, name, metric, tolerance=tolerance, better=better, alpha=alpha
        )

    def compare(self, a: str | VersionId, b: str | VersionId) -> VersionComparison:
        """Two versions in accuracy and all metrics that both have; several runs of one are samples of it.

        Raises LineageError.
        """
        from entrenar_otel.lineage.comparison import compare_versions

        return compare_versions(self.graph, self.settled(a), self.settled(b))

    def settled(self, version: str | VersionId) -> str:
        """A version's name, where it can be asked about. Raises LineageError: unknown, missing, twofold."""
        name = self._known(version)
        if self.graph.is_missing(name):
            reason = self._reason(name)
            raise LineageError(
                f"nothing is known of {name} but that it is a parent" + (f": {reason}" * bool(reason))
            )
        if (both := self.graph.conflicts.get(name)) is not None:
            raise LineageError(
                f"{name} was made with two configurations, so that questions about it have two answers: "
                f"{both[0]}; {both[1]}. Give one of them a version of its own"
            )
        return name

    # -- by hand ----------------------------------------------------------------------------------

    def add_node(
        self,
        model_id: str,
        version: str,
        accuracy: float | None = None,
        config_hash: str | None = None,
        metrics: Mapping[str, float] | None = None,
        *,
        parents: Iterable[str | VersionId] = (),
        change_type: str | None = None,
        created_at: datetime | None = None,
    ) -> None:
        """Say of a version what no run has recorded, or say it better; it is in the lake when this returns.

        Raises LineageError where it is known with another configuration, LakeError, OSError.
        """
        own = VersionId.parse(f"{model_id}@{version}")
        hashes = self._hashes(str(own))
        if config_hash is not None and hashes and config_hash not in hashes:
            raise LineageError(
                f"{own} is known with configuration {', '.join(sorted(hashes))}, and not {config_hash}: a "
                "version is made with one configuration. Give this one a version of its own"
            )
        wanted = [self._parent(own, parent) for parent in parents]
        self._say(
            Statement(
                own,
                accuracy=None if accuracy is None else _number("accuracy", accuracy),
                created_at=_aware(created_at or datetime.now(UTC)),
                config_hash=config_hash,
                metrics={
                    str(metric): number
                    for metric, value in (metrics or {}).items()
                    if (number := _number(str(metric), value)) is not None
                },
                parents=tuple((parent, change_type) for parent in wanted),
            )
        )

    def add_edge(
        self, parent: str | VersionId, child: str | VersionId, change_type: str | None = None
    ) -> None:
        """Say that a version was made from another one; it is in the lake when this returns.

        Raises LineageError where the child is an ancestor of its parent, LakeError, OSError.
        """
        own = VersionId.parse(str(child))
        self._say(Statement(own, parents=((self._parent(own, parent), change_type),)))

    def _parent(self, child: VersionId, parent: str | VersionId) -> str:
        name = str(VersionId.parse(str(parent)))
        if (way := self.graph.path(str(child), name)) is not None:
            raise LineageError(
                f"{name} cannot be a parent of {child}, which it was made from: "
                f"{' → '.join([*way, str(child)])}"
            )
        return name

    def _say(self, statement: Statement) -> None:
        write_statements(self.lake.storage, [statement])
        start = len(self.graph.statements)
        self.graph.statements.append([statement])
        self.graph.grow(start)

    def _hashes(self, name: str) -> set[str]:
        rows = (self.graph.statements.row(at) for at in self.graph.rows.get(name, ()))
        return {row["config_hash"] for row in rows if row["config_hash"]}

    # -- words ------------------------------------------------------------------------------------

    def _known(self, version: str | VersionId) -> str:
        name = str(version)
        if name not in self.graph:
            VersionId.parse(name)
            raise LineageError(f"no version {name!r} in {self.lake.url}; {self._close_to(name)}")
        return name

    def _close_to(self, text: str) -> str:
        model, at, _ = text.rpartition("@")
        models = self.models()
        if not models:
            return "no run has recorded a version yet: give Monitor a model_id and a version"
        if at and model in models:
            names = self.names(model)
            known = [name for name in names if name.rpartition("@")[0] == model]
            close = difflib.get_close_matches(text, known[-_MOST_NAMES:], n=3, cutoff=0.8)
            return f"close to it: {', '.join(close or reversed(known[-3:]))}"
        if close := difflib.get_close_matches(model or text, models[:_MOST_NAMES], n=5, cutoff=_CLOSE):
            return f"close to it: {', '.join(close)}"
        rest = f" and {counted(len(models) - 5, 'other')}" if len(models) > 5 else ""
        return f"models: {', '.join(models[:5])}{rest}"

    def _reason(self, name: str) -> str | None:
        """Why a version is missing, where a run of it crashed."""
        if not self.graph.is_missing(name):
            return None
        if self._reasons is None:
            rows = self.lake.query(_CRASHED, [self.graph.missing()]).to_pylist()
            self._reasons = {row["name"]: f"run {row['run_id']} crashed before it was made" for row in rows}
        return self._reasons.get(name)


def _number(name: str, value: Any) -> float | None:
    """A measurement; None of NaN. Raises LineageError."""
    try:
        number = float(value)
    except Exception:
        raise LineageError(f"{name}: expected a number, got {describe(value)}") from None
    return number if math.isfinite(number) else None


def _aware(time: datetime) -> datetime:
    return time if time.tzinfo else time.replace(tzinfo=UTC)
