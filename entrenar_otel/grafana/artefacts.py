"""Artefacts: files that are made, not written by hand; written, or compared with what is there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def differing(made: Mapping[Path, str]) -> list[Path]:
    """Those of the files that are not there as they were made, to the byte.

    >>> differing({Path("/no/such/file.json"): "{}"})
    [PosixPath('/no/such/file.json')]
    """
    return [path for path, text in made.items() if not path.is_file() or path.read_bytes() != text.encode()]


def put(made: Mapping[Path, str]) -> None:
    """Write them, each whole or not at all, for Prometheus and Grafana may be reading. Raises OSError."""
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_bytes(text.encode())
        os.replace(new, path)
