"""Who is dead: only where that is proven. Real processes, killed; other machines by what their locks say."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.identity.process import host_name
from entrenar_otel.recording.process import life
from entrenar_otel.recording.process.life import Hold, Life, LockFile, life_of_segment, lock_of
from entrenar_otel.recording.process.lock import ProcessLock, try_lock
from entrenar_otel.recording.process.origin import Origin, is_local

NAME = f"{host_name()}-1-abc"
CHILD = """
import sys, time
from pathlib import Path
from entrenar_otel.recording.process.lock import ProcessLock
lock = ProcessLock(Path(sys.argv[1]), sys.argv[2])
lock.describe({"lake": "/lake"})
print("ready", flush=True)
time.sleep(1000)
"""


class Owner:
    """A process that holds a lock until it is killed."""

    def __init__(self, folder: Path, *before: str) -> None:
        self.path = folder / f"{NAME}.lock"
        self.process = subprocess.Popen(
            [*before, sys.executable, "-c", CHILD, str(folder), NAME], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def life(self) -> Life:
        return LockFile.see(self.path).life()


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[Owner]:
    made = Owner(tmp_path)
    yield made
    made.kill()


def change(path: Path, **changes: Any) -> None:
    """Let the lock's process have run elsewhere; the file stays the same one."""
    about = json.loads(path.read_text())
    about["origin"].update(changes)
    path.write_text(json.dumps(about))


def test_a_held_lock_is_life_and_a_killed_process_is_dead(owner: Owner) -> None:
    """Seen by its lock as well as by its pid."""
    assert LockFile.see(owner.path).hold is Hold.HELD
    assert owner.life() is Life.ALIVE
    owner.kill()
    lock = LockFile.see(owner.path)
    assert (lock.hold, lock.is_own, lock.about["lake"]) == (Hold.FREE, True, "/lake")
    assert lock.life() is Life.DEAD


