"""Incidents while the lake hangs: the loop does not wait for it, and nothing of them is missing later."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from entrenar_otel.lake import Lake

STOPPED = """
    from entrenar_otel import AndonStop
    monitor = Monitor("run", quiet=True, interval_seconds=0.05).start()
    for step in range(50):
        monitor.log(loss=1 / (1 + step), step=step)
    say("ready")
    sys.stdin.readline()
    began = time.monotonic()
    try:
        monitor.log(loss=float("nan"), step=50)
    except AndonStop as stop:
        say(time.monotonic() - began)
        say(stop.incident)
    sys.stdin.readline()
    monitor.close()
"""


def tell(child: Any) -> None:
    child.process.stdin.write("\n")
    child.process.stdin.flush()


def stopped(place: Any, url: str, fall_silent: Any) -> tuple[Any, str]:
    """A process whose loop was stopped while its lake does not answer; its incident, as the lake names it."""
    child = place.make_child(STOPPED, ENTRENAR_LAKE=url)
    child.expect("ready")
    fall_silent()
    tell(child)
    assert float(child.hear()) < 10  # it is about a second
    incident = child.hear()
    return child, incident[incident.index("incidents/") :]


def parts(lake: Lake, incident: str) -> list[str]:
    return sorted(lake.storage.list(incident))


def whole(lake: Lake, incident: str) -> None:
    """Everything that was known is there."""
    assert parts(lake, incident) == ["alert.json", "config.json", "environment.json", "window.parquet"]
    alert, environment = (
        json.loads(lake.storage.read_bytes(f"{incident}/{name}.json", 1 << 20))
        for name in ("alert", "environment")
    )
    assert (alert["name"], alert["step"], environment["attempt"]) == ("nonfinite_loss", 50, 1)
    window = lake.storage.read_bytes(f"{incident}/window.parquet", 1 << 20)
    assert pq.read_table(io.BytesIO(window)).num_rows == 51


def test_a_stop_while_an_object_store_is_silent(place: Any, relayed: Any) -> None:
    """It does not wait for the store, and the run brings the incident in when that answers."""
    relay, url = relayed
    child, incident = stopped(place, url, lambda: setattr(relay, "silent", True))
    (waiting,) = place.live.glob("*.incident")
    assert waiting.stat().st_mode & 0o777 == 0o600
    relay.silent = False
    lake = Lake(url, place.live)
    place.wait_until(lambda: "window.parquet" in parts(lake, incident))
    tell(child)
    done = child.end()
    assert done.returncode == 0, done.stderr
    assert "the incident is kept in" in done.stderr
    whole(lake, incident)
    assert list(place.live.iterdir()) == []


@pytest.mark.parametrize("ending", ["killed", "closed"])
def test_an_incident_that_its_run_could_not_bring_in(place: Any, relayed: Any, ending: str) -> None:
    """Recovery does; as often as it is asked to, it is there once."""
    relay, url = relayed
    child, incident = stopped(place, url, lambda: setattr(relay, "silent", True))
    if ending == "killed":
        child.kill()
    else:
        tell(child)
    assert child.end(300.0).returncode == (0 if ending == "closed" else -signal.SIGKILL)
    relay.silent = False
    lake = Lake(url, place.live)
    for _ in range(2):
        lake.recover(thorough=False)
        whole(lake, incident)
        assert list(place.live.iterdir()) == []
    assert [one.state for one in lake.runs()] == ["stopped" if ending == "closed" else "crashed"]


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[tuple[Path, Any]]:
    """A lake on a mount of its own, and what stops the mount."""
    behind, mount = tmp_path / "behind", tmp_path / "lake"
    behind.mkdir()
    mount.mkdir()
    if shutil.which("bindfs") is None or not Path("/dev/fuse").exists():
        pytest.skip("A STOPPED MOUNT IS NOT TESTED HERE: bindfs or /dev/fuse is missing")
    server = subprocess.Popen(["bindfs", "-f", str(behind), str(mount)])
    try:
        end = time.monotonic() + 60
        while not os.path.ismount(mount):
            assert time.monotonic() < end
            assert server.poll() is None
            time.sleep(0.02)
        yield mount, server
    finally:
        server.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "-l", str(mount)], check=True)
        server.wait()


def test_a_stop_while_a_mount_hangs(place: Any, mounted: Any) -> None:
    mount, server = mounted
    child, incident = stopped(place, str(mount), lambda: server.send_signal(signal.SIGSTOP))
    child.kill()
    server.send_signal(signal.SIGCONT)
    child.end()
    place.lake.recover(thorough=False)
    whole(place.lake, incident)
    assert list(place.live.iterdir()) == []


def test_killed_while_an_incident_is_written_down(place: Any) -> None:
    """What it had begun goes with it; what another has begun stays."""
    child = place.make_child("""
        def hook(event, arguments):
            if event == "os.rename" and str(arguments[1]).endswith(".incident"):
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        monitor = Monitor("run", quiet=True).start()
        for step in range(50):
            monitor.log(loss=1.0, step=step)
        monitor.log(loss=float("nan"), step=50)
    """)
    assert child.end().returncode == -signal.SIGKILL
    (begun,) = place.live.glob(".*.tmp")
    others = begun.with_name(".other-000001.incident.0123456789abcdef.tmp")
    others.touch()
    place.lake.recover(thorough=False)
    assert list(place.live.iterdir()) == [others]
    assert place.count() == 51


def test_odd_files_in_the_place_of_incidents(place: Any) -> None:
    """They lead nowhere, stay where they are, and hinder no recovery."""
    child = place.make_child("""
        monitor = Monitor("run", quiet=True).start()
        monitor.log(loss=1.0)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    child.end()
    process = next(place.live.glob("*.lock")).stem
    good = {
        "format": 1, "lake": str(place.lake_path), "origin": {}, "name": f"x-{process}", "day": "2026-01-01",
        "run_id": "run", "attempt": 1, "rank": 0, "process": process, "times": [["2026-01-01", "2026-01-02"]],
        "documents": {"alert": {}, "config": {}, "environment": {}},
    }  # fmt: skip
    odd: list[Any] = [
        [], {}, {**good, "name": f"../../x-{process}"}, {**good, "day": "../.."}, {**good, "format": 9},
        {**good, "times": []}, {**good, "documents": {}}, {**good, "process": "other"}, {**good, "run_id": 5},
    ]  # fmt: skip
    for number, document in enumerate(odd):
        (place.live / f"{process}-{number:06d}.incident").write_text(json.dumps(document))
    (place.live / f"{process}-000100.incident").write_bytes(b"\0\1")
    (place.live / f"{process}-000101.incident").write_text(json.dumps(good))
    place.lake.recover(thorough=False)
    assert place.states() == {"run": ["crashed"]}
    assert len(list(place.live.glob("*.incident"))) == len(odd) + 1
    assert [path.name for path in place.lake_path.glob("incidents/*/*/*")] == [f"x-{process}"]
    assert not list(place.root.glob("x-*"))
