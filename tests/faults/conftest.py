"""Real processes to kill: `place` has a lake, a live folder, and makes children that use them."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.lake import Lake

PRELUDE = """\
import contextlib, json, mmap, os, signal, struct, sys, threading, time, traceback, warnings
import entrenar_otel.cli.no_pandas, entrenar_otel.lake, pyarrow.parquet, duckdb
entrenar_otel.cli.no_pandas.do_without_pandas()  # a third of what hundreds of these processes would take
from entrenar_otel import Monitor
from entrenar_otel.lake import Lake
from entrenar_otel.recording.segment import Segment
from entrenar_otel.testing import open_run, recorded_run

def say(word):
    os.write(1, f"{word}\\n".encode())  # also within a signal handler, where print may be in print

def small_segments(size):
    Segment.create.__func__.__defaults__ = (size,)

def shared(path="counter"):
    with open(path, "r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")  # struct.pack_into writes zeros first

def die_at_step(k, *folders):
    'SIGKILL before the k-th change (from 1) of a file in one of the folders.'
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event == "open":
            change = arguments[2] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)
        else:
            change = event in ("os.rename", "os.remove", "os.link", "os.mkdir")
        if change and str(arguments[0]).startswith(folders):
            count += 1
            if count == k:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
"""

NURSERY = """
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            run(**json.loads(line))
            code = 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        os._exit(code)
    say(pid)
    say(os.waitpid(pid, 0)[1])
"""


class Done(subprocess.CompletedProcess[str]):
    """How a process ended."""

    @property
    def said(self) -> str:
        """Its error output, but what it was told of its made-up losses: that they are abnormal."""
        lines = self.stderr.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith(("ALERT ", "entrenar: ALERT ")))


class Child:
    """A process that runs a script and says words, one a line."""

    def __init__(self, place: Place, script: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=place.environment | environment,
            cwd=place.root,
            start_new_session=True,  # so that what it forks can be ended with it
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self) -> str:
        """The next word; fails with the child's error output where it died instead."""
        assert self.process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):  # byte by byte: what is buffered here, `is_ready` does not see
            byte = os.read(self.process.stdout.fileno(), 1)
            if not byte:
                raise AssertionError(f"the child said nothing more: {self.end().stderr}")
            line += byte
        return line.decode().strip()

    def expect(self, word: str) -> None:
        assert self.hear() == word

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.process.send_signal(number)

    def end(self, timeout_seconds: float = 150.0) -> Done:
        """Wait for its end; what it still said and its error output."""
        try:
            out, err = self.process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return Done([], self.process.returncode, out, err)


class Nursery(Child):
    """A process that has imported everything and records nothing itself; forks a child a `run`."""

    def fork(self, **arguments: Any) -> int:
        """Run the script's `run(**arguments)` in a child of its own; its pid."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        return int(self.hear())

    def is_ready(self) -> bool:
        """Whether the child has ended."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def status(self) -> int:
        """How the child ended: its exit code, or minus the signal."""
        return os.waitstatus_to_exitcode(int(self.hear()))


