"""By hand: versions and parents that no run recorded, as files of `lineage/` in the lake; many may write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

import pyarrow as pa

from entrenar_otel.identity.process import new_process_name
from entrenar_otel.lake.store.catalog import run_folder
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.lake.tables.schema import LINEAGE
from entrenar_otel.lineage.version_id import VersionId


@dataclass(frozen=True)
class Statement:
    """What somebody says of a version: of its quality, its parents, or both. Times are aware."""

    version: VersionId
    accuracy: float | None = None
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    config_hash: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    #: MODEL@VERSION and what was changed since.
    parents: tuple[tuple[str, str | None], ...] = ()

    def row(self) -> dict[str, object]:
        """As a row of `lineage`."""
        said = asdict(self) | {"source": "hand", "config_group": self.config_hash}
        del said["version"]
        return said | {
            "model_id": self.version.model_id,
            "version": self.version.version,
            "metrics": list(self.metrics.items()),
            "parents": [{"parent_id": parent, "change_type": change} for parent, change in self.parents],
        }


def write_statements(storage: Storage, statements: Sequence[Statement]) -> None:
    """Store them, durably: a file of its own for each model. Raises LakeError, OSError."""
    process = new_process_name()
    by_model: dict[str, list[Statement]] = {}
    for statement in statements:
        by_model.setdefault(statement.version.model_id, []).append(statement)
    for model_id, group in by_model.items():
        day = min(statement.created_at for statement in group).astimezone(UTC).strftime("%Y-%m-%d")
        table = pa.Table.from_pylist([statement.row() for statement in group], schema=LINEAGE)
        name = f"{run_folder('lineage', day, model_id)}/{process}-000000.parquet"
        storage.write(name, LINEAGE, iter(table.to_batches()))
