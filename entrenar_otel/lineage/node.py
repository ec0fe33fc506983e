"""Node and edge: a version of a model as far as it is known, and what led from one to the next."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from entrenar_otel.lineage.version_id import VersionId


class LineageEdge(NamedTuple):
    """From a parent to its child, as `MODEL@VERSION`, and what was changed, where that was said."""

    parent_id: str
    child_id: str
    change_type: str | None


@dataclass(frozen=True, slots=True)
class LineageNode:
    """A version: what all statements about it come to.

    `accuracy` and `metrics` are what was said last by hand, else the means over the runs that made it,
    which are repeated evaluations; `accuracies` are the values themselves. `is_missing`: it is somebody's
    parent, and nothing else is known of it but `reason`. `conflict` are two configurations that both claim
    to be this version; its numbers are then of no use.
    """

    id: VersionId
    accuracy: float | None = None
    accuracies: tuple[float, ...] = ()
    created_at: datetime | None = None
    config_hash: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    run_ids: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    git_commits: tuple[str, ...] = ()
    is_missing: bool = False
    reason: str | None = None
    conflict: tuple[str, str] | None = None

    @property
    def model_id(self) -> str:
        return self.id.model_id

    @property
    def version(self) -> str:
        return self.id.version
