"""A living run stays one whatever becomes of its lock; a dead one is proven dead; unknown is left alone."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from entrenar_otel.lake.records.runs import write_record

RUNNING = """
    small_segments(64 << 10)
    monitor = Monitor("run", quiet=True, interval_seconds=0.05).start()
    i = 0
    while not os.path.exists("stop"):
        monitor.log(loss=1.0, step=i)
        i += 1
        if i == 2000:
            say("runs")
        if i % 20 == 0:
            time.sleep(0.005)
    monitor.close()
    say(i)
"""
COUNTS = "SELECT count(*) AS n, count(DISTINCT step) AS steps FROM metrics"


def without_lock(place: Any) -> None:
    """A cleaner of temporary files was here."""
    (lock,) = place.live.glob("*.lock")
    lock.unlink()


def with_a_lock_that_cannot_be_opened(place: Any) -> None:
    """As another user's, which for root takes something that is no file."""
    (lock,) = place.live.glob("*.lock")
    lock.unlink()
    os.mkfifo(lock)


@pytest.mark.parametrize("change", [without_lock, with_a_lock_that_cannot_be_opened])
def test_a_living_run_whose_lock_is_gone(place: Any, change: Callable[[Any], None]) -> None:
    """It runs, is neither recovered nor pruned, not by force either, and every row arrives once."""
    child = place.make_child(RUNNING)
    child.expect("runs")
    change(place)
    assert place.states() == {"run": ["running"]}
    for force in (False, True):
        assert place.lake.recover(force=force) == []
    assert place.lake.prune(timedelta(0)) == []
    assert place.states() == {"run": ["running"]}
    (place.root / "stop").touch()
    logged = int(child.hear())
    child.end()
    assert place.lake.query(COUNTS).to_pylist() == [{"n": logged, "steps": logged}]
    assert place.states() == {"run": ["completed"]}


def test_a_dead_run_whose_lock_is_gone(place: Any) -> None:
    """Its pid says so, by which its last segment and its record are recovered."""
    child = place.make_child(RUNNING)
    child.expect("runs")
    child.kill()
    child.end()
    without_lock(place)
    assert place.states() == {"run": ["crashed"]}
    before = place.count()
    assert before >= 2000
    assert place.lake.recover()
    assert place.count() == before
    assert place.states() == {"run": ["crashed"]}
    assert not list(place.live.iterdir())


def elsewhere(place: Any) -> None:
    """Let the dead process of this place have run on another machine, of which nothing was heard lately."""
    (lock,) = place.live.glob("*.lock")
    about = json.loads(lock.read_text())
    about["origin"] |= {"machine": "another", "boot": "another"}
    lock.write_text(json.dumps(about))
    (record,) = place.lake.runs()
    old = record.started_at - timedelta(hours=1)
    write_record(place.lake.storage, type(record)(**{**vars(record), "started_at": old}))


def test_what_nothing_proves_is_unknown_and_left_alone(
    place: Any, cli_in: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A run of another host over a shared home: shown, said, and taken only by force."""
    child = place.make_child(RUNNING)
    child.expect("runs")
    child.kill()
    child.end()
    elsewhere(place)
    files = sorted(path.name for path in place.live.glob("[!.]*"))
    assert place.states() == {"run": ["unknown"]}
    (run,) = json.loads(cli_in(place, "ls", "--json").stdout)
    assert (run["state"], run["ended_at"]) == ("unknown", None)
    assert "unknown" in cli_in(place, "ls").stdout
    before = place.count()
    assert place.lake.recover() == []
    assert "nothing proves that they are dead" in caplog.text
    assert "recover --force" in caplog.text
    assert place.lake.prune(timedelta(0)) == []
    place.run("""
        with Monitor("other", quiet=True, interval_seconds=0.02) as monitor:
            monitor.log(x=1.0)
            time.sleep(0.5)  # its housekeeping
    """)
    assert sorted(path.name for path in place.live.glob("[!.]*")) == files
    assert place.count("run") == before
    done = cli_in(place, "recover", "--force")
    assert "recovered" in done.stdout
    assert place.states() == {"run": ["crashed"], "other": ["completed"]}
    assert place.count("run") == before
    assert not list(place.live.iterdir())


def test_a_run_that_was_heard_of_lately_is_not_taken_by_force(place: Any) -> None:
    """Its beat is in the lake: it lives, on a host from which its lock does not reach here."""
    child = place.make_child(RUNNING)
    child.expect("runs")
    child.kill()
    child.end()
    (lock,) = place.live.glob("*.lock")
    about = json.loads(lock.read_text())
    about["origin"]["machine"] = "another"
    lock.write_text(json.dumps(about))
    assert place.states() == {"run": ["running"]}
    assert place.lake.recover(force=True) == []
    assert place.states() == {"run": ["running"]}


@pytest.fixture
def cli_in() -> Callable[..., Any]:
    """Runs the command in a process of its own, on a place's lake."""

    def call(place: Any, *arguments: str) -> Any:
        script = "import sys; from entrenar_otel.cli.main import main; sys.argv[0] = 'entrenar-otel'; main()"
        return subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env=place.environment,
            cwd=place.root,
            capture_output=True,
            text=True,
            check=True,
        )

    return call


