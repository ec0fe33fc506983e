"""Numbers: where a request log begins to count, so that no file of the lake gets a name that is taken."""

from __future__ import annotations

from pathlib import Path

from entrenar_otel.lake.store.catalog import list_files
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.sink.known.database import NAME
from entrenar_otel.sink.storing.foreign_files import FOREIGN

_TABLES = ("metrics", "events", "spans")


def first_number(storage: Storage, state_folder: Path) -> int:
    """The number for a folder's first file: 0 where the folder itself knows better. Raises OSError, LakeError.

    A state folder that was lost is empty, and the lake has files of its numbers.
    """
    if (state_folder / NAME).exists() or any(state_folder.glob("requests-*.log")):
        return 0
    files = (
        file
        for table in _TABLES
        for place in ("", f"{FOREIGN}/")
        for file in list_files(storage, f"{place}{table}")
    )
    return max((file.last + 1 for file in files), default=0)
