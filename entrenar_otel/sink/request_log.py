"""Request log: what has arrived, as it arrived, durable before it is acknowledged.

Numbered files in the sink's state folder. A file begins with a magic word and a mark of its own, eight random
bytes, by which each of its records begins: so no sender can write what looks like a record. Then come the
length, a checksum, the signal, the time of receipt, and the request's protobuf. What follows the last whole
record was being written when the sink was killed, hence never acknowledged.

A file is removed when its rows are in the lake. The one that is written now and its successor stay, so that
no number is used twice, and so that a full disk does not keep the sink from emptying what fills it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import mmap
import os
import re
import secrets
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO, NamedTuple

from entrenar_otel.console import logger
from entrenar_otel.errors import LakeError
from entrenar_otel.lake.store.storage import sync_folder
from entrenar_otel.recording.plain_file import open_plain

#: A file whose requests weigh so much is closed, and the next one begun: it is stored at once, in memory.
FILE_BYTES = 64 << 20
_MAGIC, _MARK_BYTES = b"ENTRREQ1", 8
_HEAD_BYTES = len(_MAGIC) + _MARK_BYTES
#: After the mark: length, checksum (of all that follows it), signal, time of receipt.
_LENGTH, _REST = struct.Struct("<II"), struct.Struct("<Qq")
_RECORD_HEAD = _MARK_BYTES + _LENGTH.size + _REST.size
_NAME = re.compile(r"requests-(\d{6,})[.]log")


class Signal(IntEnum):
    """Which of OTLP's requests it is."""

    LOGS = 1
    METRICS = 2
    TRACES = 3


_SIGNALS = frozenset(int(signal) for signal in Signal)


class Request(NamedTuple):
    """A request as it arrived: its protobuf, not compressed."""

    received_ns: int
    signal: Signal
    data: bytes


class RequestLog:
    """The files of one state folder, which no other sink may use meanwhile. Raises LakeError, OSError."""

    def __init__(
        self, folder: Path, *, first_number: int | None = None, file_bytes: int = FILE_BYTES
    ) -> None:
        """`first_number` is where an empty folder begins: seconds since 1970, so that of a folder that was
        lost no number comes again, nor the names that files of the lake have from it.
        """
        self.folder, self._file_bytes = folder, file_bytes
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_fd: int | None = _locked(folder)
        self._lock = threading.Lock()
        try:
            found = _files(folder)
            for path in found:
                _cut_torn_tail(path)
            begin = first_number if first_number is not None else int(time.time())
            self._numbers = itertools.count(max((number_of(path) + 1 for path in found), default=begin))
            self._file = _File(folder, next(self._numbers))
            self._successor: _File | None = None
            for path in found:
                if path.stat().st_size <= _HEAD_BYTES:
                    path.unlink()
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._prepare()

    def append(self, signal: Signal, data: bytes, weight: int = 0) -> None:
        """Keep a request; it is durable on return. Threads that wait share one sync. Raises OSError.

        `weight` is what it takes in memory when it is stored, in bytes: its size at least.
        """
        rest = _REST.pack(signal, time.time_ns())
        checksum = zlib.crc32(data, zlib.crc32(rest))
        head = _LENGTH.pack(len(data), checksum) + rest
        weight = max(weight, len(data))
        with contextlib.ExitStack() as then, self._lock:
            if self._lock_fd is None:
                raise OSError(errno.ESHUTDOWN, "the sink is stopping")
            is_full = self._file.weight and self._file.weight + weight > self._file_bytes
            if self._file.is_broken or is_full:
                then.callback(self._next_file().close)
            file = self._file
            end = file.write(head, data)
            file.weight += weight
        file.sync(end)

    def rotate(self) -> Path | None:
        """Close the file that is being written, and begin the next; None where nothing is in it. OSError."""
        with self._lock:
            if self._lock_fd is None or self._file.length == _HEAD_BYTES:
                return None
            old = self._next_file()
        old.close()
        self._prepare()
        return old.path

    def _next_file(self) -> _File:
        """Begin the next file; the one before is to be closed without the lock, since that takes a sync."""
        old = self._file
        self._file = self._successor or _File(self.folder, next(self._numbers))
        self._successor = None
        return old

    def _prepare(self) -> None:
        """Have the next file ready, for when the disk is full."""
        if self._successor is not None:
            return
        with contextlib.suppress(OSError):
            made = _File(self.folder, next(self._numbers))
            with self._lock:
                if self._successor is None and self._lock_fd is not None and made.number > self._file.number:
                    self._successor = made
                    return
            made.close()  # somebody was faster
            made.path.unlink()

    def closed_files(self) -> list[Path]:
        """Those that are complete, oldest first."""
        current = self._file.number
        return [path for path in _files(self.folder) if number_of(path) < current]

    def backlog_bytes(self) -> int:
        """How much waits to get into the lake."""
        total = 0
        for path in _files(self.folder):
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size - _HEAD_BYTES
        return max(total, 0)

    def free_bytes(self) -> int:
        """How much more the disk takes."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Take no more; what is in the last file is rolled by the next sink on this folder."""
        with self._lock:
            if self._lock_fd is None:
                return
            for file in filter(None, (self._file, self._successor)):
                file.close()
            os.close(self._lock_fd)
            self._lock_fd = None


