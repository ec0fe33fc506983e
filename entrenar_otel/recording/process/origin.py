"""Origin: on which machine, in which boot and PID namespace a process runs, for others to look for it."""

from __future__ import annotations

import ctypes
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

#: File systems that one kernel mounts at a time, and on which it therefore knows of every lock, by the
#: number that `statfs` gives. Not here are those that several machines share (NFS, Lustre, BeeGFS, CephFS,
#: SMB, GFS2) or that a program makes (FUSE, and with it many folders shared with a virtual machine).
_LOCAL = {
    *(
        0xEF53,
        0x58465342,
        0x9123683E,
        0xF2F52010,
        0x2FC12FC1,
        0xCA451A4E,
    ),  # ext, XFS, Btrfs, F2FS, ZFS, bcachefs
    *(0x01021994, 0x858458F6, 0x794C7630),  # tmpfs, ramfs, overlay
    *(
        0x3153464A,
        0x52654973,
        0x3434,
        0x2011BAB0,
        0x4D44,
        0x7366746E,
    ),  # JFS, ReiserFS, NILFS, exFAT, FAT, NTFS
}


@dataclass(frozen=True)
class Origin:
    """Where a process runs, and which one it is there. What the system does not say is empty."""

    machine: str
    boot: str
    #: Process ids, and the times since boot in /proc, count within these.
    namespace: str
    pid: int
    #: When it was created, in clock ticks since boot; -1 if unknown.
    started: int

    @classmethod
    def here(cls) -> Origin:
        """That of this process."""
        pid = os.getpid()
        return cls(*_place(), pid, _started(pid) or -1)

    @classmethod
    def parse(cls, document: Any) -> Origin | None:
        """What `document` made; None of anything else."""
        if not isinstance(document, dict):
            return None
        texts = [document.get(name) for name in ("machine", "boot", "namespace")]
        numbers = [document.get(name) for name in ("pid", "started")]
        if not all(isinstance(part, str) for part in texts) or not all(type(part) is int for part in numbers):
            return None
        made = cls(*texts, *numbers)  # type: ignore[arg-type]
        return made if 0 < made.pid < 2**31 else None

    def document(self) -> dict[str, Any]:
        """As JSON can say it."""
        return asdict(self)

    def shares_boot(self, other: Origin) -> bool:
        """Whether both run, or ran, under one kernel."""
        return bool(self.boot) and (self.machine, self.boot) == (other.machine, other.boot)

    def is_running(self) -> bool | None:
        """Whether this process is there; None where that cannot be seen from here."""
        here = Origin.here()
        if not self.shares_boot(here) or not self.namespace or self.namespace != here.namespace:
            return None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except OSError:  # another user's
            pass
        started = _started(self.pid)
        if started is None or self.started < 0:
            return None
        return started == self.started


@cache
def _place() -> tuple[str, str, str]:
    """Machine, boot and namespace, which a process never changes."""
    return (
        _read("/etc/machine-id") or _read("/var/lib/dbus/machine-id"),
        _read("/proc/sys/kernel/random/boot_id"),
        f"{_link('/proc/self/ns/pid')} {_link('/proc/self/ns/time')}".strip(),
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, ValueError):
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _started(pid: int) -> int | None:
    """When a process was created, in clock ticks since boot; None of one that is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in "ZX" else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def is_local(path: Path) -> bool:
    """Whether a file or folder lies on a file system that only this machine has mounted."""
    data = (ctypes.c_long * 64)()  # begins with f_type, and is larger than the rest
    try:
        if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(path), ctypes.byref(data)):
            return False
    except (OSError, AttributeError, ValueError):
        return False
    return data[0] & 0xFFFFFFFF in _LOCAL
