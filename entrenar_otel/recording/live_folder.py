"""Live folder: where processes of this host keep what is not in the lake yet; always on a local disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from entrenar_otel.console import logger
from entrenar_otel.errors import RunError
from entrenar_otel.interruption import from_outside

#: Beside a live folder: the lake of runs that cannot write where theirs should be.
SECOND_LAKE = "lake"
#: Folders that took the place of the usual one, why, and which of them people know of.
_second_choices: dict[Path, str] = {}
_told: set[Path] = set()


def default_live() -> Path | None:
    """`ENTRENAR_LIVE`, else `$XDG_STATE_HOME/entrenar/live`; always on a local disk.

    None where there is no home: a container whose user has no entry in its list of users.
    """
    if chosen := os.environ.get("ENTRENAR_LIVE"):
        return Path(chosen)
    state = os.environ.get("XDG_STATE_HOME")
    try:
        base = Path(state) if state else Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return base / "entrenar" / "live"


def usable_live(folder: Path | None) -> Path:
    """The live folder, created if missing; a private one in the temporary folder if that is impossible.

    Raises PermissionError.
    """
    wanted = folder or default_live()
    why = "there is no home folder" if wanted is None else _problem(wanted)
    if wanted is not None and why is None:
        return wanted
    if folder is None and (private := _private_folder()) is not None:
        live = private / "live"
        if _problem(live) is None:
            _second_choices[live] = why or ""
            return live
    raise PermissionError(f"no folder for live segments: {why}. Set ENTRENAR_LIVE to a local folder")


def tell_second_choice(live: Path) -> None:
    """Say, once in a process, that a run records into a folder which is not the usual one, and why.

    Whoever only reads need not know.
    """
    if live in _second_choices and live not in _told:
        _told.add(live)
        logger.warning("%s; live segments are kept in %s", _second_choices[live], live)


def _problem(folder: Path) -> str | None:
    """Why no live segment can be there, or None; room may be lacking: others may have segments there."""
    try:
        make_live(folder)
        is_writable = os.access(folder, os.W_OK)
    except OSError:
        is_writable = False
    if not is_writable:
        return f"{folder} is not writable"
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # the folder's own: nothing is left behind
        finally:
            os.close(fd)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            return f"{folder} has no file locks ({error.strerror})"
    return None


def make_live(folder: Path) -> None:
    """Make the folder where it is missing. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@contextlib.contextmanager
def naming(folder: Path) -> Iterator[None]:
    """Where files of ours cannot be made, say in which folder, and what to do. Raises RunError."""
    try:
        yield
    except OSError as error:
        if from_outside(error):
            raise
        raise RunError(
            f"{folder} cannot hold live segments ({error.strerror}). Set ENTRENAR_LIVE to a folder on a "
            "local disk that has room and file locks"
        ) from error


def _private_folder() -> Path | None:
    """A folder of this user's within the temporary folder, where everybody may make any name beforehand.

    Whoever may write there may stop the run and take its samples. The usual name is said to be somebody
    else's where it is; then it is one that was made for this before, or a new one.
    """
    user = os.geteuid()
    usual = Path(tempfile.gettempdir()) / f"entrenar-{user}"
    try:
        with contextlib.suppress(FileExistsError):
            usual.mkdir(mode=0o700)
        if (problem := foreign_problem(usual)) is None:
            usual.chmod(0o700)
            return usual
        logger.warning("%s is not used: %s", usual, problem)
        prefix = f"entrenar-private-{user}-"
        for made_before in sorted(usual.parent.glob(f"{prefix}*")):
            if foreign_problem(made_before) is None:
                return made_before
        return Path(tempfile.mkdtemp(prefix=prefix))
    except OSError:
        return None


def foreign_problem(folder: Path) -> str | None:
    """Why a folder may be under somebody else's control, or None."""
    try:
        status = folder.lstat()
    except OSError as error:
        return error.strerror or str(error)
    if not stat.S_ISDIR(status.st_mode):
        return "expected a folder, found a link or a file"
    if status.st_uid != os.geteuid():
        return f"expected a folder of user {os.geteuid()}, found one of user {status.st_uid}"
    if status.st_mode & 0o022:
        return f"expected a folder that nobody else may write into, found mode {status.st_mode & 0o777:o}"
    return None
