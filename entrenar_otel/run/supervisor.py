"""Supervisor: what a run tells `entrenar-otel run`, which started its program: that it is, and how it ended.

One small file per process in a folder that only the two of them know. It is on the local disk, so that it
does not depend on a lake that hangs, and a process that is killed has said already that it records.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from entrenar_otel.errors import guard

#: Names the folder.
VARIABLE = "ENTRENAR_SUPERVISOR"
_SUFFIX = ".run.json"


@dataclass(frozen=True)
class Note:
    """One run of one process."""

    process: str
    pid: int
    run_id: str
    rank: int
    started: float
    state: str = "running"
    #: Whether AndonStop ended it.
    is_stop: bool = False

    @classmethod
    def of(cls, process: str, run_id: str, rank: int) -> Note:
        """The note of a run that begins now."""
        return cls(process, os.getpid(), run_id, rank, time.time())


def tell(note: Note) -> None:
    """Leave the note, in place of an earlier one of this process; without a supervisor nobody is told."""
    if folder := os.environ.get(VARIABLE):
        with guard("supervisor"):
            path = Path(folder, f"{note.process}{_SUFFIX}")
            new = path.with_suffix(".new")
            new.write_text(json.dumps(asdict(note)))
            new.replace(path)


def told(folder: Path) -> list[Note]:
    """What the processes of a program have told so far, in the order in which they began."""
    notes = []
    for path in folder.glob(f"*{_SUFFIX}"):
        try:
            notes.append(Note(**json.loads(path.read_text())))
        except (OSError, ValueError, TypeError):
            continue  # not one of ours
    return sorted(notes, key=lambda note: note.started)
