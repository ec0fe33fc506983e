"""Unsent: what is acknowledged of a process's segments by an OTLP endpoint, and what must still leave.

Only of processes whose segments say `otlp` in their header. Beside the segments lies `PROCESS.sent`: the
number of a segment and an offset in it, before which everything is acknowledged. A segment that is in the
lake and not acknowledged as a whole is kept as `PROCESS-000004.unsent`, which no reader of the lake lists.
Who sends the records of a process holds `PROCESS.sending`, so that nobody else does.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from entrenar_otel.recording.header import is_process_name, is_whole
from entrenar_otel.recording.plain_file import open_plain, read_plain, write_whole
from entrenar_otel.recording.process.lock import OwnedFile, create_locked, let_go, try_lock

_MAX_63 = (1 << 63) - 1
_MAX_BYTES = 4096
#: Two numbers of 63 bits and their names.
_TEXT_BYTES = 64


class Watermark(NamedTuple):
    """Everything before this byte of this segment is acknowledged, and all segments before it."""

    segment: int = 0
    offset: int = 0


def read_watermark(live: Path, process: str) -> Watermark:
    """How far the records of a process are acknowledged: not at all where that is lost, or torn."""
    try:
        document = json.loads(read_plain(live / f"{process}.sent", _MAX_BYTES))
        segment, offset = document["segment"], document["offset"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return Watermark()
    if not (is_whole(segment, 0, _MAX_63) and is_whole(offset, 0, _MAX_63)):
        return Watermark()
    return Watermark(segment, offset)


def write_watermark(live: Path, process: str, mark: Watermark) -> None:
    """State how far. Raises OSError."""
    write_whole(live / f"{process}.sent", _text_of(mark), mode=0o600)


def _text_of(mark: Watermark) -> bytes:
    """As JSON, and always as long: one that is written over another leaves nothing of it."""
    return (b'{"segment": %d, "offset": %d}' % mark).ljust(_TEXT_BYTES)


class SentFile:
    """`PROCESS.sent` of this process, which states each second how far: where only the offset is another, it
    is written in place.

    To put a new file there makes the file system write it to the disk at once, a third of a millisecond. What
    is written in place is one short write into one page, so a process that is killed has done it or not; who
    reads meanwhile looks at the segment alone (`keep_unsent`), and another one of these is a new file.
    """

    def __init__(self, live: Path, process: str) -> None:
        self._live, self._process = live, process
        self._fd, self._segment = -1, -1

    def write(self, mark: Watermark) -> None:
        """State how far. Raises OSError."""
        if mark.segment == self._segment and os.fstat(self._fd).st_nlink:  # 0: somebody has removed it
            os.pwrite(self._fd, _text_of(mark), 0)
            return
        self.close()
        write_watermark(self._live, self._process, mark)
        self._fd = open_plain(self._live / f"{self._process}.sent", os.O_WRONLY)
        self._segment = mark.segment

    def close(self) -> None:
        """Let the file go; it may be written again."""
        fd, self._fd, self._segment = self._fd, -1, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def leaves(header: Mapping[str, Any]) -> bool:
    """Whether a segment's records leave by OTLP."""
    return isinstance(header.get("otlp"), dict)


def keep_unsent(path: Path, header: Mapping[str, Any], *, copy: bool = False) -> bool:
    """Keep a segment that is in the lake now, where it must still leave; False: it may be removed.

    `copy`: under both names. Raises OSError.
    """
    process, number = str(header["process"]), int(header["number"])
    if not leaves(header) or number < read_watermark(path.parent, process).segment:
        return False
    kept = path.with_suffix(".unsent")
    if copy:
        with contextlib.suppress(FileExistsError):
            os.link(path, kept)
    else:
        path.rename(kept)
    return True


def number_of(path: Path) -> tuple[str, int] | None:
    """The process and the number of a segment's file, by its name."""
    process, _, number = path.stem.rpartition("-")
    return (process, int(number)) if is_process_name(process) and number.isdecimal() else None


def segment_files(live: Path, suffix: str) -> dict[str, dict[int, Path]]:
    """The segments that are there under names of this kind, `.seg` or `.unsent`, by process and number."""
    found: dict[str, dict[int, Path]] = {}
    try:
        names = sorted(os.listdir(live))
    except FileNotFoundError:
        return {}
    for name in names:
        if name.endswith(suffix) and (known := number_of(live / name)) is not None:
            found.setdefault(known[0], {})[known[1]] = live / name
    return found


class SendingLock:
    """`PROCESS.sending`, held by whoever sends that process's records; `take` makes one."""

    def __init__(self, path: Path, held: OwnedFile | int) -> None:
        self._path, self._held = path, held

    @classmethod
    def take(cls, live: Path, process: str) -> SendingLock | None:
        """The lock, or None where somebody else has it. Raises OSError."""
        path = live / f"{process}.sending"
        with contextlib.suppress(FileExistsError):
            return cls(path, create_locked(path))
        fd = try_lock(path)
        return None if fd is None else cls(path, fd)

    def restore(self) -> None:
        """Where somebody has removed the file, make it again, and hold that. Raises OSError."""
        if os.fstat(self._held if isinstance(self._held, int) else self._held.fileno()).st_nlink == 0:
            removed, self._held = self._held, create_locked(self._path)
            _give_back(removed)

    def release(self, *, unlink: bool) -> None:
        """Give it back; `unlink` where nothing of that process is left to send."""
        if unlink:
            for path in (self._path, self._path.with_suffix(".sent")):
                path.unlink(missing_ok=True)
        _give_back(self._held)


def _give_back(held: OwnedFile | int) -> None:
    if isinstance(held, int):
        os.close(held)
    else:
        let_go(held)
