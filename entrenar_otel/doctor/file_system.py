"""File system: what the one under a folder is able to do, tried in a folder that is removed at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from entrenar_otel.lake.sql.limits import size_text
from entrenar_otel.recording.file_systems import kind_of, writes_in_place

#: File systems of other machines, on which names, locks and times are theirs.
NETWORK = frozenset(
    ["nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "glusterfs", "fuse.sshfs", "beegfs"]
)


@dataclass(frozen=True)
class Abilities:
    """What a file system is, and can do; `failed` says of each ability that it lacks, why."""

    kind: str
    free_bytes: int
    free_files: int | None
    maps: bool | None = None
    tried: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def room(self) -> str:
        """Its kind, and how much is free on it."""
        return f"{self.kind or 'file system unknown'}, {size_text(self.free_bytes)} free"

    @property
    def able(self) -> str:
        """What was tried and works, in words."""
        works = [name for name in self.tried if name not in self.failed]
        return f"{', '.join(works)} work" if works else "nothing that was tried works"


def existing(folder: Path) -> Path:
    """The folder itself, or the nearest above it that there is."""
    folder = Path(os.path.abspath(folder))
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return folder


def is_writable(folder: Path) -> bool:
    """Whether this process may make files there."""
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def look(folder: Path) -> Abilities:
    """What can be told of a file system without writing anything. Raises OSError."""
    able = _room(folder)
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _tried(
            able,
            {
                "flock": lambda: fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB),
                "fsync of the folder": lambda: os.fsync(fd),
            },
        )
    finally:
        os.close(fd)


def probe(folder: Path) -> Abilities:
    """What a file system can do, tried with a file in a folder that is made for it. Raises OSError."""
    able = _room(folder)
    with _folder_in(folder) as made:
        first, second = made / "first", made / "second"
        fd = os.open(first, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        parent = os.open(made, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.write(fd, b"1")
            found = _tried(
                able,
                {
                    "rename": lambda: first.rename(second),
                    "flock": lambda: fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
                    "fsync": lambda: os.fsync(fd),
                    "fsync of the folder": lambda: os.fsync(parent),
                },
            )
        finally:
            os.close(parent)
            os.close(fd)
        return replace(found, maps=writes_in_place(made))


def _room(folder: Path) -> Abilities:
    room = os.statvfs(folder)
    return Abilities(kind_of(folder), room.f_bavail * room.f_frsize, room.f_favail if room.f_files else None)


@contextlib.contextmanager
def _folder_in(folder: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(
        prefix=".entrenar-doctor-", dir=folder, ignore_cleanup_errors=True
    ) as made:
        yield Path(made)


def _tried(able: Abilities, tries: dict[str, Callable[[], object]]) -> Abilities:
    failed = {}
    for name, attempt in tries.items():
        try:
            attempt()
        except OSError as error:
            failed[name] = error.strerror or str(error)
    return replace(able, tried=tuple(tries), failed=failed)
