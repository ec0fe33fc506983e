"""Targets: where a page listens whose port nobody chose, as a file that Prometheus discovers (file_sd).

    scrape_configs:
      - job_name: training
        file_sd_configs: [{files: ["/home/ana/.local/state/entrenar/live/targets/entrenar-*.json"]}]

The file is there as long as the page is. Its writer holds its lock: those of processes that were killed are
free, and are removed by the next that writes one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path

from entrenar_otel.console import logger
from entrenar_otel.recording.plain_file import open_plain

#: How the names of our files begin: the folder may have others, of nodes say.
PREFIX = "entrenar-"


class TargetFile:
    """The file of one page. What cannot be written is said; no method raises.

    `folder`: of files that Prometheus discovers; `process`: what tells ours apart.
    """

    def __init__(self, folder: Path, process: str) -> None:
        self.path = folder / f"{PREFIX}{process}.json"
        self._fd: int | None = None

    def write(self, target: str, scheme: str) -> None:
        """Say that the page is at this `host:port`."""
        labels = {} if scheme == "http" else {"__scheme__": scheme}
        text = json.dumps([{"targets": [target], "labels": labels}])
        new = self.path.with_name(f".{self.path.stem}.new")  # Prometheus does not look at hidden ones
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove_dead(self.path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            self._fd = os.open(new, flags, 0o644)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(self._fd, text.encode())
            new.replace(self.path)
        except OSError as error:
            logger.warning(
                "%s cannot be written (%s): Prometheus cannot learn from it that /metrics is at %s. Set "
                "ENTRENAR_METRICS_TARGETS to a folder",
                self.path,
                error,
                target,
            )
            self.leave()

    def remove(self) -> None:
        """The page is gone."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                self.path.unlink()
            self.leave()

    def leave(self) -> None:
        """Let go of the file: in a forked child it is the parent's."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


def _remove_dead(folder: Path) -> None:
    """Remove the files of processes that are gone; only those that have our names."""
    for path in folder.glob(f"{PREFIX}*.json"):
        with contextlib.suppress(OSError):
            fd = open_plain(path)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # else BlockingIOError: it lives
                path.unlink()
            finally:
                os.close(fd)
