"""Pictures of incidents, and kill -9: no torn picture, nothing of the incident is missing."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

from entrenar_otel.lake.store.storage import remove_stale

PARTS = ["alert.json", "config.json", "environment.json", "window.parquet"]
TRAINED = """
    from entrenar_otel import AndonStop
    open("renacer.toml", "w").write("[monitor.andon]\\nincident_after_seconds = 0.1\\n")
    monitor = Monitor("run", quiet=True, interval_seconds=0.05).start()
    for step in range(50):
        monitor.log(loss=1 / (1 + step), step=step)
    with contextlib.suppress(AndonStop):
        monitor.log(loss=float("nan"), step=50)
    sys.stdin.readline()
"""
HANGS = """
import os, time
with open("begun", "w") as file:
    file.write(str(os.getpid()))
os.rename("begun", "drawing")
while True:
    time.sleep(1)
"""


def parts(place: Any) -> list[str]:
    return sorted(path.name for path in place.lake_path.glob("incidents/*/*/*/*"))


def put(folder: Path, code: str) -> str:
    """A line that makes this the matplotlib of a script."""
    (folder / "packages" / "matplotlib").mkdir(parents=True)
    (folder / "packages" / "matplotlib" / "__init__.py").write_text(code)
    return f"    sys.path.insert(0, {str(folder / 'packages')!r})\n"


def test_killed_while_it_is_drawn(place: Any, tmp_path: Path) -> None:
    """The incident has all else; recovery finds nothing to do."""
    child = place.make_child(put(tmp_path, HANGS) + TRAINED, ENTRENAR_INCIDENT_PICTURES="1")
    drawing = place.root / "drawing"
    try:
        place.wait_until(drawing.exists)
        child.kill()
        child.end()
    finally:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            os.kill(int(drawing.read_text()), signal.SIGKILL)
    place.lake.recover(thorough=False)
    assert parts(place) == PARTS
    assert list(place.live.iterdir()) == []
    assert place.count() == 51


def test_killed_while_it_is_written(place: Any) -> None:
    """What was begun has a name of its own, and goes like all that a dead writer leaves in a lake."""
    hook = """
    def hook(event, arguments):
        if event == "os.rename" and str(arguments[1]).endswith(".png"):
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
"""
    child = place.make_child(hook + TRAINED, ENTRENAR_INCIDENT_PICTURES="1")
    assert child.end().returncode == -signal.SIGKILL
    place.lake.recover(thorough=False)
    assert [name for name in parts(place) if not name.endswith(".tmp")] == PARTS
    assert remove_stale(place.lake_path, older_than_seconds=0.0) == 1
    assert parts(place) == PARTS


def test_a_stop_does_not_wait_for_a_picture(place: Any, tmp_path: Path) -> None:
    """One that hangs: the stop and its incident are there while it does."""
    child = place.make_child(
        put(tmp_path, "import time\nwhile True:\n    time.sleep(1)")
        + """
    from entrenar_otel import AndonStop
    from entrenar_otel.andon import pictures
    pictures.END_SECONDS = 0.2
    monitor = Monitor("run", quiet=True, interval_seconds=0.05).start()
    for step in range(50):
        monitor.log(loss=1 / (1 + step), step=step)
    try:
        monitor.log(loss=float("nan"), step=50)
    except AndonStop as stop:
        say(" ".join(sorted(os.listdir(stop.incident))))
    monitor.close()
    say("closed")
""",
        ENTRENAR_INCIDENT_PICTURES="1",
    )
    child.expect(" ".join(PARTS))
    child.expect("closed")
    assert child.end().returncode == 0
    assert parts(place) == PARTS
