"""Lineage: which version of a model was made from which, recorded as linked spans."""

from entrenar_otel.lineage.version_id import VersionId as VersionId