class Counter:
    """Shared memory in which a child counts what was acknowledged; it outlives a kill -9."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(4096))
        with path.open("r+b") as file:
            self._map = memoryview(mmap.mmap(file.fileno(), 4096)).cast("Q")

    def __getitem__(self, i: int) -> int:
        return self._map[i]


class Place:
    """A lake and a live folder in an empty folder, and the processes that use them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lake_path = root / "lake"
        self.live = root / "live"
        self.environment = dict(os.environ) | {
            "ENTRENAR_LAKE": str(self.lake_path),
            "ENTRENAR_LIVE": str(self.live),
        }
        self.children: list[Child] = []

    @property
    def lake(self) -> Lake:
        return Lake(self.lake_path, self.live)

    def make_child(self, script: str, **environment: str) -> Child:
        """Start a process that runs the script after PRELUDE."""
        self.children.append(Child(self, PRELUDE + textwrap.dedent(script), **environment))
        return self.children[-1]

    def make_nursery(self, script: str, **environment: str) -> Nursery:
        """Start a process that forks a child for every `run(…)` of the script that is asked for."""
        made = Nursery(self, PRELUDE + textwrap.dedent(script) + NURSERY, **environment)
        self.children.append(made)
        return made

    def run(self, script: str, **environment: str) -> Done:
        """Run a script to its end, which must be a good one."""
        done = self.make_child(script, **environment).end(60)
        assert done.returncode == 0, done.stderr
        return done

    def write_module(self, body: str, name: str = "job") -> Path:
        """A script as a file, which spawned children can import."""
        path = self.root / f"{name}.py"
        head = "import json, multiprocessing as mp, os, sys, threading\nfrom entrenar_otel import Monitor\n"
        path.write_text(head + textwrap.dedent(body))
        return path

    def run_file(self, body: str, **environment: str) -> Done:
        """Run a script as a program, as a user would."""
        script = f"""
            import subprocess
            sys.exit(subprocess.run([sys.executable, {str(self.write_module(body))!r}]).returncode)
        """
        return self.run(script, **environment)

    def value(self, sql: str, **options: Any) -> Any:
        """The one value that a query answers."""
        return self.lake.query(sql, **options).column(0)[0].as_py()

    def count(self, run_id: str | None = None) -> int:
        return int(self.value("SELECT count(*) FROM metrics", run_id=run_id))

    def states(self) -> dict[str, list[str]]:
        """Run id → the state of each of its records."""
        found: dict[str, list[str]] = {}
        for row in self.lake.query("SELECT * FROM runs ORDER BY attempt, rank").to_pylist():
            found.setdefault(row["run_id"], []).append(row["state"])
        return found

    def segments(self) -> list[Path]:
        return sorted(self.live.glob("*.seg"))

    def remove_live(self) -> None:
        """Remove the live folder at once, whatever is made in it meanwhile."""
        shutil.rmtree(self.live.rename(self.root / "removed"))

    def counter(self, name: str = "counter") -> Counter:
        return Counter(self.root / name)

    @staticmethod
    def wait_until(true: Callable[[], Any], timeout_seconds: float = 100.0) -> None:
        end = time.monotonic() + timeout_seconds
        while not true():
            assert time.monotonic() < end, "did not happen in time"
            time.sleep(0.005)

    def keep(self) -> Callable[[], None]:
        """Put lake and live aside; returns what brings them back as they are now."""
        aside = self.root / "aside"
        shutil.rmtree(aside, ignore_errors=True)
        for folder in (self.lake_path, self.live):
            shutil.copytree(folder, aside / folder.name)

        def restore() -> None:
            for folder in (self.lake_path, self.live):
                shutil.rmtree(folder)
                shutil.copytree(aside / folder.name, folder)

        return restore


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    for child in made.children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.process.communicate()


class Relay(threading.Thread):
    """Stands before a server; once it is `silent` it takes connections and answers nothing, while it is
    `failing` it cuts them."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.silent = self.failing = False
        self._upstream = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._taken: list[socket.socket] = []
        self._pumps: list[threading.Thread] = []

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:  # it was closed
                return
            self._taken.append(client)
            if self.failing:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            elif not self.silent:
                server = socket.create_connection(("127.0.0.1", self._upstream))
                self._taken.append(server)
                for one, other in ((client, server), (server, client)):
                    pump = threading.Thread(target=self._pump, args=(one, other), daemon=True)
                    self._pumps.append(pump)
                    pump.start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                while self.silent:
                    time.sleep(0.05)
                if self.failing:
                    break
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR if self.failing else socket.SHUT_WR)

    def end(self) -> None:
        self.silent = self.failing = False
        for one in (self._socket, *self._taken):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in (self, *self._pumps):
            thread.join()
        for one in (self._socket, *self._taken):
            one.close()


@pytest.fixture
def relayed(s3: str, tmp_path: Path) -> Iterator[tuple[Relay, str]]:
    """A relay before the S3 server, and the URL of a lake behind it."""
    url = s3.format(tmp_path.name)
    before, _, rest = url.partition("127.0.0.1")
    separator = ":" if rest.startswith(":") else "%3A"
    port, amp, more = rest.removeprefix(separator).partition("&")
    relay = Relay(int(port))
    relay.start()
    yield relay, f"{before}127.0.0.1{separator}{relay.port}{amp}{more}"
    relay.end()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"FULL-DISK FAULTS ARE NOT TESTED HERE: no tmpfs can be mounted ({done.stderr.strip()})")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
