"""Cgroup: the limits of a container or a batch job, where psutil shows those of the whole host."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """Bytes charged to a group with a limit, and bytes it may still take."""

    usage: int
    available: int


class Cgroup:
    """The control group (version 2) of this process; without one nothing is limited.

    `root` is where the groups are mounted, `own` the file that names the process's own. A limit of a group
    holds for those within it, so the tightest up to the root counts.
    """

    def __init__(self, root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> None:
        match = None
        if (root / "cgroup.controllers").exists():
            match = re.search(r"^0::/(.*)$", own.read_text(errors="replace"), flags=re.MULTILINE)
        path = root / match[1] if match else root
        # Outside its own namespace a container sees a path that is not mounted here.
        self._folders = [
            folder
            for folder in (path, *path.parents)
            if match and folder.is_relative_to(root) and folder.is_dir()
        ]

    def cpus(self) -> float | None:
        """How many CPUs the group may use, such as 1.5; None without a limit."""
        quotas = []
        for _, text in self._limits("cpu.max"):
            quota, _, period = text.partition(" ")
            quotas.append(int(quota) / int(period or 100_000))
        return min(quotas, default=None)

    def memory(self) -> Memory | None:
        """Of the group that will be full first; None without a limit. Raises OSError, ValueError."""
        found = []
        for folder, text in self._limits("memory.max"):
            usage = int((folder / "memory.current").read_text())
            match = re.search(r"^inactive_file (\d+)$", (folder / "memory.stat").read_text(), re.MULTILINE)
            working_set = max(0, usage - int(match[1])) if match else usage  # cached files make room
            found.append(Memory(usage, max(0, int(text) - working_set)))
        return min(found, key=lambda memory: memory.available, default=None)

    def _limits(self, name: str) -> Iterator[tuple[Path, str]]:
        for folder in self._folders:
            try:
                text = (folder / name).read_text().strip()
            except OSError:  # the root has none
                continue
            if text and not text.startswith("max"):
                yield folder, text
