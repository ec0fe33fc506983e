"""Libraries: the trackers' own readers, each in an extra."""

from __future__ import annotations

from importlib.util import find_spec

from entrenar_processors.extras import MissingExtra


def require_reader(source: str) -> None:
    """Raise MissingExtra where the tracker that has written the files is not installed."""
    if find_spec(source) is None:
        raise MissingExtra(f"importing from {source}", source, f"import-{source}")
