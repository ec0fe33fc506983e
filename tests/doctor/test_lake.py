"""The lake as it is found, wherever it is; nothing is written into it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel import Monitor
from entrenar_otel.doctor import file_system, lake
from entrenar_otel.doctor.check import Check, Level
from entrenar_otel.doctor.surroundings import Surroundings
from entrenar_otel.run.settings import RunSettings


def checks(location: str | Path | None = None, **environ: str) -> list[Check]:
    option = None if location is None else os.fspath(location)
    return [one.fit_to_show() for one in lake.checks(Surroundings(environ, option))]


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


def test_a_lake_with_runs_is_only_looked_at() -> None:
    Monitor("r", lake="lake", quiet=True).start().close()
    before = listing(Path("lake")), Path("lake").stat().st_mtime_ns
    first, *others = checks("lake")
    assert (listing(Path("lake")), Path("lake").stat().st_mtime_ns) == before
    assert first.text.startswith(f"{Path('lake').resolve()} (--lake): runs of 1 day; ")
    assert first.facts["exists"] is True
    assert first.facts["free_bytes"] > 0
    assert [one.level.value for one in (first, *others)] == ["ok", "ok"]
    assert others[-1].text == "rename, flock, fsync, fsync of the folder work"
    assert sorted(os.listdir()) == ["lake", "live"]


def test_a_lake_that_is_not_there_yet() -> None:
    first, _ = checks("deep/lake")
    assert ": the first run makes it; " in first.text
    assert not os.path.lexists("deep")


@pytest.mark.parametrize(
    ("option", "environ", "settings", "source"),
    [
        ("a", {"ENTRENAR_LAKE": "b"}, RunSettings(lake="c"), "--lake"),
        (None, {"ENTRENAR_LAKE": "b"}, RunSettings(lake="c"), "ENTRENAR_LAKE"),
        (None, {}, RunSettings(lake="c"), "renacer.toml"),
        (None, {}, RunSettings(), "the default"),
    ],
)
def test_which_setting_says_so(
    option: str | None, environ: dict[str, str], settings: RunSettings, source: str
) -> None:
    (first, *_) = lake.checks(Surroundings(environ, option, settings=settings))
    assert f"({source})" in first.text


def test_a_file_and_a_folder_that_cannot_be_made() -> None:
    Path("file").write_text("")
    (is_file,) = checks("file")
    assert (is_file.level, is_file.text.endswith("is a file")) == (Level.PROBLEM, True)
    (below,) = checks("file/lake")
    assert below.text.endswith(f"cannot be made: {Path('file').resolve()} is not a writable folder")
    *_, nowhere = checks("/proc/none/lake")
    assert nowhere.level is Level.PROBLEM
    assert "it cannot be made in /proc" in nowhere.text


def test_the_default_lake_has_a_second_place() -> None:
    Path("entrenar-lake").write_text("")
    (check,) = checks()
    assert check.level is Level.NOTE
    assert check.advice.startswith("runs go to ")


def test_a_file_url_with_spaces() -> None:
    Path("my lake").mkdir()
    first, *_ = checks(f"file://{Path.cwd()}/my%20lake")
    assert f"{Path.cwd()}/my lake (--lake): no runs yet" in first.text


@pytest.mark.parametrize(
    ("changes", "name", "level"),
    [
        ({"free_bytes": 10_000}, "room", Level.NOTE),
        ({"free_files": 0}, "room", Level.PROBLEM),
        ({"failed": {"flock": "No locks available"}, "kind": "nfs4"}, "its abilities", Level.NOTE),
        ({"kind": "nfs4"}, "its abilities", Level.OK),
    ],
)
def test_poor_file_systems(
    changes: dict[str, Any], name: str, level: Level, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {"kind": "ext4", "free_bytes": 10**12, "free_files": None, "tried": ("flock",)}
    monkeypatch.setattr(lake, "look", lambda _: file_system.Abilities(**(given | changes)))
    check = next(one for one in checks("lake") if one.name == name)
    assert check.level is level


def test_object_storage_is_asked_and_its_secrets_stay(s3: str) -> None:
    """A server that answers, and one that is not there."""
    (check,) = checks(s3.format("doctor"))
    assert check.level is Level.OK, check.text
    assert check.text.startswith("s3://lake/doctor (--lake): ")
    assert "no runs yet; credentials in the URL" in check.text
    assert "secret" not in str(check)
    (dead,) = checks("s3://me:hidden@bucket/lake?endpoint_override=127.0.0.1:9&scheme=http")
    assert (dead.level, "hidden" in str(dead)) == (Level.PROBLEM, False)
    (strange,) = checks("nosuch://me:hidden@x")
    assert "neither a folder nor a URL that Arrow knows" in strange.text
