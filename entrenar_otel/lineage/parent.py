"""Parent: the version of a model that a run started from, as a program names it."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from entrenar_otel.errors import LineageError, describe
from entrenar_otel.lineage.sidecar import Sidecar
from entrenar_otel.lineage.version_id import VersionId
from entrenar_otel.recording.inputs import described


@dataclass(frozen=True)
class Parent:
    """A version, what was changed since, and the ids in hex of the span that recorded it, where known."""

    version: VersionId
    change: str | None = None
    trace_id: str | None = None
    span_id: str | None = None

    @classmethod
    def of(cls, given: Any, change: str | None = None) -> Parent:
        """`MODEL@VERSION`, or a checkpoint that has a sidecar: its path. Raises LineageError.

        >>> str(Parent.of("digits@1.1.0", "more_data").version)
        'digits@1.1.0'
        """
        change = described(change)
        if not isinstance(given, str | os.PathLike):
            raise LineageError(
                f"expected a parent as MODEL@VERSION or a checkpoint's path, got {describe(given)}"
            )
        if (sidecar := Sidecar.read(given)) is not None:
            parent = cls(VersionId(sidecar.model_id, sidecar.version), change)
            return parent.with_traceparent(sidecar.traceparent)
        if isinstance(given, os.PathLike):
            raise LineageError(
                f"{os.fspath(given)} has no sidecar that says which version of a model it is: write one with "
                "Monitor.save_sidecar where the checkpoint is saved, or name the parent as MODEL@VERSION"
            )
        return cls(VersionId.parse(given), change)

    def with_traceparent(self, traceparent: str | None) -> Parent:
        """The same with the ids of W3C text; without where that is none."""
        parts = (traceparent or "").split("-")
        is_whole = len(parts) >= 4 and len(parts[1]) == 32 and len(parts[2]) == 16
        if not is_whole or not all(digit in "0123456789abcdef" for digit in parts[1] + parts[2]):
            return self
        return replace(self, trace_id=parts[1], span_id=parts[2])
