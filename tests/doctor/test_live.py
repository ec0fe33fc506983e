"""The live folder, and what waits there of processes that are dead."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.doctor import file_system, live
from entrenar_otel.doctor.check import Check, Level
from entrenar_otel.doctor.surroundings import Surroundings

KILLED = """
import os, sys
from entrenar_otel import Monitor
monitor = Monitor("killed", lake=sys.argv[1], quiet=True).start()
monitor.log(loss=1.0)
os._exit(9)
"""


def checks(lake: str = "lake") -> list[Check]:
    return [one.fit_to_show() for one in live.checks(Surroundings(dict(os.environ), lake))]


def named(name: str, lake: str = "lake") -> Check:
    return next(one for one in checks(lake) if one.name == name)


def test_a_folder_that_is_not_there_yet_stays_so() -> None:
    first, able = checks()
    assert first.text.startswith(f"{os.environ['ENTRENAR_LIVE']} (ENTRENAR_LIVE): the first run makes it; ")
    assert able.text.startswith("rename, flock, fsync, fsync of the folder work; segments are ")
    assert os.listdir() == []


def test_what_others_record_is_not_touched() -> None:
    with Monitor("r", lake="lake", quiet=True) as monitor:
        monitor.log(loss=1.0)
        assert named("segments").text == "1 segment of processes that record"
        monitor.log(loss=2.0)
        assert monitor.dropped == 0
    assert named("segments").text == "none waits"


def test_what_a_killed_process_left_waits_for_its_lake() -> None:
    for lake in ("lake", "other", "third"):
        subprocess.run([sys.executable, "-c", KILLED, lake], check=False, timeout=100)
    mine, others = (one for one in checks() if one.name == "left behind")
    assert (mine.level, mine.text) == (Level.NOTE, "1 segment of dead processes, for this lake")
    assert mine.advice.endswith("entrenar-otel recover")
    assert others.text == (
        f"2 segments of dead processes, for {Path('other').resolve()}, {Path('third').resolve()}"
    )
    assert others.facts["segments"] == {str(Path(name).resolve()): 1 for name in ("other", "third")}


def test_strange_files_are_counted() -> None:
    folder = Path(os.environ["ENTRENAR_LIVE"])
    folder.mkdir()
    (folder / "a-000000.seg").write_bytes(b"no segment")
    (folder / "b-000000.damaged").write_bytes(b"")
    (folder / "c-000000.unsent").write_bytes(b"x" * 2000)
    told = {one.name: one for one in checks()}
    assert told["segments"].text == "1 file cannot be read as a segment"
    assert told["damaged"].text == "1 file that recovery found damaged"
    assert told["unsent"].text == "2 kB wait to be sent by OTLP"
    assert told["unsent"].facts == {"unsent_bytes": 2000}


def test_a_place_where_no_file_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENTRENAR_LIVE", "/proc/none/live")
    (proc,) = checks()
    assert proc.level is Level.NOTE
    assert "a private one in the temporary folder is used" in proc.text
    Path("file").write_text("")
    monkeypatch.setenv("ENTRENAR_LIVE", "file")
    (file,) = checks()
    assert file.text.startswith("file (ENTRENAR_LIVE) cannot be used: ")
    assert "is not a folder" in file.text


def test_without_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "default_live", lambda: None)
    (check,) = checks()
    assert (check.level, check.advice) == (Level.NOTE, "set ENTRENAR_LIVE")


def test_by_default_it_is_in_the_state_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENTRENAR_LIVE")
    assert "(XDG_STATE_HOME)" in checks()[0].text
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    assert checks()[0].text.startswith(f"{Path.cwd()}/.local/state/entrenar/live (the default)")


@pytest.mark.parametrize(
    ("changes", "name", "level", "told"),
    [
        ({"free_bytes": 1000}, "live folder", Level.PROBLEM, "no room for 33.6 MB per process"),
        ({"free_files": 0}, "live folder", Level.PROBLEM, "no room"),
        ({"maps": False, "kind": "btrfs"}, "its abilities", Level.NOTE, "written, not mapped: btrfs moves"),
        ({"failed": {"flock": "No locks"}}, "its abilities", Level.PROBLEM, "no flock (No locks)"),
    ],
)
def test_poor_file_systems(
    changes: dict[str, Any], name: str, level: Level, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {
        "kind": "ext4",
        "free_bytes": 10**12,
        "free_files": 9,
        "maps": True,
        "tried": ("flock",),
    }
    monkeypatch.setattr(live, "probe", lambda _: file_system.Abilities(**(given | changes)))
    check = named(name)
    assert check.level is level
    assert told in check.text


def test_a_full_disk_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path) -> file_system.Abilities:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(live, "probe", full)
    (check,) = checks()
    assert check.level is Level.PROBLEM
    assert "No space left on device" in check.text


def test_a_limit_on_files_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "largest_file", lambda: 1 << 20)
    assert "1.05 MB at most (ulimit -f)" in checks()[0].text
