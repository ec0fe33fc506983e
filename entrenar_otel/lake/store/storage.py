"""Storage: where the lake's files lie, a local folder or any Arrow file system (S3, GCS, …)."""

from __future__ import annotations

import contextlib
import copy
import errno
import fcntl
import os
import re
import secrets
import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeAlias
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from entrenar_otel.errors import LakeError
from entrenar_otel.lake.store.skipped import name_skipped
from entrenar_otel.lake.tables.schema import ROW_GROUP, parquet_options
from entrenar_otel.recording.plain_file import open_plain, read_plain
from entrenar_otel.redact import without_credentials

#: As `catalog.encode_run` makes them; DuckDB would read `*`, `?` and `[` as a pattern.
_DAY, _RUN = re.compile(r"day=\d{4}-\d\d-\d\d"), re.compile(r"run=[A-Za-z0-9_.~%-]+")
#: What a write that was killed leaves behind.
_TEMPORARY = re.compile(r"\.(.+\.)?[0-9a-f]{16}\.tmp")
#: No write takes as long. One that did would fail, and be tried again: nothing is lost by a mistake here.
STALE_SECONDS = 24 * 3600.0


#: What a file is written from: a table is a row group, of one piece or several.
Rows: TypeAlias = pa.RecordBatch | pa.Table


class Storage(Protocol):
    """What the lake needs of a place: names are relative, with `/`."""

    @property
    def url(self) -> str:
        """The lake's name, by which segments know it."""

    @property
    def is_local(self) -> bool:
        """Whether it is a folder."""

    def write(
        self, name: str, schema: pa.Schema, batches: Iterable[Rows], *, exclusive: bool = False
    ) -> None:
        """Put a Parquet file there, whole or not at all, durably.

        `exclusive` raises FileExistsError where the name is taken (best effort on object stores).
        """

    def write_bytes(self, name: str, data: bytes) -> None:
        """Put a file with this content there, whole or not at all, durably."""

    def read_bytes(self, name: str, limit: int) -> bytes:
        """The content of a file of at most `limit` bytes. Raises OSError."""

    def list(self, folder: str) -> list[str]:
        """Names of the folder's files and folders; none where it does not exist.

        What is neither, such as a link, is named once and left out.
        """

    def remove(self, name: str) -> None:
        """Remove a file; it may be gone already."""

    def location(self, name: str) -> str:
        """Where the file is, for messages and for DuckDB."""

    def size_bytes(self, name: str) -> int:
        """Size of a file; 0 where it is gone."""

    def modified_at(self, name: str) -> datetime | None:
        """When a file was written, by the clock of the place; None where it is gone, or not told."""

    def mark(self, name: str) -> Hashable | None:
        """What a file that takes this one's place has another of; None where it is gone, or not told."""


def open_storage(lake: str | os.PathLike[str]) -> Storage:
    """The storage of a folder or URL. Raises LakeError on a URL that no Arrow file system knows."""
    text = os.fspath(lake)
    parts = urlsplit(text)
    if len(parts.scheme) < 2:
        return LocalStorage(Path(text))
    if parts.scheme == "file":
        return LocalStorage(Path(unquote(parts.path)))
    url = without_credentials(text)
    try:
        filesystem, root = pafs.FileSystem.from_uri(text)
    except (pa.ArrowInvalid, OSError, NotImplementedError) as error:
        reason = str(error).replace(text, url)
        raise LakeError(f"{url} is neither a folder nor a URL that Arrow knows: {reason}") from None
    return ArrowStorage(_patient(filesystem), root, url)


def is_gone(error: BaseException) -> bool:
    """Whether an error says that a file is not there: in mid-read an object store says so by its own name."""
    return any(text in str(error) for text in ("No such file", "No files found", "NO_SUCH_KEY"))


@contextlib.contextmanager
def telling_gone(where: str) -> Iterator[None]:
    """For reading a file that may be compacted or pruned meanwhile. Raises FileNotFoundError if it was."""
    try:
        yield
    except OSError as error:
        if is_gone(error):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), where) from None
        raise


