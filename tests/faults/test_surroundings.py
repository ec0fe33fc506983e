"""Where it runs: folders that cannot be written, switches, attempts, notebooks."""

from __future__ import annotations

import os
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.lake import Lake

LOG = """
    with Monitor{arguments} as monitor:
        for i in range(100):
            monitor.log(loss=float(i), step=i)
    say(monitor.lake.url if monitor.enabled or monitor.attempt else "disabled")
"""


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Any]:
    """A folder of a file system that is mounted read-only (a mode would not stop root)."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    (folder / "train.py").write_text("")
    for options in (["--bind", str(folder)], ["-o", "remount,ro,bind"]):
        done = subprocess.run(["mount", *options, str(folder)], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"READ-ONLY FOLDERS ARE NOT TESTED HERE: cannot mount ({done.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("form", ["()", ".auto()"])
def test_a_read_only_working_folder(place: Any, read_only: Any, form: Any) -> None:
    """The default lake cannot be there: it lies beside the live segments, which is said once."""
    del place.environment["ENTRENAR_LAKE"]
    done = place.run(
        f"import os; os.chdir({str(read_only)!r})\n" + textwrap.dedent(LOG.replace("{arguments}", form))
    )
    where = place.live.parent / "lake"
    assert done.stdout.split() == [str(where)]
    lines = done.said.splitlines()
    assert len(lines) == 3, lines  # a warning, where it is recorded, and how to look at it
    assert str(read_only / "entrenar-lake") in lines[0]
    assert "Read-only file system" in lines[0]
    assert str(where) in lines[1]
    assert f"--lake {where}" in lines[2]
    place.lake_path = where
    assert place.count() == 100


@pytest.mark.parametrize("cwd", ["/proc", "/sys"])
def test_a_working_folder_that_no_file_can_be_in(place: Any, cwd: Any) -> None:
    del place.environment["ENTRENAR_LAKE"]
    done = place.run(f"os.chdir({cwd!r})\n" + textwrap.dedent(LOG.replace("{arguments}", "(quiet=True)")))
    place.lake_path = place.live.parent / "lake"
    assert done.stdout.split() == [str(place.lake_path)]
    assert place.count() == 100


def test_a_working_folder_that_is_gone(place: Any) -> None:
    """Monitoring goes on elsewhere or not at all, but training does."""
    del place.environment["ENTRENAR_LAKE"]
    (place.root / "gone").mkdir()
    done = place.run(
        "os.chdir('gone'); os.rmdir('../gone')\n"
        + textwrap.dedent(LOG.replace("{arguments}", ".auto(quiet=True)"))
    )
    assert len(done.said.splitlines()) <= 1, done.stderr


def test_a_live_folder_that_cannot_be_written(place: Any, read_only: Any) -> None:
    done = place.run(LOG.replace("{arguments}", ".auto(quiet=True)"), ENTRENAR_LIVE=str(read_only / "live"))
    assert len(done.said.splitlines()) == 1, done.stderr
    assert str(read_only / "live") in done.stderr


@pytest.mark.parametrize("form", ["()", ".auto()"])
def test_no_home(place: Any, form: Any) -> None:
    """A container whose user is in no list of users: the temporary folder takes the place of a home."""
    nobody = """
        import pwd
        def unknown(uid):
            raise KeyError(f"getpwuid(): uid not found: {uid}")
        pwd.getpwuid = unknown
    """
    del place.environment["ENTRENAR_LIVE"]
    for name in ("HOME", "XDG_STATE_HOME"):
        place.environment.pop(name, None)
    place.environment["TMPDIR"] = str(place.root)
    done = place.run(textwrap.dedent(nobody) + textwrap.dedent(LOG.replace("{arguments}", form)))
    live = place.root / f"entrenar-{os.geteuid()}" / "live"
    assert f"there is no home folder; live segments are kept in {live}" in done.said
    place.live = live
    assert place.count() == 100


def test_a_named_lake_that_cannot_be_written_is_an_error_at_construction(place: Any, read_only: Any) -> None:
    script = f"""
        from entrenar_otel.errors import ConfigError
        try:
            Monitor(lake={str(read_only / "lake")!r})
        except ConfigError as error:
            say(error)
    """
    done = place.run(script)
    assert str(read_only / "lake") in done.stdout
    done = place.run(LOG.replace("{arguments}", f".auto(lake={str(read_only / 'lake')!r})"))
    assert done.stdout.split() == ["disabled"]
    assert "monitoring is off" in done.stderr


@pytest.mark.parametrize("switch", ["ENTRENAR_DISABLED", "OTEL_SDK_DISABLED"])
@pytest.mark.parametrize("value", ["1", "true", "TRUE"])
def test_switched_off_it_leaves_no_trace(place: Any, switch: Any, value: Any) -> None:
    done = place.run(
        """
        monitor = Monitor("run", config={"lr": 0.1})
        fast = monitor.bind("loss")
        with monitor:
            for epoch in monitor.epochs(2):
                for batch in monitor.steps([[1], [2]]):
                    monitor.log(loss=float("nan"), anything="not a number")
                    fast(float("inf"))
        assert monitor.to_records() == []
        assert monitor.sample_count("loss") == 0
        assert monitor.dropped == 0
        say(monitor.enabled)
        """,
        **{switch: value},
    )
    assert done.stdout.split() == ["False"]
    assert done.said == ""
    assert sorted(path.name for path in place.root.rglob("*.parquet")) == []
    assert not place.live.exists() or not list(place.live.iterdir())
    assert not place.lake_path.exists()


# -- attempts ---------------------------------------------------------------------------------


def test_a_second_start_of_the_same_run_is_its_second_attempt(place: Any) -> None:
    for _ in range(3):
        done = place.run(LOG.replace("{arguments}", "('same')"))
    assert "attempt 3" in done.stderr
    rows = place.lake.query(
        "SELECT attempt, count(*) AS n, count(DISTINCT seq) AS s FROM metrics GROUP BY 1 ORDER BY 1"
    )
    assert rows.to_pylist() == [{"attempt": a, "n": 100, "s": 100} for a in (1, 2, 3)]
    assert place.states() == {"same": ["completed"] * 3}


def test_a_restart_after_a_kill_is_the_next_attempt_and_recovers_the_first(place: Any) -> None:
    place.make_child("""
        monitor = Monitor("same", quiet=True).start()
        for i in range(100):
            monitor.log(loss=float(i), step=i)
        os.kill(os.getpid(), signal.SIGKILL)
    """).end()
    place.run("""
        with Monitor("same", quiet=True, interval_seconds=0.02) as monitor:
            assert monitor.attempt == 2
            for i in range(100):
                monitor.log(loss=float(i), step=i)
            while len(list(monitor.lake.live.glob("*.seg"))) > 1:
                time.sleep(0.01)  # the heartbeat's housekeeping
    """)
    assert place.states() == {"same": ["crashed", "completed"]}
    assert place.count() == 200
    assert not list(place.live.iterdir())


def test_resume_never_and_must(place: Any) -> None:
    script = """
        from entrenar_otel.errors import RunError
        for run_id, resume in (("a", "must"), ("a", "never"), ("a", "never"), ("a", "must"), ("a", "allow")):
            try:
                with Monitor(run_id, resume=resume, quiet=True) as monitor:
                    monitor.log(loss=1.0)
                    say(f"{resume} {monitor.attempt}")
            except RunError as error:
                say(f"{resume} {error}")
    """
    must, first, never, second, third = place.run(script).stdout.splitlines()
    assert must.startswith("must run 'a' is not in ")
    assert first == "never 1"
    assert never.startswith("never run 'a' is already in ")
    assert (second, third) == ("must 2", "allow 3")
    assert place.count() == 3


# -- notebooks --------------------------------------------------------------------------------

CELL = "monitor = Monitor(quiet=True)\\nfor i in range(1000): monitor.log(loss=float(i), step=i)"


def test_a_notebook_cell_run_again_supersedes_its_run(place: Any) -> None:
    done = place.run(
        f"""
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        shell.push({{"Monitor": Monitor}})
        for _ in range(3):
            result = shell.run_cell("{CELL}")
            assert result.success
        """,
        IPYTHONDIR=str(place.root / "ipython"),
    )
    lines = done.said.splitlines()
    assert len(lines) == 2, lines
    assert all("superseded by" in line for line in lines)
    rows = place.lake.query("SELECT run_id, count(*) AS n FROM metrics GROUP BY 1").to_pylist()
    assert [row["n"] for row in rows] == [1000] * 3
    states = place.lake.query("SELECT state FROM runs ORDER BY started_at").column(0).to_pylist()
    assert states == ["stopped", "stopped", "completed"]


def test_two_monitors_of_one_script_are_two_runs(place: Any) -> None:
    done = place.run("""
        first, second = Monitor("first", quiet=True).start(), Monitor("second", quiet=True).start()
        for i in range(100):
            first.log(loss=1.0)
            second.log(loss=2.0)
    """)
    assert done.said == ""
    assert place.lake.query(
        "SELECT run_id, sum(value) AS s FROM metrics GROUP BY 1 ORDER BY 1"
    ).to_pylist() == [
        {"run_id": "first", "s": 100.0},
        {"run_id": "second", "s": 200.0},
    ]
    assert place.states() == {"first": ["completed"], "second": ["completed"]}


@pytest.mark.parametrize("ending", ["closed", "killed"])
def test_the_live_folder_is_removed_in_mid_run(place: Any, ending: str) -> None:
    """Folder and lock are made again; what was in them is handed over, and recovery finds the rest."""
    child = place.make_child("""
        monitor = Monitor("run", quiet=True, interval_seconds=0.05).start()
        for step in range(100):
            monitor.log(a=1.0, step=step)
        say("ready")
        sys.stdin.readline()
        for step in range(100, 200):
            monitor.log(a=1.0, step=step)
        say("logged")
        sys.stdin.readline()
        monitor.close()
    """)
    child.expect("ready")
    place.remove_live()
    place.wait_until(lambda: len(list(place.live.glob("*.lock"))) == 1)
    place.wait_until(lambda: list(place.lake_path.glob("metrics/*/*/*.parquet")))
    child.process.stdin.write("\n")
    child.process.stdin.flush()
    child.expect("logged")
    assert Lake(place.lake_path, place.live).recover(thorough=False) == []
    if ending == "killed":
        child.kill()
        child.process.wait()
    else:
        child.process.stdin.write("\n")
        child.process.stdin.flush()
    done = child.end()
    assert done.stderr.count("removed while the run uses it") == 1
    place.lake.recover(thorough=False)
    assert place.value("SELECT count(DISTINCT step) FROM metrics WHERE metric = 'a'") == 200
    assert place.count() == 200
    assert place.states() == {"run": ["completed" if ending == "closed" else "crashed"]}
    assert list(place.live.iterdir()) == []
