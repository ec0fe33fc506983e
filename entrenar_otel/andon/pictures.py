"""Pictures: what incidents look like, drawn beside the training and put into their folders.

Each is drawn by a process of its own (views/incident_process.py), which may crash or hang: it is ended
after a time, and an incident is as complete without its picture.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping

from entrenar_processors.plain import plain

from entrenar_otel.console import logger
from entrenar_otel.delivery.worker import Worker
from entrenar_otel.lake.incident import PICTURE, WINDOW, Facts
from entrenar_otel.lake.store.storage import Storage
from entrenar_otel.views.incident_process import COMMAND, LIFE_SECONDS, packed, take

#: Switches them off, with `0`.
VARIABLE = "ENTRENAR_INCIDENT_PICTURES"
#: How long the end of a run waits for the pictures of its last incidents.
END_SECONDS = 8.0
_LAST_SECONDS = 1.0
#: Importing matplotlib is most of the work: so many are drawn by one process.
_TOGETHER = 4
_MAX_WINDOW_BYTES = 64 << 20
_PNG = b"\x89PNG\r\n"


class Pictures:
    """Draws the incidents that it is given on a thread of its own, those of stops first.

    What cannot be drawn is left out: nobody waits for a picture but the end of the run, for `END_SECONDS`.
    """

    def __init__(self, storage: Storage, environ: Mapping[str, str] = os.environ) -> None:
        self._storage, self._environ = storage, environ
        self._waiting: list[Facts] = []
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self.worker = Worker("entrenar-pictures", self._work)

    @property
    def is_wanted(self) -> bool:
        """Whether they can be drawn here, and nobody has said no."""
        if self._is_closed or self._environ.get(VARIABLE, "1") == "0" or not _is_python():
            return False
        try:
            return importlib.util.find_spec("matplotlib") is not None
        except ValueError:  # it was put into sys.modules without being imported
            return False

    def add(self, facts: Facts) -> None:
        """Draw this incident, whose window is complete, soon."""
        if self.is_wanted:
            with self._lock:
                self._waiting.append(facts)
                self._waiting.sort(key=lambda facts: facts.documents["alert"].get("action") != "stop")
            self.worker.wake()

    def close(self, timeout_seconds: float = END_SECONDS) -> None:
        """Wait for what is being drawn, then no more."""
        if self.worker.is_forked or not self.worker.is_started or self.worker.stop(timeout_seconds):
            return
        with self._lock:
            self._is_closed = True
            self._waiting.clear()
            if self._process is not None:
                self._process.kill()
        self.worker.join(_LAST_SECONDS)  # what is drawn already is written

    def _work(self) -> None:
        while True:
            with self._lock:
                chosen, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
            if not chosen:
                return
            try:
                self._draw(chosen)
            except (OSError, subprocess.SubprocessError, RuntimeError) as error:
                logger.info("incidents have no picture: %s", error)

    def _draw(self, chosen: list[Facts]) -> None:
        asked = []
        for facts in chosen:
            window = self._storage.read_bytes(f"{facts.folder}/{WINDOW}", _MAX_WINDOW_BYTES)
            asked.append(packed(json.dumps(plain(facts.documents), allow_nan=False).encode()))
            asked.append(packed(window))
        answer = io.BytesIO(self._drawn(b"".join(asked)))
        for facts in chosen:
            picture = take(answer)
            if picture is not None and picture.startswith(_PNG):
                self._storage.write_bytes(f"{facts.folder}/{PICTURE}", picture)
            else:
                logger.info("the incident %s has no picture", facts.name)

    def _drawn(self, asked: bytes) -> bytes:
        """What the process answered until it ended, or was ended. Raises OSError."""
        with self._lock:
            if self._is_closed:
                return b""
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment(),
                start_new_session=True,  # a Ctrl-C is the training's
            )
        try:
            return self._process.communicate(asked, timeout=LIFE_SECONDS)[0]
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.communicate()[0]
        finally:
            self._process.kill()
            self._process.wait()

    def _environment(self) -> dict[str, str]:
        """That of this process, with its packages, and without monitoring of its own."""
        paths = os.pathsep.join(path for path in sys.path if path)
        return {
            **self._environ,
            "PYTHONPATH": paths,
            "MPLBACKEND": "agg",
            "ENTRENAR_DISABLED": "1",
            "OTEL_SDK_DISABLED": "true",
        }


def _is_python() -> bool:
    """Whether the program that runs is Python, and not one that it is a part of and that would run again."""
    return os.path.basename(sys.executable or "").startswith("python") and not hasattr(sys, "frozen")