def test_a_lock_that_was_removed_or_cannot_be_opened_says_nothing(owner: Owner) -> None:
    """A cleaner of temporary files, another user: the process is still there, which its pid shows."""
    origin = Origin.parse(json.loads(owner.path.read_text())["origin"])
    owner.path.unlink()
    assert LockFile.see(owner.path).hold is Hold.MISSING
    assert owner.life() is Life.UNKNOWN
    assert LockFile.see(owner.path).life(origin) is Life.ALIVE
    os.mkfifo(owner.path)  # what cannot be asked: a file of another user's, a FIFO, a link
    assert LockFile.see(owner.path).hold is Hold.CLOSED
    assert LockFile.see(owner.path).life(origin) is Life.ALIVE
    owner.kill()
    assert LockFile.see(owner.path).life(origin) is Life.DEAD
    owner.path.unlink()
    assert LockFile.see(owner.path).life(origin) is Life.DEAD


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"machine": "another", "boot": "another"}, Life.UNKNOWN),
        ({"machine": "another"}, Life.UNKNOWN),
        ({"machine": "", "boot": "another"}, Life.UNKNOWN),  # a container on who knows which host
        ({"boot": ""}, Life.UNKNOWN),
        ({"boot": "an earlier one"}, Life.DEAD),
        ({"namespace": "another"}, Life.DEAD),  # its own lock is free, under one kernel
        ({"started": 1}, Life.DEAD),
        ({"started": -1}, Life.DEAD),
    ],
)
def test_a_free_lock_of_elsewhere(owner: Owner, changes: dict[str, Any], expected: Life) -> None:
    """It proves something only under the kernel under which it was taken."""
    owner.kill()
    change(owner.path, **changes)
    assert owner.life() is expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"machine": "another", "boot": "another"}, Life.UNKNOWN),
        ({"boot": "an earlier one"}, Life.UNKNOWN),
        ({"namespace": "another"}, Life.UNKNOWN),
        ({}, Life.DEAD),  # its pid is gone
    ],
)
def test_a_free_lock_where_locks_do_not_reach(
    owner: Owner, changes: dict[str, Any], expected: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over NFS without locks, say, a living process's lock is free to all others."""
    monkeypatch.setattr(life, "is_local", lambda _: False)
    owner.kill()
    change(owner.path, **changes)
    assert owner.life() is expected


def test_a_copy_of_a_lock_is_not_the_lock(owner: Owner, tmp_path: Path) -> None:
    """Copied away while its process lives, it is free; so it is from another container's folder."""
    (tmp_path / "copy").mkdir()
    copy = Path(shutil.copy(owner.path, tmp_path / "copy"))
    assert LockFile.see(copy).hold is Hold.FREE
    assert LockFile.see(copy).life() is Life.ALIVE
    change(copy, namespace="another")
    assert LockFile.see(copy).life() is Life.UNKNOWN


def test_a_lock_without_an_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a version that wrote none, or unreadable: free here, on a disk of this machine's own, it is dead."""
    path = tmp_path / f"{NAME}.lock"
    for text in (
        '{"lake": "/lake"}',
        "",
        "no json",
        "[]",
        '{"origin": {"pid": -1}}',
        '{"origin": 3, "file": 4}',
        "[" * 100_000,
    ):
        path.write_text(text)
        assert LockFile.see(path).life() is Life.DEAD
    monkeypatch.setattr(life, "is_local", lambda _: False)
    assert LockFile.see(path).life() is Life.UNKNOWN
    monkeypatch.undo()
    assert LockFile.see(tmp_path / "none.lock").life() is Life.UNKNOWN
    segment = tmp_path / f"{host_name()}-2-abc-000000.seg"
    segment.touch()
    assert life_of_segment(segment, {}) is Life.DEAD
    lock_of(segment).mkdir()
    assert life_of_segment(segment, {}) is Life.UNKNOWN


def test_a_lock_that_cannot_be_taken_hinders_nobody(tmp_path: Path) -> None:
    """A FIFO, a link, a folder: like a lock that is held."""
    os.mkfifo(tmp_path / "fifo.lock")
    (tmp_path / "folder.lock").mkdir()
    (tmp_path / "link.lock").symlink_to(tmp_path / "fifo.lock")
    for path in tmp_path.iterdir():
        assert try_lock(path) is None
        assert LockFile.see(path).hold is Hold.CLOSED


def test_another_pid_namespace(tmp_path: Path) -> None:
    """A container on this host: its lock is seen, its pid is not, and the same number here is another's."""
    unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("CONTAINERS ARE NOT TESTED HERE: no PID namespace can be made")
    owner = Owner(tmp_path, *unshare)
    origin = Origin.parse(json.loads(owner.path.read_text())["origin"])
    assert origin is not None
    assert origin.shares_boot(Origin.here())
    assert origin.is_running() is None
    assert owner.life() is Life.ALIVE
    shutil.copy(owner.path, tmp_path / "copy.lock")
    owner.path.unlink()
    assert LockFile.see(owner.path).life(origin) is Life.UNKNOWN
    assert LockFile.see(tmp_path / "copy.lock").life() is Life.UNKNOWN
    owner.kill()


def test_origin_of_this_process_and_of_nonsense(tmp_path: Path) -> None:
    """It survives JSON; what is no origin is none."""
    here = Origin.here()
    assert here.pid == os.getpid()
    assert here.boot
    assert Origin.parse(json.loads(json.dumps(here.document()))) == here
    assert here.is_running() is True
    whole = here.document()
    odds: tuple[Any, ...] = (
        None,
        [],
        "x",
        {},
        whole | {"pid": "1"},
        whole | {"pid": 0},
        whole | {"pid": True},
    )
    for odd in odds:
        assert Origin.parse(odd) is None
    for odd in (whole | {"boot": None}, whole | {"pid": 2**40}, {"machine": "", "boot": ""}):
        assert Origin.parse(odd) is None
    lock = ProcessLock(tmp_path, "p")
    lock.describe({"lake": "x"})
    about = json.loads((tmp_path / "p.lock").read_text())
    assert (about["lake"], Origin.parse(about["origin"])) == ("x", here)
    lock.release()


def test_a_zombie_is_not_running() -> None:
    """It is there until its parent asks for it, which may be never."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = Origin.here()
    started = int(Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19])
    origin = Origin(here.machine, here.boot, here.namespace, child.pid, started)
    assert origin.is_running() is True
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert origin.is_running() is None
    child.communicate()
    assert origin.is_running() is False


def test_local_file_systems(tmp_path: Path) -> None:
    """The test's own folder lies on one; /proc is none, and what is not there neither."""
    assert is_local(tmp_path)
    assert not is_local(Path("/proc"))
    assert not is_local(tmp_path / "none")


@pytest.fixture
def other_mount(tmp_path: Path) -> Iterator[Path]:
    """The test's folder once more, through a program (FUSE), which knows nothing of the locks behind it."""
    mount = tmp_path.with_name(f"{tmp_path.name}-mounted")
    mount.mkdir()
    if shutil.which("bindfs") is None or subprocess.run(["bindfs", tmp_path, mount]).returncode:
        pytest.skip("FOLDERS WHOSE LOCKS DO NOT REACH ARE NOT TESTED HERE: bindfs is missing")
    yield mount
    subprocess.run(["umount", "-l", mount], check=True)


@pytest.mark.parametrize("unshare", [[], ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]])
def test_a_folder_whose_locks_do_not_reach_here(
    tmp_path: Path, other_mount: Path, unshare: list[str]
) -> None:
    """A living process's lock is seen free there: its pid is the proof, or nothing is."""
    if unshare and subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("CONTAINERS ARE NOT TESTED HERE: no PID namespace can be made")
    owner = Owner(tmp_path, *unshare)
    assert owner.life() is Life.ALIVE
    seen = LockFile.see(other_mount / owner.path.name)
    assert (seen.hold, seen.is_own, is_local(other_mount)) == (Hold.FREE, False, False)
    assert seen.life() is (Life.UNKNOWN if unshare else Life.ALIVE)
    owner.kill()
    assert seen.life() is (Life.UNKNOWN if unshare else Life.DEAD)