def _patient(filesystem: pafs.FileSystem) -> pafs.FileSystem:
    """The same with three tries a request, where it is S3: a silent server fails after 10 s, not after 100.

    A hand-over that failed is tried again anyway, and pyarrow waits at exit for a request in progress.
    """
    if filesystem.type_name != "s3":
        return filesystem
    return copy.copy(filesystem)  # made by `S3FileSystem()`, whose default that is; `from_uri` has another


def _write(where: Any, schema: pa.Schema, batches: Iterable[Rows]) -> None:
    writer = None
    try:
        for rows in batches:
            if writer is None:
                writer = pq.ParquetWriter(where, rows.schema, **parquet_options(rows.schema))
            table = rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])
            writer.write_table(table, row_group_size=ROW_GROUP)
        if writer is None:
            writer = pq.ParquetWriter(where, schema, **parquet_options(schema))
    finally:
        if writer is not None:
            writer.close()


class LocalStorage:
    """A folder. Temporary name, fsync, rename, fsync of the folder."""

    is_local = True

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))  # one lake has one name, which segments carry
        self.url = str(self.root)

    def write(
        self, name: str, schema: pa.Schema, batches: Iterable[Rows], *, exclusive: bool = False
    ) -> None:
        def fill(path: Path, _file: BinaryIO) -> None:
            # Arrow's own file: one of Python's, which it calls, aborts a process that ends meanwhile
            with pa.OSFile(str(path), "wb") as opened:
                _write(opened, schema, batches)

        self._put(name, fill, exclusive=exclusive)

    def write_bytes(self, name: str, data: bytes) -> None:
        self._put(name, lambda _path, file: file.write(data), exclusive=False)

    def read_bytes(self, name: str, limit: int) -> bytes:
        return read_plain(self.root / name, limit)

    def _put(self, name: str, fill: Callable[[Path, BinaryIO], object], *, exclusive: bool) -> None:
        if not _is_inside(name):
            raise LakeError(f"{name!r} is no name of a file in the lake {self.url}: nothing was written")
        path = self.root / name
        self._make(path.parent)
        if exclusive and path.exists():
            raise FileExistsError(str(path))
        temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            with temporary.open("xb") as file:
                with contextlib.suppress(OSError):  # where the file system has no locks
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as long as it is being written
                fill(temporary, file)
                file.flush()
                os.fsync(file.fileno())
            if exclusive:
                _name_unless_taken(temporary, path)
            else:
                temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def _make(self, folder: Path) -> None:
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for ancestor in reversed(missing):
            ancestor.mkdir(exist_ok=True)
            sync_folder(ancestor.parent)

    def list(self, folder: str) -> list[str]:
        names = []
        try:
            with os.scandir(self.root / folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if _is_ours(entry):
                        names.append(entry.name)
                    elif os.path.lexists(entry.path):  # else it was removed just now
                        name_skipped(
                            entry.path, f"{entry.path} is not a file or folder of ours: it is left out"
                        )
        except (FileNotFoundError, NotADirectoryError):
            return []
        except PermissionError as error:
            name_skipped(error.filename, f"{error.filename} may not be read: it is left out")
        return names

    def remove(self, name: str) -> None:
        (self.root / name).unlink(missing_ok=True)

    def location(self, name: str) -> str:
        return str(self.root / name)

    def modified_at(self, name: str) -> datetime | None:
        try:
            return datetime.fromtimestamp((self.root / name).stat().st_mtime, UTC)
        except FileNotFoundError:
            return None

    def mark(self, name: str) -> Hashable | None:
        try:
            state = (self.root / name).stat()
        except OSError:
            return None
        return state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size

    def size_bytes(self, name: str) -> int:
        try:
            return (self.root / name).stat().st_size
        except FileNotFoundError:
            return 0


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, or a folder that is not named like one; DuckDB follows no link out of a lake."""
    if entry.is_dir(follow_symlinks=False):
        return not entry.name.endswith(".parquet")
    return entry.is_file(follow_symlinks=False)


def _is_inside(name: str) -> bool:
    """Whether a name leads to somewhere in the lake, whatever it was made of."""
    return all(part not in ("", ".", "..") for part in name.split("/")) and "\0" not in name


#: What file systems say that lack something: hard links (FAT, SMB, FUSE), fsync of folders (SMB, FUSE).
_UNABLE = frozenset(
    [*(errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK), *(errno.EBADF, errno.EISDIR)]
)


def _name_unless_taken(temporary: Path, path: Path) -> None:
    """Give a file its name. Raises FileExistsError; without hard links best effort, as on an object store."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        if path.exists():
            raise FileExistsError(str(path)) from None
        temporary.rename(path)
    else:
        temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Make names durable, where the file system can."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise


class ArrowStorage:
    """An Arrow file system. Objects appear whole when their upload completes."""

    is_local = False

    def __init__(self, filesystem: pafs.FileSystem, root: str, url: str) -> None:
        self.filesystem = filesystem
        self.root = root.rstrip("/")
        self.url = url

    def _path(self, name: str) -> str:
        return f"{self.root}/{name}"

    def write(
        self, name: str, schema: pa.Schema, batches: Iterable[Rows], *, exclusive: bool = False
    ) -> None:
        path = self._path(name)
        if exclusive and self.filesystem.get_file_info(path).type != pafs.FileType.NotFound:
            raise FileExistsError(path)
        sink = pa.BufferOutputStream()  # built whole first: a failed upload must leave no part
        _write(sink, schema, batches)
        self.write_bytes(name, sink.getvalue())

    def write_bytes(self, name: str, data: bytes) -> None:
        if not _is_inside(name):
            raise LakeError(f"{name!r} is no name of a file in the lake {self.url}: nothing was written")
        path = self._path(name)
        self.filesystem.create_dir(path.rpartition("/")[0], recursive=True)
        with self.filesystem.open_output_stream(path) as stream:
            stream.write(data if isinstance(data, pa.Buffer) else _arrows_own(data))

    def read_bytes(self, name: str, limit: int) -> bytes:
        path = self._path(name)
        with telling_gone(path), self.filesystem.open_input_stream(path) as stream:
            data: bytes = stream.read(limit + 1)
        if len(data) > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", self._path(name))
        return data

    def list(self, folder: str) -> list[str]:
        selector = pafs.FileSelector(self._path(folder), allow_not_found=True)
        return [info.base_name for info in self.filesystem.get_file_info(selector)]

    def remove(self, name: str) -> None:
        try:
            self.filesystem.delete_file(self._path(name))
        except FileNotFoundError:
            return

    def location(self, name: str) -> str:
        return self._path(name)

    def modified_at(self, name: str) -> datetime | None:
        modified: datetime | None = self.filesystem.get_file_info(self._path(name)).mtime
        return modified

    def mark(self, _name: str) -> Hashable | None:
        return None  # to ask for it takes as long as to read what is small

    def size_bytes(self, name: str) -> int:
        return int(self.filesystem.get_file_info(self._path(name)).size or 0)


def _arrows_own(data: bytes) -> pa.Buffer:
    """A copy that Arrow's threads may let go of: where the process ends, Python's bytes would abort it."""
    sink = pa.BufferOutputStream()
    sink.write(data)
    return sink.getvalue()


def walk(storage: Storage, table: str) -> Iterator[tuple[str, str]]:
    """The run folders of a table, as (day, encoded run), newest day first; other folders are not ours."""
    for day in days(storage, table):
        for run in filter(_RUN.fullmatch, storage.list(f"{table}/day={day}")):
            yield day, run[4:]


def days(storage: Storage, table: str) -> list[str]:
    """The days that a table has folders of, the newest first."""
    return sorted((day[4:] for day in filter(_DAY.fullmatch, storage.list(table))), reverse=True)


def remove_stale(folder: Path, older_than_seconds: float = STALE_SECONDS) -> int:
    """Remove temporary files that dead writers left in a folder and below it; returns how many.

    They are a day old and nobody holds their lock, which its writer does, as far as locks reach.
    """
    removed = 0
    for place, _, names in os.walk(folder):  # follows no links
        for name in filter(_TEMPORARY.fullmatch, names):
            path = os.path.join(place, name)
            with contextlib.suppress(OSError):
                removed += _remove_if_stale(path, older_than_seconds)
    return removed


def _remove_if_stale(path: str, older_than_seconds: float) -> bool:
    fd = open_plain(path)
    try:
        if time.time() - os.fstat(fd).st_mtime < older_than_seconds:
            return False
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
        return True
    finally:
        os.close(fd)
