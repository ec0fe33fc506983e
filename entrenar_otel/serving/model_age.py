"""Model age: how long ago the version in service was made, by whoever knows."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from entrenar_otel.errors import LineageError, describe
from entrenar_otel.lineage.sidecar import Sidecar
from entrenar_otel.lineage.version_id import VersionId

_MADE = "SELECT max(created_at) AS made FROM lineage WHERE model_id = ? AND version = ?"


def made_at(
    version: VersionId,
    *,
    created_at: datetime | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    lake: str | os.PathLike[str] | None = None,
) -> datetime | None:
    """When a version was made: as given, else by its checkpoint's sidecar, else by the lineage in the lake.

    None where nothing was given. Raises LineageError where the one that was asked does not know.
    """
    if created_at is not None:
        return created_at if created_at.tzinfo else created_at.replace(tzinfo=UTC)
    if checkpoint is not None:
        return _of_checkpoint(version, checkpoint)
    return None if lake is None else _of_lake(version, lake)


def _of_checkpoint(version: VersionId, checkpoint: str | os.PathLike[str]) -> datetime:
    sidecar = Sidecar.read(checkpoint)
    if sidecar is None:
        raise LineageError(f"{os.fspath(checkpoint)} has no sidecar: write one with Monitor.save_sidecar")
    if (sidecar.model_id, sidecar.version) != version:
        raise LineageError(
            f"{os.fspath(checkpoint)} is {sidecar.model_id}@{sidecar.version}; the model in service was said "
            f"to be {version}"
        )
    try:
        moment = datetime.fromisoformat(sidecar.created_at or "")
    except ValueError:
        raise LineageError(
            f"the sidecar of {os.fspath(checkpoint)} does not say when it was made: expected created_at as "
            f"ISO 8601, got {describe(sidecar.created_at)}"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _of_lake(version: VersionId, location: str | os.PathLike[str]) -> datetime:
    from entrenar_otel.lake import Lake

    lake = Lake(location)
    made = lake.query(_MADE, list(version)).to_pylist()[0]["made"]
    if made is None:
        raise LineageError(f"{version} is not in {lake.url}; its versions are those of the view lineage")
    return made  # type: ignore[no-any-return]