def test_in_a_container_that_does_not_see_the_live_folder(place: Any) -> None:
    """Same host name, same path, another mount: it runs, and nobody takes it."""
    unshare = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs t {place.live} && exec "$@"', "sh"]
    place.live.mkdir(parents=True)
    if subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("CONTAINERS ARE NOT TESTED HERE: no mount namespace can be made")
    child = place.make_child(RUNNING)
    child.expect("runs")
    script = """
from datetime import timedelta
from entrenar_otel.lake import Lake
import os
lake = Lake(os.environ["ENTRENAR_LAKE"])
print(lake.query("SELECT state FROM runs").column(0).to_pylist(), lake.recover(), lake.prune(timedelta(0)))
"""
    done = subprocess.run(
        [*unshare, sys.executable, "-c", script],
        env=place.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['running'] [] []\n"
    (place.root / "stop").touch()
    logged = int(child.hear())
    child.end()
    assert place.lake.query(COUNTS).to_pylist() == [{"n": logged, "steps": logged}]


def test_another_users_segment_stops_no_recovery(place: Any, request: pytest.FixtureRequest) -> None:
    """It stays, and what the user who recovers may read is recovered."""
    if os.geteuid():
        pytest.skip("OTHER USERS ARE NOT TESTED HERE: only root can be two users")
    place.root.rmdir()  # pytest's folder is closed to others
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    request.addfinalizer(lambda: shutil.rmtree(root))
    place.__init__(root)
    child = place.make_child(RUNNING)
    child.expect("runs")
    child.kill(signal.SIGKILL)
    child.end()
    before = place.count("run")
    (lock,) = place.live.glob("*.lock")
    foreign = place.live / "aaa-1-0123456789abcdef-000000.seg"  # the first in order
    shutil.copy(place.segments()[-1], foreign)
    foreign.chmod(0o600)
    shutil.copy(lock, place.live / "aaa-1-0123456789abcdef.lock")
    nobody = pwd.getpwnam("nobody")
    for folder in (place.root, place.live, place.lake_path, *place.lake_path.rglob("*")):
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    for path in place.live.iterdir():
        if not path.name.startswith("aaa"):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    reader = os.fork()
    if not reader:
        code = 1
        try:
            os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
            code = 0 if place.lake.recover() else 2
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1])
    assert code == 0
    assert [path.name for path in place.segments()] == [foreign.name]
    foreign.unlink()
    assert place.count("run") == before


def test_segments_copied_back_after_a_prune_bring_no_row_back(place: Any, tmp_path: Path) -> None:
    """From a backup of the live folder, say: the summaries know that they were pruned."""
    child = place.make_child(RUNNING)
    child.expect("runs")
    child.kill()
    child.end()
    shutil.copytree(place.live, tmp_path / "backup")
    assert place.lake.recover()
    rows = place.count()
    assert rows >= 2000
    counted = "SELECT sum(count) FROM summaries WHERE metric = 'loss'"
    (pruned,) = place.lake.prune(timedelta(0))
    assert pruned.run_id == "run"
    assert (place.count(), place.value(counted)) == (0, rows)
    for path in (tmp_path / "backup").iterdir():
        shutil.copy(path, place.live)
    assert place.count() == 0
    place.lake.recover()
    assert (place.count(), place.value(counted)) == (0, rows)
    assert place.lake.is_pruned("run")
    assert not place.segments()


def test_a_process_that_died_before_its_lock_named_its_record(place: Any) -> None:
    """Its record says that it runs: it is closed while the lock still proves that it does not."""
    child = place.make_child(RUNNING)
    child.expect("runs")
    child.kill()
    child.end()
    for path in place.segments():
        path.unlink()
    (lock,) = place.live.glob("*.lock")
    about = json.loads(lock.read_text())
    lock.write_text(json.dumps({key: about[key] for key in ("origin", "file")}))
    assert place.states() == {"run": ["crashed"]}
    place.lake.recover(thorough=False)
    assert not list(place.live.iterdir())
    (record,) = place.lake.runs()
    assert record.state == "crashed"