class _File:
    """The file that is being written. A failed sync breaks it: what is cached may then be lost unseen."""

    def __init__(self, folder: Path, number: int) -> None:
        self.number, self.path = number, folder / f"requests-{number:06d}.log"
        self.mark = secrets.token_bytes(_MARK_BYTES)
        self.is_broken, self.weight = False, 0
        self._sync_lock = threading.Lock()
        self.length = self._durable = _HEAD_BYTES
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _write_all(self._fd, [_MAGIC + self.mark])
            os.fsync(self._fd)
            sync_folder(folder)
        except BaseException:
            os.close(self._fd)
            self.path.unlink(missing_ok=True)
            raise

    def write(self, head: bytes, data: bytes) -> int:
        """Append a record, one at a time; returns where it ends. Raises OSError, and leaves nothing then."""
        try:
            _write_all(self._fd, [self.mark, head, data])
        except BaseException:
            self._cut_to(self.length)
            raise
        self.length += _RECORD_HEAD + len(data)
        return self.length

    def sync(self, end: int) -> None:
        """Return when all up to there is durable. Raises OSError.

        One sync at a time: of two on one file, the system tells only one of an error.
        """
        with self._sync_lock:
            if self._durable >= end:
                return
            if self.is_broken:
                raise OSError(errno.EIO, "it could not be made durable", str(self.path))
            reached = self.length
            try:
                os.fdatasync(self._fd)
            except OSError:
                self._cut_to(self._durable)
                self.is_broken = True
                raise
            self._durable = reached

    def _cut_to(self, length: int) -> None:
        """Take back what is not to be acknowledged."""
        try:
            os.ftruncate(self._fd, length)
            os.lseek(self._fd, length, os.SEEK_SET)
        except OSError:
            self.is_broken = True  # what follows a torn record goes into another file

    def close(self) -> None:
        """Sync what threads still wait for."""
        with contextlib.suppress(OSError):  # whoever waits for it is told by its own call
            self.sync(self.length)
        with self._sync_lock:
            os.close(self._fd)
            self.is_broken |= self._durable < self.length


def read_requests(path: Path) -> Iterator[Request]:
    """The requests of a file that is closed. Damage is named and passed over. Raises OSError."""
    for record in _scan(path):
        if isinstance(record, Request):
            yield record
        elif record.is_between:
            logger.warning("%s is damaged at byte %d: what was received there is lost", path, record.at)


class _Unreadable(NamedTuple):
    """Where no whole record is: damage between two, or what follows the last."""

    at: int
    is_between: bool


def _scan(path: Path) -> Iterator[Request | _Unreadable]:
    with open(open_plain(path), "rb") as file:
        head = file.read(_HEAD_BYTES)
        at, mark = len(head), head[len(_MAGIC) :]
        if not head.startswith(_MAGIC) or len(mark) < _MARK_BYTES:
            yield _Unreadable(0, is_between=False)
            return
        size = os.fstat(file.fileno()).st_size
        while at < size:
            if (request := _read(file, at, size, mark)) is not None:
                yield request
                at += _RECORD_HEAD + len(request.data)
                continue
            after = _next_record(file, at + 1, size, mark)
            yield _Unreadable(at, is_between=after is not None)
            at = size if after is None else after


def _read(file: BinaryIO, at: int, size: int, mark: bytes) -> Request | None:
    """The whole record that begins there."""
    file.seek(at)
    head = file.read(_RECORD_HEAD)
    if len(head) < _RECORD_HEAD or not head.startswith(mark):
        return None
    length, checksum = _LENGTH.unpack_from(head, _MARK_BYTES)
    if length > size - at - _RECORD_HEAD:
        return None
    data = file.read(length)
    signal, received_ns = _REST.unpack_from(head, _MARK_BYTES + _LENGTH.size)
    if zlib.crc32(data, zlib.crc32(head[-_REST.size :])) != checksum or signal not in _SIGNALS:
        return None
    return Request(received_ns, Signal(signal), data)


def _next_record(file: BinaryIO, at: int, size: int, mark: bytes) -> int | None:
    """Where the next whole record begins."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as words:
        while (at := words.find(mark, at)) >= 0:
            if _read(file, at, size, mark) is not None:
                return at
            at += 1
    return None


def _cut_torn_tail(path: Path) -> None:
    """Remove what was being written when the sink was killed: it was not acknowledged."""
    for record in _scan(path):
        if isinstance(record, _Unreadable) and not record.is_between:
            os.truncate(path, record.at)


def _locked(folder: Path) -> int:
    """A descriptor that holds the folder. Raises LakeError where another sink has it."""
    fd = os.open(folder / "sink.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise LakeError(
            f"another sink uses {folder}: stop it, or give this one a folder of its own by --state"
        ) from None
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write_all(fd: int, parts: list[bytes]) -> None:
    """Write all of it, however little the system takes at once. Raises OSError."""
    written = os.writev(fd, parts)
    if written == sum(map(len, parts)):
        return
    rest = memoryview(b"".join(parts))[written:]
    while rest:
        rest = rest[os.write(fd, rest) :]


def number_of(path: Path) -> int:
    """The number of a file of the log."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"expected a file of the request log, got {path.name}")
    return int(match[1])


def _files(folder: Path) -> list[Path]:
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=number_of)
