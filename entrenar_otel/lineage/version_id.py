"""Version id: a version of a model, as `MODEL@VERSION`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from entrenar_otel.errors import LineageError, describe

#: Longer texts are no names; a run id has as many characters.
_MAX_TEXT = 2_000


class VersionId(NamedTuple):
    """A model's id and one of its versions.

    >>> VersionId.parse("team@vision/digits@1.2.0")
    VersionId(model_id='team@vision/digits', version='1.2.0')
    >>> str(VersionId("digits", "1.2.0"))
    'digits@1.2.0'
    """

    model_id: str
    version: str

    @classmethod
    def parse(cls, text: str) -> VersionId:
        """Split at the last `@`. Raises LineageError where there is none, or nothing on one side."""
        model_id, at, version = text.rpartition("@") if isinstance(text, str) else ("", "", "")
        if not (at and model_id and version) or len(text) > _MAX_TEXT:
            raise LineageError(f"expected MODEL@VERSION, such as digits@1.2.0, got {describe(text)}")
        return cls(model_id, version)

    def __str__(self) -> str:
        return f"{self.model_id}@{self.version}"


def version_order(version: str, created_at: datetime | None) -> tuple[Any, ...]:
    """By what the versions of one model are sorted: semantic ones as such, the others by time, before them.

    Semantic is what PEP 440 can read, as semantic versions nearly always are.

    >>> sorted(["1.10.0", "1.9.0", "1.10.0-rc.1"], key=lambda text: version_order(text, None))
    ['1.9.0', '1.10.0-rc.1', '1.10.0']
    """
    from packaging.version import InvalidVersion, Version

    seconds = 0.0 if created_at is None else created_at.timestamp()
    try:
        return (1, Version(version), seconds, version)
    except InvalidVersion:
        return (0, seconds, version)
