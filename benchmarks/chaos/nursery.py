"""Nursery: a process that has imported everything, records nothing itself, and forks a child a role."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Nursery:
    """The process, seen from outside."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from benchmarks.chaos.nursery import main; main()", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self._ended: dict[int, int] = {}
        self._forked: list[int] = []
        self._rest = b""

    def fork(self, role: str, **arguments: Any) -> int:
        """A child that plays this role; its pid."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"role": role, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        while not self._forked:
            self._hear(None)
        return self._forked.pop()

    def status(self, pid: int, timeout_seconds: float | None = 0.0) -> int | None:
        """How a child ended: its exit code, or minus the signal; None while it lives."""
        while pid not in self._ended and self._hear(timeout_seconds):
            pass
        return self._ended.get(pid)

    def _hear(self, timeout_seconds: float | None) -> bool:
        assert self._process.stdout is not None
        fd = self._process.stdout.fileno()
        if not select.select([fd], [], [], timeout_seconds)[0]:
            return False
        data = os.read(fd, 1 << 16)
        if not data:
            raise RuntimeError("the nursery is gone")
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "forked" in said:
                self._forked.append(said["forked"])
            else:
                self._ended[said["ended"]] = said["status"]
        return True

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def main() -> None:
    from benchmarks.chaos.place import Place
    from benchmarks.chaos.roles import ROLES

    place = Place(Path(sys.argv[1]))
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    rest = b""
    while True:
        ready, _, _ = select.select([0, read_end], [], [])
        if read_end in ready:
            os.read(read_end, 4096)
        _reap()
        if 0 in ready:
            data = os.read(0, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                wanted = json.loads(line)
                if pid := os.fork():
                    _say({"forked": pid})
                else:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    _play(place, ROLES[wanted["role"]], wanted["role"], wanted["arguments"])


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _say({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def _play(place: Any, role: Any, name: str, arguments: dict[str, Any]) -> None:
    code = 1
    os.dup2(2, 1)  # what is said to whoever asked for children is the nursery's own
    try:
        role(place, **arguments)
        code = 0
    except BaseException as error:
        traceback.print_exc()
        place.tell("failed", 1, f"{name} {arguments}: {type(error).__name__}: {error}")
    finally:
        sys.stderr.flush()
        os._exit(code)


def _say(document: dict[str, int]) -> None:
    os.write(1, (json.dumps(document) + "\n").encode())
