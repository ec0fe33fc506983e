"""Saved files: which checkpoints a framework has written since somebody last looked."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable

from entrenar_otel.errors import guard
from entrenar_otel.lineage.sidecar import SUFFIX, path_beside
from entrenar_otel.monitor.monitor import Monitor

_FIELD = re.compile(r"\{[^{}]*\}")


class SavedFiles:
    """Tells files and folders that are new, or were written anew, each time once.

    A place that is no local file, such as `s3://…`, counts as saved when it is first named.
    """

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def new(self, paths: Iterable[str | os.PathLike[str]]) -> list[str]:
        """Those of the paths that were written since they were last asked about, in their order."""
        found = []
        for path in dict.fromkeys(os.fspath(path) for path in paths):
            if (written := _written_ns(path)) is not None and self._known.get(path) != written:
                self._known[path] = written
                found.append(path)
        return found


class SavedByTemplates:
    """Which of the files that templates give their names are new since it was made, each time once."""

    def __init__(self, templates: Iterable[str | os.PathLike[str]] = ()) -> None:
        self._templates, self._files = tuple(templates), SavedFiles()
        self.new()  # those of an earlier training

    def new(self) -> list[str]:
        """Those that were written since the last call."""
        return self._files.new(path for template in self._templates for path in matching(template))


def _written_ns(path: str) -> int | None:
    if "://" in path:
        return 0
    try:
        return os.stat(path).st_mtime_ns
    except OSError:  # not yet, or no more
        return None


def matching(template: str | os.PathLike[str]) -> list[str]:
    """The files that a template such as `model-{epoch:02d}.keras` has given their names, oldest first."""
    text = os.fspath(template)
    pattern = "*".join(glob.escape(part) for part in _FIELD.split(text))
    return sorted(glob.glob(pattern), key=lambda path: (_written_ns(path) or 0, path))


def has_sidecar(checkpoint: str | os.PathLike[str]) -> bool:
    """Whether a run has said what a checkpoint is, see `Monitor.save_sidecar`."""
    return os.path.exists(path_beside(checkpoint)) or os.path.exists(
        os.path.join(checkpoint, SUFFIX.removeprefix("."))
    )


def record_checkpoint(monitor: Monitor, checkpoint: str | os.PathLike[str], step: int | None = None) -> None:
    """An event `training.checkpoint`, and the sidecar where the run's model has an id."""
    with guard("checkpoint"):
        monitor.event("training.checkpoint", {"path": os.fspath(checkpoint), "step": step})
        if monitor.model_id is not None:
            monitor.save_sidecar(checkpoint)


def resume_from(monitor: Monitor | None, checkpoint: str | os.PathLike[str] | None) -> None:
    """A training goes on from a checkpoint: a run that has written a sidecar for it is the parent."""
    if monitor is not None and checkpoint and has_sidecar(checkpoint):
        monitor.add_parent(checkpoint, "resume")
